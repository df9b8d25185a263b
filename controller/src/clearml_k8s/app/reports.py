"""What a controller tells the server of itself and of its cluster."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from clearml_k8s.app.followed import STALE_SECONDS
from clearml_k8s.clearml.session import Session
from clearml_k8s.config import Config
from clearml_k8s.flow.served import ServedQueues
from clearml_k8s.kube.client import KubeClient
from clearml_k8s.kube.node import NodeRecord, NodeSlimmer
from clearml_k8s.kube.resources import NODES
from clearml_k8s.kube.watch import Watch
from clearml_k8s.report.capacity import Capacity, Unknown, capacity
from clearml_k8s.report.dashboard import Dashboard
from clearml_k8s.report.discovery import Discovery, Summary
from clearml_k8s.report.lacking import by_queue
from clearml_k8s.report.nodes import Nodes
from clearml_k8s.report.quota import CpuQuota
from clearml_k8s.report.worker import ControllerWorker


@dataclass(frozen=True, kw_only=True)
class Reports:
    """What the server is told of the controller and its cluster.

    ``watch`` and ``discovery``: None where the account may not read nodes; ``dashboard``: None without reports;
    ``quota``: None where no namespace's quota is reported.
    """

    worker: ControllerWorker
    nodes: Nodes
    watch: Watch[NodeRecord] | None
    discovery: Discovery | None
    seen: Callable[[], Summary | None]
    """What the nodes have, None while that is not known."""
    quota: CpuQuota | None
    dashboard: Dashboard | None
    config: Config

    @property
    def said(self) -> dict[str, str]:
        """In words, by subject: what is known of the nodes, and what the dashboard was told last."""
        found = {}
        if self.watch is not None and self.discovery is not None:
            seen = self.discovery.summary.text if self.discovery.known else "not known yet"
            found["nodes"] = self.watch.problem or seen
        if self.dashboard is not None:
            found["dashboard"] = self.dashboard.state.text
        return found

    @property
    def lacking(self) -> Mapping[str, tuple[str, ...]]:
        """By key of ``queues`` what its pods ask for and no node has, in words; empty while the nodes are not known."""
        if self.discovery is None or not self.discovery.known:
            return {}
        return by_queue(self.config, largest=self.discovery.summary.largest)


NODE_PAGE = 50
"""Nodes that are held whole at a time: each takes some 50 KiB."""


def make_reports(
    *, config: Config, session: Session, client: KubeClient, worker_id: str, served: ServedQueues
) -> Reports:
    """The parts that report; asks nobody anything."""
    nodes = Nodes()
    watch: Watch[NodeRecord] | None = None
    discovery: Discovery | None = None
    if config.cluster_access:
        discovery = Discovery(config=config.dashboard, nodes=nodes)
        watch = Watch(
            client=client,
            resource=NODES,
            slim=NodeSlimmer(config.dashboard.label_keys),
            page_size=NODE_PAGE,
            permission="agentk8sglue.serviceAccountClusterAccess: true gives it, with a ClusterRole",
        )
    quota = None
    if config.dashboard.reads_quota and config.dashboard.reports and config.dashboard.cpu_namespace:
        quota = CpuQuota(client=client, namespace=config.dashboard.cpu_namespace)

    def seen() -> Summary | None:
        last = watch.last_seen if watch else None
        fresh = last is not None and session.clock.monotonic() - last < STALE_SECONDS
        return discovery.summary if discovery and discovery.known and fresh else None

    def numbers() -> Capacity | Unknown:
        found = capacity(
            config,
            summary=seen(),
            quota_cpus=quota.cpus if quota else None,
            quota_problem=quota.problem if quota else "",
        )
        if isinstance(found, Unknown) and watch is not None and watch.problem:
            return Unknown(why=f"{found.why}: {watch.problem}")
        return found

    return Reports(
        worker=ControllerWorker(
            session=session,
            worker_id=worker_id,
            seconds=config.status_report_seconds,
            queues=lambda: [queue.id for queue in served.all_found()],
        ),
        nodes=nodes,
        watch=watch,
        discovery=discovery,
        seen=seen,
        quota=quota,
        config=config,
        dashboard=Dashboard(
            config=config,
            session=session,
            worker_id=worker_id,
            capacity=numbers,
            queue_names=lambda: {key: one.queue.name for key, one in served.states.items() if one.queue},
        )
        if config.dashboard.reports
        else None,
    )

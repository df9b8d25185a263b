"""All parts of one running controller, put together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from clearml_k8s import names
from clearml_k8s.app.connect import Identity
from clearml_k8s.clearml import tasks, workers
from clearml_k8s.clearml.projects import ProjectNames
from clearml_k8s.clearml.session import Session
from clearml_k8s.clock import Clock
from clearml_k8s.config import Config
from clearml_k8s.flow.adopt import Adopted
from clearml_k8s.flow.book import ClaimBook
from clearml_k8s.flow.claim import Claims
from clearml_k8s.flow.clash import WorkerClash
from clearml_k8s.flow.commands import Commands
from clearml_k8s.flow.counting import Counting
from clearml_k8s.flow.edits import Edits
from clearml_k8s.flow.graces import Graces
from clearml_k8s.flow.launch import Launcher
from clearml_k8s.flow.lengths import QueueLengths
from clearml_k8s.flow.marking import Marking
from clearml_k8s.flow.measures import Measures
from clearml_k8s.flow.needs import Needs, measure_of
from clearml_k8s.flow.owner_tokens import OwnerTokens
from clearml_k8s.flow.poll import Poller, Watched
from clearml_k8s.flow.ranks import Ranks
from clearml_k8s.flow.reads import TaskReads
from clearml_k8s.flow.reconcile import Reconciler
from clearml_k8s.flow.recover import Recovery
from clearml_k8s.flow.returning import Returning
from clearml_k8s.flow.served import ServedQueues
from clearml_k8s.flow.sessions import Sessions
from clearml_k8s.flow.starts import Starts
from clearml_k8s.flow.task_conf import TaskConf
from clearml_k8s.flow.tell import Teller
from clearml_k8s.flow.workqueue import WorkQueue
from clearml_k8s.hooks.shell import Shell
from clearml_k8s.hooks.template_module import TemplateModule
from clearml_k8s.kube import old_pod
from clearml_k8s.kube.client import KubeClient
from clearml_k8s.kube.node import NodeRecord, NodeSlimmer
from clearml_k8s.kube.old_pod import OldPod, slim_old_pod
from clearml_k8s.kube.quota import QuotaRecord, slim_quota
from clearml_k8s.kube.record import ClaimRecord
from clearml_k8s.kube.resources import JOBS, NODES, PODS, RESOURCE_QUOTAS
from clearml_k8s.kube.slim import JobRecord, PodRecord, slim_job, slim_pod
from clearml_k8s.kube.store import Store
from clearml_k8s.kube.watch import Watch
from clearml_k8s.kube.workload import WorkloadRecord, WorkloadWatch
from clearml_k8s.logs import Redactor
from clearml_k8s.metrics import Metrics
from clearml_k8s.report.capacity import Capacity, Unknown, capacity
from clearml_k8s.report.dashboard import Dashboard
from clearml_k8s.report.discovery import Discovery, Summary
from clearml_k8s.report.lacking import by_queue
from clearml_k8s.report.nodes import Nodes
from clearml_k8s.report.quota import CpuQuota
from clearml_k8s.report.worker import ControllerWorker

STALE_SECONDS = 120.0
"""A watch silent for longer says nothing about what exists."""


@dataclass(frozen=True, kw_only=True)
class Followed:
    """What stands in the cluster, and the streams that it comes by."""

    clock: Clock
    jobs: Store[JobRecord]
    pods: Store[PodRecord]
    job_watch: Watch[JobRecord]
    pod_watch: Watch[PodRecord]
    old: Store[OldPod]
    old_watch: Watch[OldPod] | None
    """Of the pods that ClearML's own glue left; None where there was none."""
    quotas: Store[QuotaRecord]
    quota_watch: Watch[QuotaRecord] | None
    """None where quotas are not to be respected."""
    workloads: Store[WorkloadRecord]
    workload_watch: WorkloadWatch | None
    """None where Kueue has no part in it."""

    def known(self) -> bool:
        """Listed once, and the streams not silent for long."""
        return not self.unknown()

    def unknown(self) -> str:
        """Why it is not known what exists in the cluster; "" when it is."""
        if why := self.unlisted():
            return why
        return next((why for what, watch, _ in self._followed() if (why := self._silent(what, watch))), "")

    def kueue_unknown(self) -> str:
        """Why it is not known what Kueue says of Jobs; "" when it is, or nobody asks."""
        watch = self.workload_watch
        if watch is None:
            return ""
        if not self.workloads.synced.is_set() or watch.last_seen is None:
            return f"Kueue: the Workloads of the namespace are not listed yet{_because(watch)}"
        return self._silent("Workloads", watch)

    def _silent(self, what: str, watch: Watch[Any]) -> str:
        silent = self.clock.monotonic() - (watch.last_seen or 0.0)
        if silent < STALE_SECONDS:
            return ""
        return f"nothing was heard of the {what} of the namespace for {int(silent)} s{_because(watch)}"

    def unlisted(self) -> str:
        """What was not listed once, and why not; "" when all was."""
        for what, watch, synced in self._followed():
            if not synced.is_set() or watch.last_seen is None:
                return f"the {what} of the namespace are not listed yet{_because(watch)}"
        return ""

    def _followed(self) -> Iterator[tuple[str, Watch[Any], asyncio.Event]]:
        yield "Jobs", self.job_watch, self.jobs.synced
        yield "pods", self.pod_watch, self.pods.synced
        if self.old_watch is not None:
            yield "pods of ClearML's own agent", self.old_watch, self.old.synced
        if self.quota_watch is not None and not self.quotas_forbidden:
            yield "ResourceQuotas", self.quota_watch, self.quotas.synced

    @property
    def quotas_forbidden(self) -> bool:
        """This account may not see them: a pod that one refuses shows as an event of its Job."""
        return self.quota_watch is not None and self.quota_watch.forbidden

    def seen_quotas(self) -> Iterable[QuotaRecord]:
        """Those that are known to be as they are."""
        return () if self.quotas_forbidden else self.quotas


def _because(watch: Watch[Any]) -> str:
    return f": {watch.problem}" if watch.problem else ""


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


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What the loops of the process drive. ``may_begin``: it certainly leads, and knows what exists in the cluster;
    ``clash`` is None where the worker id is made of the namespace's uid, so that nobody else has it."""

    session: Session
    worker_id: str
    cluster: Followed
    may_begin: Callable[[], bool]
    served: ServedQueues
    record: ClaimRecord
    book: ClaimBook
    claims: Claims
    poller: Poller
    recovery: Recovery
    reconciler: Reconciler
    adopted: Adopted
    teller: Teller
    lengths: QueueLengths
    clash: WorkerClash | None
    graces: Graces
    counting: Counting
    reports: Reports
    sessions: Sessions | None
    """None where sessions are not to be reached."""
    commands: Commands | None
    """None where no command is configured."""
    ranks: Ranks | None
    """None where no task runs on several nodes."""


def edits_of(config: Config, *, worker_id: str, clock: Clock) -> Edits:
    """Of the configured template module."""
    module = None if config.template_module is None else TemplateModule(config.template_module, clock=clock)
    return Edits(config=config, module=module, worker_id=worker_id)


def make(
    *,
    config: Config,
    session: Session,
    client: KubeClient,
    identity: Identity,
    instance: str,
    holder: str,
    grace_seconds: float,
    redact: Redactor,
    metrics: Metrics,
    leads: Callable[[], bool],
    watched: Watched,
    stop: asyncio.Event,
    conf: TaskConf | None = None,
) -> Parts:
    """The parts of one controller; asks nobody anything. ``stop`` set says that nothing new is to be begun.

    ``instance``: which life of the controller's process this is, in marks; ``holder``: the same in the record, with
    more for people; ``leads``: whether it certainly leads now; ``watched``: see `Poller`.
    """
    worker_id, controller = identity.worker_id, identity.controller
    session.health.use_probe(lambda: workers.probe(session, worker_id))
    teller = Teller(session=session, worker_id=worker_id, redact=redact)
    work: WorkQueue[str] = WorkQueue(clock=session.clock)

    def changed(task: str) -> None:
        starts.changed(task)
        work.put(task)

    jobs: Store[JobRecord] = Store(dirty=changed, keep_gone=True)
    pods: Store[PodRecord] = Store(dirty=changed, keep_gone=True)
    old: Store[OldPod] = Store(keep_gone=True)
    quotas: Store[QuotaRecord] = Store()
    workloads: Store[WorkloadRecord] = Store(dirty=work.put)
    measure = measure_of(config)
    needs = Needs(config=config, session=session, measure=measure, worker_id=worker_id)
    selector = names.task_selector(release=config.release_name)
    cluster = Followed(
        clock=session.clock,
        jobs=jobs,
        pods=pods,
        job_watch=Watch(
            client=client,
            resource=JOBS,
            slim=partial(slim_job, measure=measure),
            namespace=config.namespace,
            label_selector=selector,
        ),
        pod_watch=Watch(
            client=client,
            resource=PODS,
            slim=partial(slim_pod, measure=measure),
            namespace=config.namespace,
            label_selector=selector,
        ),
        old=old,
        old_watch=None
        if config.old_worker_id is None
        else Watch(
            client=client,
            resource=PODS,
            slim=partial(slim_old_pod, measure=measure),
            namespace=config.namespace,
            label_selector=old_pod.selector(config.old_worker_id),
        ),
        quotas=quotas,
        quota_watch=Watch(
            client=client,
            resource=RESOURCE_QUOTAS,
            slim=slim_quota,
            namespace=config.namespace,
            permission="the chart's Role gives it, or agentk8sglue.respectResourceQuotas: false does without",
        )
        if config.respect_resource_quotas
        else None,
        workloads=workloads,
        workload_watch=WorkloadWatch(client=client, namespace=config.namespace) if config.uses_kueue else None,
    )
    edits = edits_of(config, worker_id=worker_id, clock=session.clock)
    owners = None
    if config.clearml.owner_tokens:
        owners = OwnerTokens(
            config=config,
            session=session,
            client=client,
            teller=teller,
            controller=controller,
            conf=conf if config.clearml.config_secret is not None else None,
        )
    served = ServedQueues(
        config=config,
        session=session,
        client=client,
        worker_id=worker_id,
        controller=controller,
        edits=edits,
        conf=conf,
        owners=owners,
    )
    measures = Measures(metrics=metrics, served=served)
    starts = Starts(jobs=jobs, pods=pods, measures=measures)
    graces = Graces(
        session=session,
        controller=controller,
        pending_queue=lambda: served.pending_queue,
        grace_seconds=grace_seconds,
    )
    record = ClaimRecord(
        client=client,
        namespace=config.namespace,
        name=names.claims_name(config.fullname),
        holder=holder,
        labels=names.own_labels(release=config.release_name),
    )
    book = ClaimBook(session=session, record=record, graces=graces, controller=controller)
    commands = None
    if config.pod_commands:
        commands = Commands(
            config=config.pod_commands,
            namespace=config.namespace,
            client=client,
            record=record,
            book=book,
            jobs=jobs,
            pods=pods,
            teller=teller,
            shell=partial(Shell, seconds=config.pod_commands.timeout_seconds, clock=session.clock, may_run=leads),
            may_run=leads,
        )
    launcher = Launcher(
        config=config,
        client=client,
        jobs=jobs,
        teller=teller,
        worker_id=worker_id,
        controller=controller,
        stop=stop,
        measure=measure,
        projects=ProjectNames(session=session),
        document=partial(tasks.get_document, session),
        edits=edits,
        conf=conf,
        commands=commands,
    )
    returning = Returning(
        session=session,
        record=record,
        book=book,
        graces=graces,
        served=served,
        teller=teller,
        measures=measures,
        controller=controller,
        stop=stop,
    )
    adopted = Adopted(
        config=config,
        session=session,
        client=client,
        old=old,
        teller=teller,
        measures=measures,
        pending_queue=lambda: served.pending_queue,
    )
    marking = Marking(
        session=session,
        book=book,
        returning=returning,
        jobs=jobs,
        adopted=adopted,
        needs=needs,
        worker_id=worker_id,
        controller=controller,
        instance=instance,
    )
    claims = Claims(
        session=session,
        record=record,
        book=book,
        marking=marking,
        returning=returning,
        launcher=launcher,
        served=served,
        teller=teller,
        measures=measures,
        controller=controller,
        stop=stop,
        owners=owners,
    )

    def may_begin() -> bool:
        return cluster.known() and leads()

    reconciler = Reconciler(
        config=config,
        session=session,
        client=client,
        jobs=jobs,
        pods=pods,
        reads=TaskReads(session=session, owners=owners is not None),
        teller=teller,
        measures=measures,
        work=work,
        worker_id=worker_id,
        controller=controller,
        pending_queue=lambda: served.pending_queue,
        queue=served.by_id,
        owners=owners,
        workloads=workloads if config.uses_kueue else None,
        listed=pods.synced.is_set,
    )
    counting = Counting(
        config=config,
        needs=needs,
        clock=session.clock,
        served=served,
        book=book,
        jobs=jobs,
        pods=pods,
        adopted=adopted,
        quotas=cluster.seen_quotas,
        events=reconciler.events,
        unknown=cluster.unknown,
        kueue=cluster.kueue_unknown,
    )
    poller = Poller(
        config=config,
        session=session,
        served=served,
        claims=claims,
        book=book,
        counting=counting,
        needs=needs,
        teller=teller,
        may_take=may_begin,
        watched=watched,
    )
    recovery = Recovery(
        session=session,
        claims=claims,
        book=book,
        launcher=launcher,
        graces=graces,
        served=served,
        jobs=jobs,
        adopted=adopted,
        controller=controller,
        needs=needs,
        room=poller.room,
    )
    return Parts(
        session=session,
        worker_id=worker_id,
        cluster=cluster,
        may_begin=may_begin,
        served=served,
        record=record,
        book=book,
        claims=claims,
        poller=poller,
        recovery=recovery,
        reconciler=reconciler,
        adopted=adopted,
        teller=teller,
        lengths=QueueLengths(session=session, served=served),
        clash=WorkerClash(session=session, worker_id=worker_id, controller=controller) if config.worker_id else None,
        graces=graces,
        counting=counting,
        reports=make_reports(config=config, session=session, client=client, worker_id=worker_id, served=served),
        commands=commands,
        sessions=None
        if config.sessions is None
        else Sessions(
            config=config,
            sessions=config.sessions,
            session=session,
            client=client,
            jobs=jobs,
            pods=pods,
            teller=teller,
            controller=controller,
        ),
        ranks=None
        if config.multi_node is None
        else Ranks(config=config, client=client, jobs=jobs, teller=teller, controller=controller),
    )


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

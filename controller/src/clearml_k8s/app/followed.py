"""What of the cluster a controller follows: stores, the streams that fill them, whether they are to be believed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from clearml_k8s import names
from clearml_k8s.clock import Clock
from clearml_k8s.config import Config
from clearml_k8s.kube import old_pod
from clearml_k8s.kube.client import KubeClient
from clearml_k8s.kube.old_pod import OldPod, slim_old_pod
from clearml_k8s.kube.quota import QuotaRecord, slim_quota
from clearml_k8s.kube.resources import JOBS, PODS, RESOURCE_QUOTAS
from clearml_k8s.kube.slim import JobRecord, PodRecord, slim_job, slim_pod
from clearml_k8s.kube.store import Store
from clearml_k8s.kube.uses import Measure
from clearml_k8s.kube.watch import Watch
from clearml_k8s.kube.workload import WorkloadRecord, WorkloadWatch

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


def follow(
    *,
    config: Config,
    client: KubeClient,
    clock: Clock,
    measure: Measure,
    changed: Callable[[str], None],
    look: Callable[[str], None],
) -> Followed:
    """The stores, and the watches that fill them once they run; asks nobody anything.

    ``changed``: called with a task's id when its Job or pod is another; ``look``: when its Workload is.
    """
    selector = names.task_selector(release=config.release_name)
    return Followed(
        clock=clock,
        jobs=Store(dirty=changed, keep_gone=True),
        pods=Store(dirty=changed, keep_gone=True),
        old=Store(keep_gone=True),
        quotas=Store(),
        workloads=Store(dirty=look),
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
        old_watch=None
        if config.old_worker_id is None
        else Watch(
            client=client,
            resource=PODS,
            slim=partial(slim_old_pod, measure=measure),
            namespace=config.namespace,
            label_selector=old_pod.selector(config.old_worker_id),
        ),
        quota_watch=Watch(
            client=client,
            resource=RESOURCE_QUOTAS,
            slim=slim_quota,
            namespace=config.namespace,
            permission="the chart's Role gives it, or agentk8sglue.respectResourceQuotas: false does without",
        )
        if config.respect_resource_quotas
        else None,
        workload_watch=WorkloadWatch(client=client, namespace=config.namespace) if config.uses_kueue else None,
    )

"""The Kubernetes events of Jobs that wait, read now and then: only there stands why no pod is made or started."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from clearml_k8s.clock import Clock
from clearml_k8s.errors import Refused, Unanswered
from clearml_k8s.flow.diagnosis import Category
from clearml_k8s.kube.client import KubeClient
from clearml_k8s.kube.events import EventRecord, events_of
from clearml_k8s.kube.slim import JobRecord, PodRecord
from clearml_k8s.logs import kv

log = logging.getLogger(__name__)

AGAIN_SECONDS = 20.0
"""Between two reads for one Job."""

EXPLAINED_BY_EVENTS = frozenset(
    {
        Category.NO_POD,
        Category.QUOTA,
        Category.LIMIT_RANGE,
        Category.POD_SECURITY,
        Category.ADMISSION,
        Category.UNSCHEDULABLE,
        Category.VOLUME,
        Category.SANDBOX,
        Category.STARTING,
    }
)


class Happenings:
    """The last events read, by Job."""

    def __init__(self, *, client: KubeClient, clock: Clock, namespace: str) -> None:
        self._client = client
        self._clock = clock
        self._namespace = namespace
        self._read: dict[str, tuple[float, tuple[EventRecord, ...]]] = {}  # Job uid -> (when, oldest first)

    def of(self, job: JobRecord) -> tuple[EventRecord, ...]:
        """What was read last; empty before."""
        return self._read.get(job.uid, (0.0, ()))[1]

    def due(self, job: JobRecord) -> float:
        """Seconds until they are read again; 0 when they may be read now."""
        read = self._read.get(job.uid)
        return 0.0 if read is None else max(0.0, read[0] + AGAIN_SECONDS - self._clock.monotonic())

    async def read(self, job: JobRecord, pods: Sequence[PodRecord]) -> None:
        """Read them now; when that fails, what was read before stays."""
        records: list[EventRecord] = []
        try:
            for uid in (job.uid, *(pod.uid for pod in pods)):
                records += await events_of(self._client, uid, namespace=self._namespace)
        except (Refused, Unanswered) as error:
            log.debug("events not read", extra=kv(job=job.name, why=str(error)))
            records = list(self.of(job))
        records.sort(key=lambda record: (record.last, record.uid))
        self._read[job.uid] = (self._clock.monotonic(), tuple(records))

    def forget(self, jobs: Sequence[JobRecord]) -> None:
        """Keep only what belongs to these Jobs."""
        uids = {job.uid for job in jobs}
        self._read = {uid: read for uid, read in self._read.items() if uid in uids}

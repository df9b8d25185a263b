"""The Kubernetes events of Jobs that wait, read now and then: only there stands why no pod is made or started."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from clearml_k8s.clock import Clock
from clearml_k8s.errors import Refused, Unanswered
from clearml_k8s.flow.diagnosis import Category
from clearml_k8s.kube.client import KubeClient
from clearml_k8s.kube.events import EventRecord, events_of
from clearml_k8s.kube.slim import JobRecord, PodRecord
from clearml_k8s.logs import kv

log = logging.getLogger(__name__)

AGAIN_SECONDS, LONGEST_SECONDS = 20.0, 300.0
"""From the first to the second read for one Job; twice as long each time, up to the longest."""

FRESH_SECONDS = 5.0
"""How old what was read may be when a task is failed on it."""

READS_PER_SECOND = 5.0
"""For all Jobs together: events are not in the API server's cache, so a read costs it all events of the namespace."""

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


@dataclass(frozen=True, kw_only=True, slots=True)
class _Read:
    """What was read of one Job, oldest first, and when to read again (monotonic), so long after that read.

    ``at``: when it was read; None as long as no read has succeeded.
    """

    at: float | None
    again_at: float
    wait: float
    events: tuple[EventRecord, ...]


PODS_READ = 4
"""Of a Job with several pods, those that do not run."""


class Happenings:
    """The last events read, by Job."""

    def __init__(self, *, client: KubeClient, clock: Clock, namespace: str) -> None:
        self._client = client
        self._clock = clock
        self._namespace = namespace
        self._read: dict[str, _Read] = {}  # by Job uid
        self._turns: dict[str, float] = {}  # by uid of the Jobs whose read had to be put off: when it may be
        self._free_at = 0.0

    def of(self, job: JobRecord) -> tuple[EventRecord, ...]:
        """What was read last; empty before."""
        read = self._read.get(job.uid)
        return read.events if read is not None else ()

    def due(self, job: JobRecord) -> float:
        """Seconds until they may be read (again); 0 when that is now."""
        now, read = self._clock.monotonic(), self._read.get(job.uid)
        if read is not None and read.again_at > now:
            return read.again_at - now
        return self._turn(job)

    async def news(self, job: JobRecord, pods: Sequence[PodRecord]) -> float:
        """Read them now, unless that was done just now: 0 when it is done, else seconds until it may be tried."""
        if self._fresh(job):
            return 0.0
        if (wait := self._turn(job)) > 0:
            return wait
        await self.read(job, pods)
        return 0.0 if self._fresh(job) else AGAIN_SECONDS

    def _fresh(self, job: JobRecord) -> bool:
        read = self._read.get(job.uid)
        return read is not None and read.at is not None and self._clock.monotonic() - read.at <= FRESH_SECONDS

    def _turn(self, job: JobRecord) -> float:
        """Seconds until it is this Job's turn to be read; 0 when that is now."""
        now = self._clock.monotonic()
        if job.uid not in self._turns and self._free_at > now:
            # A turn of its own, so that nobody comes back in vain.
            self._turns[job.uid] = self._free_at
            self._free_at += 1 / READS_PER_SECOND
        return max(0.0, self._turns.get(job.uid, now) - now)

    async def read(self, job: JobRecord, pods: Sequence[PodRecord]) -> None:
        """Read them now; when that fails, what was read before stays."""
        now = self._clock.monotonic()
        if self._turns.pop(job.uid, None) is None:
            self._free_at = max(self._free_at, now) + 1 / READS_PER_SECOND
        before = self._read.get(job.uid)
        wait = AGAIN_SECONDS if before is None else min(2 * before.wait, LONGEST_SECONDS)
        at: float | None = now
        records: list[EventRecord] = []
        try:
            for uid in (job.uid, *(pod.uid for pod in _to_explain(pods))):
                records += await events_of(self._client, uid, namespace=self._namespace)
        except (Refused, Unanswered) as error:
            log.debug("events not read", extra=kv(job=job.name, why=str(error)))
            records, at = list(self.of(job)), None if before is None else before.at
        records.sort(key=lambda record: (record.last, record.uid))
        self._read[job.uid] = _Read(at=at, again_at=now + wait, wait=wait, events=tuple(records))

    def forget(self, jobs: Sequence[JobRecord]) -> None:
        """Keep only what belongs to these Jobs."""
        uids = {job.uid for job in jobs}
        self._read = {uid: read for uid, read in self._read.items() if uid in uids}
        self._turns = {uid: at for uid, at in self._turns.items() if uid in uids}


def _to_explain(pods: Sequence[PodRecord]) -> Sequence[PodRecord]:
    if len(pods) == 1:
        return pods
    running = {pod.uid for pod in pods if pod.finished or any(c.running and not c.init for c in pod.containers)}
    return [pod for pod in sorted(pods, key=lambda pod: pod.rank) if pod.uid not in running][:PODS_READ]

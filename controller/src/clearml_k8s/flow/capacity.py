"""How many more tasks may be started: counted from what exists, never from counters that could drift.

`tests/model/room_model.py` explores what must be counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from clearml_k8s.kube.slim import JobRecord, PodRecord

MAX_IN_FLIGHT = 200
"""Claims under way at one time: bounds the claim record, and what a controller that dies leaves in doubt."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Room:
    """Places left: in all, and by queue id; None means no limit."""

    total: int | None
    by_queue: Mapping[str, int | None]

    def of(self, queue_id: str) -> int:
        """Places for tasks of this queue; a large number where nothing limits."""
        limits = [limit for limit in (self.total, self.by_queue.get(queue_id)) if limit is not None]
        return max(0, min([MAX_IN_FLIGHT, *limits]))


def room(
    *,
    max_pods: int | None,
    queue_limits: Mapping[str, int | None],
    jobs: Iterable[JobRecord],
    pods: Iterable[PodRecord],
    in_flight: Mapping[str, str],
) -> Room:
    """The places left.

    ``queue_limits`` by queue id; ``in_flight``: task -> queue id of everything claimed, or in doubt, whose Job may
    come. An unfinished Job takes one place, with all its pods; so does each pod that may still run and whose Job is
    over or gone, and each task in flight until its Job is there.
    """
    if max_pods is None and all(limit is None for limit in queue_limits.values()):
        return Room(total=None, by_queue=dict(queue_limits))
    used = places(jobs=jobs, pods=pods, in_flight=in_flight)
    return Room(
        total=None if max_pods is None else max(0, max_pods - used.total()),
        by_queue={
            queue: None if limit is None else max(0, limit - used[queue]) for queue, limit in queue_limits.items()
        },
    )


def places(
    *, jobs: Iterable[JobRecord], pods: Iterable[PodRecord], in_flight: Mapping[str, str]
) -> Counter[str | None]:
    """The places taken, by queue id, None where it is not known; what takes one: see `room`."""
    holders = [job for job in jobs if job.task is not None and not job.finished]
    launched = {job.task for job in holders}
    taken = {job.uid: job.queue for job in holders}
    for pod in pods:
        if pod.task is not None and not pod.finished:
            taken.setdefault(pod.job_uid or pod.uid, pod.queue)
    taken.update((f"task {task}", queue) for task, queue in in_flight.items() if task not in launched)
    return Counter(taken.values())

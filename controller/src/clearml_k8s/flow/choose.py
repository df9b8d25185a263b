"""Which queue entries to claim next: a pure function of what the queues hold and what there is room for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from clearml_k8s.clearml.queues import Queue
from clearml_k8s.config import ResolvedQueue
from clearml_k8s.flow.capacity import Room


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """An entry to claim: the task and the queue that it stands in."""

    task: str
    queue: ResolvedQueue


def choose(
    *, queues: Sequence[tuple[ResolvedQueue, Queue]], room: Room, busy: Callable[[str], bool], first: int, limit: int
) -> tuple[Candidate, ...]:
    """At most ``limit`` candidates, one queue after the other in turn, each queue in its own order.

    ``busy`` tells tasks that are not to be touched now; ``first`` is the number of the queue to begin with.
    """
    order = [*queues[first % len(queues) :], *queues[: first % len(queues)]] if queues else []
    waiting = [(served, iter(queue.entries)) for served, queue in order]
    left = {served.id: room.of(served.id) for served, _ in order}
    total = limit if room.total is None else min(limit, room.total)
    chosen: dict[str, Candidate] = {}
    while waiting and len(chosen) < total:
        still = []
        for served, entries in waiting:
            if len(chosen) >= total or not left[served.id]:
                continue
            entry = next((e for e in entries if e.task not in chosen and not busy(e.task)), None)
            if entry is None:
                continue
            chosen[entry.task] = Candidate(task=entry.task, queue=served)
            left[served.id] -= 1
            still.append((served, entries))
        waiting = still
    return tuple(chosen.values())

"""Which queue entries to claim next: a pure function of what the queues hold and what there is room for.

Queues of a higher priority come first. Among equals each task moves its queue's next turn on by 1/weight, and the
queue whose turn is the earliest comes next: round robin where the weights are equal, shares by weight where not. A
queue that was empty, or at a limit of its own, gets no turns afterwards for the time that it did not use.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from clearml_k8s.clearml.queues import Queue
from clearml_k8s.config import ResolvedQueue
from clearml_k8s.flow.room import Blocked, Room


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """An entry to claim: the task and the queue that it stands in."""

    task: str
    queue: ResolvedQueue


@dataclass(frozen=True, kw_only=True, slots=True)
class Turns:
    """Whose turn it is: ``due`` by queue id, and ``now`` by priority, the turn that was taken last."""

    due: Mapping[str, float] = field(default_factory=dict)
    now: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """``candidates`` in the order to claim them; ``turns`` for the next choice; ``kept``: by id of a queue that has
    tasks and no room, the name of the queue that room is kept for."""

    candidates: tuple[Candidate, ...] = ()
    turns: Turns = field(default_factory=Turns)
    kept: Mapping[str, str] = field(default_factory=dict)


def choose(
    *, queues: Sequence[tuple[ResolvedQueue, Queue]], room: Room, busy: Callable[[str], bool], turns: Turns, limit: int
) -> Choice:
    """At most ``limit`` candidates, each queue's in its own order. ``busy`` tells tasks not to be touched now."""
    ledger = room.ledger()
    chosen: dict[str, Candidate] = {}
    kept: dict[str, str] = {}
    due, now = dict(turns.due), dict(turns.now)
    for priority in sorted({served.config.settings.priority for served, _ in queues}, reverse=True):
        group = [(served, queue) for served, queue in queues if served.config.settings.priority == priority]
        at = now.get(priority, 0.0)
        entries = {served.id: iter(queue.entries) for served, queue in group}
        # One that is new here begins now.
        waiting = [(due.get(served.id, at), number) for number, (served, _) in enumerate(group)]
        heapq.heapify(waiting)
        while waiting and len(chosen) < limit:
            turn, number = heapq.heappop(waiting)
            served = group[number][0]
            due[served.id] = turn
            entry = next((e for e in entries[served.id] if e.task not in chosen and not busy(e.task)), None)
            blocked = Blocked.ALONE if entry is None else ledger.blocked(served.id)
            if entry is None or blocked is Blocked.ALONE:
                due[served.id] = max(turn, at)
            elif blocked is Blocked.SHARED:
                # It comes first when there is room, by no more than the one turn that it has missed.
                due[served.id] = max(turn, at - 1 / served.config.settings.weight)
                kept[served.id] = ledger.kept_for(served.id)
                ledger.keep(served.id, name=served.name)
            else:
                ledger.spend(served.id)
                chosen[entry.task] = Candidate(task=entry.task, queue=served)
                at = max(at, turn)
                due[served.id] = turn + 1 / served.config.settings.weight
                heapq.heappush(waiting, (due[served.id], number))
        now[priority] = at
    active = {served.id for served, _ in queues}
    turns = Turns(due={queue: turn for queue, turn in due.items() if queue in active}, now=now)
    return Choice(
        candidates=tuple(chosen.values()), turns=turns, kept={queue: name for queue, name in kept.items() if name}
    )

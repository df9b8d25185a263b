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
    tasks and no room, the name of the queue that room is kept for; ``waits``: by id of a queue whose next task has a
    need of its own that does not fit, in words, which limit it waits for; ``never``: by task that
    was passed over as a limit gives less than it needs, in words, which one."""

    candidates: tuple[Candidate, ...] = ()
    turns: Turns = field(default_factory=Turns)
    kept: Mapping[str, str] = field(default_factory=dict)
    waits: Mapping[str, str] = field(default_factory=dict)
    never: Mapping[str, str] = field(default_factory=dict)


def choose(
    *, queues: Sequence[tuple[ResolvedQueue, Queue]], room: Room, busy: Callable[[str], bool], turns: Turns, limit: int
) -> Choice:
    """At most ``limit`` candidates, each queue's in its own order. ``busy`` tells tasks not to be touched now."""
    ledger = room.ledger()
    chosen: dict[str, Candidate] = {}
    kept: dict[str, str] = {}
    waits: dict[str, str] = {}
    never: dict[str, str] = {}
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
            entry = None
            for one in entries[served.id]:
                if one.task in chosen or busy(one.task):
                    continue
                if not ledger.never(served.id, one.task):
                    entry = one
                    break
                never[one.task] = ledger.why(served.id, one.task)
            blocked = Blocked.ALONE if entry is None else ledger.blocked(served.id, entry.task)
            if entry is None or blocked is Blocked.ALONE:
                due[served.id] = max(turn, at)
                if entry is not None:
                    waits[served.id] = ledger.why(served.id, entry.task)
            elif blocked is Blocked.SHARED:
                # It comes first when there is room, by no more than the one turn that it has missed.
                due[served.id] = max(turn, at - 1 / served.config.settings.weight)
                kept[served.id] = ledger.kept_for(served.id, entry.task)
                waits[served.id] = ledger.why(served.id, entry.task)
                ledger.keep(served.id, entry.task, name=served.name)
            else:
                ledger.spend(served.id, entry.task)
                chosen[entry.task] = Candidate(task=entry.task, queue=served)
                at = max(at, turn)
                due[served.id] = turn + 1 / served.config.settings.weight
                heapq.heappush(waiting, (due[served.id], number))
        now[priority] = at
    active = {served.id for served, _ in queues}
    turns = Turns(due={queue: turn for queue, turn in due.items() if queue in active}, now=now)
    return Choice(
        candidates=tuple(chosen.values()),
        turns=turns,
        kept={queue: name for queue, name in kept.items() if name},
        waits={queue: why for queue, why in waits.items() if why},
        never=never,
    )

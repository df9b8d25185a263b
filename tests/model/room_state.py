"""The states of the model of two tasks: their queue, their Jobs, one controller with a limit; rules and scenarios."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from explore import quick

FIRST, SECOND = 0, 1
TASKS = (FIRST, SECOND)


@quick
class Task(NamedTuple):
    status: str = "queued"  # queued, in_progress, ended
    mark: int = 0  # ours: by which life of the controller
    other: bool = False  # the other controller's mark
    worker: bool = False  # a worker was reported
    job: str = ""  # "", is, over, ending (deleted, its pod not yet ended), gone
    shown: str = ""  # what the watch has shown of that


@quick
class Claim(NamedTuple):
    """What the process has of one task."""

    step: str = "-"  # "waits": through, its batch is not
    absent: bool = False  # found in no queue
    resumed: bool = False  # goes on after a grace
    back: bool = False  # it is being put back
    known: bool = False  # our mark is known to be all there is of us
    held: tuple[object, ...] | None = None  # the picture when its grace began
    doubt: bool = False  # a call of ours may still land
    perhaps: bool = False  # found in no queue, and perhaps recorded
    recorded: int = 0  # in the record as last read or written: by which life
    forgotten: bool = False  # goes with the record's next write


@quick
class Late(NamedTuple):
    call: str
    tasks: tuple[int, ...]
    forgets: tuple[int, ...]
    life: int
    old: int = 0


@quick
class Consumer(NamedTuple):
    """A plain agent, or another release's controller: it takes one task."""

    step: str = "idle"
    task: int = 0
    old: int = 0


@quick
class State(NamedTuple):
    tasks: tuple[Task, ...]
    queue: tuple[int, ...]
    to_come: tuple[int, ...]  # not enqueued yet
    record: tuple[int, ...]  # the ConfigMap: by which life each task is claimed, 0 for none
    stale: bool  # a write of it had no answer: the next one reads it first
    claims: tuple[Claim, ...]
    together: bool  # both tasks are of one batch
    polled: tuple[int, ...] | None  # what a poll under way has read
    room_before: int  # the room when it began; kept only where the rule `recheck` is off
    fronts: tuple[int, ...]  # put to the front a moment ago
    life: int
    opened: bool  # the record was taken over by this life
    late: tuple[Late, ...]
    agent: Consumer
    other: Consumer
    launched: tuple[tuple[int, str], ...]
    faults: int
    crashes: int
    refusals: int
    deletions: int


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What couples the tasks of one controller. Switching one off shows the trace that it prevents."""

    in_flight: bool = True  # claims under way take a place
    doubts: bool = True  # so do claims in the record, under way or not
    perhaps: bool = True  # so does a task found in no queue that is perhaps recorded
    noted: bool = True  # so does a Job whose create was answered, before the watch shows it
    pods: bool = True  # so does a pod whose Job is gone
    recheck: bool = True  # the room is counted again after the queue was read
    absent_room: bool = True  # a task found in no queue is claimed only where there is room
    by_name: bool = True  # a record is forgotten only after the Job was looked for by name
    record: bool = True  # written before the take
    fresh_write: bool = True  # who takes the record over makes older writes fail
    settles: bool = True  # so does the write after one without an answer, even where it has nothing to change
    front: bool = True  # what is put back goes to the front
    in_order: bool = True  # what is put back about the same time stands as it was taken


@dataclass(frozen=True, kw_only=True)
class Scenario:
    limit: int = 1
    faults: int = 1
    crashes: int = 1
    agent: bool = False
    other: str = ""  # another controller, whose id is "lower" or "higher"
    refusals: int = 0  # how often the cluster refuses a Job for now
    deletions: int = 0  # how often somebody deletes the Job of a running task
    popped: tuple[int, ...] = ()  # tasks that somebody has popped and never started


SCENARIOS = {
    "one place": Scenario(),
    "one place, popped": Scenario(popped=(FIRST,)),
    "one place, both popped": Scenario(popped=TASKS),
    "one place, refused": Scenario(refusals=2),
    "one place, deleted": Scenario(deletions=1, faults=0, crashes=0),
    "one place, deleted, faults": Scenario(deletions=1),
    "one place + agent": Scenario(agent=True),
    "one place + lower": Scenario(other="lower"),
    "one place + higher": Scenario(other="higher"),
    "one place + lower, refused": Scenario(other="lower", refusals=1, crashes=0),
    "a batch": Scenario(limit=2),
    "a batch, refused": Scenario(limit=2, refusals=2, crashes=0),
}


def with_task(s: State, t: int, **changes: object) -> State:
    task = s.tasks[t]._replace(**changes)  # type: ignore[arg-type]
    return s._replace(tasks=(*s.tasks[:t], task, *s.tasks[t + 1 :]))


def with_claim(s: State, t: int, **changes: object) -> State:
    claim = s.claims[t]._replace(**changes)  # type: ignore[arg-type]
    return s._replace(claims=(*s.claims[:t], claim, *s.claims[t + 1 :]))


def with_late(s: State, late: Late) -> State:
    return s._replace(late=tuple(sorted((*s.late, late))))


# ---- time: what was under way when a task's grace began is old for it


def with_old(s: State, t: int) -> State:
    bit = 1 << t
    s = s._replace(late=tuple(sorted(late._replace(old=late.old | bit) for late in s.late)))
    if s.agent.step in ("popped", "reported"):
        s = s._replace(agent=s.agent._replace(old=s.agent.old | bit))
    return s


def without_old(s: State, t: int) -> State:
    bit = 1 << t
    s = s._replace(late=tuple(sorted(late._replace(old=late.old & ~bit) for late in s.late)))
    return s._replace(agent=s.agent._replace(old=s.agent.old & ~bit))


def has_old(s: State, t: int) -> bool:
    return any(thing.old & 1 << t for thing in (*s.late, s.agent))

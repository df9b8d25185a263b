"""The states of the claim's model: one task, its queue, controllers, producer, user, agent; its rules and scenarios."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from explore import quick

SOURCE, PENDING, NOWHERE = "source", "pending", "-"


@quick
class Entry(NamedTuple):
    attempt: int  # status_changed when it was pushed
    given_back: bool


@quick
class Mark(NamedTuple):
    attempt: int
    instance: int  # of the controller's process: which of its lives wrote it


NO_MARK = Mark(0, 0)


@quick
class Late(NamedTuple):
    owner: int
    call: str
    mark: Mark
    old: int


@quick
class Request(NamedTuple):
    """A producer's or user's request under way: next operation, what it loaded, bits."""

    step: int
    status: str
    queue: str
    old: int


@quick
class Agent(NamedTuple):
    step: str
    attempt: int
    old: int


@quick
class Controller(NamedTuple):
    step: str = "idle"
    attempt: int = 0  # of the claim in its memory
    instance: int = 1  # counts its starts
    record: Mark = NO_MARK  # the mark of the claim in its record; survives crashes
    job: int = 0  # attempt of the Job in its cluster
    watch: tuple[object, ...] | None = None  # the picture when its grace began
    claims_absent: bool = False  # the claim is of a task found in no queue
    known: bool = False  # it remembers that nothing but its mark came of its last claim
    resumed: bool = False  # the claim goes on after a grace: an earlier create may have landed
    doubt: bool = False  # a call of its own may still land
    full: bool = False  # it has no room for the task
    leaves: bool = False  # told to end, and the cluster takes nothing from it any more (helm uninstall)


@quick
class State(NamedTuple):
    status: str
    changed: int  # status_changed: names the attempt
    source: Entry | None
    pending: bool
    queue: str  # execution.queue
    marks: tuple[Mark, ...]  # each controller's, attempt 0 for none
    worker: int  # last_worker was reported for this attempt
    launched: tuple[tuple[int, str], ...]
    late: tuple[Late, ...]
    producer: Request
    user: Request
    script: int
    agent: Agent
    controllers: tuple[Controller, ...]
    faults: int
    crashes: int
    leavings: int
    fills: int = 0

    def counts(self, y: int) -> bool:
        """Controller y's mark stands for the current attempt."""
        return self.marks[y].attempt == self.changed

    def foreign(self, x: int) -> list[int]:
        """The other controllers whose mark stands for it."""
        return [y for y in range(len(self.marks)) if y != x and self.counts(y)]


NO_REQUEST = Request(step=0, status="", queue=NOWHERE, old=0)


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The rules of the chosen protocol. Switching one off shows the trace that it prevents."""

    read_back: bool = True  # take only after reading the own mark back alone
    record: bool = True  # written before the take
    grace: bool = True  # a doubt is looked at again only when nothing sent before can still land
    hold: bool = True  # a doubt holds the task for a whole grace, whatever changes meanwhile
    sweep: bool = True  # tasks that are queued, in no queue and nobody's are claimed after a grace
    second_grace: bool = True  # a task found in no queue is marked, and launched only after one more grace
    own_mark: bool = True  # a record counts only while the own mark stands
    let_go: bool = True  # who has no room takes its mark away, after a grace
    look: bool = True  # before that it looks for a Job that a create without an answer has made
    release: bool = True  # who is told to end takes its mark away from what it has not taken


@dataclass(frozen=True, kw_only=True)
class Scenario:
    agent: bool = False
    script: tuple[str, ...] = ()
    faults: int = 1
    crashes: int = 1
    refusals: bool = False  # the cluster may refuse the Job for good: the task is given back
    controllers: int = 2
    leavings: int = 0  # how often the first controller is uninstalled
    returns: bool = False  # it is installed again each time
    fills: int = 0  # how often the first controller may lose its room; it may have some again


SCENARIOS = {
    "1c": Scenario(controllers=1, agent=True, crashes=2),
    "2c": Scenario(),
    "2c+agent": Scenario(agent=True),
    "2c+refusal": Scenario(refusals=True),
    "uninstall": Scenario(leavings=1, faults=0, crashes=0),
    "uninstall,install": Scenario(leavings=1, returns=True, crashes=0),
    "uninstall,install,stop": Scenario(leavings=1, returns=True, script=("stop",), faults=0, crashes=0),
    "stop": Scenario(script=("stop",)),
    "stop,enqueue": Scenario(script=("stop", "enqueue"), crashes=0),
    "stop,enqueue+agent": Scenario(script=("stop", "enqueue"), agent=True, faults=0, crashes=0),
    "room": Scenario(fills=1),
    "room,stop,enqueue": Scenario(fills=1, script=("stop", "enqueue"), crashes=0),
    "reset,enqueue": Scenario(script=("reset", "enqueue"), crashes=0),
}


def with_late(s: State, late: Late) -> State:
    return s._replace(late=tuple(sorted((*s.late, late))))


# ---- time: what was under way when a grace began is old for the controller whose bit it has


def with_old(s: State, bit: int) -> State:
    s = s._replace(late=tuple(sorted(call._replace(old=call.old | bit) for call in s.late)))
    if s.producer.step:
        s = s._replace(producer=s.producer._replace(old=s.producer.old | bit))
    if s.user.step:
        s = s._replace(user=s.user._replace(old=s.user.old | bit))
    if s.agent.step in ("popped", "reported"):
        s = s._replace(agent=s.agent._replace(old=s.agent.old | bit))
    return s


def without_old(s: State, bit: int) -> State:
    return s._replace(
        late=tuple(sorted(call._replace(old=call.old & ~bit) for call in s.late)),
        producer=s.producer._replace(old=s.producer.old & ~bit),
        user=s.user._replace(old=s.user.old & ~bit),
        agent=s.agent._replace(old=s.agent.old & ~bit),
    )


def has_old(s: State, bit: int) -> bool:
    return any(thing.old & bit for thing in (*s.late, s.producer, s.user, s.agent))

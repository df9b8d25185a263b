"""Explicit-state model of the claim (ADR 0002): every interleaving, breadth first, the shortest trace of each failure.

One task; two controllers in two clusters on one source queue; a plain agent that pops; a producer and a user whose
requests are several database operations; one fault (not executed, executed but answer lost, landing late), one crash.
A failure is `lost` (queued, in no queue, no Job, and nobody will act), `stuck` (in the queue, and nobody will take it),
`twice` (one attempt started twice), `leftover` (an entry of ours for a task that is not queued), `never at rest`.

    python claim_model.py SCENARIO [RULE=VALUE ...]      # e.g. 2c; 2c read_back=0 shows why that rule is there

Time is modelled by bits: who starts a grace marks everything under way as old for itself (requests, late calls, the
agent between pop and start), and the grace ends only when nothing old is left. Nothing is assumed of a controller's own
pace: it may stop for any time between two of its steps.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

T = TypeVar("T")

SOURCE, PENDING, NOWHERE = "source", "pending", "-"


class Entry(NamedTuple):
    attempt: int  # status_changed when it was pushed
    given_back: bool


class Mark(NamedTuple):
    attempt: int
    instance: int  # of the controller's process: which of its lives wrote it


NO_MARK = Mark(0, 0)


class Late(NamedTuple):
    owner: int
    call: str
    mark: Mark
    old: int


class Request(NamedTuple):
    """A producer's or user's request under way: next operation, what it loaded, bits."""

    step: int
    status: str
    queue: str
    old: int


class Agent(NamedTuple):
    step: str
    attempt: int
    old: int


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

Steps = Iterator[tuple[str, State, bool]]  # label, next state, must it happen sooner or later


@dataclass
class Result:
    states: int
    complete: bool
    failures: dict[str, list[str]] = field(default_factory=dict)


class Model:
    def __init__(self, scenario: Scenario, rules: Rules) -> None:
        self.scenario, self.rules = scenario, rules

    def initial(self) -> State:
        n = self.scenario.controllers
        return State(
            status="created", changed=0, source=None, pending=False, queue=NOWHERE, marks=(NO_MARK,) * n, worker=0,
            launched=(), late=(), producer=NO_REQUEST._replace(step=1), user=NO_REQUEST, script=0,
            agent=Agent("idle" if self.scenario.agent else "done", 0, 0), controllers=(Controller(),) * n,
            faults=self.scenario.faults, crashes=self.scenario.crashes, leavings=self.scenario.leavings,
            fills=self.scenario.fills,
        )  # fmt: skip

    # ---- what a controller can see --------------------------------------------------------------------------------
    def counts(self, s: State, y: int) -> bool:
        """Controller y's mark stands for the current attempt."""
        return s.marks[y].attempt == s.changed

    def foreign(self, s: State, x: int) -> list[int]:
        return [y for y in range(len(s.marks)) if y != x and self.counts(s, y)]

    def picture(self, s: State, x: int) -> tuple[object, ...]:
        return s.status, s.changed, s.source, s.marks, s.worker, s.controllers[x].record

    # ---- time -----------------------------------------------------------------------------------------------------
    def begin_grace(self, s: State, x: int) -> State:
        bit = 1 << x
        s = s._replace(
            late=tuple(sorted(call._replace(old=call.old | bit) for call in s.late)),
        )
        if s.producer.step:
            s = s._replace(producer=s.producer._replace(old=s.producer.old | bit))
        if s.user.step:
            s = s._replace(user=s.user._replace(old=s.user.old | bit))
        if s.agent.step in ("popped", "reported"):
            s = s._replace(agent=s.agent._replace(old=s.agent.old | bit))
        return self.set(s, x, watch=self.picture(s, x))

    def end_grace(self, s: State, x: int) -> State:
        keep = ~(1 << x)
        s = s._replace(
            late=tuple(sorted(call._replace(old=call.old & keep) for call in s.late)),
            producer=s.producer._replace(old=s.producer.old & keep),
            user=s.user._replace(old=s.user.old & keep),
            agent=s.agent._replace(old=s.agent.old & keep),
        )
        return self.set(s, x, watch=None, doubt=False)

    def grace_over(self, s: State, x: int) -> bool:
        bit = 1 << x
        under_way = (*s.late, s.producer, s.user, s.agent)
        return not self.rules.grace or not any(thing.old & bit for thing in under_way)

    # ---- the servers: one operation of a database each ------------------------------------------------------------
    def execute(self, s: State, call: str, x: int, mark: Mark) -> tuple[State, bool]:
        ctl, attempt = s.controllers[x], mark.attempt
        if call == "mark":
            return s._replace(marks=replaced(s.marks, x, mark)), True
        if call == "unmark":
            return s._replace(marks=replaced(s.marks, x, NO_MARK)), True
        if call in ("take", "clean"):
            return s._replace(source=None), s.source is not None
        if call == "show":  # queues.add_task to the pending queue
            return s._replace(pending=True, queue=PENDING), True
        if call == "give back":  # queues.add_task to the source queue
            if s.source:
                return s, False
            return s._replace(source=Entry(s.changed, True), queue=SOURCE), True
        assert call == "create", call
        if ctl.job == attempt:
            return s, True
        s = self.set(s, x, job=attempt)
        return s._replace(launched=tuple(sorted((*s.launched, (attempt, "AB"[x]))))), True

    def call(self, s: State, x: int, call: str, *, yes: str, no: str, doubt: str = "idle") -> Steps:
        """A request with its three endings. After a doubt its owner does nothing more for the task before a grace."""
        ctl = s.controllers[x]
        mark = Mark(ctl.attempt, ctl.instance)
        after, answer = self.execute(s, call, x, mark)
        yield f"{call}: {'done' if answer else 'no'}", self.goto(after, x, yes if answer else no), True

        def in_doubt(t: State) -> State:
            t = self.goto(t, x, doubt)
            if doubt != "idle" or not self.rules.grace:
                return t
            return self.begin_grace(self.set(t, x, doubt=self.rules.hold), x)

        late = Late(x, call, mark, 0)
        if s.faults:
            t = s._replace(faults=s.faults - 1)
            yield f"{call}: not executed, no answer", in_doubt(t), False
            yield f"{call}: executed, answer lost", in_doubt(self.execute(t, call, x, mark)[0]), False
            yield f"{call}: no answer, still under way", in_doubt(with_late(t, late)), False
        if s.crashes:
            t = self.crash(s, x)
            yield f"crash with {call} under way", with_late(t, late), False

    # ---- a controller ---------------------------------------------------------------------------------------------
    def set(self, s: State, x: int, **changes: object) -> State:
        return s._replace(controllers=replaced(s.controllers, x, s.controllers[x]._replace(**changes)))  # type: ignore[arg-type]

    def goto(self, s: State, x: int, step: str) -> State:
        if step == "idle":
            return self.set(s, x, step="idle", attempt=0, claims_absent=False, resumed=False)
        return self.set(s, x, step=step)

    def crash(self, s: State, x: int) -> State:
        s = self.end_grace(s, x) if s.controllers[x].watch else s
        s = self.set(s, x, instance=s.controllers[x].instance + 1, known=False)
        return self.goto(s._replace(crashes=s.crashes - 1), x, "idle")

    def controller(self, s: State, x: int) -> Steps:
        ctl = s.controllers[x]
        same = s.status == "queued" and s.changed == ctl.attempt
        if s.crashes and (ctl.step != "idle" or ctl.watch):
            yield f"crash at {ctl.step}", self.crash(s, x), False
        if s.leavings and x == 0 and not ctl.leaves:
            yield "uninstalled", self.set(s._replace(leavings=s.leavings - 1), x, leaves=True), False
        # Only while its mark stands: else it does nothing, which it may do for any time without that.
        if s.fills and x == 0 and ctl.step == "idle" and self.counts(s, x) and s.status == "queued":
            yield "has no room any more", self.set(s._replace(fills=s.fills - 1), x, full=True), False
        if ctl.full and ctl.step == "idle":
            yield "has room again", self.set(s, x, full=False), False
        match ctl.step:
            case "idle" if ctl.leaves:
                yield from self.ended(s, x)
            case "idle":
                yield from self.idle(s, x)
            case "mark" | "clean" if ctl.leaves:
                yield "ends: nothing begun", self.goto(s, x, "idle"), True
            case "read" | "write" | "take" if ctl.leaves:
                # The record cannot be written any more, so a claim that was recorded stays there.
                nxt = "unmark" if self.rules.release else "idle"
                yield "ends: nothing taken", self.goto(s, x, nxt), True
            case "show" | "create" if ctl.leaves and not ctl.resumed:
                yield "create: refused, uninstalled", self.goto(s, x, "give back"), True
            case "create" if ctl.leaves:
                # An earlier create may have landed unseen.
                yield "create: refused, and in doubt before", self.goto(s, x, "idle"), True
            case "forget, unmark" if ctl.leaves:
                yield "record: refused", self.goto(s, x, "unmark"), True
            case "forget" if ctl.leaves:
                yield "record: refused", self.goto(s, x, "idle"), True
            case "mark":
                yield from self.call(self.set(s, x, known=False), x, "mark", yes="read", no="idle")
            case "clean":
                yield from self.call(s, x, "clean", yes="idle", no="idle")
            case "look" if self.rules.look and ctl.job == ctl.attempt:
                yield "looks: its Job is there", self.goto(s, x, "idle"), True
            case "look":
                yield "looks: no Job", self.goto(s, x, "forget, unmark"), True
            case "unmark":
                yield from self.call(s, x, "unmark", yes="idle", no="idle")
            case "read":
                others = self.foreign(s, x) if self.rules.read_back else []
                if not same or s.marks[x] != Mark(ctl.attempt, ctl.instance):
                    yield "reads: not this attempt any more", self.goto(s, x, "idle"), True
                elif not others:
                    yield "reads: alone", self.goto(s, x, "write"), True
                elif min(others) < x:
                    yield "reads: another's mark, gives way", self.goto(s, x, "unmark"), True
                else:
                    yield "reads: another's mark, waits", self.set(self.goto(s, x, "idle"), x, known=True), True
            case "write":
                record = Mark(ctl.attempt, ctl.instance) if self.rules.record else NO_MARK
                nxt = "take"
                if ctl.claims_absent:
                    nxt = "idle" if self.rules.second_grace else "create"
                yield "record written", self.goto(self.set(s, x, record=record), x, nxt), True
            case "take":
                yield from self.call(s, x, "take", yes="show", no="idle")
            case "show":
                yield from self.call(s, x, "show", yes="create", no="create", doubt="create")
            case "create":
                if self.scenario.refusals and ctl.job != ctl.attempt:
                    yield "create: refused for good", self.goto(s, x, "give back"), False
                yield from self.call(s, x, "create", yes="forget", no="forget")
            case "give back" if not same:
                yield "reads: not this attempt any more", self.goto(s, x, "forget, unmark"), True
            case "give back":
                yield from self.call(s, x, "give back", yes="check", no="check")
            case "check" if s.status != "queued" and s.source:
                yield from self.call(s, x, "clean", yes="forget, unmark", no="forget, unmark")
            case "check":
                yield "reads: still queued", self.goto(s, x, "forget, unmark"), True
            case "forget, unmark":
                yield "record forgotten", self.goto(self.set(s, x, record=NO_MARK), x, "unmark"), True
            case "forget":
                yield "record forgotten", self.goto(self.set(s, x, record=NO_MARK), x, "idle"), True
            case _:
                raise AssertionError(ctl.step)

    def ended(self, s: State, x: int) -> Steps:
        """What it knows to have only marked it unmarks; the record stays, and is found when it is installed again."""
        ctl = s.controllers[x]
        if ctl.watch:
            yield "ended in a grace", self.set(self.end_grace(s, x), x, known=False), True
        elif ctl.known and self.rules.release:
            yield "ends: marked, nothing taken", self.set(s, x, step="unmark", known=False), True
        elif self.scenario.returns:
            t = self.set(s, x, leaves=False, known=False, instance=ctl.instance + 1)
            yield "installed again", t, True

    def idle(self, s: State, x: int) -> Steps:
        ctl = s.controllers[x]
        queued, mine, others = s.status == "queued", self.counts(s, x), self.foreign(s, x)
        if ctl.watch:
            if self.picture(s, x) != ctl.watch and ctl.doubt:
                yield "looks: changed, but a call of ours may still land: a new grace", self.begin_grace(s, x), True
            elif self.picture(s, x) != ctl.watch:
                yield "looks: the picture changed", self.goto(self.end_grace(s, x), x, "idle"), True
            elif self.grace_over(s, x):
                yield from self.verdict(self.end_grace(s, x), x)
            return
        if ctl.record.attempt:
            if ctl.job == ctl.record.attempt:
                yield "recovery: the Job is there", self.goto(s, x, "forget"), True
            else:
                yield "recovery: a grace begins", self.begin_grace(s, x), True
        elif queued and ctl.job == s.changed:
            if s.source:
                yield "an entry beside our Job", self.set(s, x, step="clean", attempt=s.changed), True
        elif queued and mine and (self.lets_go(ctl) or not (ctl.known and not others and (s.source or ctl.full))):
            if self.lets_go(ctl) or not others or min(others) < x:  # else the other one gives way
                yield "our mark, and no claim: a grace begins", self.begin_grace(s, x), True
        elif queued and ctl.full:
            pass
        elif queued and s.source and not others:
            yield f"sees the entry of attempt {s.changed}", self.set(s, x, step="mark", attempt=s.changed), True
        elif queued and not s.source and self.may_sweep(s, others):
            yield "in no queue: a grace begins", self.begin_grace(s, x), True

    def lets_go(self, ctl: Controller) -> bool:
        return ctl.full and self.rules.let_go

    def may_sweep(self, s: State, others: list[int]) -> bool:
        return self.rules.sweep and not others and s.worker < s.changed

    def verdict(self, s: State, x: int) -> Steps:
        """What the picture means that stood unchanged for a whole grace: nothing sent before it can still land."""
        ctl = s.controllers[x]
        queued, mine, others = s.status == "queued", self.counts(s, x), self.foreign(s, x)
        if ctl.record.attempt:
            ours = s.marks[x] == ctl.record or not self.rules.own_mark
            if queued and ours and s.changed == ctl.record.attempt and not s.source and s.worker < s.changed:
                taken = self.set(s, x, step="create", attempt=ctl.record.attempt, resumed=True)
                yield "grace over: the take was ours", taken, True
            elif queued and mine and self.lets_go(ctl) and not ctl.job == s.changed != ctl.record.attempt:
                yield "grace over: lets go", self.set(s, x, step="look", attempt=s.changed), True
            else:
                yield "grace over: nothing of ours", self.goto(s, x, "forget"), True
        elif queued and ctl.job == s.changed:
            yield "grace over: the Job is there", self.goto(s, x, "idle"), True
        elif queued and mine and others:
            yield "grace over: gives way", self.set(s, x, step="look", attempt=s.changed), True
        elif queued and mine and self.lets_go(ctl):
            yield "grace over: lets go", self.set(s, x, step="look", attempt=s.changed), True
        elif queued and ctl.full:
            yield "grace over: no room", self.set(self.goto(s, x, "idle"), x, known=mine), True
        elif queued and s.source and not others:
            yield "grace over: the entry is there", self.set(s, x, step="mark", attempt=s.changed), True
        elif queued and not s.source and self.may_sweep(s, others):
            yield "grace over: nobody's task", self.set(s, x, step="mark", attempt=s.changed, claims_absent=True), True
        else:
            yield "grace over: nothing to do", self.goto(s, x, "idle"), True

    # ---- the others -----------------------------------------------------------------------------------------------
    def enqueue(self, s: State, r: Request) -> tuple[str, State, Request]:
        """tasks.enqueue, one database operation (clearml-api.md 8)."""
        over = NO_REQUEST
        if r.step == 1:
            if s.status == "in_progress":
                return "enqueue: refused", s, over
            t = s._replace(status="queued", changed=s.changed + 1)
            return f"enqueue: queued, attempt {t.changed}", t, r._replace(step=2, status=s.status)
        if r.step == 2:
            if s.source:
                return "enqueue: already there", s, r._replace(step=5)
            return "enqueue: entry pushed", s._replace(source=Entry(s.changed, False)), r._replace(step=3)
        if r.step == 3:
            return "enqueue: execution.queue", s._replace(queue=SOURCE), r._replace(step=4)
        if r.step == 4:
            return "enqueue: out of the other queues", s._replace(pending=False), over
        if s.status != "queued":
            return "enqueue: nothing to revert", s, over
        return f"enqueue: back to {r.status}", s._replace(status=r.status, changed=s.changed + 1), over

    def producer(self, s: State) -> Steps:
        if s.producer.step:
            label, t, request = self.enqueue(s, s.producer)
            old = s.producer.old if request.step else 0
            yield label, t._replace(producer=request._replace(old=old)), True

    def user(self, s: State) -> Steps:
        if s.script >= len(self.scenario.script):
            return
        word, r = self.scenario.script[s.script], s.user
        must = bool(r.step)

        def after(t: State, request: Request) -> State:
            if not request.step:
                return t._replace(user=NO_REQUEST, script=s.script + 1)
            return t._replace(user=request._replace(old=r.old))

        if word == "enqueue":
            if s.producer.step:
                return
            label, t, request = self.enqueue(s, r if r.step else r._replace(step=1))
            yield label, after(t, request), must
        elif not r.step:
            if word == "stop" and s.status == "created":
                return
            request = r._replace(step=1, status=s.status, queue=s.queue)
            yield f"{word}: loads {s.status}", after(s, request), False
        elif r.step == 1:
            t = s
            if word == "reset" or (r.status == "queued" and r.queue == SOURCE):
                t = t._replace(source=None)
            if word == "reset" or (r.status == "queued" and r.queue == PENDING):
                t = t._replace(pending=False)
            yield f"{word}: out of the queue", after(t, r._replace(step=2)), True
        else:
            t = s
            if s.status == r.status and word == "stop":
                t = s._replace(status="stopped", changed=s.changed + 1)
            elif s.status == r.status:
                t = s._replace(status="created", changed=s.changed + 1, queue=NOWHERE, worker=0)
            yield f"{word}: {t.status}", after(t, NO_REQUEST), True

    def plain_agent(self, s: State) -> Steps:
        agent = s.agent
        if agent.step == "idle" and s.source:
            t = s._replace(agent=Agent("popped", s.source.attempt, 0), source=None)
            yield "pops", t._replace(status="queued") if s.status == "stopped" else t, False
        elif agent.step == "popped":
            yield "reports", s._replace(worker=max(1, s.changed), agent=agent._replace(step="reported")), True
        elif agent.step == "reported":
            t = s._replace(agent=Agent("done", 0, 0), status="in_progress", changed=s.changed + 1)
            yield "starts the task", t._replace(launched=tuple(sorted((*s.launched, (agent.attempt, "agent"))))), True

    def pods(self, s: State) -> Steps:
        """A pod may stay pending for ever; its start check and the agent's dequeue are taken as one step."""
        for x, ctl in enumerate(s.controllers):
            if ctl.job and s.status == "queued" and s.changed == ctl.job:
                yield f"the pod of {'AB'[x]} starts", s._replace(status="in_progress", changed=s.changed + 1), False

    def late_calls(self, s: State) -> Steps:
        for i, late in enumerate(s.late):
            t = s._replace(late=s.late[:i] + s.late[i + 1 :])
            t, _ = self.execute(t, late.call, late.owner, late.mark)
            yield f"{late.call} of {'AB'[late.owner]} lands late", t, True

    def steps(self, s: State) -> Iterator[tuple[str, State, bool]]:
        named = [("producer", self.producer(s)), ("user", self.user(s)), ("agent", self.plain_agent(s))]
        named += [("cluster", self.pods(s)), ("server", self.late_calls(s))]
        named += [("AB"[x], self.controller(s, x)) for x in range(len(s.controllers))]
        for name, steps in named:
            for label, t, must in steps:
                yield f"{name}: {label}", t, must

    # ---- judgement ------------------------------------------------------------------------------------------------
    def at_rest(self, s: State) -> Iterator[str]:
        """Nothing that must happen is left to happen."""
        jobs = sum(ctl.job == s.changed for ctl in s.controllers)
        if s.status == "queued" and not s.source and not jobs:
            yield "lost"
        if s.status == "queued" and s.source and not jobs:
            yield "stuck"
        if s.status != "queued" and s.source and s.source.given_back:
            yield "leftover"

    def explore(self, *, states: int = 4_000_000) -> Result:
        start = self.initial()
        number: dict[State, int] = {start: 0}
        parent: list[tuple[State, str] | None] = [None]
        before: list[list[int]] = [[]]  # by steps that must happen
        resting: list[int] = []
        todo, found = deque([start]), dict[str, State]()
        while todo and len(number) < states:
            s = todo.popleft()
            here, rests = number[s], True
            for label, t, must in self.steps(s):
                if t not in number:
                    number[t] = len(number)
                    parent.append((s, label))
                    before.append([])
                    todo.append(t)
                    attempts = [attempt for attempt, _ in t.launched]
                    if len(t.launched) > len(s.launched) and len(attempts) != len(set(attempts)):
                        found.setdefault("twice", t)
                if must:
                    rests = False
                    before[number[t]].append(here)
            if rests:
                resting.append(here)
                for kind in self.at_rest(s):
                    found.setdefault(kind, s)
        if not todo:
            comes_to_rest = reached(resting, before)
            endless = next((s for s, i in number.items() if not comes_to_rest[i]), None)
            if endless is not None:
                found["never at rest"] = endless
        result = Result(states=len(number), complete=not todo)
        for kind, state in found.items():
            trace: list[str] = []
            step = parent[number[state]]
            while step is not None:
                trace.append(step[1])
                step = parent[number[step[0]]]
            result.failures[kind] = trace[::-1]
        return result


def replaced(items: tuple[T, ...], i: int, item: T) -> tuple[T, ...]:
    return (*items[:i], item, *items[i + 1 :])


def reached(start: list[int], edges: list[list[int]]) -> bytearray:
    seen, todo = bytearray(len(edges)), list(start)
    while todo:
        i = todo.pop()
        if not seen[i]:
            seen[i] = 1
            todo.extend(edges[i])
    return seen


def with_late(s: State, late: Late) -> State:
    return s._replace(late=tuple(sorted((*s.late, late))))


def main(argv: list[str]) -> int:
    if not argv or argv[0] not in SCENARIOS:
        print(__doc__, "Scenarios:", ", ".join(SCENARIOS))
        return 2
    rules = Rules(**{name: value not in ("0", "off") for name, value in (arg.split("=") for arg in argv[1:])})
    began = time.monotonic()
    result = Model(SCENARIOS[argv[0]], rules).explore()
    extent = "complete" if result.complete else "CUT"
    print(f"{argv[0]}: {result.states} states, {extent}, {time.monotonic() - began:.0f} s")
    for kind, trace in result.failures.items():
        print(f"-- {kind}")
        for number, label in enumerate(trace, 1):
            print(f"   {number:2} {label}")
    return 1 if result.failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

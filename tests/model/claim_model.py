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
from collections.abc import Iterator

from claim_others import Others
from claim_state import (
    NO_MARK,
    NO_REQUEST,
    NOWHERE,
    PENDING,
    SCENARIOS,
    SOURCE,
    Agent,
    Controller,
    Entry,
    Late,
    Mark,
    Rules,
    Scenario,
    State,
    has_old,
    with_late,
    with_old,
    without_old,
)
from explore import Steps, main, replaced


class Model:
    def __init__(self, scenario: Scenario, rules: Rules) -> None:
        self.scenario, self.rules, self.others = scenario, rules, Others(scenario)

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
    def picture(self, s: State, x: int) -> tuple[object, ...]:
        return s.status, s.changed, s.source, s.marks, s.worker, s.controllers[x].record

    def begin_grace(self, s: State, x: int) -> State:
        return self.set(with_old(s, 1 << x), x, watch=self.picture(s, x))

    def end_grace(self, s: State, x: int) -> State:
        return self.set(without_old(s, 1 << x), x, watch=None, doubt=False)

    def grace_over(self, s: State, x: int) -> bool:
        return not self.rules.grace or not has_old(s, 1 << x)

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

    def call(self, s: State, x: int, call: str, *, yes: str, no: str, doubt: str = "idle") -> Steps[State]:
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

    def controller(self, s: State, x: int) -> Steps[State]:
        ctl = s.controllers[x]
        same = s.status == "queued" and s.changed == ctl.attempt
        if s.crashes and (ctl.step != "idle" or ctl.watch):
            yield f"crash at {ctl.step}", self.crash(s, x), False
        if s.leavings and x == 0 and not ctl.leaves:
            yield "uninstalled", self.set(s._replace(leavings=s.leavings - 1), x, leaves=True), False
        # Only while its mark stands: else it does nothing, which it may do for any time without that.
        if s.fills and x == 0 and ctl.step == "idle" and s.counts(x) and s.status == "queued":
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
            case "read" | "record" | "take" if ctl.leaves:
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
            case "standing" if self.rules.look and ctl.job == ctl.attempt:
                yield "looks: its Job is there", self.goto(s, x, "idle"), True
            case "standing":
                yield "looks: no Job", self.goto(s, x, "forget, unmark"), True
            case "unmark":
                yield from self.call(s, x, "unmark", yes="idle", no="idle")
            case "read":
                others = s.foreign(x) if self.rules.read_back else []
                if not same or s.marks[x] != Mark(ctl.attempt, ctl.instance):
                    yield "reads: not this attempt any more", self.goto(s, x, "idle"), True
                elif not others:
                    yield "reads: alone", self.goto(s, x, "record"), True
                elif min(others) < x:
                    yield "reads: another's mark, gives way", self.goto(s, x, "unmark"), True
                else:
                    yield "reads: another's mark, waits", self.set(self.goto(s, x, "idle"), x, known=True), True
            case "record":
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

    def ended(self, s: State, x: int) -> Steps[State]:
        """What it knows to have only marked it unmarks; the record stays, and is found when it is installed again."""
        ctl = s.controllers[x]
        if ctl.watch:
            yield "ended in a grace", self.set(self.end_grace(s, x), x, known=False), True
        elif ctl.known and self.rules.release:
            yield "ends: marked, nothing taken", self.set(s, x, step="unmark", known=False), True
        elif self.scenario.returns:
            t = self.set(s, x, leaves=False, known=False, instance=ctl.instance + 1)
            yield "installed again", t, True

    def idle(self, s: State, x: int) -> Steps[State]:
        ctl = s.controllers[x]
        queued, mine, others = s.status == "queued", s.counts(x), s.foreign(x)
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

    def verdict(self, s: State, x: int) -> Steps[State]:
        """What the picture means that stood unchanged for a whole grace: nothing sent before it can still land."""
        ctl = s.controllers[x]
        queued, mine, others = s.status == "queued", s.counts(x), s.foreign(x)
        if ctl.record.attempt:
            ours = s.marks[x] == ctl.record or not self.rules.own_mark
            if queued and ours and s.changed == ctl.record.attempt and not s.source and s.worker < s.changed:
                taken = self.set(s, x, step="create", attempt=ctl.record.attempt, resumed=True)
                yield "grace over: the take was ours", taken, True
            elif queued and mine and self.lets_go(ctl) and not ctl.job == s.changed != ctl.record.attempt:
                yield "grace over: lets go", self.set(s, x, step="standing", attempt=s.changed), True
            else:
                yield "grace over: nothing of ours", self.goto(s, x, "forget"), True
        elif queued and ctl.job == s.changed:
            yield "grace over: the Job is there", self.goto(s, x, "idle"), True
        elif queued and mine and others:
            yield "grace over: gives way", self.set(s, x, step="standing", attempt=s.changed), True
        elif queued and mine and self.lets_go(ctl):
            yield "grace over: lets go", self.set(s, x, step="standing", attempt=s.changed), True
        elif queued and ctl.full:
            yield "grace over: no room", self.set(self.goto(s, x, "idle"), x, known=mine), True
        elif queued and s.source and not others:
            yield "grace over: the entry is there", self.set(s, x, step="mark", attempt=s.changed), True
        elif queued and not s.source and self.may_sweep(s, others):
            yield "grace over: nobody's task", self.set(s, x, step="mark", attempt=s.changed, claims_absent=True), True
        else:
            yield "grace over: nothing to do", self.goto(s, x, "idle"), True

    def late_calls(self, s: State) -> Steps[State]:
        for i, late in enumerate(s.late):
            t = s._replace(late=s.late[:i] + s.late[i + 1 :])
            t, _ = self.execute(t, late.call, late.owner, late.mark)
            yield f"{late.call} of {'AB'[late.owner]} lands late", t, True

    def steps(self, s: State) -> Steps[State]:
        others = self.others
        named = [("producer", others.producer(s)), ("user", others.user(s)), ("agent", others.plain_agent(s))]
        named += [("cluster", others.pods(s)), ("server", self.late_calls(s))]
        named += [("AB"[x], self.controller(s, x)) for x in range(len(s.controllers))]
        for name, steps in named:
            for label, t, must in steps:
                yield f"{name}: {label}", t, must

    # ---- judgement ------------------------------------------------------------------------------------------------
    def wrong(self, s: State, t: State) -> Iterator[str]:
        attempts = [attempt for attempt, _ in t.launched]
        if len(t.launched) > len(s.launched) and len(attempts) != len(set(attempts)):
            yield "twice"

    def at_rest(self, s: State) -> Iterator[str]:
        """Nothing that must happen is left to happen."""
        jobs = sum(ctl.job == s.changed for ctl in s.controllers)
        if s.status == "queued" and not s.source and not jobs:
            yield "lost"
        if s.status == "queued" and s.source and not jobs:
            yield "stuck"
        if s.status != "queued" and s.source and s.source.given_back:
            yield "leftover"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], doc=__doc__, scenarios=SCENARIOS, make=lambda sc, rules: Model(sc, Rules(**rules))))

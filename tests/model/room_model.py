"""Explicit-state model of two tasks of one controller: what couples them, step by step, breadth first.

Two tasks in one queue, a limit of one Job (or of two: then both are of one batch), one controller in several lives, and
beside it a plain agent or another release's controller; one fault, one crash. A failure is `limit` (more Jobs or pods
of ours at one time than the limit), `twice` (a task started twice), `lost` (in no queue, and nobody will act), `stuck`
(in the queue, and nobody will take it), `turned` (the second before the first, without a fault, a crash or another
consumer), `leftover` (a record of ours, and nothing under way), `never at rest`.

    python room_model.py SCENARIO [RULE=VALUE ...]      # e.g. "one place"; "one place" doubts=0 shows why

What one task is to the claim is `claim_model.py`'s: an attempt is one here, its producer is one operation. Time is
modelled by bits as there. The watch may show a Job as late as it likes.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator

from explore import Steps, main
from room_others import BATCHED, Others, Servers, named
from room_recovery import Recovery
from room_state import (
    SCENARIOS,
    SECOND,
    TASKS,
    Claim,
    Consumer,
    Rules,
    Scenario,
    State,
    Task,
    with_claim,
    with_late,
    with_task,
)

PHASES = ("look", "mark", "read", "standing", "give way: forget", "give way: unmark", "record", "take", "create")
PHASES += ("give back", "let go: forget", "let go: unmark", "move to front")
CALLS = {"give way: forget": "forget", "let go: forget": "forget", "give way: unmark": "unmark"}
CALLS |= {"let go: unmark": "unmark"} | {call: call for call in ("mark", "record", "take", "create", "give back")}
CALLS |= {"move to front": "move to front"}


class Model(Recovery):
    def __init__(self, scenario: Scenario, rules: Rules) -> None:
        self.scenario, self.rules = scenario, rules
        self.servers, self.others = Servers(rules), Others(scenario)

    def initial(self) -> State:
        sc = self.scenario
        waits = tuple(t for t in TASKS if t not in sc.popped)
        return State(
            tasks=(Task(),) * 2, queue=waits[: 1 - len(sc.popped)], to_come=waits[max(0, 1 - len(sc.popped)) :],
            record=(0, 0), stale=False, claims=(Claim(),) * 2, together=False, polled=None, room_before=0, fronts=(),
            life=1, opened=True, late=(), agent=Consumer(), other=Consumer(), launched=(), faults=sc.faults,
            crashes=sc.crashes, refusals=sc.refusals, deletions=sc.deletions,
        )  # fmt: skip

    # ---- the end of a life ------------------------------------------------------------------------------------------
    def crash(self, s: State) -> Steps[State]:
        """What is under way at that moment may land or not."""
        if not s.crashes or not s.opened:
            return
        under_way = []
        for t in TASKS:
            step = s.claims[t].step
            if step in CALLS and self.may_act(s, t):
                tasks = self.together(s, t) if CALLS[step] in BATCHED else (t,)
                request = self.request(s, CALLS[step], self.to_front(s, tasks) if step == "move to front" else tasks)
                if request not in under_way:
                    under_way.append(request)
        if s.polled is None and not under_way and all(c == Claim() for c in s.claims):
            return
        dead = s._replace(
            crashes=s.crashes - 1, life=s.life + 1, opened=False, stale=False, polled=None, room_before=0, fronts=(),
            together=False,
            claims=(Claim(),) * 2, tasks=tuple(task._replace(shown="") for task in s.tasks),
            agent=s.agent._replace(old=0), late=tuple(late._replace(old=0) for late in s.late),
        )  # fmt: skip
        for n in range(len(under_way) + 1):
            for some in itertools.combinations(under_way, n):
                t = dead
                for request in some:
                    t = with_late(t, request)
                names = ", ".join(named(request.call, request.tasks) for request in some)
                yield f"crash{f' with {names} under way' if names else ''}", t, False

    # ---- a batch --------------------------------------------------------------------------------------------------
    def together(self, s: State, t: int) -> tuple[int, ...]:
        """The tasks of the batch that are at the same step."""
        return tuple(u for u in TASKS if u == t or (s.together and s.claims[u].step == s.claims[t].step))

    def may_act(self, s: State, t: int) -> bool:
        """Nobody of its batch is at an earlier step."""
        mates = [s.claims[u].step for u in TASKS if s.together and u != t]
        at = PHASES.index(s.claims[t].step)
        return all(step in ("-", "waits") or PHASES.index(step) >= at for step in mates)

    def through(self, s: State, t: int) -> State:
        """Nothing more is done for the task; the batch ends with its last one."""
        s = with_claim(s, t, step="waits", absent=False, resumed=False, back=False)
        if s.together and any(claim.step not in ("-", "waits") for claim in s.claims):
            return s
        for u in TASKS:
            if s.claims[u].step == "waits":
                s = with_claim(s, u, step="-")
        return s._replace(together=False)

    def hold(self, s: State, t: int, *, doubt: bool = False) -> State:
        claim = s.claims[t]
        if claim.held is not None and not doubt:
            return s
        return self.begin_grace(with_claim(s, t, doubt=doubt or claim.doubt), t)

    def to_front(self, s: State, tasks: tuple[int, ...]) -> tuple[int, ...]:
        if not self.rules.in_order:
            return tasks[::-1]
        return tuple(sorted({*tasks, *s.fronts}))

    # ---- the steps of a claim ---------------------------------------------------------------------------------------
    def claim(self, s: State, t: int) -> Steps[State]:
        claim, task = s.claims[t], s.tasks[t]
        if claim.step in ("-", "waits") or not self.may_act(s, t):
            return
        tasks = self.together(s, t)
        leads = t == tasks[0]  # steps that are one for all
        match claim.step:
            case "look" if leads:
                after = s
                for u in tasks:
                    after = self.wanted(after, u)
                yield named("looks at", tasks), after, True
            case "mark":
                for label, after, done in self.endings(s, "mark", (t,)):
                    if done:
                        yield label, with_claim(after, t, step="read", known=True), True
                    else:
                        yield label, self.through(self.hold(after, t, doubt=True), t), False
            case "read" if leads:
                after = s
                for u in tasks:
                    after = self.read_back(after, u)
                yield named("reads", tasks), after, True
                if s.faults:
                    after = s._replace(faults=s.faults - 1)
                    for u in tasks:
                        after = self.through(after, u)
                    yield f"{named('reads', tasks)}: no answer", after, False
            case "standing" if task.job in ("is", "over"):
                noted = with_task(with_claim(s, t, known=False), t, shown=task.job)
                yield f"looks for the Job of t{t + 1}: it is there", self.through(noted, t), True
            case "standing":
                yield f"looks for the Job of t{t + 1}: none", with_claim(s, t, step="give way: forget"), True
            case "give way: forget" | "let go: forget":
                yield from self.forget_first(s, t)
            case "give way: unmark" | "let go: unmark":
                for label, after, done in self.endings(s, "unmark", (t,)):
                    after = with_claim(after, t, known=False) if done else self.hold(after, t, doubt=True)
                    after = with_claim(after, t, step="move to front") if claim.back else self.through(after, t)
                    yield label, after, done is not None
            case "record" if leads and not self.rules.record:
                for u in tasks:
                    s = with_claim(s, u, step="take")
                yield "nothing recorded", s, True
            case "record" if leads:
                for u in tasks:
                    s = with_claim(s, u, forgotten=False)
                for label, after, done in self.endings(s, "record", tasks):
                    after = self.written(after) if done else after
                    for u in tasks:
                        if done and not claim.absent:
                            after = with_claim(after, u, step="take")
                        else:
                            after = with_claim(after, u, perhaps=claim.absent and not done)
                            after = self.through(self.hold(after, u, doubt=not done), u)
                    yield label, after, done is not None
            case "take":
                for label, after, done in self.endings(s, "take", (t,)):
                    if done:
                        yield label, with_claim(after, t, step="create"), True
                    else:
                        yield label, self.through(self.hold(after, t, doubt=done is None), t), done is not None
            case "create":
                yield from self.create(s, t)
            case "give back" if task.status != "queued":
                yield "reads: not queued any more", with_claim(s, t, step="let go: forget"), True
            case "give back":
                for label, after, done in self.endings(s, "give back", (t,)):
                    if done:
                        yield label, with_claim(after, t, step="let go: forget", forgotten=True), True
                    else:
                        yield label, self.through(self.hold(after, t, doubt=True), t), done is not None
            case "move to front" if leads and not self.rules.front:
                yield "not moved to the front", self.through(s, t), True
            case "move to front" if leads:
                order = self.to_front(s, tasks)
                for label, after, done in self.endings(s, "move to front", order):
                    after = after._replace(fronts=order)
                    for u in tasks:
                        after = self.through(after, u)
                    yield label, after, done is not None

    def wanted(self, s: State, t: int) -> State:
        """Step 0, `Marking.wanted`."""
        claim, task = s.claims[t], s.tasks[t]
        if task.status != "queued" or task.shown:
            return self.through(s, t)
        lower = task.other and self.scenario.other == "lower"
        if task.mark and (lower or (not task.other and not claim.known)):
            return self.through(self.hold(s, t), t)
        return self.through(s, t) if task.other else with_claim(s, t, step="mark")

    def read_back(self, s: State, t: int) -> State:
        """Step 2, `picture.read_back`."""
        task = s.tasks[t]
        if task.status != "queued" or task.mark != s.life:
            return self.through(with_claim(s, t, known=False), t)
        if not task.other:
            return with_claim(s, t, step="record")
        lower = self.scenario.other == "lower"
        return with_claim(s, t, step="give way: forget") if lower else self.through(s, t)

    def forget_first(self, s: State, t: int) -> Steps[State]:
        """Before the mark goes the record is forgotten, if there is one."""
        then = s.claims[t].step.replace("forget", "unmark")
        if not s.claims[t].recorded and not s.stale:
            yield f"nothing recorded of t{t + 1}", with_claim(s, t, step=then, forgotten=False), True
            return
        s = with_claim(s, t, forgotten=True)
        for label, after, done in self.endings(s, "forget", (t,)):
            if done:
                yield label, with_claim(self.written(after), t, step=then), True
            else:
                gone_on = "move to front" if s.claims[t].back else ""
                yield label, with_claim(after, t, step=gone_on) if gone_on else self.through(after, t), False

    def create(self, s: State, t: int) -> Steps[State]:
        claim, task = s.claims[t], s.tasks[t]
        if s.refusals and task.job not in ("is", "over"):
            refused = s._replace(refusals=s.refusals - 1)
            yield f"create t{t + 1}: not now", with_claim(refused, t, step="give back", back=True), False
        for label, after, done in self.endings(s, "create", (t,)):
            if not done:
                yield label, self.through(self.hold(after, t, doubt=True), t), False
                continue
            after = with_claim(after, t, forgotten=bool(claim.recorded), known=False)
            if self.rules.noted:
                after = with_task(after, t, shown=after.tasks[t].job)
            yield label, self.through(after, t), True

    # ---- all --------------------------------------------------------------------------------------------------------
    def controller(self, s: State) -> Steps[State]:
        yield from self.crash(s)
        if not s.opened:
            yield from self.opens(s)
            return
        yield from self.poll(s)
        for t in TASKS:
            yield from self.claim(s, t)
            yield from self.recover(s, t)
        yield from self.flush(s)

    def steps(self, s: State) -> Steps[State]:
        others = self.others
        for name, steps in (
            ("producer", others.producer(s)), ("cluster", others.cluster(s)), ("agent", others.plain_agent(s)),
            ("other", others.other_controller(s)), ("server", self.servers.late_calls(s)), ("we", self.controller(s)),
        ):  # fmt: skip
            for label, t, must in steps:
                yield f"{name}: {label}", t, must

    # ---- judgement --------------------------------------------------------------------------------------------------
    def wrong(self, s: State, t: State) -> Iterator[str]:
        if len(t.launched) > len({task for task, _ in t.launched}):
            yield "twice"
        if sum(task.job in ("is", "ending") for task in t.tasks) > self.scenario.limit:
            yield "limit"
        sc = self.scenario
        alone = t.faults == sc.faults and t.crashes == sc.crashes and t.agent.step == t.other.step == "idle"
        if alone and t.queue[:1] == (SECOND,) and len(t.queue) == 2 and all(c.step == "-" for c in t.claims):
            yield "turned"

    def at_rest(self, s: State) -> Iterator[str]:
        for t, task in enumerate(s.tasks):
            if task.status == "queued":
                yield "stuck" if t in s.queue else "lost"
        if any(s.record):
            yield "leftover"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], doc=__doc__, scenarios=SCENARIOS, make=lambda sc, rules: Model(sc, Rules(**rules))))

"""The model of two tasks: how the room is counted, the poll, and what recovery does in the controller's loop."""

from __future__ import annotations

from explore import Steps
from room_calls import Calls
from room_others import outdated
from room_state import TASKS, Rules, Scenario, State, has_old, with_claim, with_old, with_task, without_old


class Recovery(Calls):
    rules: Rules
    scenario: Scenario

    def hold(self, s: State, t: int, *, doubt: bool = False) -> State:
        raise NotImplementedError

    # ---- the room, and the poll (places.py, poll.py) ----------------------------------------------------------------
    def room(self, s: State) -> int:
        used = 0
        for claim, task in zip(s.claims, s.tasks, strict=True):
            exists = task.shown == "is" or (self.rules.pods and task.shown == "ending")
            active = self.rules.in_flight and claim.step != "-"
            recorded = self.rules.doubts and claim.recorded and not claim.forgotten
            perhaps = self.rules.perhaps and claim.perhaps
            used += bool(exists or active or recorded or perhaps)
        return max(0, self.scenario.limit - used)

    def busy(self, s: State, t: int) -> bool:
        claim = s.claims[t]
        if claim.step != "-" or claim.held is not None:
            return True
        return bool(claim.recorded and not claim.forgotten)

    def poll(self, s: State) -> Steps[State]:
        room = self.room(s)
        if s.polled is None:
            free = [t for t in s.queue if not self.busy(s, t)]
            if room and free:
                passed_over = sum(c.held is not None or c.step != "-" for c in s.claims)
                polled = s.queue[: room + passed_over]
                yield "polls", s._replace(polled=polled, room_before=0 if self.rules.recheck else room), True
            return
        chosen = [t for t in s.polled if not self.busy(s, t)][: room if self.rules.recheck else s.room_before]
        s = s._replace(polled=None, room_before=0, together=s.together or len(chosen) == 2)
        for t in chosen:
            s = with_claim(s, t, step="look")
        yield " ".join(("chooses", *(f"t{t + 1}" for t in chosen))), s, True

    # ---- a new life (app/) ------------------------------------------------------------------------------------------
    def opens(self, s: State) -> Steps[State]:
        """It takes the record over and lists the Jobs, before anything else."""
        if self.rules.fresh_write:
            s = outdated(s)
        for t in TASKS:
            s = with_task(with_claim(s, t, recorded=s.record[t]), t, shown=s.tasks[t].job)
        yield "begins: opens the record, lists the Jobs", s._replace(opened=True), True

    # ---- graces (graces.py, recover.py) -----------------------------------------------------------------------------
    def picture(self, s: State, t: int) -> tuple[object, ...]:
        task = s.tasks[t]
        return task.status, t in s.queue, task.mark, task.other, task.worker

    def begin_grace(self, s: State, t: int) -> State:
        return with_claim(with_old(s, t), t, held=self.picture(s, t))

    def recover(self, s: State, t: int) -> Steps[State]:
        claim, task, name = s.claims[t], s.tasks[t], f"t{t + 1}"
        if claim.step != "-":
            return
        recorded = 0 if claim.forgotten else claim.recorded
        if claim.held is not None:
            if self.picture(s, t) != claim.held and claim.doubt:
                yield f"looks: {name} changed, a call may still land: a new grace", self.begin_grace(s, t), True
            elif self.picture(s, t) != claim.held:
                yield f"looks: {name} changed", with_claim(without_old(s, t), t, held=None, perhaps=False), True
            elif not has_old(s, t):
                over = with_claim(without_old(s, t), t, held=None, doubt=False, perhaps=False)
                yield from self.verdict(over, t, recorded=recorded, doubt=claim.doubt)
        elif recorded and task.shown:
            yield f"the Job of {name} is there", with_claim(s, t, forgotten=True), True
        elif recorded:
            yield f"{name} recorded: a grace begins", self.hold(s, t), True
        elif self.swept(s, t):
            yield f"{name} in no queue: a grace begins", self.hold(s, t), True
        elif t in s.queue and task.status == "queued" and task.mark and not task.shown and not self.room(s):
            yield f"our mark on {name}, and no room: a grace begins", self.hold(s, t), True

    def swept(self, s: State, t: int) -> bool:
        """`Recovery.sweep` finds it."""
        task = s.tasks[t]
        waits = task.status == "queued" and t not in (*s.queue, *s.to_come) and not task.shown and not task.worker
        return waits and (not task.other or bool(task.mark and self.scenario.other == "lower"))

    def verdict(self, s: State, t: int, *, recorded: int, doubt: bool) -> Steps[State]:
        task, name = s.tasks[t], f"t{t + 1}"
        free = t not in s.queue and not task.worker
        queued = task.status == "queued"
        settled = with_claim(s, t, known=bool(queued and task.mark and not task.shown))
        if recorded:
            if queued and task.mark == recorded and free and not task.shown:
                yield (
                    f"grace over: the take of {name} was ours",
                    with_claim(settled, t, step="create", resumed=True),
                    True,
                )
                return
            if self.rules.by_name and t not in s.queue and not task.shown and task.job in ("is", "over"):
                settled = with_task(settled, t, shown=task.job)
            yield f"grace over: nothing of ours on {name}", with_claim(settled, t, forgotten=True), True
        elif queued and not task.shown and task.mark and (task.other or not self.room(s)):
            why = "gives way on" if task.other else "no room, lets go of"
            yield f"grace over: {why} {name}", with_claim(settled, t, step="standing", forgotten=doubt), True
        elif queued and not task.shown and not task.other and free:
            settled = with_claim(settled, t, forgotten=doubt)
            if self.room(s) or not self.rules.absent_room:
                yield f"grace over: nobody's {name}", with_claim(settled, t, step="mark", absent=True), True
            else:
                yield f"grace over: nobody's {name}, no room", settled, True
        else:
            yield f"grace over: nothing to do for {name}", with_claim(settled, t, forgotten=doubt), True

    def flush(self, s: State) -> Steps[State]:
        """The record's next write, where none comes by itself."""
        if any(claim.forgotten for claim in s.claims):
            for label, after, done in self.endings(s, "forget", ()):
                yield label, self.written(after) if done else after, done is not None

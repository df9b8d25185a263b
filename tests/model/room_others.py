"""What the servers do with a call in the model of two tasks, and who else acts: pods, the watch, other consumers."""

from __future__ import annotations

from explore import Steps
from room_state import TASKS, Late, Rules, Scenario, State, with_task

BATCHED = {"record", "move to front"}
"""Calls that are one for all tasks of a batch."""


class Servers:
    def __init__(self, rules: Rules) -> None:
        self.rules = rules

    def execute(self, s: State, late: Late) -> tuple[State, bool]:
        """One operation of a database; whether it was done."""
        call, t = late.call, late.tasks[0] if late.tasks else 0
        match call:
            case "mark":
                return with_task(s, t, mark=late.life), True
            case "unmark":
                return with_task(s, t, mark=0), True
            case "take":
                return s._replace(queue=tuple(u for u in s.queue if u != t)), t in s.queue
            case "give back":
                return (s, False) if t in s.queue else (s._replace(queue=(*s.queue, t)), True)
            case "move to front":
                first = tuple(u for u in late.tasks if u in s.queue)
                return s._replace(queue=(*first, *(u for u in s.queue if u not in first))), True
            case "create":
                if s.tasks[t].job in ("is", "over"):
                    return s, True
                made = with_task(s, t, job="is")
                if s.tasks[t].status == "queued":  # else its pod ends at its start check
                    made = made._replace(launched=tuple(sorted((*s.launched, (t, "us")))))
                return made, True
            case "record" | "forget":
                return self.write(s, late), True
        raise AssertionError(call)

    def write(self, s: State, late: Late) -> State:
        record = tuple(
            late.life if u in late.tasks and late.call == "record" else 0 if u in late.forgets else s.record[u]
            for u in TASKS
        )
        if record == s.record and not (s.stale and self.rules.settles):
            return s
        return outdated(s._replace(record=record))

    def late_calls(self, s: State) -> Steps[State]:
        for i, late in enumerate(s.late):
            t = s._replace(late=s.late[:i] + s.late[i + 1 :])
            yield f"{named(late.call, late.tasks)} lands late", self.execute(t, late)[0], True


def outdated(s: State) -> State:
    """Writes of the record that are still under way carry a version that is not the record's any more."""
    return s._replace(late=tuple(late for late in s.late if late.call not in ("record", "forget")))


def named(call: str, tasks: tuple[int, ...]) -> str:
    return " ".join((call, *(f"t{t + 1}" for t in tasks)))


class Others:
    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario

    def producer(self, s: State) -> Steps[State]:
        if s.to_come:
            t = s.to_come[0]
            yield f"t{t + 1} is enqueued", s._replace(to_come=s.to_come[1:], queue=(*s.queue, t)), True

    def cluster(self, s: State) -> Steps[State]:
        for t, task in enumerate(s.tasks):
            name = f"t{t + 1}"
            if task.job == "is" and task.status == "queued":
                yield f"the pod of {name} starts", with_task(s, t, status="in_progress"), True
            elif task.job == "is":
                yield f"the Job of {name} ends", with_task(s, t, job="over", status="ended"), True
                if s.deletions:
                    deleted = with_task(s, t, job="ending", status="ended")
                    yield f"the Job of {name} is deleted", deleted._replace(deletions=s.deletions - 1), False
            elif task.job == "ending":
                yield f"the pod of {name} ends", with_task(s, t, job="gone"), True
            if s.opened and task.shown != task.job:
                yield f"the watch shows: {name} {task.job}", with_task(s, t, shown=task.job), True

    def plain_agent(self, s: State) -> Steps[State]:
        agent = s.agent
        match agent.step:
            case "idle" if s.queue and self.scenario.agent:
                popped = agent._replace(step="popped", task=s.queue[0])
                yield f"pops t{s.queue[0] + 1}", s._replace(agent=popped, queue=s.queue[1:]), False
            case "popped":
                t = with_task(s, agent.task, worker=True)
                yield "reports", t._replace(agent=agent._replace(step="reported")), True
            case "reported":
                t = with_task(s, agent.task, status="in_progress")
                launched = tuple(sorted((*s.launched, (agent.task, "agent"))))
                yield "starts it", t._replace(launched=launched, agent=agent._replace(step="runs", old=0)), True
            case "runs":
                t = with_task(s, agent.task, status="ended")
                yield "ends it", t._replace(agent=agent._replace(step="done")), True

    def other_controller(self, s: State) -> Steps[State]:
        """By the same protocol, and nothing goes wrong with it."""
        other = s.other
        if not self.scenario.other:
            return
        t = other.task
        match other.step:
            case "idle":
                for u in s.queue:
                    if not s.tasks[u].mark:
                        yield f"sees t{u + 1}", s._replace(other=other._replace(step="mark", task=u)), False
            case "mark":
                yield f"marks t{t + 1}", with_task(s, t, other=True)._replace(other=other._replace(step="read")), True
            case "read" if s.tasks[t].status != "queued":
                yield "reads: not this attempt any more", s._replace(other=other._replace(step="done")), True
            case "read" if s.tasks[t].mark and self.scenario.other == "higher":
                done = s._replace(other=other._replace(step="done"))
                yield f"gives way, unmarks t{t + 1}", with_task(done, t, other=False), True
            case "read" if not s.tasks[t].mark:
                yield "reads: alone", s._replace(other=other._replace(step="take")), True
            case "take" if t in s.queue:
                taken = s._replace(queue=tuple(u for u in s.queue if u != t))
                yield f"takes t{t + 1}", taken._replace(other=other._replace(step="start")), True
            case "take":
                done = s._replace(other=other._replace(step="done"))
                yield "finds no entry, unmarks", with_task(done, t, other=False), True
            case "start":
                launched = tuple(sorted((*s.launched, (t, "other"))))
                started = with_task(s, t, status="in_progress")._replace(launched=launched)
                yield f"starts t{t + 1}", started._replace(other=other._replace(step="runs")), True
            case "runs":
                yield (
                    f"ends t{t + 1}",
                    with_task(s, t, status="ended")._replace(other=other._replace(step="done")),
                    True,
                )

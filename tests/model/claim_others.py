"""Who else acts on the task of the claim's model: its producer, its user, a plain agent (clearml-api.md 8)."""

from __future__ import annotations

from claim_state import NO_REQUEST, NOWHERE, PENDING, SOURCE, Agent, Entry, Request, Scenario, State
from explore import Steps


class Others:
    """Every step of theirs is one operation of a database."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario

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

    def producer(self, s: State) -> Steps[State]:
        if s.producer.step:
            label, t, request = self.enqueue(s, s.producer)
            old = s.producer.old if request.step else 0
            yield label, t._replace(producer=request._replace(old=old)), True

    def user(self, s: State) -> Steps[State]:
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

    def plain_agent(self, s: State) -> Steps[State]:
        agent = s.agent
        if agent.step == "idle" and s.source:
            t = s._replace(agent=Agent("popped", s.source.attempt, 0), source=None)
            yield "pops", t._replace(status="queued") if s.status == "stopped" else t, False
        elif agent.step == "popped":
            yield "reports", s._replace(worker=max(1, s.changed), agent=agent._replace(step="reported")), True
        elif agent.step == "reported":
            t = s._replace(agent=Agent("done", 0, 0), status="in_progress", changed=s.changed + 1)
            yield "starts the task", t._replace(launched=tuple(sorted((*s.launched, (agent.attempt, "agent"))))), True

    def pods(self, s: State) -> Steps[State]:
        """A pod may stay pending for ever; its start check and the agent's dequeue are taken as one step."""
        for x, ctl in enumerate(s.controllers):
            if ctl.job and s.status == "queued" and s.changed == ctl.job:
                yield f"the pod of {'AB'[x]} starts", s._replace(status="in_progress", changed=s.changed + 1), False

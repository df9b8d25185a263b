"""Puts a task whose pod the cluster ended (preemption, eviction, a lost node) back to the front of its queue."""

from __future__ import annotations

import enum
import logging
from collections.abc import Container
from dataclasses import replace

from clearml_k8s import names
from clearml_k8s.clearml import queues, tasks
from clearml_k8s.clearml.session import Session
from clearml_k8s.clearml.tasks import TaskView
from clearml_k8s.errors import MAX_REQUEST_SECONDS, ApiRefused, InvalidStatus, NotFound, Refused, Unanswered
from clearml_k8s.flow.decide import RUNS, TOLD
from clearml_k8s.flow.diagnosis import Diagnosis
from clearml_k8s.flow.measures import Measures
from clearml_k8s.flow.tally import Tally
from clearml_k8s.flow.tell import Teller
from clearml_k8s.kube.slim import JobRecord
from clearml_k8s.logs import kv

log = logging.getLogger(__name__)

_ALREADY_IN_QUEUE = (400, 706)


class Requeued(enum.Enum):
    """What became of it."""

    DONE = "the task is in its queue again"
    CHANGED = "somebody changed the task meanwhile: look again"
    NOT = "it is not to be put back any more"


class Requeuer:
    """Counts, ends and enqueues: each step shows on the task, so that the next life goes on where this one ended."""

    def __init__(self, *, session: Session, teller: Teller, measures: Measures) -> None:
        self._session = session
        self._teller = teller
        self._measures = measures
        self._sent: dict[str, float] = {}  # Job uid -> when an enqueue ended in doubt

    def doubt(self, job: JobRecord) -> float:
        """Seconds for which an enqueue without an answer may still land."""
        sent = self._sent.get(job.uid)
        return 0.0 if sent is None else sent + 2 * MAX_REQUEST_SECONDS - self._session.clock.monotonic()

    def keep(self, jobs: Container[str]) -> None:
        """Forget all but these Jobs (uids)."""
        self._sent = {uid: sent for uid, sent in self._sent.items() if uid in jobs}

    async def requeue(self, job: JobRecord, seen: TaskView, diagnosis: Diagnosis, *, most: int | None) -> Requeued:
        """Put the task, as it was ``seen``, back into the queue that the Job is of, if it was less than ``most`` times.

        ``most`` None: it had not begun, so that this is not counted. Errors as `Session.call`: it may be done half-way,
        and is to be called again.
        """
        attempt, queue = job.attempt or "", job.queue or ""
        if not attempt or not queue:
            return Requeued.NOT
        task = await self._unchanged(seen)
        if task is None:
            return Requeued.CHANGED
        before = Tally.read(task.properties.get(names.PROPERTY_REQUEUES, ""))
        if task.status == "failed" and not before.begun(attempt):
            return Requeued.NOT
        tally = before.after(attempt, most=most) if most is not None else before
        if tally is None:
            return Requeued.NOT
        if tally != before:
            # First: an end that is not counted could be repeated for ever.
            await tasks.set_properties(self._session, task.id, {names.PROPERTY_REQUEUES: str(tally)})
            # Of one that runs the server itself refuses the end, if somebody has ended it meanwhile.
            if task.status not in RUNS and await self._unchanged(seen) is None:
                return Requeued.CHANGED
        reason = f"{TOLD}{diagnosis.category.value}"
        try:
            if task.status in RUNS:
                # Not by force: whoever has ended the task meanwhile wants it ended.
                await tasks.failed(self._session, task.id, reason=reason, message=str(diagnosis))
            time = "" if most is None else f", time {tally.count} of {most}"
            message = f"{TOLD}{diagnosis.summary}; put back{time}"
            await self._enqueue(job, task.id, queue=queue, reason=reason, message=message)
        except InvalidStatus:
            return Requeued.CHANGED
        except NotFound as error:
            log.warning("task not put back", extra=kv(**job.fields, why=str(error)))
            return Requeued.NOT
        self._teller.say(task.id, f"{diagnosis}. Put back to the front of its queue{time}", level="WARNING")
        self._measures.requeued(job.queue, diagnosis.category)
        log.warning("task put back", extra=kv(**job.fields, why=diagnosis.summary, time=tally.count))
        # One that had not begun goes on with the count of its former attempts, if there is one.
        counted = most is not None or (tally.count > 0 and tally.made == attempt)
        await self._finish(task.id, queue=queue, tally=tally if counted else None)
        return Requeued.DONE

    async def _unchanged(self, seen: TaskView) -> TaskView | None:
        """The task as it is now; None where it is not in the state any more in which it was ``seen``."""
        task = (await tasks.get_many(self._session, [seen.id])).get(seen.id)
        same = task is not None and (task.status, task.status_changed) == (seen.status, seen.status_changed)
        return task if same else None

    async def _enqueue(self, job: JobRecord, task: str, *, queue: str, reason: str, message: str) -> None:
        try:
            await tasks.enqueue(self._session, task, queue=queue, reason=reason, message=message)
        except ApiRefused as error:
            if (error.code, error.subcode) != _ALREADY_IN_QUEUE:
                raise
        except Unanswered:
            self._sent[job.uid] = self._session.clock.monotonic()
            raise

    async def _finish(self, task: str, *, queue: str, tally: Tally | None) -> None:
        """Its place, and which attempt this made, if it is counted: no task is lost without them."""
        try:
            await queues.move_task_to_front(self._session, queue, task)
            if tally is None:
                return
            # Read: the answer to the enqueue has the time in another precision than the task.
            now = (await tasks.get_many(self._session, [task])).get(task)
            if now is not None and now.status == "queued":
                made = replace(tally, made=now.status_changed)
                await tasks.set_properties(self._session, task, {names.PROPERTY_REQUEUES: str(made)})
        except (Refused, Unanswered) as error:
            log.debug("task %s: %s", task, error)

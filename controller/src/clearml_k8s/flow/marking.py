"""Steps 0 to 2 of a claim: whether a task may be claimed, our mark on it, and whether it is the only one."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from clearml_k8s import names
from clearml_k8s.clearml import tasks
from clearml_k8s.clearml.session import Session
from clearml_k8s.clearml.tasks import TaskView
from clearml_k8s.config import ResolvedQueue
from clearml_k8s.errors import ConfigError, Refused, Unanswered
from clearml_k8s.flow.adopt import Adopted
from clearml_k8s.flow.batch import each
from clearml_k8s.flow.book import ClaimBook
from clearml_k8s.flow.needs import Needs
from clearml_k8s.flow.picture import Claimable, picture, read_back
from clearml_k8s.flow.returning import Returning
from clearml_k8s.flow.taking import Taking
from clearml_k8s.kube.slim import JobRecord
from clearml_k8s.kube.store import Store
from clearml_k8s.logs import kv

log = logging.getLogger(__name__)

NAMELESS_SECONDS = 600.0
"""How long an entry is passed over whose task's id cannot name a Job."""

CHANGED_SECONDS = 0.2
"""How long an entry is passed over whose task has changed what it asks for since it was chosen."""


class Marking:
    """The announcement of a claim on the task itself."""

    def __init__(
        self,
        *,
        session: Session,
        book: ClaimBook,
        returning: Returning,
        jobs: Store[JobRecord],
        adopted: Adopted,
        needs: Needs,
        worker_id: str,
        controller: str,
        instance: str,
    ) -> None:
        """``instance``: which life of the controller's process this is."""
        self._session = session
        self._book = book
        self._returning = returning
        self._jobs = jobs
        self._adopted = adopted
        self._needs = needs
        self._worker_id = worker_id
        self._controller = controller
        self._instance = instance

    def wanted(self, task: TaskView | None, task_id: str, queue: ResolvedQueue) -> Taking | None:
        """Step 0: only what is queued, unmarked by others and without a Job of ours is claimed."""
        seen = picture(task, entry=None)
        if task is None or not seen.queued:
            self._book.unmarked(task_id)
            self._book.skip(task_id)
            return None
        taking, others = Taking(task=task, queue=queue), seen.others(self._controller)
        if self._jobs.of_task(task_id):
            # An older attempt's Job, or one that is being deleted, ends first.
            self._book.skip(task_id)
            return taking if self.has_job(taking) else None
        if self._adopted.in_the_way(task_id) or self._book.owes(task_id, attempt=seen.attempt):
            self._book.skip(task_id)
            return None
        if seen.marked_by(self._controller):
            if others and others[0] < self._controller:
                self._book.hold(taking, "our mark is in another controller's way")
                return None
            if not others and not self._book.only_marked(task_id, seen.attempt):
                self._book.hold(taking, "our mark, and no claim that we know of")
                return None
        if others:
            self._book.skip(task_id)
            return None
        try:
            names.job_name(task_id)
        except ConfigError as error:
            log.warning("entry passed over", extra=kv(task=task_id, queue=queue.name, why=str(error)))
            self._book.skip(task_id, seconds=NAMELESS_SECONDS)
            return None
        if not self._needs.agrees(task, queue):
            # It asks for something else now: it is chosen anew, by that.
            self._book.skip(task_id, seconds=CHANGED_SECONDS)
            return None
        return taking

    def has_job(self, taking: Taking) -> bool:
        """The Job of this attempt is there and stays."""
        return any(
            job.attempt == taking.attempt and job.controller == self._controller and job.deleted is None
            for job in self._jobs.of_task(taking.task.id)
        )

    async def marked(self, takings: Sequence[Taking]) -> list[Taking]:
        """Steps 1 and 2; those that are ours to take, as read back. Errors of the reads as `Session.call`, Fenced."""
        marked = [t for t, done in zip(takings, await each(self._book, takings, self._mark), strict=True) if done]
        return await self._read(marked) if marked else []

    async def _read(self, marked: Sequence[Taking]) -> list[Taking]:
        """Step 2: one read for all."""
        found = await tasks.get_many(self._session, [t.task.id for t in marked])
        alone: list[Taking] = []
        for taking in marked:
            view = found.get(taking.task.id)
            seen = picture(view, entry=None)
            match read_back(seen, mark=self.value(taking), controller=self._controller):
                case Claimable.ALONE if view is not None and self._needs.agrees(view, taking.queue):
                    alone.append(replace(taking, task=view))
                case Claimable.ALONE:
                    self._book.skip(taking.task.id, seconds=CHANGED_SECONDS)
                    await self._returning.unmark(taking.task.id, queue=taking.queue.id)
                case Claimable.GIVES_WAY:
                    self._book.skip(taking.task.id)
                    await self._returning.unmark(taking.task.id, queue=taking.queue.id)
                case Claimable.WAITS:
                    self._book.skip(taking.task.id, seconds=0.2)
                case _:
                    self._book.unmarked(taking.task.id)
        return alone

    def value(self, taking: Taking) -> str:
        """Our mark on the task."""
        return names.mark_value(attempt=taking.attempt, instance=self._instance)

    async def _mark(self, taking: Taking) -> bool:
        """Step 1."""
        properties = {
            names.mark_key(self._controller): self.value(taking),
            names.PROPERTY_QUEUE: taking.queue.name,
            names.PROPERTY_CONTROLLER: self._worker_id,
        }
        try:
            await tasks.set_properties(self._session, taking.task.id, properties)
        except Refused as error:
            log.warning("task not marked", extra=kv(task=taking.task.id, queue=taking.queue.name, why=str(error)))
            self._book.skip(taking.task.id)
            return False
        except Unanswered as error:
            self._book.hold(taking, str(error), doubt=True)
            return False
        self._book.marked(taking.task.id, attempt=taking.attempt, queue=taking.queue.id)
        return True

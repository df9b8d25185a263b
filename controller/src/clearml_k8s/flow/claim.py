"""The claim of ADR 0002: mark, read back, record, take, show, create, forget.

One request at a time for each task; a request without an answer, or a take that found nothing, leaves the task alone
for a grace. The record is written before the take, so whatever happens afterwards is found again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from clearml_k8s import names
from clearml_k8s.clearml import queues, tasks
from clearml_k8s.clearml.session import Session
from clearml_k8s.clearml.tasks import TaskView
from clearml_k8s.config import ResolvedQueue
from clearml_k8s.errors import ClearMLK8sError, Fenced, Refused, Unanswered
from clearml_k8s.flow.book import ClaimBook
from clearml_k8s.flow.choose import Candidate
from clearml_k8s.flow.launch import Launch, Launched, Launcher
from clearml_k8s.flow.picture import Claimable, picture, read_back
from clearml_k8s.flow.returning import Returned, Returning
from clearml_k8s.flow.served import ServedQueues
from clearml_k8s.flow.taking import Taking
from clearml_k8s.flow.tell import Teller
from clearml_k8s.kube.record import Claim, ClaimRecord
from clearml_k8s.kube.store import JobRecord, Store
from clearml_k8s.logs import kv

log = logging.getLogger(__name__)

CONCURRENCY = 16
"""Requests of one batch that are under way at a time, to either API."""

TELL_AT_DOUBT = 2
"""The doubt in a row about its Job at which the task's user is told why nothing happens."""

T = TypeVar("T")


class Claims:
    """The steps of all claims of this controller."""

    def __init__(
        self,
        *,
        session: Session,
        record: ClaimRecord,
        book: ClaimBook,
        returning: Returning,
        launcher: Launcher,
        served: ServedQueues,
        jobs: Store[JobRecord],
        teller: Teller,
        worker_id: str,
        controller: str,
        instance: str,
        stopping: Callable[[], bool],
    ) -> None:
        """``instance``: which life of the controller's process this is. ``stopping``: true once it is told to end."""
        self._session = session
        self._record = record
        self._book = book
        self._returning = returning
        self._launcher = launcher
        self._served = served
        self._jobs = jobs
        self._teller = teller
        self._worker_id = worker_id
        self._controller = controller
        self._instance = instance
        self._stopping = stopping
        self.launched = 0

    # ---- the claim of a batch -------------------------------------------------------------------------------------

    async def claim(self, candidates: Sequence[Candidate]) -> int:
        """Claim the entries, which the book counts as begun, and create their Jobs; returns how many were launched.

        Raises Fenced alone.
        """
        try:
            found = await tasks.get_many(self._session, [c.task for c in candidates])
            takings = [t for c in candidates if (t := self._wanted(found.get(c.task), c.task, c.queue)) is not None]
            beside, takings = [t for t in takings if self._has_job(t)], [t for t in takings if not self._has_job(t)]
            await self._each(beside, self._clean)
            takings = await self._marked(takings)
            takings = await self._recorded(takings)
            takings = await self._taken(takings)
            await self._each(takings, self._show)
            return await self._created(takings)
        except Fenced:
            raise
        except ClearMLK8sError as error:
            log.warning("claim given up", extra=kv(tasks=len(candidates), why=str(error)))
            for candidate in candidates:
                self._book.skip(candidate.task)
            return 0
        finally:
            self._book.end(candidate.task for candidate in candidates)

    async def claim_absent(self, takings: Iterable[Taking]) -> None:
        """Mark and record tasks that stood in no queue for a grace; a second grace follows before their Jobs."""
        ready = [t for t in takings if not self._book.busy(t.task.id)]
        self._book.begin(ready)
        try:
            for taking in await self._recorded(await self._marked(ready)):
                self._book.hold(taking, "found in no queue, now recorded as ours")
        except Fenced:
            raise
        except ClearMLK8sError as error:
            log.warning("claim given up", extra=kv(tasks=len(ready), why=str(error)))
        finally:
            self._book.end(taking.task.id for taking in ready)

    async def resume(self, takings: Sequence[Taking]) -> None:
        """Create the Jobs of tasks whose entries we took before a doubt or a restart."""
        self._book.begin(takings)
        try:
            await self._created(takings)
        finally:
            self._book.end(taking.task.id for taking in takings)

    async def release(self) -> None:
        """The last step of an orderly end: take our marks away from what we have not taken. Raises Fenced alone."""
        gate = asyncio.Semaphore(CONCURRENCY)

        async def unmark(task: str, queue: str) -> None:
            async with gate:
                await self._returning.unmark(task, queue=queue)

        await asyncio.gather(*(unmark(task, queue) for task, queue in self._book.idle_marks().items()))

    # ---- steps ----------------------------------------------------------------------------------------------------

    def _wanted(self, task: TaskView | None, task_id: str, queue: ResolvedQueue) -> Taking | None:
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
            return taking if self._has_job(taking) else None
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
        except ClearMLK8sError as error:
            log.warning("entry passed over", extra=kv(task=task_id, why=str(error)))
            self._book.skip(task_id, seconds=600.0)
            return None
        return taking

    def _has_job(self, taking: Taking) -> bool:
        return any(
            job.attempt == taking.attempt and job.controller == self._controller and job.deleted is None
            for job in self._jobs.of_task(taking.task.id)
        )

    async def _clean(self, taking: Taking) -> None:
        """The Job of this attempt is there, so the entry is one too many."""
        try:
            await queues.remove_task(self._session, taking.queue.id, taking.task.id)
        except Refused as error:
            log.debug("entry beside its Job not taken out: %s", error)
        except Unanswered as error:
            self._book.hold(taking, str(error), doubt=True)

    async def _marked(self, takings: Sequence[Taking]) -> list[Taking]:
        """Steps 1 and 2."""
        marked = [t for t, done in zip(takings, await self._each(takings, self._set_mark), strict=True) if done]
        if not marked:
            return []
        for taking in marked:
            self._book.marked(taking.task.id, attempt=taking.attempt, queue=taking.queue.id)
        found = await tasks.get_many(self._session, [t.task.id for t in marked])
        alone: list[Taking] = []
        for taking in marked:
            view = found.get(taking.task.id)
            seen = picture(view, entry=None)
            match read_back(seen, mark=self._value(taking), controller=self._controller):
                case Claimable.ALONE if view is not None:
                    alone.append(replace(taking, task=view))
                case Claimable.GIVES_WAY:
                    self._book.skip(taking.task.id)
                    await self._returning.unmark(taking.task.id, queue=taking.queue.id)
                case Claimable.WAITS:
                    self._book.skip(taking.task.id, seconds=0.2)
                case _:
                    self._book.unmarked(taking.task.id)
        return alone

    def _value(self, taking: Taking) -> str:
        return names.mark_value(attempt=taking.attempt, instance=self._instance)

    async def _set_mark(self, taking: Taking) -> bool:
        properties = {
            names.mark_key(self._controller): self._value(taking),
            names.PROPERTY_QUEUE: taking.queue.name,
            names.PROPERTY_CONTROLLER: self._worker_id,
        }
        try:
            await tasks.set_properties(self._session, taking.task.id, properties)
        except Refused as error:
            log.warning("task not marked", extra=kv(task=taking.task.id, why=str(error)))
            self._book.skip(taking.task.id)
            return False
        except Unanswered as error:
            self._book.hold(taking, str(error), doubt=True)
            return False
        return True

    async def _recorded(self, takings: Sequence[Taking]) -> list[Taking]:
        """Step 3: one write for all."""
        if not takings:
            return []
        self._book.keep(t.task.id for t in takings)
        try:
            await self._record.add(
                Claim(task=t.task.id, queue=t.queue.id, mark=self._value(t), controller=self._controller)
                for t in takings
            )
        except Fenced:
            raise
        except ClearMLK8sError as error:
            log.warning("claims not recorded, nothing is taken", extra=kv(tasks=len(takings), why=str(error)))
            for taking in takings:
                if isinstance(error, Unanswered):
                    self._book.hold(taking, "perhaps recorded", doubt=True)
                else:
                    self._book.skip(taking.task.id)
            return []
        return list(takings)

    async def _taken(self, takings: Sequence[Taking]) -> list[Taking]:
        """Step 4."""
        return [t for t, taken in zip(takings, await self._each(takings, self._take), strict=True) if taken]

    async def _take(self, taking: Taking) -> bool:
        if self._stopping() or not self._session.health.healthy:
            # The first half-way failure ends all takes, and so does the end; nothing was sent for this one.
            await self._book.forget(taking.task.id)
            return False
        try:
            if await queues.remove_task(self._session, taking.queue.id, taking.task.id):
                return True
        except Refused as error:
            log.info("entry not taken", extra=kv(task=taking.task.id, why=str(error)))
            self._book.skip(taking.task.id)
            await self._book.forget(taking.task.id)
            return False
        except Unanswered as error:
            self._book.hold(taking, str(error), doubt=True)
            return False
        self._book.hold(taking, "its entry was gone when we came")
        return False

    async def _show(self, taking: Taking) -> None:
        """Step 5: for people; the claim does not depend on it."""
        pending = self._served.pending_queue
        if pending is None:
            return
        try:
            await queues.add_task(self._session, pending, taking.task.id)
        except (Refused, Unanswered) as error:
            log.debug("not shown in the pending queue: %s", error)

    async def _created(self, takings: Sequence[Taking]) -> int:
        """Steps 6 and 7; how many Jobs there are now."""
        launches = list(zip(takings, await self._each(takings, self._create), strict=True))
        back = [Returned(taking=t, why=done.why) for t, done in launches if done and done.how is Launch.NOT_NOW]
        if back:
            await self._returning.give_back(back)
        return sum(1 for _, done in launches if done and done.how is Launch.CREATED)

    async def _create(self, taking: Taking) -> Launched:
        """Create the Job and see to all ends but NOT_NOW: those are given back together."""
        task = taking.task.id
        launched = await self._launch(taking)
        match launched.how:
            case Launch.CREATED:
                self.launched += 1
                await self._book.forget(task)
                self._book.unmarked(task)
            case Launch.IN_THE_WAY:
                # The older Job is ended by reconciling; the record keeps the task until then.
                self._teller.say(task, f"Waiting: {launched.why}", level="WARNING")
                self._book.hold(taking, launched.why)
            case Launch.DOUBT:
                self._book.hold(taking, launched.why, doubt=True)
                if launched.erring:
                    self._served.pause(taking.queue, launched.why)
                if self._book.doubts(task) == TELL_AT_DOUBT:
                    self._teller.say(task, f"Waiting: the Kubernetes API does not take the Job: {launched.why}")
            case Launch.IMPOSSIBLE:
                await self._returning.fail(Returned(taking=taking, why=launched.why))
            case Launch.NOT_NOW:
                self._served.pause(taking.queue, launched.why)
        return launched

    async def _launch(self, taking: Taking) -> Launched:
        """Create the Job; IMPOSSIBLE only when Kubernetes takes the queue's template without this task's settings."""
        launched = await self._launcher.launch(taking.task, queue=taking.queue)
        if launched.how is Launch.IMPOSSIBLE:
            if not await self._served.template_is_well(taking.queue):
                launched = Launched(how=Launch.NOT_NOW, why=launched.why)
            else:
                # Once more: what refused all Jobs a moment ago may have passed since, and then it was not this task.
                launched = await self._launcher.launch(taking.task, queue=taking.queue)
        if taking.resumed and launched.how in (Launch.IMPOSSIBLE, Launch.NOT_NOW):
            # An earlier call may have made the Job unseen, and quota and rights are looked at before names.
            try:
                if await self._launcher.standing(taking.task):
                    return Launched(how=Launch.CREATED)
            except (Refused, Unanswered) as error:
                return Launched(
                    how=Launch.DOUBT, why=f"{launched.why}; whether the Job is there cannot be read: {error}"
                )
        return launched

    # ---- helpers --------------------------------------------------------------------------------------------------

    async def _each(self, takings: Sequence[Taking], step: Callable[[Taking], Awaitable[T]]) -> list[T | None]:
        """The step for every taking, a few at a time, results in order; None where it failed as it never should."""
        gate = asyncio.Semaphore(CONCURRENCY)

        async def one(taking: Taking) -> T | None:
            async with gate:
                try:
                    return await step(taking)
                except Exception:
                    # One task's trouble must not cancel the requests of the others half-way.
                    log.exception("a step of a claim failed", extra=kv(task=taking.task.id))
                    self._book.hold(taking, "a step of its claim failed", doubt=True)
                    return None

        return await asyncio.gather(*(one(taking) for taking in takings))

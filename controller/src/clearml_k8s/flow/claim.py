"""The claim of ADR 0002: mark, read back, record, take, show, create, forget.

One request at a time for each task; a request without an answer, or a take that found nothing, leaves the task alone
for a grace. The record is written before the take, so whatever happens afterwards is found again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from clearml_k8s import names
from clearml_k8s.clearml import queues, tasks
from clearml_k8s.clearml.session import Session
from clearml_k8s.clearml.tasks import TaskView
from clearml_k8s.config import ResolvedQueue
from clearml_k8s.errors import ClearMLK8sError, Fenced, Refused, Unanswered
from clearml_k8s.flow.choose import Candidate
from clearml_k8s.flow.graces import Graces
from clearml_k8s.flow.launch import Launch, Launched, Launcher
from clearml_k8s.flow.picture import Claimable, Picture, picture, read_back
from clearml_k8s.flow.served import ServedQueues
from clearml_k8s.flow.tell import Teller
from clearml_k8s.kube.record import Claim, ClaimRecord
from clearml_k8s.kube.slim import JobRecord
from clearml_k8s.kube.store import Store
from clearml_k8s.logs import kv

log = logging.getLogger(__name__)

CONCURRENCY = 16
"""Requests of one batch that are under way at a time, to either API."""

SKIP_SECONDS = 5.0
"""How long an entry that cannot be taken is not looked at again."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Taking:
    """One task on its way through the steps; ``task`` is its latest read."""

    task: TaskView
    queue: ResolvedQueue
    absent: bool = False
    """Found in no queue: recorded, then left alone for a second grace before its Job is made."""

    @property
    def attempt(self) -> str:
        return self.task.status_changed


class Claims:
    """All claims of this controller."""

    def __init__(
        self,
        *,
        session: Session,
        record: ClaimRecord,
        launcher: Launcher,
        graces: Graces,
        served: ServedQueues,
        jobs: Store[JobRecord],
        teller: Teller,
        worker_id: str,
    ) -> None:
        self._session = session
        self._clock = session.clock
        self._record = record
        self._launcher = launcher
        self._graces = graces
        self._served = served
        self._jobs = jobs
        self._teller = teller
        self._worker_id = worker_id
        self._controller = names.controller_id(worker_id)
        self._mark = names.mark_key(self._controller)
        self._active: dict[str, str] = {}
        self._skipped: dict[str, float] = {}
        self._forgotten: set[str] = set()
        self._known_marks: dict[str, str] = {}  # own marks after which nothing of ours is under way: task -> attempt
        self.launched = 0

    # ---- what others ask ------------------------------------------------------------------------------------------

    def in_flight(self) -> dict[str, str]:
        """Task -> queue id of everything whose Job may come without anything more being taken."""
        return {**{task: claim.queue for task, claim in self.recorded().items()}, **self._active}

    def recorded(self) -> dict[str, Claim]:
        """The claims in the record that are not to be forgotten with its next write."""
        return {task: claim for task, claim in self._record.claims.items() if task not in self._forgotten}

    def under_way(self, task: str) -> bool:
        """A claim of this process works on the task at this moment."""
        return task in self._active

    @property
    def active(self) -> int:
        """Claims under way."""
        return len(self._active)

    def busy(self, task: str) -> bool:
        """The task is not to be claimed now: under way, on hold, recorded, or lately found not to be takable."""
        if task in self._active or task in self._graces:
            return True
        if task in self._record.claims and task not in self._forgotten:
            return True
        until = self._skipped.get(task)
        if until is None:
            return False
        if until > self._clock.monotonic():
            return True
        del self._skipped[task]
        return False

    @property
    def skipped(self) -> int:
        """Entries at the queues' heads that are passed over; an upper bound."""
        now = self._clock.monotonic()
        self._skipped = {task: until for task, until in self._skipped.items() if until > now}
        return len(self._skipped) + len(self._graces) + len(self._active)

    def settled(self, task: str, seen: Picture) -> None:
        """A grace is over for the task: an own mark that stands is known to be all there is of us."""
        if seen.queued and seen.marked_by(self._controller):
            self._known_marks[task] = seen.attempt
        else:
            self._known_marks.pop(task, None)

    # ---- the claim of a batch -------------------------------------------------------------------------------------

    def reserve(self, candidates: Iterable[Candidate]) -> None:
        """Count the tasks as in flight from now on; `claim` ends that."""
        self._active.update((c.task, c.queue.id) for c in candidates)

    async def claim(self, candidates: Sequence[Candidate]) -> int:
        """Claim the reserved entries and create their Jobs; returns how many were launched. Raises Fenced alone."""
        try:
            found = await tasks.get_many(self._session, [c.task for c in candidates])
            takings = [t for c in candidates if (t := self._wanted(found.get(c.task), c.task, c.queue)) is not None]
            beside, takings = [t for t in takings if self._has_job(t)], [t for t in takings if not self._has_job(t)]
            await self._each(beside, self._clean)
            takings = await self._marked(takings)
            takings = await self._recorded(takings)
            takings = await self._taken(takings)
            await self._each(takings, self._show)
            return sum(1 for created in await self._each(takings, self._create) if created)
        except Fenced:
            raise
        except ClearMLK8sError as error:
            log.warning("claim given up", extra=kv(tasks=len(candidates), why=str(error)))
            for candidate in candidates:
                self._skip(candidate.task)
            return 0
        finally:
            for candidate in candidates:
                self._active.pop(candidate.task, None)

    async def claim_absent(self, takings: Iterable[Taking]) -> None:
        """Mark and record tasks that stood in no queue for a grace; a second grace follows before their Jobs."""
        ready = [t for t in takings if not self.busy(t.task.id)]
        self._active.update((t.task.id, t.queue.id) for t in ready)
        try:
            for taking in await self._recorded(await self._marked(ready)):
                self._hold(taking, "found in no queue, now recorded as ours")
        except Fenced:
            raise
        except ClearMLK8sError as error:
            log.warning("claim given up", extra=kv(tasks=len(ready), why=str(error)))
        finally:
            for taking in ready:
                self._active.pop(taking.task.id, None)

    async def resume(self, takings: Sequence[Taking]) -> None:
        """Create the Jobs of tasks whose entries we took before a doubt or a restart."""
        self._active.update((t.task.id, t.queue.id) for t in takings)
        try:
            await self._each(takings, self._create)
        finally:
            for taking in takings:
                self._active.pop(taking.task.id, None)

    async def forget(self, task: str) -> None:
        """The record needs the task no more."""
        self._forgotten.add(task)
        await self._record.forget([task], wait=False)

    async def flush(self) -> None:
        """Write what is to be forgotten. Errors as `ClaimRecord.flush`."""
        if self._forgotten:
            await self._record.flush()
            self._forgotten &= self._record.claims.keys()

    async def unmark(self, task: str, *, queue: str) -> None:
        """Take our mark away so that another controller can have the task."""
        try:
            # First: a record that a restart finds without our mark would make us launch what is the other's by then.
            await self._record.forget([task])
        except ClearMLK8sError as error:
            log.debug("mark not taken away, the record cannot be written: %s", error)
            return
        try:
            await tasks.delete_properties(self._session, task, [self._mark])
        except Refused as error:
            log.debug("mark not taken away: %s", error)
        except Unanswered as error:
            self._graces.hold(task, queue=queue, why=str(error), doubt=True)
        else:
            self._known_marks.pop(task, None)

    # ---- steps ----------------------------------------------------------------------------------------------------

    def _wanted(self, task: TaskView | None, task_id: str, queue: ResolvedQueue) -> Taking | None:
        """Step 0: only what is queued, unmarked by others and without a Job of ours is claimed."""
        seen = picture(task, entry=None)
        if task is None or not seen.queued:
            self._known_marks.pop(task_id, None)
            self._skip(task_id)
            return None
        taking, others = Taking(task=task, queue=queue), seen.others(self._controller)
        if self._jobs.of_task(task_id):
            # An older attempt's Job, or one that is being deleted, ends first.
            self._skip(task_id)
            return taking if self._has_job(taking) else None
        if seen.marked_by(self._controller):
            if others and others[0] < self._controller:
                self._hold(taking, "our mark is in another controller's way")
                return None
            if not others and self._known_marks.get(task_id) != seen.attempt:
                self._hold(taking, "our mark, and no claim that we know of")
                return None
        if others:
            self._skip(task_id)
            return None
        try:
            names.job_name(task_id)
        except ClearMLK8sError as error:
            log.warning("entry passed over", extra=kv(task=task_id, why=str(error)))
            self._skip(task_id, seconds=600.0)
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
            self._hold(taking, str(error), doubt=True)

    async def _marked(self, takings: Sequence[Taking]) -> list[Taking]:
        """Steps 1 and 2."""
        marked = [t for t, done in zip(takings, await self._each(takings, self._set_mark), strict=True) if done]
        if not marked:
            return []
        for taking in marked:
            self._known_marks[taking.task.id] = taking.attempt
        found = await tasks.get_many(self._session, [t.task.id for t in marked])
        alone: list[Taking] = []
        for taking in marked:
            view = found.get(taking.task.id)
            seen = picture(view, entry=None)
            match read_back(seen, attempt=taking.attempt, controller=self._controller):
                case Claimable.ALONE if view is not None:
                    alone.append(replace(taking, task=view))
                case Claimable.GIVES_WAY:
                    self._skip(taking.task.id)
                    await self.unmark(taking.task.id, queue=taking.queue.id)
                case Claimable.WAITS:
                    self._skip(taking.task.id, seconds=0.2)
                case _:
                    self._known_marks.pop(taking.task.id, None)
        return alone

    async def _set_mark(self, taking: Taking) -> bool:
        properties = {
            self._mark: taking.attempt,
            names.PROPERTY_QUEUE: taking.queue.name,
            names.PROPERTY_CONTROLLER: self._worker_id,
        }
        try:
            await tasks.set_properties(self._session, taking.task.id, properties)
        except Refused as error:
            log.warning("task not marked", extra=kv(task=taking.task.id, why=str(error)))
            self._skip(taking.task.id)
            return False
        except Unanswered as error:
            self._hold(taking, str(error), doubt=True)
            return False
        return True

    async def _recorded(self, takings: Sequence[Taking]) -> list[Taking]:
        """Step 3: one write for all."""
        if not takings:
            return []
        self._forgotten.difference_update(t.task.id for t in takings)
        try:
            await self._record.add(
                Claim(task=t.task.id, queue=t.queue.id, attempt=t.attempt, controller=self._controller) for t in takings
            )
        except Fenced:
            raise
        except ClearMLK8sError as error:
            log.warning("claims not recorded, nothing is taken", extra=kv(tasks=len(takings), why=str(error)))
            for taking in takings:
                if isinstance(error, Unanswered):
                    self._hold(taking, "perhaps recorded", doubt=True)
                else:
                    self._skip(taking.task.id)
            return []
        return list(takings)

    async def _taken(self, takings: Sequence[Taking]) -> list[Taking]:
        """Step 4."""
        return [t for t, taken in zip(takings, await self._each(takings, self._take), strict=True) if taken]

    async def _take(self, taking: Taking) -> bool:
        if not self._session.health.healthy:
            # The first half-way failure ends all takes; nothing was sent for this one.
            await self._forget(taking)
            return False
        try:
            if await queues.remove_task(self._session, taking.queue.id, taking.task.id):
                return True
        except Refused as error:
            log.info("entry not taken", extra=kv(task=taking.task.id, why=str(error)))
            self._skip(taking.task.id)
            await self._forget(taking)
            return False
        except Unanswered as error:
            self._hold(taking, str(error), doubt=True)
            return False
        self._hold(taking, "its entry was gone when we came")
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

    async def _create(self, taking: Taking) -> bool:
        """Steps 6 and 7."""
        launched = await self._launcher.launch(taking.task, queue=taking.queue)
        if launched.how is Launch.IMPOSSIBLE and await self._served.template_is_well(taking.queue):
            # Once more: what refused all Jobs a moment ago may have passed since, and then it was not this task.
            launched = await self._launcher.launch(taking.task, queue=taking.queue)
            if launched.how is Launch.IMPOSSIBLE:
                await self._fail(taking, launched)
                return False
        if launched.how is Launch.CREATED:
            self.launched += 1
            await self._forget(taking)
            self._known_marks.pop(taking.task.id, None)
            return True
        if launched.how is Launch.IN_THE_WAY:
            # The older Job is ended by reconciling; the record keeps the task until then.
            self._teller.say(taking.task.id, f"Waiting: {launched.why}", level="WARNING")
            self._hold(taking, launched.why)
            return False
        if launched.how is Launch.DOUBT:
            self._hold(taking, launched.why, doubt=True)
            return False
        self._served.pause(taking.queue, launched.why)
        await self._give_back(taking, launched)
        return False

    async def _fail(self, taking: Taking, launched: Launched) -> None:
        task = taking.task.id
        try:
            if await self._still_wanted(taking):
                self._teller.say(task, f"The task cannot be launched: {launched.why}", level="ERROR")
                # Status first, then the entry: the status alone tells whether a task is wanted.
                await tasks.failed(self._session, task, reason="cannot be launched", message=launched.why, force=True)
                log.warning("task failed: it cannot be launched", extra=kv(task=task, why=launched.why))
            await self._hide(taking)
        except (Refused, Unanswered) as error:
            self._hold(taking, f"not failed yet: {error}", doubt=True)
            return
        self._known_marks.pop(task, None)
        self._teller.forget(task)
        await self._forget(taking)

    async def _give_back(self, taking: Taking, launched: Launched) -> None:
        """Back to the front of its queue; the record stays until that is certain."""
        task, queue = taking.task.id, taking.queue
        try:
            if await self._still_wanted(taking):
                self._teller.say(task, f"Put back into queue {queue.name}: {launched.why}", level="WARNING")
                await queues.add_task(self._session, queue.id, task)
                await queues.move_task_to_front(self._session, queue.id, task)
                log.warning("task put back", extra=kv(task=task, queue=queue.name, why=launched.why))
                found = await tasks.get_many(self._session, [task])
                if task not in found or not picture(found[task], entry=None).queued:
                    # Aborted meanwhile: an agent that pops the entry would start it all the same.
                    await queues.remove_task(self._session, queue.id, task)
            await self._hide(taking)
        except (Refused, Unanswered) as error:
            self._hold(taking, f"not put back yet: {error}", doubt=True)
            return
        await self._forget(taking)
        await self.unmark(task, queue=queue.id)

    async def _still_wanted(self, taking: Taking) -> bool:
        """The task still waits for this attempt. Errors as `Session.call`."""
        seen = picture((await tasks.get_many(self._session, [taking.task.id])).get(taking.task.id), entry=None)
        return seen.queued and seen.attempt == taking.attempt

    async def _hide(self, taking: Taking) -> None:
        pending = self._served.pending_queue
        if pending is not None and pending != taking.queue.id:
            await queues.remove_task(self._session, pending, taking.task.id)

    async def _forget(self, taking: Taking) -> None:
        # Sent with the next write: a record too many costs a look, never a task.
        await self.forget(taking.task.id)

    # ---- helpers --------------------------------------------------------------------------------------------------

    def _hold(self, taking: Taking, why: str, *, doubt: bool = False) -> None:
        self._graces.hold(taking.task.id, queue=taking.queue.id, why=why, doubt=doubt)

    def _skip(self, task: str, *, seconds: float = SKIP_SECONDS) -> None:
        self._skipped[task] = self._clock.monotonic() + seconds

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
                    self._hold(taking, "a step of its claim failed", doubt=True)
                    return None

        return await asyncio.gather(*(one(taking) for taking in takings))

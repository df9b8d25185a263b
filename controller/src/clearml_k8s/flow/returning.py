"""Tasks that were taken and get no Job: failed with the reason, or put back to the front of their queue."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from clearml_k8s import names
from clearml_k8s.clearml import queues, tasks
from clearml_k8s.clearml.session import Session
from clearml_k8s.clock import holding
from clearml_k8s.errors import ClearMLK8sError, Fenced, NotFound, Refused, Unanswered
from clearml_k8s.flow import elsewhere
from clearml_k8s.flow.batch import gathered
from clearml_k8s.flow.book import ClaimBook
from clearml_k8s.flow.graces import Graces
from clearml_k8s.flow.measures import Measures
from clearml_k8s.flow.picture import picture
from clearml_k8s.flow.served import ServedQueues
from clearml_k8s.flow.taking import Taking
from clearml_k8s.flow.tell import Teller
from clearml_k8s.kube.record import ClaimRecord
from clearml_k8s.logs import kv

log = logging.getLogger(__name__)

TOGETHER_SECONDS = 10.0
"""Tasks put back within this time come to stand in the order in which they were taken."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Returned:
    """A taken task that gets no Job now, and why."""

    taking: Taking
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Front:
    """A task put to the front of its queue: its claim's place among others, and when (monotonic)."""

    taking: Taking
    order: int
    at: float


class Returning:
    """What is done on the ClearML server with a task that was taken in vain; its record stays until that is certain."""

    def __init__(
        self,
        *,
        session: Session,
        record: ClaimRecord,
        book: ClaimBook,
        graces: Graces,
        served: ServedQueues,
        teller: Teller,
        measures: Measures,
        controller: str,
        stop: asyncio.Event,
    ) -> None:
        """``stop``: set once the process is told to end; the record may not be writable any more."""
        self._session = session
        self._record = record
        self._book = book
        self._graces = graces
        self._served = served
        self._teller = teller
        self._measures = measures
        self._mark = names.mark_key(controller)
        self._stop = stop
        self._front: list[Front] = []
        self._moving = asyncio.Lock()

    async def fail(self, returned: Returned) -> None:
        """Fail the task: Kubernetes refuses its Job for good, and it is the task's own settings that it refuses."""
        taking, task = returned.taking, returned.taking.task.id
        try:
            if task in await self._wanted([returned]):
                self._teller.say(task, f"The task cannot be launched: {returned.why}", level="ERROR")
                # Status first, then the entry: the status alone tells whether a task is wanted.
                await tasks.failed(self._session, task, reason="cannot be launched", message=returned.why, force=True)
                self._measures.failed(taking.queue.id, None)
                log.warning(
                    "task failed: it cannot be launched", extra=kv(task=task, queue=taking.queue.name, why=returned.why)
                )
            await self._hide(taking)
        except (Refused, Unanswered) as error:
            self._book.hold(taking, f"not failed yet: {error}", doubt=True)
            return
        self._book.unmarked(task)
        self._teller.forget(task)
        await self._book.forget(task)

    async def give_back(self, takings: Sequence[Returned]) -> None:
        """Put the tasks back into their queues and free them for other controllers; then put them to the front."""
        try:
            wanted = await self._waiting(takings)
            added = await self._each([r for r in takings if r.taking.task.id in wanted], self._give_back)
            still = await self._waiting(added)
            for taking in (r.taking for r in added if r.taking.task.id not in still):
                # Aborted or moved meanwhile: an agent that pops the entry would start it all the same.
                await queues.remove_task(self._session, taking.queue.id, taking.task.id)
        except (Refused, Unanswered) as error:
            for returned in takings:
                self._book.hold(returned.taking, f"not put back yet: {error}", doubt=True)
            return
        await self._each([*added, *(r for r in takings if r.taking.task.id not in wanted)], self._let_go)
        # Last, as it is one call after the other: at an end there may be no time for it.
        await self._to_front(added)

    async def free(self, taking: Taking) -> None:
        """Free a task that has no Job of ours: the mark goes last, as it is what the rest is found by after a crash.

        Raises Refused, Unanswered, Fenced.
        """
        task, queue = taking.task.id, taking.queue.id
        await self._hide(taking)
        if self._served.by_id(queue) is not None:
            await self.unmark(task, queue=queue)
            return
        # Only the record finds a mark in a queue that is not served. It counts for nothing without the mark, and no new
        # one is set before it is gone.
        if await self._delete_mark(task, queue=queue):
            await self._book.erase(task)

    async def unmark(self, task: str, *, queue: str) -> None:
        """Take our mark away so that another controller can have the task. Raises Fenced alone."""
        if not self._stop.is_set():
            try:
                # First: the record says that the task is ours, as long as a mark of ours may still land on it.
                await self._record.forget([task])
            except Fenced:
                raise
            except ClearMLK8sError as error:
                log.debug("mark not taken away, the record cannot be written: %s", error)
                return
        # At the end no mark of this life can follow, and a record without its mark counts for nothing: it need not wait
        # for an API that may be away, or may know us no more.
        if await self._delete_mark(task, queue=queue):
            await self._book.forget(task)

    async def _delete_mark(self, task: str, *, queue: str) -> bool:
        """Whether it is gone for certain."""
        try:
            await tasks.delete_properties(self._session, task, [self._mark])
        except Refused as error:
            log.debug("mark not taken away: %s", error)
        except Unanswered as error:
            self._graces.hold(task, queue=queue, why=str(error), doubt=True)
        else:
            self._book.unmarked(task)
            return True
        return False

    # ---- one task ---------------------------------------------------------------------------------------------------

    async def _wanted(self, takings: Sequence[Returned]) -> set[str]:
        """Those that still wait for this attempt. Errors as `Session.call`."""
        found = await tasks.get_many(self._session, [r.taking.task.id for r in takings])
        wanted = set()
        for taking in (r.taking for r in takings):
            seen = picture(found.get(taking.task.id), entry=None)
            if seen.queued and seen.attempt == taking.attempt:
                wanted.add(taking.task.id)
        return wanted

    async def _waiting(self, takings: Sequence[Returned]) -> set[str]:
        """Those that wait, in whatever attempt, and in no other queue: of a task that was enqueued again it may have
        been the new attempt's entry that we took. Errors as `Session.call`."""
        found = await tasks.get_many(self._session, [r.taking.task.id for r in takings])
        waiting: set[str] = set()
        newer: dict[str, str] = {}
        for taking in (r.taking for r in takings):
            seen = picture(found.get(taking.task.id), entry=None)
            if seen.queued:
                waiting.add(taking.task.id)
                if seen.attempt != taking.attempt:
                    newer[taking.task.id] = taking.queue.id
        moved = await elsewhere.entries(self._session, newer)
        return waiting - moved.keys()

    async def _give_back(self, returned: Returned) -> None:
        taking = returned.taking
        self._teller.say(taking.task.id, f"Put back into queue {taking.queue.name}: {returned.why}", level="WARNING")
        await queues.add_task(self._session, taking.queue.id, taking.task.id)
        log.warning("task put back", extra=kv(task=taking.task.id, queue=taking.queue.name, why=returned.why))

    async def _to_front(self, takings: Sequence[Returned]) -> None:
        """Move the entries to the front, in the order of their claims; no more than courtesy to those who wait."""
        async with holding(self._moving, clock=self._session.clock):
            now = self._session.clock.monotonic()
            # Batches end in any order: what others put there a moment ago is put in order with these.
            self._front = [f for f in self._front if now - f.at < TOGETHER_SECONDS]
            self._front += [Front(taking=r.taking, order=self._book.order(r.taking.task.id), at=now) for r in takings]
            self._front.sort(key=lambda front: front.order)
            for taking in (front.taking for front in reversed(self._front)):
                try:
                    await queues.move_task_to_front(self._session, taking.queue.id, taking.task.id)
                except (Refused, Unanswered) as error:
                    log.debug("not moved to the front of queue %s: %s", taking.queue.name, error)

    async def _let_go(self, returned: Returned) -> None:
        taking = returned.taking
        if not self._stop.is_set():
            await self.free(taking)
            return
        await self._book.forget(taking.task.id)
        # Before it is hidden, which only people see: at an end there may be no time for both.
        await self.unmark(taking.task.id, queue=taking.queue.id)
        await self._hide(taking)

    async def _hide(self, taking: Taking) -> None:
        """Take the entry out of the queue that shows what waits for the cluster."""
        pending = self._served.pending_queue
        if pending is not None and pending != taking.queue.id:
            try:
                await queues.remove_task(self._session, pending, taking.task.id)
            except NotFound as error:
                log.debug("there is no such queue any more: %s", error)

    async def _each(self, takings: Sequence[Returned], step: Callable[[Returned], Awaitable[None]]) -> list[Returned]:
        """The step for each; those for which it was done, in order. The others, refused or in doubt, are on hold."""

        async def guarded(returned: Returned) -> bool:
            try:
                await step(returned)
            except (Refused, Unanswered) as error:
                self._book.hold(returned.taking, f"not put back yet: {error}", doubt=True)
                return False
            return True

        done = await gathered(takings, guarded)
        return [returned for returned, ok in zip(takings, done, strict=True) if ok]

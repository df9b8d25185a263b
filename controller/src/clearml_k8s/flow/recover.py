"""What a crash, a lost reply or somebody else's slip left behind: looked at after a grace, then mended (ADR 0002)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import timedelta

from clearml_k8s import names
from clearml_k8s.clearml import queues, tasks
from clearml_k8s.clearml.session import Session
from clearml_k8s.clearml.tasks import TaskView
from clearml_k8s.config import QueueConfig, ResolvedQueue
from clearml_k8s.errors import Refused, Unanswered
from clearml_k8s.flow import elsewhere
from clearml_k8s.flow.adopt import Adopted
from clearml_k8s.flow.book import ClaimBook
from clearml_k8s.flow.capacity import Room
from clearml_k8s.flow.claim import Claims
from clearml_k8s.flow.graces import Graces, Held, Settled
from clearml_k8s.flow.launch import Launcher
from clearml_k8s.flow.picture import QUEUED, Picture, Verdict, picture, verdict
from clearml_k8s.flow.returning import Returning
from clearml_k8s.flow.served import ServedQueues
from clearml_k8s.flow.taking import Taking
from clearml_k8s.kube.slim import JobRecord
from clearml_k8s.kube.store import Store
from clearml_k8s.logs import kv

log = logging.getLogger(__name__)


class Recovery:
    """Runs the graces to their end, and sweeps for tasks that are queued and in no queue."""

    def __init__(
        self,
        *,
        session: Session,
        claims: Claims,
        book: ClaimBook,
        returning: Returning,
        launcher: Launcher,
        graces: Graces,
        served: ServedQueues,
        jobs: Store[JobRecord],
        adopted: Adopted,
        controller: str,
        room: Callable[[], Room],
    ) -> None:
        """``room``: the places left now, for tasks that are claimed without a poll."""
        self._session = session
        self._room = room
        self._claims = claims
        self._book = book
        self._returning = returning
        self._launcher = launcher
        self._graces = graces
        self._served = served
        self._jobs = jobs
        self._adopted = adopted
        self._controller = controller

    async def step(self) -> None:
        """One look at everything on hold. Errors as `Session.call`, Fenced."""
        for task, claim in self._book.recorded().items():
            # In memory: a claim under way. Else it is from before a restart, or its grace ended with a change.
            if self._book.under_way(task) or task in self._graces:
                continue
            if any(job.attempt == claim.attempt for job in self._ours(task)):
                await self._book.forget(task)
            else:
                self._graces.hold(task, queue=claim.queue, why="recorded, and its Job not seen")
        absent: list[Taking] = []
        ours: list[Taking] = []
        for settled in await self._graces.look():
            taking = await self._act(settled)
            if taking is not None:
                (absent if taking.absent else ours).append(taking)
        await self._claims.claim_absent(self._with_room(absent))
        await self._claims.resume([taking for taking in ours if self._served.by_id(taking.queue.id)])
        left = [taking for taking in ours if not self._served.by_id(taking.queue.id)]
        if left:
            await self._claims.give_up(left, why="this controller does not serve its queue (any more)")

    def _ours(self, task: str) -> list[JobRecord]:
        return [job for job in self._jobs.of_task(task) if job.controller == self._controller]

    def _with_room(self, takings: Sequence[Taking]) -> list[Taking]:
        """Those that there is room for; the sweep finds the others again."""
        if not takings:
            return []
        room = self._room()
        left = {taking.queue.id: room.of(taking.queue.id) for taking in takings}
        chosen: list[Taking] = []
        for taking in takings:
            if left[taking.queue.id] > 0 and (room.total is None or len(chosen) < room.total):
                left[taking.queue.id] -= 1
                chosen.append(taking)
        return chosen

    async def _act(self, settled: Settled) -> Taking | None:
        """Do what the verdict says; a task to be launched or claimed is returned, to go on together with others."""
        held, seen, task = settled.held, settled.seen, settled.task
        if self._book.under_way(held.task):
            # Its batch has not ended yet: that ends the task's claim as well.
            self._graces.hold(held.task, queue=held.queue, why=held.why, doubt=held.doubt)
            return None
        recorded = self._book.recorded().get(held.task)
        attempt = recorded.attempt if recorded else seen.attempt
        job = next((job.attempt for job in self._ours(held.task) if job.attempt == attempt), None)
        said = verdict(seen, recorded=recorded.mark if recorded else None, controller=self._controller, job=job)
        log.info("grace over", extra=kv(task=held.task, verdict=said.value, status=seen.status))
        self._book.settled(held.task, seen=seen, queue=held.queue, job=job)
        queue = self._served.by_id(held.queue)
        if held.doubt and recorded is None:
            # The doubt may have been about the record's own write, and then it holds what we do not know of.
            await self._book.forget(held.task)
        match said:
            case Verdict.CREATE if task is not None:
                return Taking(task=task, queue=queue or unserved(held.queue), resumed=True)
            case Verdict.CLAIM if task is not None and queue is not None:
                return Taking(task=task, queue=queue, absent=True)
            case Verdict.CLAIM:
                # Nobody's, and of a queue that is not served any more: whoever serves it next, or its user, decides.
                log.warning("task left as it is: its queue is not served", extra=kv(task=held.task, queue=held.queue))
            case Verdict.FORGET:
                await self._forget(held, seen=seen)
            case Verdict.UNMARK:
                await self._returning.unmark(held.task, queue=held.queue)
            case _:
                pass
        return None

    async def _forget(self, held: Held, *, seen: Picture) -> None:
        """Forget the record, once its Job shows: the watch may be late, and what runs takes a place."""
        if seen.entry is None and not self._ours(held.task):
            try:
                await self._launcher.look(held.task)
            except (Refused, Unanswered) as error:
                why = f"whether its Job is there cannot be read: {error}"
                self._graces.hold(held.task, queue=held.queue, why=why, doubt=held.doubt)
                return
        await self._book.forget(held.task)

    async def sweep(self) -> None:
        """Hold every task of our queues that is queued, in no queue and nobody's. Errors as `Session.call`."""
        served = self._served.all_found()
        if not served:
            return
        pending = self._served.pending_queue
        if pending is not None:
            await self._tidy(pending)
        before = self._session.clock.now() - timedelta(seconds=self._graces.grace_seconds)
        ids = [queue.id for queue in served]
        # The tasks first: one whose entry comes in between then shows as an entry, not as a lost task.
        found = await tasks.find_queued(
            self._session,
            queue_ids=[*ids, *([pending] if pending else [])],
            changed_before=before.strftime("%Y-%m-%dT%H:%M:%S.%f+00:00"),
        )
        listed = await queues.all_entries(self._session, ids=ids)
        entries = {entry.task for queue in listed for entry in queue.entries}
        absent: dict[str, str] = {}
        for task in found.values():
            if task.id in entries or self._book.busy(task.id) or self._adopted.has(task.id):
                continue
            if any(job.attempt == task.status_changed for job in self._jobs.of_task(task.id)):
                continue
            seen = picture(task, entry=None)
            others = seen.others(self._controller)
            in_the_way = seen.marked_by(self._controller) and bool(others) and others[0] < self._controller
            if seen.worker or (others and not in_the_way):
                continue
            queue = self._served.by_id(task.execution_queue or "")
            if queue is None and self._controller in seen.marks:
                # Shown in the pending queue, perhaps in an older attempt: the queue it came from stands on the task.
                queue = self._served.by_name(task.properties.get(names.PROPERTY_QUEUE, ""))
            if queue is not None:
                absent[task.id] = queue.id
        moved = {
            task_id: queue_id
            for task_id, queue_id in absent.items()
            if elsewhere.strange(found[task_id], queue=queue_id, pending=pending, controller=self._controller)
        }
        in_others = await elsewhere.entries(self._session, moved)
        for task_id, queue_id in absent.items():
            if task_id not in in_others:
                self._graces.hold(task_id, queue=queue_id, why="queued, but in no queue")

    async def _tidy(self, pending: str) -> None:
        """Take out of the pending queue what means nothing any more."""
        shown = [
            entry.task for queue in await queues.all_entries(self._session, ids=[pending]) for entry in queue.entries
        ]
        found = await tasks.get_many(self._session, shown)
        for task in shown:
            if shown_in_vain(found.get(task)):
                await queues.remove_task(self._session, pending, task)


def shown_in_vain(task: TaskView | None) -> bool:
    """Whether an entry of the pending queue means nothing: of a task that does not exist (any more), of one that a
    controller once marked and that waits no more (the mark itself may be gone), or that no controller has marked in
    this attempt. Others are those of ClearML's own agent."""
    if task is None:
        return True
    if task.status != QUEUED:
        return names.PROPERTY_QUEUE in task.properties
    seen = picture(task, entry=None)
    return bool(seen.marks) and not any(seen.marked_by(controller) for controller in seen.marks)


def unserved(queue: str) -> ResolvedQueue:
    """A queue of this id that the config does not name (any more): tasks can be put back into it."""
    return ResolvedQueue(config=QueueConfig(name=queue), id=queue, name=queue)

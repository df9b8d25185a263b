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
from clearml_k8s.flow.claim import Claims
from clearml_k8s.flow.graces import Graces, Settled
from clearml_k8s.flow.launch import Launcher
from clearml_k8s.flow.needs import Needs
from clearml_k8s.flow.picture import QUEUED, Verdict, picture, verdict
from clearml_k8s.flow.room import Blocked, Room
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
        launcher: Launcher,
        graces: Graces,
        served: ServedQueues,
        jobs: Store[JobRecord],
        adopted: Adopted,
        controller: str,
        needs: Needs,
        room: Callable[[], Room],
    ) -> None:
        """``room``: the places left now, for tasks that are claimed without a poll."""
        self._session = session
        self._needs = needs
        self._room = room
        self._claims = claims
        self._book = book
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
        for task, queue_id in self._book.idle_marks().items():
            if self._served.by_id(queue_id) is None:
                self._graces.hold(task, queue=queue_id, why="our mark, and its queue is not served")
        settled = await self._graces.look()
        # All are judged before anything is awaited: until then no claim begins on one of them.
        judged = self._judged(settled)
        takings = {
            said: [self._taking(one, one.task, said) for one, found in judged if found is said and one.task is not None]
            for said in (Verdict.UNMARK, Verdict.CLAIM, Verdict.CREATE)
        }
        for one, _ in judged:
            if one.held.doubt and one.held.task not in self._book.recorded():
                # The doubt may have been about the record's own write, and then it holds what we do not know of.
                await self._book.forget(one.held.task)  # with the next write: nothing is sent now
        await self._claims.let_go(takings[Verdict.UNMARK])
        for one, said in judged:
            if said is Verdict.FORGET:
                await self._forget(one)
        await self._claims.claim_absent(self._with_room(takings[Verdict.CLAIM]))
        ours = takings[Verdict.CREATE]
        grown = self._grown(ours)
        await self._claims.resume([t for t in ours if self._served.by_id(t.queue.id) and t.task.id not in grown])
        if more := [taking for taking in ours if taking.task.id in grown]:
            await self._claims.give_up(more, why="it asks for more by now than there is room for")
        left = [taking for taking in ours if not self._served.by_id(taking.queue.id)]
        if left:
            await self._claims.give_up(left, why="this controller does not serve its queue (any more)")

    def _ours(self, task: str) -> list[JobRecord]:
        return [job for job in self._jobs.of_task(task) if job.controller == self._controller]

    def _with_room(self, takings: Sequence[Taking]) -> list[Taking]:
        """Those that there is room for; the sweep finds the others again."""
        if not takings:
            return []
        ledger = self._room().ledger()
        chosen: list[Taking] = []
        for taking in takings:
            if ledger.blocked(taking.queue.id, taking.task.id) is Blocked.NOT:
                ledger.spend(taking.queue.id, taking.task.id)
                chosen.append(taking)
        return chosen

    def _grown(self, takings: Sequence[Taking]) -> set[str]:
        """Those whose users ask for more by now than when they were chosen, and a limit is exceeded with them."""
        own = [(t.queue.id, t.task.id) for t in takings if self._needs.own(t.queue) is not None]
        return self._room().too_much(own, in_flight=self._book.in_flight()) if own else set()

    def _judged(self, settled: Sequence[Settled]) -> list[tuple[Settled, Verdict]]:
        """Those whose claim is over, with what their pictures mean."""
        over = [one for one in settled if self._over(one)]
        if not over:
            return []
        for one in over:
            self._saw(one.task, one.held.queue)
        room = self._room()  # once for all: it reads all Jobs and pods, and after an outage they are hundreds
        return [(one, self._judge(one, room=room)) for one in over]

    def _over(self, settled: Settled) -> bool:
        """Whether its claim is over; its place is its own no more, unless it is recorded."""
        held, seen = settled.held, settled.seen
        if self._book.under_way(held.task):
            # Its batch has not ended yet: that ends the task's claim as well.
            self._graces.hold(held.task, queue=held.queue, why=held.why, doubt=held.doubt)
            return False
        self._book.settled(held.task, seen=seen, queue=held.queue, job=self._job(settled))
        return True

    def _job(self, settled: Settled) -> str | None:
        """The attempt of our Job for the attempt that the task's claim is of, if there is one."""
        task = settled.held.task
        recorded = self._book.recorded().get(task)
        attempt = recorded.attempt if recorded else settled.seen.attempt
        return next((job.attempt for job in self._ours(task) if job.attempt == attempt), None)

    def _judge(self, settled: Settled, *, room: Room) -> Verdict:
        """What its picture means."""
        held, seen = settled.held, settled.seen
        recorded, job = self._book.recorded().get(held.task), self._job(settled)
        takes = self._takes(held.queue, held.task, room=room, own_place=recorded is not None)
        mark = recorded.mark if recorded else None
        said = verdict(seen, recorded=mark, controller=self._controller, job=job, takes=takes)
        log.info("grace over", extra=kv(task=held.task, queue=held.queue, verdict=said.value, status=seen.status))
        if self._served.by_id(held.queue) is None and Verdict.CLAIM is verdict(
            seen, recorded=mark, controller=self._controller, job=job, takes=True
        ):
            # In no queue and nobody's: whoever serves its queue next, or its user, decides.
            log.warning("task left as it is: its queue is not served", extra=kv(task=held.task, queue=held.queue))
        return said

    def _saw(self, task: TaskView | None, queue_id: str) -> None:
        """What the task needs counts from here on, where tasks of its queue say so themselves."""
        queue = self._served.by_id(queue_id)
        if task is not None and queue is not None:
            self._needs.agrees(task, queue)

    def _takes(self, queue_id: str, task: str, *, room: Room, own_place: bool = False) -> bool:
        """Tasks are taken from the queue, and there is room; ``own_place``: the task has a place, as it is recorded."""
        served = any(s.queue and s.queue.id == queue_id and not s.problem for s in self._served.states.values())
        return served and (own_place or room.fits(queue_id, task))

    def _taking(self, settled: Settled, task: TaskView, said: Verdict) -> Taking:
        queue = self._served.by_id(settled.held.queue) or unserved(settled.held.queue)
        return Taking(task=task, queue=queue, absent=said is Verdict.CLAIM, resumed=said is Verdict.CREATE)

    async def _forget(self, settled: Settled) -> None:
        """Forget the record, once its Job shows: the watch may be late, and what runs takes a place."""
        held, seen = settled.held, settled.seen
        try:
            if seen.entry is None and not self._ours(held.task):
                await self._launcher.look(held.task)
            recorded = self._book.recorded().get(held.task)
            if recorded is None or seen.marks.get(self._controller) == recorded.mark:
                await self._book.forget(held.task)
            else:
                await self._book.erase(held.task)
        except (Refused, Unanswered) as error:
            why = f"its record cannot be forgotten yet: {error}"
            self._graces.hold(held.task, queue=held.queue, why=why, doubt=held.doubt)

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
        entries = {entry.task: queue.id for queue in listed for entry in queue.entries}
        absent: dict[str, str] = {}
        for task in found.values():
            if self._controller in picture(task, entry=None).marks and task.id in entries:
                self._saw(task, entries[task.id])
        room = self._room()
        for task in found.values():
            if self._book.busy(task.id) or self._adopted.has(task.id):
                continue
            if any(job.attempt == task.status_changed for job in self._jobs.of_task(task.id)):
                continue
            seen = picture(task, entry=None)
            if task.id in entries:
                if seen.marked_by(self._controller) and not self._takes(entries[task.id], task.id, room=room):
                    self._graces.hold(task.id, queue=entries[task.id], why="our mark, and no room")
                continue
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
        """Take out of the pending queue what means nothing any more, or stands in its own queue as well."""
        shown = [
            entry.task for queue in await queues.all_entries(self._session, ids=[pending]) for entry in queue.entries
        ]
        found = await tasks.get_many(self._session, shown)
        ours = [task for task in found.values() if names.PROPERTY_QUEUE in task.properties]
        own = {task.execution_queue for task in ours if task.status == QUEUED and task.execution_queue} - {pending}
        # After the others: who stands in both now was put back, or enqueued anew.
        listed = await queues.all_entries(self._session, ids=sorted(own)) if own else ()
        waiting = {entry.task for queue in listed for entry in queue.entries} & {task.id for task in ours}
        for task in shown:
            twice = task in waiting and not self._book.under_way(task)
            if twice or shown_in_vain(found.get(task)):
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

"""What this process remembers of its claims: under way, passed over for a while, only marked."""

from __future__ import annotations

from collections.abc import Iterable

from clearml_k8s.clearml.session import Session
from clearml_k8s.flow.choose import Candidate
from clearml_k8s.flow.graces import Graces
from clearml_k8s.flow.picture import Picture
from clearml_k8s.flow.taking import Taking
from clearml_k8s.kube.record import Claim, ClaimRecord

SKIP_SECONDS = 5.0
"""How long an entry that cannot be taken is not looked at again."""


class ClaimBook:
    """Memory alone: nothing here survives a restart, and nothing here is needed after one."""

    def __init__(self, *, session: Session, record: ClaimRecord, graces: Graces, controller: str) -> None:
        self._clock = session.clock
        self._record = record
        self._graces = graces
        self._controller = controller
        self._active: dict[str, str] = {}
        self._skipped: dict[str, float] = {}
        self._forgotten: set[str] = set()
        self._doubts: dict[str, int] = {}
        self._perhaps: dict[str, str] = {}
        self._begun = 0
        self._order: dict[str, int] = {}
        self._since: dict[str, float] = {}
        self._marks: dict[str, tuple[str, str]] = {}  # task -> attempt, queue id

    # ---- under way --------------------------------------------------------------------------------------------------

    def begin(self, claims: Iterable[Candidate | Taking]) -> None:
        """Count the tasks as in flight; `end` ends that."""
        for claim in claims:
            task = claim.task if isinstance(claim, Candidate) else claim.task.id
            self._active[task] = claim.queue.id
            self._begun += 1
            self._order[task] = self._begun
            self._since[task] = self._clock.monotonic()

    def end(self, tasks: Iterable[str]) -> None:
        for task in tasks:
            self._active.pop(task, None)
            self._order.pop(task, None)
            self._since.pop(task, None)

    def order(self, task: str) -> int:
        """The place of the claim among those under way: as they began, which is their queue's order."""
        return self._order[task]

    def seconds(self, task: str) -> float:
        """How long its claim has been under way."""
        return self._clock.monotonic() - self._since[task]

    def under_way(self, task: str) -> bool:
        """A claim of this process works on the task at this moment."""
        return task in self._active

    @property
    def active(self) -> int:
        """Claims under way."""
        return len(self._active)

    def in_flight(self) -> dict[str, str]:
        """Task -> queue id of everything whose Job may come without anything more being taken."""
        return {**self._perhaps, **{task: claim.queue for task, claim in self.recorded().items()}, **self._active}

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

    # ---- the record -------------------------------------------------------------------------------------------------

    def recorded(self) -> dict[str, Claim]:
        """The claims in the record that are not to be forgotten with its next write."""
        return {task: claim for task, claim in self._record.claims.items() if task not in self._forgotten}

    def owes(self, task: str, *, attempt: str) -> bool:
        """A command for the pod of another attempt of the task is still to run (`flow.commands`)."""
        owed = self._record.owed.get(task)
        return owed is not None and owed.attempt != attempt

    def keep(self, tasks: Iterable[str]) -> None:
        """The record is written with these tasks anew."""
        self._forgotten.difference_update(tasks)

    async def forget(self, task: str) -> None:
        """The record needs the task no more; sent with its next write, as one too many costs a look, never a task."""
        self._forgotten.add(task)
        self._doubts.pop(task, None)
        await self._record.forget([task], wait=False)

    async def erase(self, task: str) -> None:
        """Forget at once a task without our mark: a new mark must not stand beside the old record, as both look alike.

        Errors as `ClaimRecord.forget`; until it is done the task is busy.
        """
        await self._record.forget([task])
        await self.forget(task)

    async def flush(self) -> None:
        """Write what is to be forgotten. Errors as `ClaimRecord.flush`."""
        if self._forgotten:
            await self._record.flush()
            self._forgotten &= self._record.claims.keys()

    # ---- passed over, in doubt --------------------------------------------------------------------------------------

    def skip(self, task: str, *, seconds: float = SKIP_SECONDS) -> None:
        """Do not look at the task's entry for a while."""
        self._skipped[task] = self._clock.monotonic() + seconds

    @property
    def skipped(self) -> int:
        """Entries at the queues' heads that are passed over; an upper bound."""
        now = self._clock.monotonic()
        self._skipped = {task: until for task, until in self._skipped.items() if until > now}
        return len(self._skipped) + len(self._graces) + len(self._active)

    def hold(self, taking: Taking, why: str, *, doubt: bool = False) -> None:
        """Hands off the task for a grace."""
        self._graces.hold(taking.task.id, queue=taking.queue.id, why=why, doubt=doubt)

    def perhaps_recorded(self, taking: Taking) -> None:
        """The task is in no queue and on hold, and if the record has it, its Job comes after the grace."""
        self._perhaps[taking.task.id] = taking.queue.id

    def doubts(self, task: str) -> int:
        """Count one more doubt about the task's Job; how many there were in a row."""
        self._doubts[task] = self._doubts.get(task, 0) + 1
        return self._doubts[task]

    # ---- marks ------------------------------------------------------------------------------------------------------

    def marked(self, task: str, *, attempt: str, queue: str) -> None:
        """Our mark stands for the attempt, on a task of this queue, and there is nothing else of ours."""
        self._marks[task] = (attempt, queue)

    def unmarked(self, task: str) -> None:
        """Our mark is gone, means nothing any more, or there is more of us than the mark."""
        self._marks.pop(task, None)

    def only_marked(self, task: str, attempt: str) -> bool:
        """All that there is of ours on this attempt is a mark."""
        return self._marks.get(task, ("", ""))[0] == attempt

    def idle_marks(self) -> dict[str, str]:
        """Task -> queue id of what is only marked, with nothing under way, on hold or recorded."""
        recorded = self.recorded()
        return {
            task: queue
            for task, (_, queue) in self._marks.items()
            if task not in self._active and task not in self._graces and task not in recorded
        }

    def settled(self, task: str, *, seen: Picture, queue: str, job: str | None) -> None:
        """A grace is over for the task: an own mark that stands is known to be all there is of us, unless there is our
        Job, whose attempt is ``job``."""
        self._perhaps.pop(task, None)
        if seen.queued and seen.marked_by(self._controller) and job != seen.attempt:
            self.marked(task, attempt=seen.attempt, queue=queue)
        else:
            self.unmarked(task)

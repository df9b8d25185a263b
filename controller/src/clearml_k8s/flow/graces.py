"""Tasks that are not touched for one grace: after a doubt, a restart, or when found in no queue (ADR 0002)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from clearml_k8s.clearml import queues, tasks
from clearml_k8s.clearml.session import Session
from clearml_k8s.clearml.tasks import TaskView
from clearml_k8s.errors import MAX_REQUEST_SECONDS
from clearml_k8s.flow import elsewhere
from clearml_k8s.flow.picture import Picture, picture
from clearml_k8s.logs import kv

log = logging.getLogger(__name__)

GRACE_SECONDS = 2 * MAX_REQUEST_SECONDS
"""Longer than any request lasts, with as much again for what still waits in front of the server."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """One task on hold. ``queue`` is the id of the queue whose entry it is about; ``seen`` the picture when the grace
    began, None until then; ``doubt`` says that a call of ours may still land, so that any change begins a new grace."""

    task: str
    queue: str
    doubt: bool
    why: str
    seen: Picture | None = None
    until: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Settled:
    """A grace that is over: the picture stood unchanged, and nothing sent before it can still land."""

    held: Held
    seen: Picture
    task: TaskView | None


class Graces:
    """The tasks on hold."""

    def __init__(
        self,
        *,
        session: Session,
        controller: str,
        pending_queue: Callable[[], str | None],
        grace_seconds: float = GRACE_SECONDS,
    ) -> None:
        """``pending_queue``: the id of the queue that shows what waits for the cluster, None while it is not known."""
        self._session = session
        self._controller = controller
        self._pending_queue = pending_queue
        self._clock = session.clock
        self.grace_seconds = grace_seconds
        self._held: dict[str, Held] = {}

    def __contains__(self, task: str) -> bool:
        return task in self._held

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[Held]:
        return iter(list(self._held.values()))

    def hold(self, task: str, *, queue: str, why: str, doubt: bool = False) -> None:
        """Leave the task alone for a grace. A doubt on a task that is held already begins its grace anew."""
        before = self._held.get(task)
        if before is not None and not doubt:
            return
        log.info(
            "task is left alone for a grace", extra=kv(task=task, queue=queue, why=why, seconds=self.grace_seconds)
        )
        self._held[task] = Held(task=task, queue=queue, doubt=doubt or (before is not None and before.doubt), why=why)

    async def look(self) -> list[Settled]:
        """Begin the graces that have not begun, and return those that are over. Errors as `Session.call`."""
        now = self._clock.monotonic()
        due = [held for held in self if held.seen is None or held.until <= now]
        if not due:
            return []
        seen = await self._pictures(due)
        settled = []
        for held in due:
            if self._held.get(held.task) is not held:
                continue
            task, now_seen = seen[held.task]
            if held.seen == now_seen:
                del self._held[held.task]
                settled.append(Settled(held=held, seen=now_seen, task=task))
            elif held.seen is None or held.doubt:
                # From the end of the look: what it saw may have been sent until then.
                until = self._clock.monotonic() + self.grace_seconds
                self._held[held.task] = Held(
                    task=held.task, queue=held.queue, doubt=held.doubt, why=held.why, seen=now_seen, until=until
                )
            else:
                del self._held[held.task]
        return settled

    async def _pictures(self, held: Iterable[Held]) -> Mapping[str, tuple[TaskView | None, Picture]]:
        wanted = list(held)
        found = await queues.all_entries(self._session, ids=sorted({h.queue for h in wanted}))
        entries = {(queue.id, entry.task): entry.added for queue in found for entry in queue.entries}
        views = await tasks.get_many(self._session, [h.task for h in wanted])
        pending = self._pending_queue()
        moved = {
            h.task: h.queue
            for h in wanted
            if (view := views.get(h.task)) is not None
            and elsewhere.strange(view, queue=h.queue, pending=pending, controller=self._controller)
        }
        others = await elsewhere.entries(self._session, moved)
        return {
            h.task: (
                views.get(h.task),
                picture(views.get(h.task), entry=entries.get((h.queue, h.task)), elsewhere=others.get(h.task)),
            )
            for h in wanted
        }

"""Reads of tasks, batched: callers name a task and how fresh the answer must be; one call serves all who wait."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from clearml_k8s.clearml import tasks
from clearml_k8s.clearml.session import Session
from clearml_k8s.clearml.tasks import TaskView

GATHER_SECONDS = 0.1
"""How long a read waits for others to join it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """A task as read (`tasks.STATE_FIELDS`, and what more was asked for); ``task`` is None when it does not exist.

    ``at`` is when the read began (monotonic).
    """

    task: TaskView | None
    at: float


class TaskReads:
    """The last read of each task that somebody follows."""

    def __init__(self, *, session: Session, owners: bool = False) -> None:
        """``owners``: whose each task is, is read as well."""
        self._session = session
        self._fields = (*tasks.STATE_FIELDS, "user", "company") if owners else tasks.STATE_FIELDS
        self._clock = session.clock
        self._seen: dict[str, Seen] = {}
        self._wanted: dict[str, list[asyncio.Future[Seen]]] = {}
        self._running: asyncio.Task[None] | None = None

    def last(self, task: str) -> Seen | None:
        """The last read, however old."""
        return self._seen.get(task)

    async def fresh(self, task: str) -> Seen:
        """A read that begins after this call. Errors as `Session.call`."""
        waiting: asyncio.Future[Seen] = asyncio.get_running_loop().create_future()
        self._wanted.setdefault(task, []).append(waiting)
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._serve())
        return await waiting

    async def refresh(self, ids: Iterable[str]) -> Mapping[str, Seen]:
        """Read these tasks now, forget the others, and return those whose state changed since the last read."""
        wanted = list(ids)
        at = self._clock.monotonic()
        found = await tasks.get_many(self._session, wanted, fields=self._fields)
        # Reads that began later are newer, whether they ended before this one or not.
        old, self._seen = self._seen, {task: seen for task, seen in self._seen.items() if seen.at > at}
        changed = {}
        for task in wanted:
            if task in self._seen:
                continue
            self._seen[task] = Seen(task=found.get(task), at=at)
            before = old.get(task)
            if before is None or _state(before.task) != _state(found.get(task)):
                changed[task] = self._seen[task]
        return changed

    async def _serve(self) -> None:
        while self._wanted:
            await self._clock.sleep(GATHER_SECONDS)
            wanted, self._wanted = self._wanted, {}
            at = self._clock.monotonic()
            try:
                found = await tasks.get_many(self._session, wanted, fields=self._fields)
            except Exception as error:  # whatever it is belongs to those who wait for the answer
                for waiting in (w for group in wanted.values() for w in group if not w.done()):
                    waiting.set_exception(error)
                continue
            for task, group in wanted.items():
                self._seen[task] = Seen(task=found.get(task), at=at)
                for waiting in (w for w in group if not w.done()):
                    waiting.set_result(self._seen[task])


def _state(task: TaskView | None) -> TaskView | None:
    """Without what changes with every report of the task."""
    return None if task is None else replace(task, last_update=None)

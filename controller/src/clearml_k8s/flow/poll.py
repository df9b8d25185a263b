"""Looks at the queues and starts claims, as fast as there is work and room for it."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from clearml_k8s.clearml import queues
from clearml_k8s.clearml.session import Session
from clearml_k8s.config import Config
from clearml_k8s.errors import Fenced, Refused, Unanswered
from clearml_k8s.flow.book import ClaimBook
from clearml_k8s.flow.capacity import UNDECIDED
from clearml_k8s.flow.choose import Candidate, Choice, choose
from clearml_k8s.flow.claim import Claims
from clearml_k8s.flow.counting import Counting, Usage
from clearml_k8s.flow.needs import Needs
from clearml_k8s.flow.room import MAX_IN_FLIGHT, Room
from clearml_k8s.flow.served import ServedQueues
from clearml_k8s.flow.tell import Teller
from clearml_k8s.logs import kv

log = logging.getLogger(__name__)

Watched = Callable[[str, Coroutine[Any, Any, int]], Coroutine[Any, Any, int]]


def unwatched(_name: str, claim: Coroutine[Any, Any, int]) -> Coroutine[Any, Any, int]:
    """The claim as it is."""
    return claim


BATCH = 50
WAY_OUT = "ask for less in its user properties, or have the cluster's administrator raise the limit"
MOST_TOLD = 10_000
"""Tasks that are remembered to have been told why they are passed over."""
SHORTEST_SECONDS = 0.5
"""Between two polls that found nothing new; grows to queuePollFrequencySeconds while nothing comes."""


UNKNOWN_SECONDS = 10.0
"""How long it may not be known what exists before that is told: at a start a list takes a moment."""


class Poller:
    """The loop from the queues to the claims."""

    def __init__(
        self,
        *,
        config: Config,
        session: Session,
        served: ServedQueues,
        claims: Claims,
        book: ClaimBook,
        counting: Counting,
        needs: Needs,
        teller: Teller,
        may_take: Callable[[], bool],
        watched: Watched = unwatched,
    ) -> None:
        """``may_take`` is false while what exists in the cluster is not known, or whether this process leads.
        ``watched`` runs each claim under a name of its own: one that hangs holds places for ever."""
        self._watched = watched
        self._config = config
        self._session = session
        self._clock = session.clock
        self._served = served
        self._claims = claims
        self._book = book
        self._counting = counting
        self._needs = needs
        self._teller = teller
        self._never: dict[str, str] = {}
        self._may_take = may_take
        self._choice = Choice()
        self._closed: dict[str, str] = {}
        self._behind = False
        self._unknown_since: float | None = None
        self._unknown_told = False
        self._running: set[asyncio.Task[int]] = set()
        self._progress = asyncio.Event()
        self._fenced: Fenced | None = None
        self.last_round: datetime | None = None
        """When a round of the poll last went as it should, whether there was something to ask for or not."""

    def room(self) -> Room:
        """The places left now."""
        return self._counting.room()

    def usage(self) -> Usage:
        """What is used now of what there is; of each queue from which nothing is taken, why."""
        found = self._counting.usage()
        whys = {queue.config.name: self._why(queue.id) for queue in self._served.all_found()}
        standings = (
            replace(one, left=0, why=whys[one.queue]) if not one.why and whys.get(one.queue) else one
            for one in found.standings
        )
        return replace(found, standings=tuple(standings))

    def _why(self, queue_id: str) -> str:
        """Why the last look has taken nothing more from the queue, though there is room for some task of it."""
        if kept := self._choice.kept.get(queue_id):
            return f"what is left is kept for queue {kept}, whose task needs more"
        return self._choice.waits.get(queue_id, "")

    async def run(self) -> None:
        """Poll for ever. Raises Fenced when another instance took the record over."""
        idle = SHORTEST_SECONDS
        while True:
            if self._fenced is not None:
                raise self._fenced
            await self._session.health.ready()
            # Before the look: a claim that ends from now on makes room for another look at once.
            self._progress.clear()
            started, self._behind = 0, False
            try:
                self._tell_unknown()
                if self._may_take():
                    started = await self._poll()
                    self.last_round = self._clock.now()
            except (Refused, Unanswered) as error:
                log.debug("poll failed: %s", error)
            idle = (
                SHORTEST_SECONDS
                if started or self._behind
                else min(idle * 1.5, self._config.queue_poll_frequency_seconds)
            )
            await self._pause(idle if not started else 0.02)

    async def stop(self) -> None:
        """Wait until the claims under way have ended."""
        if self._running:
            await asyncio.wait(self._running)

    async def drop(self) -> None:
        """End the claims under way where they stand, as a crash would: they are in the record, whoever holds it."""
        for task in self._running:
            task.cancel()
        await self.stop()

    async def _poll(self) -> int:
        active = self._served.active()
        free = MAX_IN_FLIGHT - self._book.active
        if not active or free <= 0:
            return 0
        room = self.room()
        self._tell(room)
        most = max((room.of(queue.id) for queue in active), default=0)
        # Kubernetes is behind: there will be room in a moment.
        self._behind = any(not room.of(queue.id) for queue in active) and room.limits[UNDECIDED].used > 0
        if most <= 0:
            return 0
        # Entries that cannot be taken stand in front of others: look as far behind them as there is room.
        depth = min(most, free) + self._book.skipped + 2 * len(self._choice.never)
        found = {
            queue.id: queue
            for queue in await queues.get_queues(self._session, ids=[q.id for q in active], max_entries=depth)
        }
        waiting = [
            (q, e.task) for q in active if q.id in found for e in found[q.id].entries if not self._book.busy(e.task)
        ]
        begun = [(q, task) for task, of in self._book.in_flight().items() if (q := self._served.by_id(of)) is not None]
        await self._needs.look(waiting, under_way=begun)
        # The room again: it may have shrunk during the calls.
        room = self.room()
        self._choice = choose(
            queues=[(queue, found[queue.id]) for queue in active if queue.id in found],
            room=room,
            busy=self._book.busy,
            turns=self._choice.turns,
            limit=free,
        )
        self._tell_never(self._choice.never)
        chosen = self._choice.candidates
        for start in range(0, len(chosen), BATCH):
            self._start(self._claims.claim(chosen[start : start + BATCH]), chosen[start : start + BATCH])
        return len(chosen)

    def _tell_unknown(self) -> None:
        """Log once why it is not known what exists, and its end."""
        unknown, now = self._counting.unknown, self._clock.monotonic()
        if not unknown:
            if self._unknown_told:
                log.info("what exists in the cluster is known again")
            self._unknown_since, self._unknown_told = None, False
            return
        if self._unknown_since is None:
            self._unknown_since = now
        if now - self._unknown_since >= UNKNOWN_SECONDS and not self._unknown_told:
            log.warning("nothing is taken from any queue", extra=kv(why=unknown))
            self._unknown_told = True

    def _tell(self, room: Room) -> None:
        """Log once what stops a queue altogether, and its end."""
        for queue in self._served.all_found():
            why, before = room.closed.get(queue.id, ""), self._closed.get(queue.id, "")
            if why and not before:
                log.warning("nothing is taken from queue", extra=kv(queue=queue.name, why=why))
            elif before and not why:
                log.info("queue goes on", extra=kv(queue=queue.name))
            self._closed[queue.id] = why

    def _tell_never(self, never: Mapping[str, str]) -> None:
        """Tell the user of each task that is passed over, once."""
        new = {task: why for task, why in never.items() if self._never.get(task) != why}
        for task, why in new.items():
            self._teller.say(task, f"Waiting, and passed over: {why}; {WAY_OUT}", level="WARNING")
            log.warning("entry passed over", extra=kv(task=task, why=why))
        if len(self._never) > MOST_TOLD:
            self._never.clear()
        self._never |= new
        # The look went less deep than there was room for.
        self._behind = self._behind or bool(new)

    def _start(self, claim: Coroutine[Any, Any, int], batch: tuple[Candidate, ...]) -> None:
        self._book.begin(batch)
        # In a context of its own: a claim is no sign of life of this loop.
        watched = self._watched(f"claim of {batch[0].task}", claim)
        task = asyncio.create_task(watched, context=contextvars.Context())
        self._running.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[int]) -> None:
        self._running.discard(task)
        self._progress.set()
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Fenced):
            self._fenced = error
        elif error is not None:
            log.error("a claim ended unexpectedly", exc_info=error)

    async def _pause(self, seconds: float) -> None:
        """Wait, but not longer than until a claim has ended."""
        waiting = asyncio.create_task(self._progress.wait())
        sleeping = asyncio.create_task(self._clock.sleep(seconds))
        try:
            await asyncio.wait({waiting, sleeping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            sleeping.cancel()

"""How many tasks wait in each queue, and since when: looked at for the metrics alone, whether there is room or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from clearml_k8s.clearml import queues
from clearml_k8s.clearml.queues import Queue
from clearml_k8s.clearml.session import Session
from clearml_k8s.clock import moment
from clearml_k8s.config import ResolvedQueue
from clearml_k8s.errors import NotFound
from clearml_k8s.flow.batch import gathered
from clearml_k8s.flow.served import ServedQueues

SEEN = 100
"""Entries of each queue that are looked at; of longer queues the rest is only counted."""

FRESH_SECONDS = 60.0
"""What was seen longer ago is not told any more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Length:
    """A queue's entries; ``oldest``: when the oldest of those seen came in, None in an empty queue."""

    entries: int
    oldest: datetime | None


class QueueLengths:
    """The last look at all queues that are on the server."""

    def __init__(self, *, session: Session, served: ServedQueues) -> None:
        self._session = session
        self._clock = session.clock
        self._served = served
        self._found: Mapping[str, Length] = {}
        self._at: float | None = None

    def known(self) -> Mapping[str, Length]:
        """By key of ``queues``; nothing once the look is too long ago."""
        fresh = self._at is not None and self._clock.monotonic() - self._at < FRESH_SECONDS
        return self._found if fresh else {}

    async def look(self) -> None:
        """One call for all queues, and one for each long one. Errors as `Session.call`; a read."""
        served = self._served.all_found()
        at = self._clock.monotonic()
        rows = await queues.get_queues(self._session, ids=[queue.id for queue in served], max_entries=SEEN)
        found = {row.id: row for row in rows}
        there = [(queue, found[queue.id]) for queue in served if queue.id in found]
        lengths = await gathered(there, self._length)
        self._found = {
            queue.config.name: length for (queue, _), length in zip(there, lengths, strict=True) if length is not None
        }
        self._at = at

    async def _length(self, one: tuple[ResolvedQueue, Queue]) -> Length | None:
        """None: the queue was deleted meanwhile."""
        queue, seen = one
        entries = seen.total
        if entries is None:
            try:
                entries = await queues.num_entries(self._session, queue.id)
            except NotFound:
                return None
        times = (moment(entry.added) for entry in seen.entries)
        return Length(entries=entries, oldest=min((at for at in times if at is not None), default=None))

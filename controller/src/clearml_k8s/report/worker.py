"""The controller as a worker of the server: the Workers page shows it with the queues that it serves."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from clearml_k8s.clearml import workers
from clearml_k8s.clearml.session import Session

SHORTEST_TIMEOUT_SECONDS = 600
"""After so long a silence (or three reports, if that is longer) the server drops it from the page."""


class ControllerWorker:
    """Registers with the first report, and again when its queues changed, so that the server knows the time-out."""

    def __init__(
        self, *, session: Session, worker_id: str, seconds: float, queues: Callable[[], Sequence[str]]
    ) -> None:
        """``seconds`` between two reports; ``queues``: the ids of those served now."""
        self._session = session
        self._worker_id = worker_id
        self.seconds = seconds
        self._queues = queues
        self._registered: tuple[str, ...] | None = None

    async def report(self) -> None:
        """Report once. Errors as `Session.call`; NotFound when a queue was just deleted."""
        queues = tuple(sorted(self._queues()))
        if queues != self._registered:
            timeout = max(SHORTEST_TIMEOUT_SECONDS, int(3 * self.seconds))
            await workers.register(self._session, self._worker_id, queues=queues, timeout_seconds=timeout)
            self._registered = queues
        await workers.status_report(self._session, self._worker_id, at=self._session.clock.now(), queues=queues)

    async def withdraw(self) -> None:
        """Take it off the page, if it may be there. Errors as `Session.call`."""
        if self._registered is not None:
            await workers.unregister(self._session, self._worker_id)
            self._registered = None

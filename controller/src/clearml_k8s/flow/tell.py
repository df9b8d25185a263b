"""What users read in the task's console: each thing once, in order, many tasks in one call."""

from __future__ import annotations

import asyncio
import logging
from collections import deque

from clearml_k8s.clearml import events
from clearml_k8s.clearml.events import LogLine
from clearml_k8s.clearml.session import Session
from clearml_k8s.errors import AuthRefused, NotSent, Refused, Unanswered, Unreachable
from clearml_k8s.logs import Redactor

log = logging.getLogger(__name__)

FLUSH_SECONDS = 0.5
MAX_WAITING = 20_000
"""Lines kept while the server is away; the oldest go first."""


class Teller:
    """Collects console lines and sends them every half second."""

    def __init__(self, *, session: Session, worker_id: str, redact: Redactor) -> None:
        self._session = session
        self._worker_id = worker_id
        self._redact = redact
        self._waiting: deque[LogLine] = deque(maxlen=MAX_WAITING)
        self._sending = asyncio.Lock()
        self._said: dict[str, set[str]] = {}
        self._last_ms = 0

    def say(self, task: str, text: str, *, level: str = "INFO") -> None:
        """Have ``text`` shown on the task's console, once; secrets that the redactor knows are blanked."""
        text = self._redact(text)
        said = self._said.setdefault(task, set())
        if text in said:
            return
        said.add(text)
        # The server orders by time, so no two lines of ours may share a millisecond.
        self._last_ms = max(self._last_ms + 1, int(self._session.clock.now().timestamp() * 1000))
        self._waiting.append(
            LogLine(task=task, worker=self._worker_id, msg=text + "\n", timestamp_ms=self._last_ms, level=level)
        )

    def forget(self, task: str) -> None:
        """The task is over: what was said of it may be said again of its next attempt."""
        self._said.pop(task, None)

    async def flush(self) -> None:
        """Send what waits; lines whose sending ended in doubt are not sent again, a line twice is worse than none."""
        async with self._sending:
            if not self._waiting:
                return
            lines = list(self._waiting)
            self._waiting.clear()
            try:
                report = await events.add_log_batch(self._session, lines)
            except (Unreachable, NotSent, AuthRefused) as error:
                self._waiting = deque([*lines, *self._waiting], maxlen=MAX_WAITING)
                log.debug("console lines wait: %s", error)
            except (Refused, Unanswered) as error:
                log.warning("%d console lines may be missing: %s", len(lines), error)
            else:
                if report.errors:
                    log.warning("console lines refused: %s", "; ".join(report.errors[:3]))

    async def run(self) -> None:
        """Send for ever; end by cancelling, then `flush`."""
        while True:
            await self._session.clock.sleep(FLUSH_SECONDS)
            if self._session.health.healthy:
                await asyncio.shield(self.flush())

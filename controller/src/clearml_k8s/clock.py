"""Time, injected: whoever waits or measures takes a `Clock`, so that tests do not wait."""

from __future__ import annotations

import asyncio
import time
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What the controller needs of time."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary point, never going back; deadlines are points on it."""
        ...

    def now(self) -> datetime:
        """The wall clock, aware, in UTC; for people and for time stamps only."""
        ...

    async def sleep(self, seconds: float, /) -> None:
        """Return after ``seconds`` (0 or less: after one turn of the loop)."""
        ...

    def timeout(self, seconds: float, /) -> AbstractAsyncContextManager[object]:
        """A context that raises TimeoutError when its body lasts longer than ``seconds``."""
        ...


class SystemClock:
    """The machine's clock and the running loop's timers."""

    def monotonic(self) -> float:
        return time.monotonic()

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def sleep(self, seconds: float, /) -> None:
        await asyncio.sleep(max(0.0, seconds))

    def timeout(self, seconds: float, /) -> AbstractAsyncContextManager[object]:
        return asyncio.timeout(max(0.0, seconds))

"""Time, injected: whoever waits or measures takes a `Clock`, so that tests do not wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from typing import Protocol, TypeVar

T = TypeVar("T")

TURN_SECONDS = 30.0


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


def moment(text: str) -> datetime | None:
    """A time as servers write it (ISO 8601; without a zone: UTC), in UTC; None when it cannot be read."""
    try:
        found = datetime.fromisoformat(text)
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


async def in_turns(wait: Callable[[], Awaitable[T]], *, clock: Clock) -> T:
    """Wait for what somebody else brings (an event, a lock), however long.

    On the clock, in turns: so that whoever waits for somebody's work is to be told from who hangs.
    """
    while True:
        try:
            async with clock.timeout(TURN_SECONDS):
                return await wait()
        except TimeoutError:
            continue


@asynccontextmanager
async def holding(lock: asyncio.Lock, *, clock: Clock) -> AsyncIterator[None]:
    """The lock, waited for `in_turns`."""
    await in_turns(lock.acquire, clock=clock)
    try:
        yield
    finally:
        lock.release()


async def sleep_until(stop: asyncio.Event, seconds: float, *, clock: Clock) -> None:
    """Sleep, but not longer than until ``stop``."""
    waits = {asyncio.ensure_future(stop.wait()), asyncio.ensure_future(clock.sleep(seconds))}
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()

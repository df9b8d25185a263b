"""Time under the test's hand: sleeps and time-outs end when the test says so."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from types import TracebackType


class ManualClock:
    """A `clearml_k8s.clock.Clock`.

    With ``auto`` a sleep returns at once and moves the time by its length, so that loops with waits run through; else
    sleeps end by `advance`. Time-outs fire when the time, however moved, passes their end.
    """

    def __init__(self, *, auto: bool = False) -> None:
        self.auto = auto
        self.slept: list[float] = []
        self._time = 1000.0
        self._start = datetime(2026, 1, 1, tzinfo=UTC)
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []
        self._timeouts: set[_Timeout] = set()

    def monotonic(self) -> float:
        return self._time

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._time - 1000.0)

    async def sleep(self, seconds: float, /) -> None:
        self.slept.append(seconds)
        if self.auto:
            self._move(max(0.0, seconds))
            await asyncio.sleep(0)
            return
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._time + seconds, future))
        await future

    def timeout(self, seconds: float, /) -> AbstractAsyncContextManager[object]:
        return _Timeout(self, self._time + seconds)

    @property
    def sleepers(self) -> int:
        """How many sleeps are under way."""
        return sum(1 for _, future in self._sleepers if not future.done())

    async def advance(self, seconds: float) -> None:
        """Let everything that can run begin its waits, move the time, and let what waited for it run."""
        await self._settle()
        self._move(seconds)
        await self._settle()

    async def until_sleeping(self, count: int = 1) -> None:
        """Wait (really, at most 5 s) until ``count`` sleeps are under way."""
        async with asyncio.timeout(5):
            while self.sleepers < count:
                await asyncio.sleep(0.001)

    async def _settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    def _move(self, seconds: float) -> None:
        self._time += seconds
        due = [future for end, future in self._sleepers if end <= self._time]
        self._sleepers = [(end, future) for end, future in self._sleepers if end > self._time]
        for future in due:
            if not future.done():
                future.set_result(None)
        for timeout in list(self._timeouts):
            timeout.check()


class _Timeout:
    """asyncio's own time-out, fired by the manual clock."""

    def __init__(self, clock: ManualClock, end: float) -> None:
        self._clock = clock
        self._end = end
        self._inner = asyncio.timeout(None)

    async def __aenter__(self) -> object:
        await self._inner.__aenter__()
        self._clock._timeouts.add(self)
        self.check()
        return self._inner

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self._clock._timeouts.discard(self)
        return await self._inner.__aexit__(kind, error, trace)

    def check(self) -> None:
        if self._clock.monotonic() >= self._end and not self._inner.expired():
            self._inner.reschedule(asyncio.get_running_loop().time())

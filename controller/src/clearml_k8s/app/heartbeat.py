"""Whether each loop of the process still goes round, for /healthz.

A loop is alive while it waits for a time that it named on the clock: a sleep, a request with its limit, a turn of
waiting for somebody else (`clock.in_turns`). So the absence of a server, however long, never shows here. What shows is
a wait that nothing ends: an event that does not come, a task that does not end, a cancellation that is lost.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType
from typing import TypeVar

from clearml_k8s.clock import Clock
from clearml_k8s.logs import kv

log = logging.getLogger(__name__)

T = TypeVar("T")

LIMIT_SECONDS = 120.0
"""Between two waits on the clock a loop computes, or waits for another part of the process."""

TELL_SECONDS = 10.0


@dataclass(kw_only=True)
class _Loop:
    """One loop: when it last began or ended a wait, and the ends of those under way (also those of its own tasks)."""

    name: str
    seen: float
    waits: dict[object, float] = field(default_factory=dict)
    told: bool = False

    def silent_since(self) -> float:
        return max(self.seen, *self.waits.values()) if self.waits else self.seen


class Heartbeats:
    """The loops of one process. Everything they use must take ``clock``, whose waits are their signs of life."""

    def __init__(self, *, clock: Clock, limit_seconds: float = LIMIT_SECONDS) -> None:
        self.clock: Clock = _Beating(clock, self)
        self._limit = limit_seconds
        self._current: ContextVar[_Loop | None] = ContextVar("loop", default=None)
        self._loops: dict[str, _Loop] = {}

    async def run(self, name: str, loop: Awaitable[T]) -> T:
        """Await ``loop``, under this name, until it ends. Tasks that it makes count for it."""
        own = _Loop(name=name, seen=self.clock.monotonic())
        before = self._current.set(own)
        self._loops[name] = own
        try:
            return await loop
        finally:
            del self._loops[name]
            self._current.reset(before)

    async def tell(self) -> None:
        """Log what is late, for ever, also where nobody probes."""
        while True:
            await self.clock.sleep(TELL_SECONDS)
            self.late()

    def late(self) -> dict[str, float]:
        """The loops that show no sign of life, and for how many seconds; each is logged once as long as that lasts."""
        now = self.clock.monotonic()
        found = {}
        for loop in self._loops.values():
            seconds = now - loop.silent_since()
            if seconds > self._limit:
                found[loop.name] = seconds
                if not loop.told:
                    log.error(
                        "loop %r shows no sign of life: please report it", loop.name, extra=kv(seconds=int(seconds))
                    )
            elif loop.told:
                log.info("loop goes on", extra=kv(loop=loop.name))
            loop.told = loop.name in found
        return found

    def _begins(self, seconds: float) -> object:
        """A wait of the current loop, that ends by itself after ``seconds``; what is returned is for `_ended`."""
        loop = self._current.get()
        if loop is None:
            return None
        wait = object()
        loop.seen = self.clock.monotonic()
        loop.waits[wait] = loop.seen + max(0.0, seconds)
        return (loop, wait)

    def _ended(self, begun: object) -> None:
        if isinstance(begun, tuple):
            loop, wait = begun
            loop.seen = self.clock.monotonic()
            del loop.waits[wait]


class _Beating:
    """A clock whose waits are the signs of life of the loop that they are made in."""

    def __init__(self, clock: Clock, heartbeats: Heartbeats) -> None:
        self._clock = clock
        self._heartbeats = heartbeats

    def monotonic(self) -> float:
        return self._clock.monotonic()

    def now(self) -> datetime:
        return self._clock.now()

    async def sleep(self, seconds: float, /) -> None:
        begun = self._heartbeats._begins(seconds)
        try:
            await self._clock.sleep(seconds)
        finally:
            self._heartbeats._ended(begun)

    def timeout(self, seconds: float, /) -> AbstractAsyncContextManager[object]:
        return _Timeout(self._clock.timeout(seconds), seconds, self._heartbeats)


class _Timeout:
    """The clock's own time-out, as a sign of life while it is under way."""

    def __init__(self, inner: AbstractAsyncContextManager[object], seconds: float, heartbeats: Heartbeats) -> None:
        self._inner = inner
        self._seconds = seconds
        self._heartbeats = heartbeats
        self._begun: object = None

    async def __aenter__(self) -> object:
        self._begun = self._heartbeats._begins(self._seconds)
        return await self._inner.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self._heartbeats._ended(self._begun)
        return await self._inner.__aexit__(kind, error, trace)

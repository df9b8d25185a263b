"""A queue of keys to work on: each key at most once in it, and never worked on twice at a time.

The semantics of client-go's work queue: a key put while it is worked on comes back when that is done.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Hashable
from random import Random
from typing import Generic, TypeVar

from clearml_k8s.backoff import Backoff
from clearml_k8s.clock import Clock, in_turns

K = TypeVar("K", bound=Hashable)


class QueueClosed(Exception):
    """The queue was closed and holds nothing more."""


class WorkQueue(Generic[K]):
    """Keys in the order they came; use `get`, work, then `done`, from as many workers as wanted."""

    def __init__(self, *, clock: Clock, first: float = 0.5, cap: float = 30.0, random: Random | None = None) -> None:
        """``first`` and ``cap``: seconds of the waits of `put_backoff`."""
        self._clock = clock
        self._first = first
        self._cap = cap
        self._random = random
        self._ready: deque[K] = deque()
        self._waiting: set[K] = set()
        self._working: set[K] = set()
        self._backoffs: dict[K, Backoff] = {}
        self._timers: dict[K, tuple[float, asyncio.Task[None]]] = {}
        self._closed = False
        self._arrived = asyncio.Event()

    def __len__(self) -> int:
        """Keys that are ready to be worked on."""
        return len(self._ready)

    @property
    def delayed(self) -> int:
        """Keys that wait for their time."""
        return len(self._timers)

    def put(self, key: K) -> None:
        """Have ``key`` worked on soon, once, however often it is put before that."""
        if self._closed or key in self._waiting:
            return
        self._cancel_timer(key)
        self._waiting.add(key)
        if key not in self._working:
            self._ready.append(key)
            self._arrived.set()

    def put_after(self, key: K, seconds: float) -> None:
        """`put` the key after ``seconds``, unless it is put before; of several times the earliest counts."""
        if self._closed or key in self._waiting:
            return
        if seconds <= 0:
            self.put(key)
            return
        due = self._clock.monotonic() + seconds
        earlier = self._timers.get(key)
        if earlier is not None and earlier[0] <= due:
            return
        self._cancel_timer(key)
        # In a context of its own: it is no sign of life of the worker that puts the key back.
        timer = asyncio.create_task(self._later(key, seconds), context=contextvars.Context())
        self._timers[key] = (due, timer)

    def put_backoff(self, key: K) -> float:
        """`put_after` with a wait that grows with each call since `forget`; returns the seconds."""
        backoff = self._backoffs.get(key)
        if backoff is None:
            backoff = self._backoffs[key] = Backoff(first=self._first, cap=self._cap, random=self._random)
        seconds = backoff.next()
        self.put_after(key, seconds)
        return seconds

    def forget(self, key: K) -> None:
        """The key went well: the next `put_backoff` begins anew."""
        self._backoffs.pop(key, None)

    async def get(self) -> K:
        """The next key, now marked as worked on; waits for one. QueueClosed after `close`."""
        while not self._ready:
            if self._closed:
                raise QueueClosed
            self._arrived.clear()
            await in_turns(self._arrived.wait, clock=self._clock)
        key = self._ready.popleft()
        self._waiting.discard(key)
        self._working.add(key)
        return key

    def done(self, key: K) -> None:
        """The work on ``key`` is over, well or not; it comes back if it was put meanwhile."""
        self._working.discard(key)
        if key in self._waiting:
            self._ready.append(key)
            self._arrived.set()

    def close(self) -> None:
        """Take no more keys and drop those that wait for their time; what is ready is still given out."""
        self._closed = True
        for key in list(self._timers):
            self._cancel_timer(key)
        self._arrived.set()

    async def _later(self, key: K, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._timers.pop(key, None)
        self.put(key)

    def _cancel_timer(self, key: K) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer[1].cancel()

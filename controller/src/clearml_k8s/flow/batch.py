"""One step for many tasks at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from clearml_k8s.flow.book import ClaimBook
from clearml_k8s.flow.taking import Taking
from clearml_k8s.logs import kv

log = logging.getLogger(__name__)

CONCURRENCY = 16
"""Requests of one batch that are under way at a time, to either API."""

S = TypeVar("S")
T = TypeVar("T")


async def gathered(items: Iterable[S], step: Callable[[S], Awaitable[T]]) -> list[T]:
    """The step for every item, a few at a time, results in order."""
    gate = asyncio.Semaphore(CONCURRENCY)

    async def one(item: S) -> T:
        async with gate:
            return await step(item)

    return await asyncio.gather(*(one(item) for item in items))


async def each(book: ClaimBook, takings: Sequence[Taking], step: Callable[[Taking], Awaitable[T]]) -> list[T | None]:
    """The step for every taking, a few at a time, results in order; None where it failed as it never should."""

    async def guarded(taking: Taking) -> T | None:
        try:
            return await step(taking)
        except Exception:
            # One task's trouble must not cancel the requests of the others half-way.
            log.exception("a step of a claim failed", extra=kv(task=taking.task.id))
            book.hold(taking, "a step of its claim failed", doubt=True)
            return None

    return await gathered(takings, guarded)

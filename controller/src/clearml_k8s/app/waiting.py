"""Going on while a server is away, in step with the order to stop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

from clearml_k8s.backoff import Backoff
from clearml_k8s.clock import Clock
from clearml_k8s.errors import Fenced, Refused, Unanswered
from clearml_k8s.logs import kv

log = logging.getLogger(__name__)

T = TypeVar("T")


async def patiently(what: str, step: Callable[[], Awaitable[T]], *, clock: Clock, stop: asyncio.Event) -> T | None:
    """The step's result, however long the API is away; None when told to stop first."""
    backoff = Backoff(first=0.5, cap=30.0)
    while not stop.is_set():
        try:
            return await step()
        except (Refused, Unanswered) as error:
            wait = backoff.next()
            log.warning("%s failed, tried again: %s", what, error, extra=kv(retry_in=round(wait, 1)))
            try:
                async with clock.timeout(wait):
                    await stop.wait()
            except TimeoutError:
                continue
    return None


class Rounds:
    """A step that is done again and again: what the servers refuse or leave open is left to the next round."""

    def __init__(self, what: str, *, level: int = logging.DEBUG) -> None:
        """``level``: at which a failure is logged, once as long as its reason stays the same."""
        self._what = what
        self._level = level
        self._told = ""

    async def once(self, step: Callable[[], Awaitable[object]]) -> None:
        """Run the step."""
        try:
            await step()
        except (Refused, Unanswered) as error:
            if str(error) != self._told:
                log.log(self._level, "%s failed, tried again: %s", self._what, error)
            self._told = str(error)
        else:
            if self._told:
                log.log(min(self._level, logging.INFO), "%s: goes on", self._what)
            self._told = ""


async def until(stop: asyncio.Event, loops: Iterable[Awaitable[None]]) -> Fenced | None:
    """Run the loops until ``stop``; a loop that ends unexpectedly ends the process, so that it is started anew."""
    running = [asyncio.ensure_future(loop) for loop in loops]
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({stopping, *running}, return_when=asyncio.FIRST_COMPLETED)
        for task in running:
            error = task.exception() if task.done() and not task.cancelled() else None
            if isinstance(error, Fenced):
                return error
            if error is not None:
                raise error
        if not stop.is_set():
            raise RuntimeError("a loop of the process came to an end: please report it")
        return None
    finally:
        ending: list[asyncio.Future[Any]] = [stopping, *running]
        for loop in ending:
            loop.cancel()
        await asyncio.gather(*ending, return_exceptions=True)

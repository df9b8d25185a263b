"""Every call that a controller's side makes, and what happens to one of them: a fault, or the process's death."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from clearml_k8s.errors import ApiUnanswered, KubeUnanswered, Refused, Unanswered, Unreachable
from flow_parts import Side
from reconcile_loop import Loop

READS = ("get_all", "GET ")
KILLS = ("killed before it", "killed after it", "killed, and it lands late")
FAULTS = (*KILLS, "not sent", "answer lost", "error after it", "lands late")
OF_READS = ("killed before it", "not sent")
"""For a call that changes nothing the others are the same."""

Send = Callable[[], Awaitable[Any]]


Point = tuple[str, tuple[tuple[str, int], ...]]


def _point(name: str) -> Point:
    frame, lines = sys._getframe(1), []
    while frame is not None:
        if f"{os.sep}flow{os.sep}" in frame.f_code.co_filename and "clearml_k8s" in frame.f_code.co_filename:
            lines.append((frame.f_code.co_filename, frame.f_lineno))
        frame = frame.f_back  # type: ignore[assignment]
    return name, tuple(lines)


def first_and_last(points: list[Point]) -> list[int]:
    """The calls to try: of those that are awaited in one place, in rounds or for many tasks, the first and the last."""
    first = {point: at for at, point in reversed(list(enumerate(points)))}
    last = {point: at for at, point in enumerate(points)}
    return sorted({*first.values(), *last.values()})


def reads(name: str) -> bool:
    return any(text in name for text in READS)


class Wire:
    """Between a side and both its servers. Without ``at`` it only writes down the calls."""

    def __init__(self, *, at: int | None = None, fault: str = "") -> None:
        """``at``: to which call, from 0, the fault happens."""
        self.calls: list[str] = []
        self.points: list[Point] = []
        """Of each call: from where in flow/ it is awaited."""
        self.at, self.fault = at, fault
        self.dead = asyncio.Event()
        self.over = False
        """From now on calls pass, and are not written down."""
        self._late: list[Send] = []

    def tap(self, side: Side) -> None:
        post, answer = side.session._transport.post, side.client._transport.answer

        async def posted(endpoint: str, *words: Any, **options: Any) -> Any:
            return await self._pass(endpoint, lambda: post(endpoint, *words, **options), ApiUnanswered, side)

        async def answered(request: Any, **options: Any) -> Any:
            parts = request.path.split("/")
            kind = next(p for p in ("jobs", "configmaps", "pods", "events", "namespaces") if p in parts)
            name = f"{request.method} {kind}" + (" (dry run)" if "dryRun" in request.params else "")
            return await self._pass(name, lambda: answer(request, **options), KubeUnanswered, side)

        side.session._transport.post = posted  # type: ignore[method-assign]
        side.client._transport.answer = answered  # type: ignore[method-assign]

    async def land(self) -> None:
        """What is still on its way lands."""
        while self._late:
            with contextlib.suppress(Refused, Unanswered):
                await self._late.pop()()

    async def live(self, life: Coroutine[Any, Any, None]) -> bool:
        """Run it to its end, or to the death of its process, with all that it began; True when it lived."""
        before = asyncio.all_tasks()
        living = asyncio.create_task(life)
        died = asyncio.create_task(self.dead.wait())
        try:
            async with asyncio.timeout(60):
                await asyncio.wait({living, died}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            died.cancel()
            if self.dead.is_set():
                others = asyncio.all_tasks() - before - {died}
                for task in others:
                    task.cancel()
                await asyncio.wait(others)
        if self.dead.is_set():
            return False
        await living
        return True

    async def _pass(self, name: str, send: Send, unanswered: Any, side: Side) -> Any:
        if self.dead.is_set():
            raise asyncio.CancelledError
        if self.over:
            return await send()
        self.calls.append(name)
        self.points.append(_point(name))
        if len(self.calls) - 1 != self.at:
            return await send()
        if self.fault in ("killed after it", "answer lost", "error after it"):
            with contextlib.suppress(Refused, Unanswered):
                await send()
        if self.fault in ("killed, and it lands late", "lands late"):
            self._late.append(send)
        if self.fault in KILLS:
            self.dead.set()
            await asyncio.Event().wait()
        if self.fault == "not sent":
            raise Unreachable("a server", "http://test", "connection refused")
        raise unanswered(name, "the test", code=500 if self.fault == "error after it" else None)


async def tolerant(side: Side, step: Coroutine[Any, Any, Any]) -> None:
    """As the loops of the process: what fails is done again in the next round."""
    with contextlib.suppress(Refused, Unanswered):
        await step
    await side.session.health.ready()


async def look_at(loop: Loop, task: str) -> None:
    """As a worker does, until there is nothing more to do for the task."""
    for _ in range(40):
        try:
            wait = await loop.look(task)
        except (Refused, Unanswered):
            wait = 1.0
        await loop.side.session.health.ready()
        if wait is None:
            return
        await loop.side.clock.advance(wait + 0.001)
    raise AssertionError("it wants to look again and again")

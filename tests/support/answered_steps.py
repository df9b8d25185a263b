"""Time in small steps, in each of which all that is asked is answered: no socket races the clock."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
from clearml_k8s.clearml.transport import Transport as ClearMLTransport
from clearml_k8s.flow.reads import TaskReads
from clearml_k8s.kube.transport import Transport as KubeTransport
from manual_clock import ManualClock

STEP = 0.1

Call = Callable[..., Coroutine[Any, Any, Any]]


class AnsweredSteps:
    """The requests to both servers that are under way (watches apart), and how many looks at all states have ended."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.looks = 0
        self._under_way = 0
        monkeypatch.setattr(ClearMLTransport, "post", self._counted(ClearMLTransport.post))
        monkeypatch.setattr(KubeTransport, "answer", self._counted(KubeTransport.answer))
        monkeypatch.setattr(TaskReads, "refresh", self._looked(TaskReads.refresh))

    async def step(self, clock: ManualClock) -> None:
        """`STEP` seconds go by. TimeoutError when a request stays without an answer."""
        await clock.advance(STEP)
        async with asyncio.timeout(30):
            while True:
                await asyncio.sleep(0.001)
                await clock.advance(0)
                if not self._under_way:
                    return

    def _counted(self, call: Call) -> Callable[..., Awaitable[Any]]:
        async def wrapped(*words: Any, **named: Any) -> Any:
            self._under_way += 1
            try:
                return await call(*words, **named)
            finally:
                self._under_way -= 1

        return wrapped

    def _looked(self, call: Call) -> Callable[..., Awaitable[Any]]:
        async def wrapped(*words: Any, **named: Any) -> Any:
            try:
                return await call(*words, **named)
            finally:
                self.looks += 1

        return wrapped

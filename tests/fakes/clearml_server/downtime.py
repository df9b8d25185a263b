"""The server being away: connections refused, closed, or answered with 503."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

MODES = ("refuse", "close", "503")


class Downtime:
    """``refuse`` needs the listener to be closed; whoever runs the server sets ``on_change`` for that."""

    def __init__(self) -> None:
        self.mode: str | None = None
        self.on_change: Callable[[bool], Awaitable[None]] | None = None
        self._end: asyncio.Task[None] | None = None

    @property
    def active(self) -> bool:
        return self.mode is not None

    async def begin(self, *, mode: str, seconds: float | None) -> None:
        """Until :meth:`end`, or for ``seconds``."""
        await self.end()
        self.mode = mode
        if mode == "refuse" and self.on_change is not None:
            await self.on_change(False)
        if seconds is not None:
            self._end = asyncio.create_task(self._end_after(seconds))

    async def _end_after(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._end = None
        await self.end()

    async def end(self) -> None:
        if self._end is not None:
            self._end.cancel()
            self._end = None
        mode, self.mode = self.mode, None
        if mode == "refuse" and self.on_change is not None:
            await self.on_change(True)

    def refuse(self, request: web.BaseRequest) -> web.StreamResponse:
        """What a request gets meanwhile (``refuse``: one on a connection that was open before)."""
        if self.mode == "503":
            return web.Response(status=503, text="Service Unavailable")
        if request.transport is not None:
            request.transport.abort()
        return web.Response()

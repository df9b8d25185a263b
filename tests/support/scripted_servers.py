"""Scripted servers on loopback: how they are started and closed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from scripted_clearml import Api
from scripted_kube import Cluster

Scripted = TypeVar("Scripted", Api, Cluster)


async def start(scripted: Api | Cluster, *, port: int = 0) -> None:
    """Listen, on any free port unless it is given: that of a server which was closed, to come back."""
    app = web.Application(client_max_size=8 * 1024 * 1024)
    app.router.add_route("*", "/{tail:.*}", scripted.handle)
    scripted.server = TestServer(app, port=port or None)
    await scripted.server.start_server(shutdown_timeout=0.1)


@asynccontextmanager
async def serving(scripted: Scripted) -> AsyncIterator[Scripted]:
    """It listens; at the end nothing is held back any more, and it is closed."""
    await start(scripted)
    try:
        yield scripted
    finally:
        scripted.release()
        if isinstance(scripted, Cluster):
            scripted.end_watches()
        await scripted.server.close()


async def waiting_for_a_connection(http: ClientSession | None, *, count: int) -> None:
    """Until ``count`` requests of the client wait for one of its connections to be free; at most 5 s."""
    assert http is not None
    connector = http.connector
    assert connector is not None
    async with asyncio.timeout(5):
        while sum(len(waiters) for waiters in connector._waiters.values()) < count:
            await asyncio.sleep(0.001)

"""A development ClearML server for the whole run, and scripted Kubernetes API servers, one a cluster."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from clearml_server.process import DevServer
from flow_parts import Side
from manual_clock import ManualClock
from scripted_kube import Cluster

NewCluster = Callable[[], Awaitable[Cluster]]
NewSide = Callable[..., Awaitable[Side]]


@pytest.fixture(scope="session")
def running_server() -> Iterator[DevServer]:
    with DevServer() as server:
        yield server


@pytest.fixture
def server(running_server: DevServer) -> DevServer:
    """The ClearML server, empty but for the queue `default`."""
    running_server.reset()
    return running_server


@pytest.fixture
async def new_cluster() -> AsyncIterator[NewCluster]:
    """Starts Kubernetes API servers."""
    async with contextlib.AsyncExitStack() as stack:

        async def start() -> Cluster:
            cluster = Cluster()
            app = web.Application(client_max_size=8 * 1024 * 1024)
            app.router.add_route("*", "/{tail:.*}", cluster.handle)
            cluster.server = TestServer(app)
            await cluster.server.start_server(shutdown_timeout=0.1)
            stack.push_async_callback(cluster.server.close)
            stack.callback(cluster.release)
            return cluster

        yield start


@pytest.fixture
async def cluster(new_cluster: NewCluster) -> Cluster:
    return await new_cluster()


@pytest.fixture
async def new_side(server: DevServer) -> AsyncIterator[NewSide]:
    """Starts controllers' claiming sides on the ClearML server."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(cluster: Cluster, **arguments: object) -> Side:
            side = Side(server=server, cluster=cluster, **arguments)  # type: ignore[arg-type]
            stack.push_async_callback(side.close)
            return await side.start()

        yield start


@pytest.fixture
async def side(new_side: NewSide, cluster: Cluster) -> Side:
    """One controller, started."""
    return await new_side(cluster)


@pytest.fixture
def clock() -> ManualClock:
    """A clock whose sleeps return at once."""
    return ManualClock(auto=True)

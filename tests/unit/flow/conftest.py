"""Scripted Kubernetes API servers, the claiming sides and reconciling loops of controllers; the server of `every_*`."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest
from clearml_server.app import Server
from clearml_server.process import DevServer
from clearml_server.settings import Settings
from flow_parts import Side
from reconcile_loop import Loop
from scripted_kube import Cluster
from scripted_servers import serving

NewCluster = Callable[[], Awaitable[Cluster]]
NewSide = Callable[..., Awaitable[Side]]


@pytest.fixture
async def new_cluster() -> AsyncIterator[NewCluster]:
    """Starts Kubernetes API servers."""
    async with contextlib.AsyncExitStack() as stack:

        async def start() -> Cluster:
            return await stack.enter_async_context(serving(Cluster()))

        yield start


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
async def loop(side: Side) -> Loop:
    """What reconciles that controller's tasks."""
    return Loop(side)


@pytest.fixture(scope="module")
def app() -> Server:
    """The development ClearML server, without sockets; each run empties it."""
    return Server(Settings(edition="enterprise", role="admin"))


@pytest.fixture
def quiet() -> Iterator[None]:
    """No warnings of the controller's: a test of thousands of faults has thousands."""
    log = logging.getLogger("clearml_k8s")
    before = log.level
    log.setLevel(logging.ERROR)
    yield
    log.setLevel(before)

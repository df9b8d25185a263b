"""Scripted Kubernetes API servers, one a cluster, and the claiming sides of controllers in them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from clearml_server.process import DevServer
from flow_parts import Side
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

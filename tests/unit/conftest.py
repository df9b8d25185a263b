"""The servers that the controller talks to, scripted or the development server, and the clock that it goes by."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from clearml_k8s import metrics
from clearml_k8s.clearml.session import Session
from clearml_k8s.metrics import Metrics
from clearml_server.process import DevServer
from manual_clock import ManualClock
from scripted_clearml import Api, make_session
from scripted_kube import Cluster
from scripted_servers import serving


@pytest.fixture
def clock() -> ManualClock:
    """A clock whose sleeps return at once."""
    return ManualClock(auto=True)


@pytest.fixture
def meters() -> Metrics:
    return metrics.create()


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    """The scripted ClearML server, running."""
    async with serving(Api()) as api:
        yield api


@pytest.fixture
async def session(api: Api, clock: ManualClock, meters: Metrics) -> AsyncIterator[Session]:
    """A session to the scripted ClearML server, with good credentials."""
    async with make_session(api.url, clock, meters) as session:
        yield session


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    """The scripted Kubernetes API server, running."""
    async with serving(Cluster()) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def running_server() -> Iterator[DevServer]:
    with DevServer() as server:
        yield server


@pytest.fixture
def server(running_server: DevServer) -> DevServer:
    """The development ClearML server, empty but for the queue `default`."""
    running_server.reset()
    return running_server

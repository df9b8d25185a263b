"""The scripted API server and a client to it."""

from random import Random

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from clearml_k8s import metrics
from clearml_k8s.kube.client import KubeClient
from kubernetes.aio.client.configuration import Configuration
from manual_clock import ManualClock
from scripted_kube import Cluster


@pytest.fixture
async def cluster():
    """The server, running."""
    cluster = Cluster()
    app = web.Application(client_max_size=8 * 1024 * 1024)
    app.router.add_route("*", "/{tail:.*}", cluster.handle)
    cluster.server = TestServer(app)
    await cluster.server.start_server(shutdown_timeout=0.1)
    yield cluster
    cluster.release()
    cluster.end_watches()
    await cluster.server.close()


@pytest.fixture
def clock():
    """A clock whose sleeps return at once."""
    return ManualClock(auto=True)


@pytest.fixture
def meters():
    return metrics.create()


@pytest.fixture
async def client(cluster, clock, meters):
    """A client to the server."""
    configuration = Configuration(host=cluster.url)
    async with KubeClient(
        configuration=configuration, clock=clock, namespace="ns", metrics=meters, random=Random(7)
    ) as client:
        yield client

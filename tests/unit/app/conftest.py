"""A development ClearML server, and a kubeconfig to a scripted Kubernetes API server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer
from clearml_server.process import DevServer
from scripted_kube import Cluster


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
async def cluster() -> AsyncIterator[Cluster]:
    cluster = Cluster()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", cluster.handle)
    cluster.server = TestServer(app)
    await cluster.server.start_server(shutdown_timeout=0.1)
    # What stands at a cluster's own level keeps the name of its collection here.
    cluster.objects["namespaces"] = {"ns": {"metadata": {"name": "ns", "uid": "12345678-90ab", "resourceVersion": "1"}}}
    yield cluster
    cluster.release()
    cluster.end_watches()
    await cluster.server.close()


@pytest.fixture
def kubeconfig(cluster: Cluster, tmp_path: Path) -> str:
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": "ns"}}],
        "clusters": [{"name": "c", "cluster": {"server": cluster.url}}],
        "users": [{"name": "u", "user": {}}],
    }
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(document))
    return str(path)

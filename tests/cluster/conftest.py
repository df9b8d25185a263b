"""The real API server with simulated nodes, the development ClearML server, and controllers between them."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
from chaos_counts import until
from chaos_kube import Access, AuditLog, Kube, KubeError, access
from chaos_scene import Scene
from clearml_server.process import DevServer

from ci.cluster.choice import current_chosen
from ci.cluster.errors import ClusterError
from ci.cluster.local import LocalCluster
from ci.paths import checkout_name

KWOK_NODES = 4


@pytest.fixture(scope="session")
def cluster() -> Iterator[LocalCluster]:
    """A cluster of these tests' own, with simulated nodes; what cannot run fails and says why."""
    if current_chosen():
        pytest.skip("switched off by CLUSTER=current: needs simulated nodes and the API server's audit log")
    local = LocalCluster(name=f"{checkout_name()[:26]}-kwok")
    try:
        try:
            local.up()
            local.kwok_up(nodes=KWOK_NODES)
        except ClusterError as error:
            pytest.fail(f"no local cluster: {error}", pytrace=False)
        yield local
    finally:
        local.down()


@pytest.fixture
def cluster_kubeconfig(cluster: LocalCluster) -> Path:
    return cluster.existing().kubeconfig


@pytest.fixture
def kube_access(cluster_kubeconfig: Path) -> Access:
    return access(cluster_kubeconfig)


@pytest.fixture
async def kube(kube_access: Access) -> AsyncIterator[Kube]:
    client = Kube(kube_access)
    yield client
    await client.close()


@pytest.fixture
async def namespaces(kube: Kube) -> AsyncIterator[tuple[str, str]]:
    """Two fresh namespaces in which pods can be made; deleted afterwards."""
    names = (f"chaos-{uuid.uuid4().hex[:8]}-a", f"chaos-{uuid.uuid4().hex[:8]}-b")
    for name in names:
        await kube.request("POST", "/api/v1/namespaces", body={"metadata": {"name": name}})
    for name in names:

        async def has_account(name: str = name) -> bool:
            try:
                await kube.request("GET", f"/api/v1/namespaces/{name}/serviceaccounts/default")
            except KubeError:
                return False
            return True

        await until(has_account, f"the service account of namespace {name}", limit=30)
    yield names
    for name in names:
        try:
            await kube.request("DELETE", f"/api/v1/namespaces/{name}")
        except (KubeError, aiohttp.ClientError, TimeoutError) as error:
            print(f"namespace {name} not deleted: {error}")


@pytest.fixture
def audit(cluster: LocalCluster, namespaces: tuple[str, str]) -> AuditLog:
    """What the API server stored in the test's namespaces, from now on."""
    return AuditLog(cluster.existing().audit_log, namespaces=namespaces)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[DevServer]:
    with DevServer(host="127.0.0.1", log=tmp_path / "clearml-server.log") as running:
        yield running


@pytest.fixture
def scene(
    kube: Kube,
    kube_access: Access,
    cluster_kubeconfig: Path,
    namespaces: tuple[str, str],
    audit: AuditLog,
    server: DevServer,
    tmp_path: Path,
) -> Scene:
    """All that a chaos test stands on."""
    return Scene(
        kube=kube,
        access=kube_access,
        kubeconfig=cluster_kubeconfig,
        namespaces=namespaces,
        audit=audit,
        server=server,
        folder=tmp_path,
    )


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    if report.when == "call" and report.failed and "tmp_path" in getattr(item, "funcargs", {}):
        for log in sorted(item.funcargs["tmp_path"].glob("*.log")):  # type: ignore[attr-defined]
            lines = log.read_text(errors="replace").splitlines()
            report.sections.append((f"{log} (last of {len(lines)} lines)", "\n".join(lines[-150:])))
    return report

"""The Orchestration Dashboard of an Enterprise server, as nodes of a real API server come, change and go.

The values are those of ClearML's documentation, rendered by the chart; reports are as the server got them, as literals.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from chaos_controller import ControllerProcess
from chaos_counts import until
from chaos_kube import Kube
from chaos_scene import Scene
from chart_render import CREDENTIALS, merged, render
from clearml_server.process import DevServer

RELEASE = "dash"
LIMIT = 60
AT_ONE_TIME = 50
PAGE = """
agentk8sglue:
  # Cluster access is required for GPU discovery
  serviceAccountClusterAccess: true

  orchestrationDashboard:
    # Enable periodic reporting to the Orchestration Dashboard
    reportType: "global"
    reportSeconds: 600
    # Overrides GPU discovery
    reportMaxGpu: 0
    # Enable GPU discovery
    discovery:
      enabled: true
      baseSelector: "kubernetes.io/os=linux,nvidia.com/gpu.present=true"
      nodeSelector: ""  # Optional: further restrict discovery
      gpuCountSelector: "nvidia.com/gpu.count"
"""
FIXED = """
agentk8sglue:
  orchestrationDashboard:
    # -- Agent reporting to Dashboard max GPU available. This will report 2 GPUs.
    reportMaxGpu: 2
"""
DISCOVERY = """
agentk8sglue:
  # Cluster access is required for GPU discovery
  serviceAccountClusterAccess: true

  orchestrationDashboard:
    discovery:
      enabled: true
      baseSelector: "kubernetes.io/os=linux,nvidia.com/gpu.present=true"
      nodeSelector: ""  # Optional: further restrict discovery
      gpuCountSelector: "nvidia.com/gpu.count"
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[DevServer]:
    with DevServer(host="127.0.0.1", edition="enterprise", log=tmp_path / "clearml-server.log") as running:
        yield running


class Machines:
    """Nodes that the test makes and changes; they go with it."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._names: list[str] = []

    async def add(
        self, name: str, *, gpus: str | None, cpus: str = "16", offers: dict[str, str] | None = None, **labels: str
    ) -> None:
        """A node that kwok keeps ready; ``gpus``: its label, as NVIDIA's discovery writes it."""
        found = {"kubernetes.io/os": "linux", "made-for": "dashboard", **labels}
        if gpus is not None:
            found |= {"nvidia.com/gpu.present": "true", "nvidia.com/gpu.count": gpus}
        amounts = {"cpu": cpus, "memory": "64Gi", "pods": "10", **(offers or {})}
        body = {
            "metadata": {"name": name, "labels": found, "annotations": {"kwok.x-k8s.io/node": "fake"}},
            "spec": {"taints": [{"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"}]},
            "status": {"capacity": amounts, "allocatable": amounts},
        }
        self._names.append(name)
        await self._kube.request("POST", "/api/v1/nodes", body=body)

    async def change(self, name: str, **parts: Any) -> None:
        await self._kube.request("PATCH", f"/api/v1/nodes/{name}", body=parts, kind="application/merge-patch+json")

    async def remove(self, name: str) -> None:
        self._names.remove(name)
        await self._kube.request("DELETE", f"/api/v1/nodes/{name}")

    async def close(self) -> None:
        while self._names:
            await asyncio.gather(*(self.remove(name) for name in self._names[:AT_ONE_TIME]))


@pytest.fixture
async def machines(kube: Kube) -> AsyncIterator[Machines]:
    found = Machines(kube)
    yield found
    await found.close()


def controller(scene: Scene, values: str, **changes: Any) -> ControllerProcess:
    """The release of these values, as the chart renders its config; ``changes``: of the dashboard's settings."""
    given = merged(CREDENTIALS, yaml.safe_load(values), {"agentk8sglue": {"orchestrationDashboard": changes}})
    config = render("helm4", given).config
    keys = ("clusterAccess", "orchestrationDashboard", "statusReportFrequencySeconds", "taskWorkerId", "workerId")
    return scene.controller(RELEASE, limits={"alpha": 5, "": None}, **{key: config[key] for key in keys})


def reports(scene: Scene, key: str = "k8s") -> list[dict[str, Any]]:
    """What the server holds of the category, without times and the worker, which depend on the run."""
    return [
        {name: value for name, value in report.items() if name not in ("timestamp", "received", "worker")}
        for report in scene.server.cluster_reports().get(key, {}).values()
    ]


async def reported(scene: Scene, *, gpus: int, cpus: int = 0) -> dict[str, Any]:
    """The one report, once it has these numbers."""

    def numbers() -> list[tuple[int, int]]:
        return [(one["properties"]["max_gpus"], one["properties"]["max_cpus"]) for one in reports(scene)]

    await until(lambda: numbers() == [(gpus, cpus)], lambda: f"{gpus} GPUs, {cpus} CPUs: {numbers()}", limit=LIMIT)
    return reports(scene)[0]


@pytest.mark.parametrize(("kind", "partial"), [("global", False), ("aggregate", True)])
async def test_reports_follow_the_nodes(scene: Scene, machines: Machines, kind: str, partial: bool) -> None:
    await machines.add("a100-1", gpus="8", cpus="128", pool="a100", offers={"nvidia.com/gpu": "8"})
    await machines.add("a100-2", gpus="8", cpus="128", pool="a100", offers={"nvidia.com/gpu": "8"})
    await machines.add("t4-shared", gpus="2", pool="t4", offers={"nvidia.com/gpu": "8"})
    await machines.add("mig-mixed", gpus="1", pool="mig", offers={"nvidia.com/mig-1g.5gb": "7"})
    await machines.add("cpu-only", gpus=None, cpus="32")
    cpu = {"discovery": {"enabled": True, "nodeSelector": "made-for=dashboard,pool!=a100"}}
    async with controller(scene, PAGE, reportType=kind, reportSeconds=1, cpu=cpu) as process:
        worker = f"k8s:clearml-agent-{RELEASE}"
        assert await reported(scene, gpus=19, cpus=64) == {
            "partial": partial,
            "key": "k8s",
            "timeout": 2,
            "resource_groups": [await group(scene)],
            "properties": {"max_gpus": 19, "max_cpus": 64, "max_workers": 5},
        }
        (found,) = scene.server.cluster_reports()["k8s"]
        assert found.startswith(worker)
        await machines.add("h100-1", gpus="4", cpus="64", pool="h100")
        await reported(scene, gpus=23, cpus=128)
        await machines.change("a100-2", metadata={"labels": {"nvidia.com/gpu.present": "false"}})
        await reported(scene, gpus=15, cpus=128)
        await machines.change("h100-1", metadata={"labels": {"nvidia.com/gpu.count": "3", "pool": "a100"}})
        await reported(scene, gpus=14, cpus=64)
        # Cordoned, and counted all the same.
        await machines.change("a100-1", spec={"unschedulable": True})
        await machines.change("mig-mixed", metadata={"labels": {"nvidia.com/gpu.count": "many"}})
        await reported(scene, gpus=13, cpus=64)
        assert "node mig-mixed: label nvidia.com/gpu.count: found 'many'" in process.log.read_text()
        await machines.remove("t4-shared")
        await reported(scene, gpus=11, cpus=48)
        assert await process.stop() == 0
        # A share is taken back by a last report of nothing, which the server forgets after a second.
        await until(lambda: scene.server.cluster_reports() == {}, "it is taken back", limit=LIMIT)


async def group(scene: Scene) -> str:
    namespace = await scene.kube.request("GET", f"/api/v1/namespaces/{scene.namespaces[0]}")
    return f"k8s:clearml-agent-{RELEASE}-{namespace['metadata']['uid'].replace('-', '')[:8]}"


async def test_no_report_without_a_type(scene: Scene, machines: Machines) -> None:
    await machines.add("a100-1", gpus="8")
    async with controller(scene, DISCOVERY, reportSeconds=1) as process:
        await until(lambda: bool(workers(scene)), "it is on the Workers page", limit=LIMIT)
        task = scene.server.create_task(queue="alpha")
        await until(lambda: f"task={task}" in process.log.read_text(), "it serves", limit=LIMIT)
        assert await process.stop() == 0
    assert scene.server.calls(endpoint="workers.cluster_") == []


async def test_a_fixed_number_takes_the_place_of_discovery(scene: Scene, machines: Machines) -> None:
    await machines.add("a100-1", gpus="8")
    async with controller(scene, FIXED, reportType="global", reportSeconds=1):
        await reported(scene, gpus=2)
    both = yaml.safe_dump(merged(yaml.safe_load(PAGE), yaml.safe_load(FIXED)))
    async with controller(scene, both, reportSeconds=1):
        await reported(scene, gpus=2)


async def test_the_node_selector_narrows_discovery(scene: Scene, machines: Machines) -> None:
    await machines.add("a100-1", gpus="8", nodepool="gpu-a100")
    await machines.add("h100-1", gpus="4", nodepool="gpu-h100")
    values = PAGE.replace('nodeSelector: ""', 'nodeSelector: "nodepool=gpu-a100"')
    async with controller(scene, values, reportSeconds=1):
        await reported(scene, gpus=8)
    values = PAGE.replace('gpuCountSelector: "nvidia.com/gpu.count"', 'gpuCountSelector: "other,nvidia.com/gpu.count"')
    await machines.change("h100-1", metadata={"labels": {"other": "100"}})
    async with controller(scene, values, reportSeconds=1):
        await reported(scene, gpus=108)


async def test_the_interval_is_that_of_the_page(scene: Scene, machines: Machines) -> None:
    await machines.add("a100-1", gpus="8")
    async with controller(scene, PAGE):
        assert (await reported(scene, gpus=8))["timeout"] == 1200


async def test_the_cpus_of_a_namespaces_quota(scene: Scene) -> None:
    body = {"metadata": {"name": "few"}, "spec": {"hard": {"limits.cpu": "24", "requests.cpu": "12500m"}}}
    path = f"/api/v1/namespaces/{scene.namespaces[1]}/resourcequotas"
    await scene.kube.request("POST", path, body=body)
    values = yaml.safe_dump({"agentk8sglue": {"serviceAccountClusterAccess": True}})
    cpu = {"reportNamespaced": True, "reportNamespaceOverride": scene.namespaces[1]}
    async with controller(scene, values, reportType="aggregate", reportSeconds=1, cpu=cpu):
        await reported(scene, gpus=0, cpus=12)
        await scene.kube.request("DELETE", f"{path}/few")
        await reported(scene, gpus=0, cpus=0)


def workers(scene: Scene) -> dict[str, list[str]]:
    found = scene.server.call("workers.get_all")["workers"]
    return {worker["id"]: [queue["name"] for queue in worker["queues"]] for worker in found}


async def test_the_controller_is_on_the_workers_page(scene: Scene) -> None:
    scene.server.create_queue("alpha")
    async with AsyncExitStack() as stack:
        process = await stack.enter_async_context(scene.controller(RELEASE, limits={"alpha": 1}))
        name = (await group(scene)).removeprefix("k8s:")
        await until(lambda: workers(scene) == {name: ["alpha"]}, lambda: f"{name}: {workers(scene)}", limit=LIMIT)
        assert await process.stop() == 0
    assert workers(scene) == {}


async def body(scene: Scene, *, gpus: int, partial: bool) -> dict[str, Any]:
    return {
        "partial": partial,
        "key": "k8s",
        "timeout": 2,
        "resource_groups": [await group(scene)],
        "properties": {"max_gpus": gpus, "max_cpus": 0, "max_workers": 5},
    }


async def busy_seconds(scene: Scene, process: ControllerProcess, *, reports: int) -> float:
    """CPU time of the process while the server gets so many reports, and nobody changes a node."""
    began, last = process.cpu_seconds(), scene.server.last_call()

    def got() -> bool:
        return len(scene.server.calls(endpoint="workers.cluster_report", since=last)) >= reports

    await until(got, f"{reports} reports", limit=LIMIT + reports)
    return round(process.cpu_seconds() - began, 2)


@pytest.mark.long
async def test_five_thousand_nodes_cost_little(scene: Scene, machines: Machines) -> None:
    """Memory beside that of the same controller without them."""
    kinds = [("a100", "8"), ("h100", "4"), ("t4", "1"), ("cpu", None)]
    resident: dict[int, int] = {}
    busy: dict[int, float] = {}
    made: list[str] = []
    for count in (0, 5000):
        for first in range(len(made), count, AT_ONE_TIME):
            names = [f"big-{number:05}" for number in range(first, min(first + AT_ONE_TIME, count))]
            await asyncio.gather(
                *(
                    machines.add(name, gpus=kinds[int(name[4:]) % 4][1], pool=kinds[int(name[4:]) % 4][0])
                    for name in names
                )
            )
            made += names
        async with controller(scene, PAGE, reportSeconds=1) as process:
            await reported(scene, gpus=count // 4 * 13)
            resident[count] = process.resident_kib()
            busy[count] = await busy_seconds(scene, process, reports=20)
            if count:
                for name in made[:100]:
                    await machines.remove(name)
                await reported(scene, gpus=(count - 100) // 4 * 13)
                await machines.change(made[-4], metadata={"labels": {"nvidia.com/gpu.present": "false"}})
                await reported(scene, gpus=15917)
                await machines.add("big-more", gpus="16")
                assert await reported(scene, gpus=15933) == await body(scene, gpus=15933, partial=False)
    async with controller(scene, PAGE, reportType="aggregate", reportSeconds=1):
        # The report of the life before has the same numbers.
        wanted = await body(scene, gpus=15933, partial=True)
        await until(lambda: reports(scene) == [wanted], lambda: f"{wanted}: {reports(scene)}", limit=LIMIT)
    before = scene.server.last_call()
    async with controller(scene, DISCOVERY, reportType="disabled", reportSeconds=1) as process:
        await until(lambda: "served" in process.log.read_text(), "it serves", limit=LIMIT)
        await until(lambda: bool(workers(scene)), "it is on the Workers page", limit=LIMIT)
    assert scene.server.calls(endpoint="workers.cluster_report", since=before) == []
    more = (resident[5000] - resident[0]) / 1024
    print(json.dumps({"MiB more with 5,000 nodes": round(more, 1), "CPU seconds of 20 reports, by nodes": busy}))
    assert more < 30, f"{more:.1f} MiB more with 5,000 nodes"

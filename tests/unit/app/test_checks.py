"""The lines of `clearml-k8s check`, with everything well and with each thing wrong."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import pytest
from clearml_k8s.app.checks import check
from clearml_k8s.clearml.keys import Credentials
from clearml_k8s.config import ClearMLConfig, Config, QueueConfig, QueueSettings, SecretKey
from clearml_k8s.config.conditions import ConditionalTemplate
from clearml_k8s.config.dashboard import DashboardConfig, GpuDiscovery
from clearml_k8s.config.kueue import KueueConfig
from clearml_server.process import DevServer
from flow_parts import make_config
from scripted_kube import Cluster, Fault, status

SECRET = "not-the-secret-of-this-server"


async def lines(
    config: Config,
    kubeconfig: str,
    server: DevServer | None,
    *,
    secret: str | None = None,
    conf: Path | None = None,
) -> tuple[int, list[str]]:
    credentials = None
    if server is not None:
        credentials = Credentials(
            access_key=server.access_key, secret_key=secret or server.secret_key, source="the environment"
        )
    out = io.StringIO()
    code = await check(config, credentials=credentials, kubeconfig=kubeconfig, context=None, out=out, conf_file=conf)
    return code, out.getvalue().splitlines()


def starting(found: list[str], text: str) -> str:
    (line,) = [line for line in found if line.startswith(text)]
    return line


@pytest.fixture
def config(server: DevServer) -> Config:
    return make_config(api_server=server.url)


def allow_all(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripted server denies `delete` by itself."""
    answer = cluster._answer

    def allowing(seen: Any) -> tuple[int, Any]:
        code, body = answer(seen)
        if "selfsubjectaccessreviews" in seen.path:
            body["status"]["allowed"] = True
        return code, body

    monkeypatch.setattr(cluster, "_answer", allowing)


async def test_all_well(
    config: Config, server: DevServer, cluster: Cluster, kubeconfig: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow_all(cluster, monkeypatch)
    code, found = await lines(config, kubeconfig, server)
    assert code == 0
    assert found[0] == "ok    configuration: 1 queue(s): default"
    assert "API 2.34, feature set basic" in starting(found, "ok    ClearML server")
    assert server.queue_id("default") in starting(found, "ok    queue default: found")
    assert starting(found, "ok    Kubernetes API").endswith("namespace ns, worker id clearml-agent-gpu-12345678")
    assert starting(found, "ok    permissions")
    assert starting(found, "ok    template of queue default")
    assert starting(found, "ok    pod of queue default")
    assert found[-1] == "all well"
    # Nothing stays of it.
    assert cluster.objects.get("jobs", {}) == cluster.objects.get("pods", {}) == {}


@pytest.mark.parametrize(
    ("versions", "line"),
    [
        (None, "FAIL  Kueue is not installed in this cluster: install it, or leave kueue.queueName out"),
        ((), "FAIL  this cluster's Kueue serves its API in no version, expected v1beta2 or v1beta1: upgrade it"),
        (("v1alpha2",), "FAIL  this cluster's Kueue serves its API in v1alpha2, expected"),
        (("v1beta1", "v1beta2"), "ok    Kueue: kueue.x-k8s.io/v1beta2; LocalQueues by queue: default -> team"),
    ],
)
async def test_kueue(
    server: DevServer,
    cluster: Cluster,
    kubeconfig: str,
    monkeypatch: pytest.MonkeyPatch,
    versions: tuple[str, ...] | None,
    line: str,
) -> None:
    allow_all(cluster, monkeypatch)
    if versions is not None:
        cluster.groups["kueue.x-k8s.io"] = versions
    settings = QueueSettings(kueue=KueueConfig(queue_name="team"))
    config = make_config(api_server=server.url, queues={"default": QueueConfig(name="default", settings=settings)})
    code, found = await lines(config, kubeconfig, None)
    assert starting(found, line)
    assert code == (0 if line.startswith("ok") else 1)
    asked = [seen.body["spec"]["resourceAttributes"] for seen in cluster.of("POST", "selfsubjectaccessreviews")]
    verbs = {one["verb"] for one in asked if (one["group"], one["resource"]) == ("kueue.x-k8s.io", "workloads")}
    assert verbs == {"list", "watch"}


async def test_without_the_server(config: Config, server: DevServer, cluster: Cluster, kubeconfig: str) -> None:
    before = server.last_call()
    _, found = await lines(config, kubeconfig, None)
    assert starting(found, "note  ClearML server: not asked")
    assert server.last_call() == before


async def test_wrong_credentials(config: Config, server: DevServer, cluster: Cluster, kubeconfig: str) -> None:
    code, found = await lines(config, kubeconfig, server, secret=SECRET)
    line = starting(found, "FAIL  ClearML server")
    assert code == 1
    assert "refuses the credentials" in line
    assert "from the environment" in line
    assert "clearml.agentk8sglueKey" in line
    assert SECRET not in "".join(found)
    assert not any("queue default: " in one and "template" not in one and "pod" not in one for one in found)


async def test_a_server_that_is_not_there(kubeconfig: str, server: DevServer, unused_tcp_port: int) -> None:
    config = make_config(api_server=f"http://127.0.0.1:{unused_tcp_port}")
    code, found = await lines(config, kubeconfig, server)
    assert code == 1
    assert "agentk8sglue.apiServerUrlReference" in starting(found, "FAIL  ClearML API")


@pytest.mark.parametrize(("create", "start"), [(False, "FAIL  queue missing"), (True, "note  queue missing")])
async def test_a_queue_that_is_not_there(
    config: Config, server: DevServer, cluster: Cluster, kubeconfig: str, create: bool, start: str
) -> None:
    config = make_config(api_server=server.url, queues={"missing": QueueConfig(name="missing")}, create_queues=create)
    _, found = await lines(config, kubeconfig, server)
    assert starting(found, start)
    assert server.call("queues.get_all", name="^missing$")["queues"] == []


async def test_a_permission_that_is_missing(config: Config, cluster: Cluster, kubeconfig: str) -> None:
    code, found = await lines(config, kubeconfig, None)
    assert code == 1
    assert starting(found, "FAIL  permission").endswith("this account may not delete jobs.batch in namespace ns")


async def test_a_namespace_that_is_not_there(config: Config, cluster: Cluster, kubeconfig: str) -> None:
    cluster.objects["namespaces"].clear()
    code, found = await lines(config, kubeconfig, None)
    assert code == 1
    assert "namespace 'ns' does not exist" in starting(found, "FAIL  Kubernetes API")
    assert found[-1] == "1 problem(s) found"


async def test_a_template_that_is_refused(config: Config, cluster: Cluster, kubeconfig: str) -> None:
    refused = Fault(code=422, status=status(422, "Invalid", "spec.template: bad"))
    cluster.fault("POST", refused, path="jobs")
    _, found = await lines(config, kubeconfig, None)
    line = starting(found, "FAIL  template of queue default")
    assert "agentk8sglue.queues.default.templateOverrides" in line
    assert "bad" in line


async def test_each_conditional_template_is_tried(config: Config, cluster: Cluster, kubeconfig: str) -> None:
    one = ConditionalTemplate(when={"type": "a"}, template={"nonsense": 1}, place="the first")
    two = dataclasses.replace(one, template={"nodeName": "n"}, place="the second")
    config = dataclasses.replace(config, conditional_templates=(one, two))
    code, found = await lines(config, kubeconfig, None)
    assert code == 1
    assert starting(found, "ok    template of queue default: Kubernetes takes the Job")
    assert "the key nonsense is not known" in starting(found, "FAIL  template of queue default with the first: ")
    assert starting(found, "ok    template of queue default with the second: Kubernetes takes the Job")


async def test_the_rules_of_clearml_conf(config: Config, kubeconfig: str, tmp_path: Path, cluster: Cluster) -> None:
    file = tmp_path / "clearml.conf"
    _, found = await lines(config, kubeconfig, None)
    assert not [line for line in found if "clearml.conf" in line]
    file.write_text('agent.default_docker { image: "a:1", match_rules: [{image: "b:1", match.tags: x}] }')
    _, found = await lines(config, kubeconfig, None, conf=file)
    assert "ok    clearml.conf: agent.default_docker: 1 rule(s), image a:1" in found
    file.write_text('agent.default_docker { image: "CANARY/A", match_rules: [{match.tags: "("}] }')
    code, found = await lines(config, kubeconfig, None, conf=file)
    assert code == 1
    assert len([line for line in found if line.startswith(f"FAIL  clearml.conf: {file}: agent.default_docker")]) == 2
    assert "CANARY" not in "".join(found)


async def test_a_pod_that_is_refused(config: Config, cluster: Cluster, kubeconfig: str) -> None:
    refused = Fault(code=403, status=status(403, "Forbidden", "violates PodSecurity"))
    cluster.fault("POST", refused, path="/pods")
    _, found = await lines(config, kubeconfig, None)
    assert "violates PodSecurity" in starting(found, "FAIL  pod of queue default")


async def test_another_one_of_the_worker_id_is_named(
    config: Config, server: DevServer, cluster: Cluster, kubeconfig: str
) -> None:
    config = dataclasses.replace(config, worker_id="lab")
    _, found = await lines(config, kubeconfig, server)
    assert starting(found, "ok    worker id lab: no task of another one")
    task = server.create_task(queue="default")
    server.call("workers.status_report", worker=f"lab:{task}", task=task, timestamp=1)
    code, found = await lines(config, kubeconfig, server)
    assert code == 1
    line = starting(found, "FAIL  worker id 'lab' is also that of an agent that is none of this chart's")
    assert task in line
    assert "agentk8sglue.workerIdOverride" in line


# ---- nodes ----------------------------------------------------------------------------------------------------------


def gpu_node(cluster: Cluster, name: str, gpus: str = "8") -> None:
    labels = {"kubernetes.io/os": "linux", "nvidia.com/gpu.present": "true", "nvidia.com/gpu.count": gpus}
    cluster.put(
        "nodes",
        name,
        metadata={"labels": labels},
        status={"allocatable": {"nvidia.com/gpu": gpus}, "conditions": [{"type": "Ready", "status": "True"}]},
    )


def asking(config: Config, **limits: Any) -> Config:
    queue = QueueConfig(name="default", template_overrides={"resources": {"limits": limits}})
    return dataclasses.replace(config, queues={"default": queue}, cluster_access=True)


async def test_a_queue_that_asks_for_what_no_node_has_is_named(
    config: Config, server: DevServer, cluster: Cluster, kubeconfig: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow_all(cluster, monkeypatch)
    code, found = await lines(asking(config, **{"nvidia.com/gpu": 1}), kubeconfig, server)
    assert code == 0
    line = starting(found, "note  queue default: asks for nvidia.com/gpu: 1, which no node of the cluster has")
    assert "operator or device plugin" in line
    for name in ("a", "b"):
        gpu_node(cluster, name)
    _, found = await lines(asking(config, **{"nvidia.com/gpu": 8}), kubeconfig, server)
    assert not [line for line in found if "asks for" in line]
    _, found = await lines(asking(config, **{"nvidia.com/gpu": 9}), kubeconfig, server)
    starting(
        found, "note  queue default: asks for nvidia.com/gpu: 9 in one pod, and no node of the cluster has more than 8"
    )
    # Without access to nodes nothing is asked.
    before = len(cluster.seen)
    _, found = await lines(config, kubeconfig, server)
    assert not [seen for seen in cluster.seen[before:] if "nodes" in seen.path]


async def test_what_discovery_finds_is_shown(
    config: Config, server: DevServer, cluster: Cluster, kubeconfig: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow_all(cluster, monkeypatch)
    dashboard = DashboardConfig(report_type="global", gpu_discovery=GpuDiscovery(enabled=True))
    config = dataclasses.replace(config, cluster_access=True, dashboard=dashboard)
    _, found = await lines(config, kubeconfig, server)
    assert starting(found, "note  nodes: discovery finds no GPUs").endswith("nvidia.com/gpu.count)")
    gpu_node(cluster, "a", "4")
    _, found = await lines(config, kubeconfig, server)
    assert starting(found, "ok    nodes: ") == "ok    nodes: 1 nodes; 4 GPUs on 1 nodes"


async def test_permissions_of_features_are_asked_for(
    config: Config, server: DevServer, cluster: Cluster, kubeconfig: str
) -> None:
    def asked() -> set[tuple[str, str, str | None]]:
        bodies: list[Any] = [seen.body for seen in cluster.of("POST", "selfsubjectaccessreviews")]
        found = [body["spec"]["resourceAttributes"] for body in bodies]
        return {(one["resource"], one["verb"], one.get("namespace")) for one in found}

    await lines(config, kubeconfig, server)
    base = asked()
    dashboard = DashboardConfig(cpu_namespace="other")
    await lines(dataclasses.replace(config, cluster_access=True, dashboard=dashboard), kubeconfig, server)
    assert asked() - base == {("nodes", "list", None), ("nodes", "watch", None), ("resourcequotas", "list", "other")}


async def test_nodes_that_cannot_be_listed(
    config: Config, server: DevServer, cluster: Cluster, kubeconfig: str
) -> None:
    cluster.fault("GET", Fault(code=403, status=status(403, "Forbidden", "nodes is forbidden")), path="/nodes")
    code, found = await lines(dataclasses.replace(config, cluster_access=True), kubeconfig, server)
    assert code == 1
    assert "403" in starting(found, "FAIL  nodes cannot be listed: ")


OWNERS = ClearMLConfig(api_server="", config_secret=SecretKey(name="conf", key="clearml.conf"))


def as_owners(config: Config) -> Config:
    clearml = dataclasses.replace(OWNERS, api_server=config.clearml.api_server)
    return dataclasses.replace(config, clearml=clearml)


async def test_owner_tokens_of_a_server_that_has_none(
    config: Config, server: DevServer, cluster: Cluster, kubeconfig: str, tmp_path: Path
) -> None:
    conf = tmp_path / "clearml.conf"
    conf.write_text("api.credentials { access_key: c4n4ry }")
    code, found = await lines(as_owners(config), kubeconfig, server, conf=conf)
    assert code == 1
    line = starting(found, "FAIL  owner tokens")
    assert "this one's feature set is basic: leave agentk8sglue.useOwnerToken out" in line
    assert "clearml.taskCredentials" in line
    assert "take them out of it" in starting(found, "FAIL  clearml.conf")
    assert "c4n4ry" not in str(found)


async def test_the_right_to_make_secrets_is_asked_for_with_owner_tokens_alone(
    config: Config, server: DevServer, cluster: Cluster, kubeconfig: str
) -> None:
    await lines(config, kubeconfig, server)
    asked = [seen.body["spec"]["resourceAttributes"] for seen in cluster.of("POST", "selfsubjectaccessreviews")]
    assert not [a for a in asked if a["resource"] == "secrets"]
    await lines(as_owners(config), kubeconfig, server)
    asked = [seen.body["spec"]["resourceAttributes"] for seen in cluster.of("POST", "selfsubjectaccessreviews")]
    assert [a["verb"] for a in asked if a["resource"] == "secrets"] == ["create"]

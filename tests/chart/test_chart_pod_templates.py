"""Keys of basePodTemplate and templateOverrides reach the controller's config as they are; empty ones do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from chart_job import job_of, mounted_files
from chart_render import CHART, FULLNAME, Rendered, load_yaml, strings

Render = Callable[..., Rendered]

PARTS: dict[str, Any] = {
    "labels": {"team": "ml", "billing-monitored": "true"},
    "annotations": {"clearml-injector/fraction": "0.500"},
    "initContainers": [{"name": "wait", "image": "busybox", "command": ["true"], "resources": {"limits": {"cpu": 1}}}],
    "schedulerName": "volcano",
    "volumes": [{"name": "data", "nfs": {"server": "nfs.local", "path": "/data"}}],
    "volumeMounts": [{"name": "data", "mountPath": "/data", "readOnly": True}],
    "extraVolumes": [{"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "8Gi"}}],
    "extraVolumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}],
    "env": [
        {"name": "A", "value": "1"},
        {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        {"name": "C", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": 1}}},
    ],
    "resources": {"limits": {"nvidia.com/gpu": 1, "cpu": 0.5, "memory": "16Gi"}, "requests": {"nvidia.com/gpu": "1"}},
    "priorityClassName": "high",
    "nodeSelector": {"nvidia.com/gpu.present": "true"},
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "tolerationSeconds": 0}],
    "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 1, "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname"}}]}},
    "podSecurityContext": {"runAsUser": 0, "fsGroup": 100},
    "containerSecurityContext": {"privileged": False, "capabilities": {"add": ["IPC_LOCK"]}},
    "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["clearml.local"]}],
    "runtimeClassName": "nvidia",
    "serviceAccountName": "s3-reader",
    "terminationGracePeriodSeconds": 0,
    "activeDeadlineSeconds": 2000000,
    "topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {"matchLabels": {"a": "b"}}}],
    "dnsPolicy": "None",
    "dnsConfig": {"nameservers": ["10.0.0.2"], "options": [{"name": "ndots", "value": "2"}]},
    "imagePullPolicy": "Always",
    "nodeName": "node-7",
    "hostNetwork": True,
    "hostPID": False,
    "hostIPC": True,
    "shareProcessNamespace": False,
    "podSpec": {"hostUsers": False, "containers": [{"name": "task", "envFrom": [{"secretRef": {"name": "s"}}]}]},
}  # fmt: skip
PLACES: dict[str, Callable[[Any], dict[str, Any]]] = {
    "base": lambda part: {"agentk8sglue": {"basePodTemplate": part}},
    "override": lambda part: {"agentk8sglue": {"queues": {"gpu": {"templateOverrides": part}}}},
}


def template(rendered: Rendered, place: str) -> Any:
    config = rendered.config
    return config["basePodTemplate"] if place == "base" else config["queues"]["gpu"]["templateOverrides"]


def test_every_key_is_tried() -> None:
    below = {"fileMounts"}
    assert set(PARTS) | below == set(load_yaml(CHART / "values.yaml")["agentk8sglue"]["basePodTemplate"])


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("key", PARTS)
def test_one_key(render: Render, place: str, key: str) -> None:
    assert template(render(PLACES[place]({key: PARTS[key]})), place) == {key: PARTS[key]}
    other = "override" if place == "base" else "base"
    if place == "override":
        assert template(render(PLACES[place]({key: PARTS[key]})), other) == {}


@pytest.mark.parametrize("place", PLACES)
def test_all_keys(render: Render, place: str) -> None:
    assert template(render(PLACES[place](PARTS)), place) == PARTS


@pytest.mark.parametrize("place", PLACES)
def test_what_means_unset_is_left_out(render: Render, place: str) -> None:
    unset: dict[str, Any] = {key: ({} if isinstance(part, dict) else [] if isinstance(part, list) else None if isinstance(part, int) else "")
             for key, part in PARTS.items()}  # fmt: skip
    assert template(render(PLACES[place](unset)), place) == {}
    assert template(render(PLACES[place](dict.fromkeys(PARTS))), place) == {}


@pytest.mark.parametrize("share", ["0.5", 0.5, 1])
def test_the_share_of_a_gpu_as_clearmls_documentation_writes_it(render: Render, share: Any) -> None:
    limits = {"nvidia.com/gpu": 1, "clear.ml/fraction-1": share}
    labels = {"required-resources": "0.5", "clearml-injector/fraction": "0.500"}
    job = job_of(render(PLACES["override"]({"labels": labels, "resources": {"limits": limits}})), "gpu")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["resources"] == {"limits": {"nvidia.com/gpu": 1}}
    assert labels.items() <= job["spec"]["template"]["metadata"]["labels"].items()
    assert job["spec"]["template"]["metadata"]["annotations"]["clearml-k8s.io/gpus"] == str(share)


def test_task_pods_do_not_get_the_controllers_settings(render: Render) -> None:
    rendered = render({"agentk8sglue": {"nodeSelector": {"pool": "infra"}, "extraEnvs": [{"name": "A", "value": "b"}]}})
    assert rendered.config["basePodTemplate"] == {}
    rendered = render(PLACES["base"]({"nodeSelector": {"pool": "gpu"}, "env": [{"name": "A", "value": "b"}]}))
    assert "nodeSelector" not in rendered.spec
    assert "A" not in {item["name"] for item in rendered.container["env"]}


def file(path: str, content: str) -> dict[str, str]:
    folder, _, name = path.rpartition("/")
    return {"name": name, "folderPath": folder or "/", "fileContent": content}


def task_files(rendered: Rendered, queue: str) -> dict[str, str]:
    return mounted_files(rendered, job_of(rendered, queue)["spec"]["template"]["spec"])


def task_secrets(rendered: Rendered) -> set[str]:
    return {name for kind, name in rendered.names() if kind == "Secret" and name.endswith("-fm")}


#: Names that look alike once they are part of an object's name, one that looks like the whole base, one that is long.
QUEUES = ["gpu", "GPU", "g p u", "g-p-u", "ü", "-", "q" * 300]


def test_files_of_task_pods(render: Render) -> None:
    """A queue's files replace those of all; each file is what was written, whatever the queue is called."""
    base = [file("/etc/pip.conf", "CONTENT-base"), file("/opt/x/a b", "")]
    values: dict[str, Any] = {
        "basePodTemplate": {"fileMounts": base},
        "queues": {
            "plain": {},
            "unset": {"templateOverrides": {"fileMounts": []}},
            **{name: {"templateOverrides": {"fileMounts": [file("/f", f"CONTENT-{name}")]}} for name in QUEUES},
        },
    }
    rendered = render({"agentk8sglue": values})
    for name in ("plain", "unset"):
        assert task_files(rendered, name) == {"/etc/pip.conf": "CONTENT-base", "/opt/x/a b": ""}
    for name in QUEUES:
        assert task_files(rendered, name) == {"/f": f"CONTENT-{name}"}
    secrets = task_secrets(rendered)
    assert f"{FULLNAME}-fm" in secrets and len(secrets) == len(QUEUES) + 1
    assert max(map(len, secrets)) == 63
    assert not any(
        "CONTENT-" in text for found in rendered.objects if found["kind"] != "Secret" for _, text in strings(found)
    )


def test_files_of_one_queue_alone(render: Render) -> None:
    queues = {"a": {"templateOverrides": {"fileMounts": [file("/f", "x")]}}, "b": {}}
    rendered = render({"agentk8sglue": {"queues": queues}})
    assert task_files(rendered, "a") == {"/f": "x"}
    assert task_files(rendered, "b") == {}
    assert len(task_secrets(rendered)) == 1


def test_no_files_no_secret(render: Render) -> None:
    rendered = render(
        {"agentk8sglue": {"basePodTemplate": {"fileMounts": None}, "queues": {"a": {"templateOverrides": None}}}}
    )
    assert task_secrets(rendered) == set()
    assert task_files(rendered, "a") == {}


def test_changed_contents_restart_no_controller(render: Render) -> None:
    first, second = (
        render(PLACES["base"]({"fileMounts": [file("/f", content)]})).pod["metadata"]["annotations"] for content in "ab"
    )
    assert first == second

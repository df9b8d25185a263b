"""What the chart installs when only the credentials are given."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from chart_render import (
    ACCESS_KEY,
    CHART,
    CREDENTIALS,
    FULLNAME,
    HELMS,
    NAMESPACE,
    SECRET_KEY,
    Refused,
    Rendered,
    documents,
    helm,
)
from clearml_k8s.clearml.keys import ACCESS_KEY_FILE, SECRET_KEY_FILE

Render = Callable[..., Rendered]


def test_complete_set_of_objects(render: Render) -> None:
    assert render().names() == {
        ("Deployment", f"{FULLNAME}-controller"),
        ("ConfigMap", f"{FULLNAME}-controller"),
        ("ServiceAccount", f"{FULLNAME}-controller"),
        ("ServiceAccount", f"{FULLNAME}-task"),
        ("Role", f"{FULLNAME}-controller"),
        ("RoleBinding", f"{FULLNAME}-controller"),
        ("Secret", f"{FULLNAME}-ac"),
        ("Pod", f"{FULLNAME}-test"),
    }


def test_an_upgrade_without_a_cluster_renders_the_same(helm_name: str, render: Render) -> None:
    """Where `lookup` finds nothing, as in `helm template` and Argo CD."""
    values = json.dumps(CREDENTIALS)
    done = helm(
        helm_name,
        "template",
        "rel",
        str(CHART),
        "-n",
        NAMESPACE,
        "--is-upgrade",
        "--kube-version",
        "1.37.0",
        values=values,
    )
    assert done.returncode == 0, done.stderr
    assert documents(done.stdout) == list(render().objects)


def test_everything_is_in_the_namespace_of_the_release(render: Render) -> None:
    assert {found["metadata"]["namespace"] for found in render().objects} == {NAMESPACE}


def test_labels_of_every_object(render: Render) -> None:
    for found in render().objects:
        labels = found["metadata"]["labels"]
        component = {f"{FULLNAME}-task": "task", f"{FULLNAME}-test": "test"}.get(
            found["metadata"]["name"], "controller"
        )
        assert labels == {
            "app.kubernetes.io/name": "clearml-agent",
            "app.kubernetes.io/instance": "rel",
            "app.kubernetes.io/component": component,
            "app.kubernetes.io/part-of": "clearml",
            "app.kubernetes.io/managed-by": "Helm",
            "app.kubernetes.io/version": "6.0.0",
            "helm.sh/chart": "clearml-agent-6.0.0",
        }, found["kind"]


def test_pod_has_only_the_labels_of_the_selector(render: Render) -> None:
    rendered = render()
    selector = rendered.deployment["spec"]["selector"]["matchLabels"]
    assert selector == {
        "app.kubernetes.io/name": "clearml-agent",
        "app.kubernetes.io/instance": "rel",
        "app.kubernetes.io/component": "controller",
    }
    assert rendered.pod["metadata"]["labels"] == selector
    test_labels = rendered.test_pod["metadata"]["labels"]
    assert any(test_labels.get(key) != value for key, value in selector.items()), "the Deployment must not adopt it"


def test_controller_container(render: Render) -> None:
    rendered = render()
    container = rendered.container
    assert container["args"] == ["run", "--config", "/etc/clearml-k8s/config.yaml"]
    assert "command" not in container
    assert container["image"] == "ghcr.io/clearml-k8s/controller:6.0.0"
    assert container["imagePullPolicy"] == "IfNotPresent"
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "http"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
    assert container["ports"] == [{"name": "http", "containerPort": 8080}]
    assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"
    assert container["resources"] == {"requests": {"cpu": "50m", "memory": "128Mi"}}
    assert rendered.spec["terminationGracePeriodSeconds"] == 60
    assert rendered.deployment["spec"]["replicas"] == 1
    assert strategy(rendered) == {"maxSurge": 1, "maxUnavailable": 0}


def strategy(rendered: Rendered) -> Any:
    found = rendered.deployment["spec"]["strategy"]
    assert found["type"] == "RollingUpdate"
    return found["rollingUpdate"]


def test_two_replicas(render: Render) -> None:
    """One may always go, and the Lease needs nothing that one replica does not have."""
    one, two = render(), render({"agentk8sglue": {"replicaCount": 2}})
    assert two.deployment["spec"]["replicas"] == 2
    assert strategy(two) == {"maxSurge": 1, "maxUnavailable": 1}
    assert two.spec == one.spec
    assert two.one("Role") == one.one("Role")


def test_the_controller_knows_its_pod(render: Render) -> None:
    pod = {"name": "CLEARML_K8S_POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    assert render().container["env"][1:] == [pod]


def test_config_volume_is_the_config_map_that_the_arguments_name(render: Render) -> None:
    rendered = render()
    mounts = {mount["name"]: mount for mount in rendered.container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in rendered.spec["volumes"]}
    assert set(mounts) == set(volumes)
    config = next(name for name, volume in volumes.items() if "configMap" in volume)
    assert volumes[config]["configMap"] == {"name": rendered.one("ConfigMap")["metadata"]["name"]}
    assert mounts[config] == {"name": config, "mountPath": "/etc/clearml-k8s", "readOnly": True}
    assert {"/tmp"} == {mounts[name]["mountPath"] for name in volumes if volumes[name].get("emptyDir") == {}}


def test_credentials_reach_the_controller_by_reference(render: Render) -> None:
    rendered = render()
    assert rendered.secret(f"{FULLNAME}-ac") == {"agentk8sglue_key": ACCESS_KEY, "agentk8sglue_secret": SECRET_KEY}
    for pod in (rendered.spec, rendered.test_pod["spec"]):
        (container,) = pod["containers"]
        folder = "/etc/clearml-k8s-credentials"
        assert container["env"][0] == {"name": "CLEARML_K8S_CREDENTIALS_DIR", "value": folder}
        (mount,) = [mount for mount in container["volumeMounts"] if mount["mountPath"] == folder]
        assert mount["readOnly"] is True
        assert "subPath" not in mount, "a subPath never changes"
        (secret,) = [volume["secret"] for volume in pod["volumes"] if volume["name"] == mount["name"]]
        assert secret == {
            "secretName": f"{FULLNAME}-ac",
            "items": [
                {"key": "agentk8sglue_key", "path": ACCESS_KEY_FILE},
                {"key": "agentk8sglue_secret", "path": SECRET_KEY_FILE},
            ],
        }


def test_whole_config_file(render: Render) -> None:
    assert render().config == {
        "workerId": None,
        "oldWorkerId": "rel-clearml-agent",
        "releaseName": "rel",
        "fullname": FULLNAME,
        "namespace": NAMESPACE,
        "clearml": {
            "apiServer": "https://api.clear.ml",
            "webServer": "https://app.clear.ml",
            "fileServer": "https://files.clear.ml",
            "verifyCertificate": True,
            "taskCredentials": {
                "secretName": f"{FULLNAME}-ac",
                "accessKeyKey": "agentk8sglue_key",
                "secretKeyKey": "agentk8sglue_secret",
            },
            "ownerToken": False,
            "vaultEnvironment": True,
            "configSecret": None,
        },
        "queuePollFrequencySeconds": 5,
        "createQueues": False,
        "maxPods": None,
        "defaultContainerImage": None,
        "completedPodDeletionDelayMinutes": 0,
        "failedPodDeletionDelayMinutes": None,
        "maxRunMinutes": None,
        "maxRequeues": {"preempted": 0, "evicted": 0, "nodeLost": 0},
        "maxPendingPods": None,
        "monitoredResources": {
            "maxResources": 0,
            "minResourcesFieldName": "resources|limits|nvidia.com/gpu",
            "maxResourcesFieldName": "resources|limits|nvidia.com/gpu",
        },
        "templateModule": {"function": "", "timeoutSeconds": 10, "path": []},
        "podCommands": {"preApply": "", "postApply": "", "postDelete": "", "timeoutSeconds": 30},
        "taskPolicy": {
            "sharedMemory": "",
            "hostIPC": False,
            "hostNetwork": False,
            "hostPaths": [],
            "volumeClaims": [],
            "privileged": False,
            "capabilities": [],
            "user": "template",
            "labels": [],
            "maxGpus": 0,
            "maxCpus": 0,
            "maxMemory": "",
            "nodeSelector": [],
            "priorityClasses": [],
        },
        "respectResourceQuotas": True,
        "kueue": {"queueName": "", "priorityClass": ""},
        "patienceSeconds": {
            "imageName": 0,
            "imagePull": 300,
            "containerConfig": 60,
            "ownerToken": None,
            "unschedulable": None,
            "noPod": None,
            "quota": None,
            "limitRange": 300,
            "podSecurity": 300,
            "admission": 300,
            "volume": None,
            "sandbox": None,
            "nodeLost": 300,
        },
        "task": {
            "serviceAccountName": f"{FULLNAME}-task",
            "imagePullSecrets": [],
            "preparationScript": "",
            "startScript": "",
            "skipsSystemPackages": False,
            "controllerImage": None,
            "bootstrap": False,
            "certificates": None,
        },
        "basePodTemplate": {},
        "conditionalTemplates": [],
        "queues": {"default": {"templateOverrides": {}, "queueSettings": {}}},
        "clusterAccess": False,
        "statusReportFrequencySeconds": 30,
        "taskWorkerId": None,
        "orchestrationDashboard": {
            "reportType": "disabled",
            "reportSeconds": 600,
            "gpu": {
                "reportMax": 0,
                "discovery": {
                    "enabled": False,
                    "baseSelector": "kubernetes.io/os=linux,nvidia.com/gpu.present=true",
                    "nodeSelector": "",
                    "gpuCountSelector": "nvidia.com/gpu.count",
                },
            },
            "cpu": {
                "reportMax": 0,
                "discovery": {"enabled": False, "nodeSelector": ""},
                "reportNamespaced": False,
                "reportNamespaceOverride": None,
            },
        },
        "multiNode": {"enabled": False, "startTimeoutMinutes": 30, "maxGiveBacks": 3},
        "sessions": {
            "portModeEnabled": False,
            "svcAnnotations": {},
            "svcType": "NodePort",
            "externalIP": "0.0.0.0",
            "startingPort": 30000,
            "maxServices": 20,
            "agentID": "",
        },
    }


def test_helm_test_pod(render: Render) -> None:
    rendered = render()
    pod = rendered.test_pod
    assert pod["metadata"]["annotations"] == {
        "helm.sh/hook": "test",
        "helm.sh/hook-delete-policy": "before-hook-creation",
    }
    assert pod["spec"]["restartPolicy"] == "Never"
    container = pod["spec"]["containers"][0]
    assert container["args"] == ["check", "--config", "/etc/clearml-k8s/config.yaml"]
    for key in ("livenessProbe", "readinessProbe", "ports"):
        assert key not in container
    assert container["image"] == rendered.container["image"]
    assert pod["spec"]["serviceAccountName"] == rendered.spec["serviceAccountName"]


def test_plain_defaults_are_refused_with_the_keys_to_set(render_bare: Render) -> None:
    with pytest.raises(Refused) as refusal:
        render_bare({})
    text = str(refusal.value)
    for wanted in ("clearml.agentk8sglueKey", "clearml.agentk8sglueSecret", "clearml.existingAgentk8sglueSecret"):
        assert wanted in text
    assert text.count("\n- ") == 1, "one problem only"


@pytest.mark.parametrize("strict", [[], ["--strict"]], ids=["plain", "strict"])
def test_plain_defaults_lint_clean(helm_name: str, strict: list[str]) -> None:
    done = helm(helm_name, "lint", str(CHART), *strict)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 chart(s) failed" in done.stdout
    assert "[WARNING]" not in done.stdout
    assert "[ERROR]" not in done.stdout


def test_same_objects_from_every_helm() -> None:
    from chart_render import render as render_values

    first, *others = ({str(o) for o in render_values(name, CREDENTIALS).objects} for name in HELMS)
    assert others == [first] * (len(HELMS) - 1)


def test_chart_metadata() -> None:
    chart: dict[str, Any] = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert (chart["name"], chart["version"], chart["appVersion"]) == ("clearml-agent", "6.0.0", "6.0.0")
    assert chart["kubeVersion"] == ">=1.29.0-0"


@pytest.mark.parametrize(
    ("version", "works"), [("1.28.9", False), ("1.29.0", True), ("1.29.3-gke.100", True), ("1.45.0", True)]
)
def test_kubernetes_versions(helm_name: str, version: str, works: bool) -> None:
    done = helm(helm_name, "template", "rel", str(CHART), "--kube-version", version, values=yaml.safe_dump(CREDENTIALS))
    assert (done.returncode == 0) is works, done.stderr

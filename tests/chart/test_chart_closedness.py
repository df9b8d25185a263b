"""Keys and types that nobody foresaw are refused with their path, by lint and by template; the usual ones: mistakes/."""

from __future__ import annotations

import json
from typing import Any

import pytest
from chart_render import CHART, CREDENTIALS, at, helm, merged

#: JSON pointer that the refusal names -> (values, the name or the words beside it)
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    # Misspelt.
    ("", {"bogus": True}, "bogus"),
    ("/imageCredentials/extraImagePullSecrets/0", at("imageCredentials.extraImagePullSecrets", [{"name": "a", "key": "b"}]), "key"),
    ("/agentk8sglue", at("agentk8sglue.replicaCounts", 3), "replicaCounts"),
    ("/agentk8sglue/tolerations/0", at("agentk8sglue.tolerations", [{"key": "a", "operatorr": "Exists"}]), "operatorr"),
    ("/agentk8sglue/resources", at("agentk8sglue.resources", {"limit": {"cpu": 1}}), "limit"),
    ("/agentk8sglue/extraEnvs/0", at("agentk8sglue.extraEnvs", [{"name": "A", "valueForm": {}}]), "valueForm"),
    ("/agentk8sglue/podSecurityContext", at("agentk8sglue.podSecurityContext.privileged", True), "privileged"),
    ("/agentk8sglue/basePodTemplate/volumes/0", at("agentk8sglue.basePodTemplate.volumes", [{"name": "a", "pvc": {}}]), "pvc"),
    ("/agentk8sglue/basePodTemplate/initContainers/0", at("agentk8sglue.basePodTemplate.initContainers", [{"name": "a", "img": "b"}]), "img"),
    ("/agentk8sglue/queues/gpu/templateOverrides/affinity", at("agentk8sglue.queues.gpu.templateOverrides.affinity", {"nodeAfinity": {}}), "nodeAfinity"),
    ("/test", at("test.checkserver", False), "checkserver"),
    ("/networkPolicy", at("networkPolicy.enabled", True), "enabled"),
    ("/networkPolicy/tasks/ingress/0", at("networkPolicy.tasks.ingress", [{"form": []}]), "form"),
    ("/podDisruptionBudget", at("podDisruptionBudget.minAvailable", 1), "minAvailable"),
    ("/extraObjects/0", {"extraObjects": [{"kind": "ConfigMap", "metadata": {}}]}, "apiVersion"),
    # Known, with one value only, or with other keys below it.
    ("/agentk8sglue/replicaCount", at("agentk8sglue.replicaCount", 3), "1"),
    ("/agentk8sglue/fileMounts/0", at("agentk8sglue.fileMounts", [{"name": "a", "folderPath": "/", "content": ""}]), "fileContent"),
    # Of the wrong kind.
    ("/podDisruptionBudget/maxUnavailable", at("podDisruptionBudget.maxUnavailable", 2), "1"),
    ("/extraObjects", {"extraObjects": {"a": {}}}, "array"),
    ("/agentk8sglue/fileMounts/0/folderPath", at("agentk8sglue.fileMounts", [{"name": "a", "folderPath": "b", "fileContent": ""}]), "write an absolute path"),
    ("/agentk8sglue/fileMounts/0/name", at("agentk8sglue.fileMounts", [{"name": "..", "folderPath": "/b", "fileContent": ""}]), "its folder goes into folderPath"),
    ("/agentk8sglue/fileMounts/0/name", at("agentk8sglue.fileMounts", [{"name": "a/b", "folderPath": "/b", "fileContent": ""}]), "its folder goes into folderPath"),
    ("/agentk8sglue/fileMounts/0/fileContent", at("agentk8sglue.fileMounts", [{"name": "a", "folderPath": "/b", "fileContent": {"a": 1}}]), "string"),
    ("/agentk8sglue/additionalRoleBindings", at("agentk8sglue.additionalRoleBindings", ["a", "b", "a"]), "2"),
    ("/agentk8sglue/additionalRoleBindings/0", at("agentk8sglue.additionalRoleBindings", ["a b"]), "write the name of a role"),
    ("/agentk8sglue/additionalClusterRoleBindings/0", at("agentk8sglue.additionalClusterRoleBindings", [{"name": "a"}]), "string"),
    ("/agentk8sglue/image/pullPolicy", at("agentk8sglue.image.pullPolicy", "always"), "Always"),
    ("/agentk8sglue/maxPods", at("agentk8sglue.maxPods", 0), "1"),
    ("/agentk8sglue/queuePollFrequencySeconds", at("agentk8sglue.queuePollFrequencySeconds", 0), "0.1"),
    ("/agentk8sglue/basePodTemplate/env/0", at("agentk8sglue.basePodTemplate.env", [{"value": "1"}]), "name"),
    ("/agentk8sglue/basePodTemplate/volumes/0", at("agentk8sglue.basePodTemplate.volumes", [None]), "object"),
    ("/agentk8sglue/basePodTemplate/resources/limits/cpu", at("agentk8sglue.basePodTemplate.resources", {"limits": {"cpu": True}}), "string"),
    ("/agentk8sglue/basePodTemplate/dnsPolicy", at("agentk8sglue.basePodTemplate.dnsPolicy", "clusterFirst"), "ClusterFirst"),
    # A default that cannot be done without, deleted.
    ("", {"agentk8sglue": None}, "agentk8sglue"),
    ("/agentk8sglue", at("agentk8sglue.apiServerUrlReference", None), "apiServerUrlReference"),
]  # fmt: skip


@pytest.mark.parametrize("command", ["lint", "template"])
@pytest.mark.parametrize(("pointer", "values", "word"), REFUSED, ids=[f"{where}:{word}" for where, _, word in REFUSED])
def test_refused_with_its_path(helm_name: str, command: str, pointer: str, values: dict[str, Any], word: str) -> None:
    args = ["lint", str(CHART)] if command == "lint" else ["template", "rel", str(CHART), "--kube-version", "1.37.0"]
    done = helm(helm_name, *args, values=json.dumps(merged(CREDENTIALS, values)))
    assert done.returncode != 0
    place = at_place(helm_name, pointer)
    lines = [line for line in (done.stdout + done.stderr).splitlines() if place in line]
    assert any(word in line for line in lines), done.stdout + done.stderr


def at_place(helm_name: str, pointer: str) -> str:
    """How that Helm names the place of a value: the engine up to 3.17 has words of its own."""
    if helm_name == "helm314":
        return f"- {pointer.strip('/').replace('/', '.') or '(root)'}: "
    return f"at '{pointer}'"


@pytest.mark.parametrize("amount", [1, "1", 0.5, "500m", "16Gi", 1000000000000, None])
def test_quantities(helm_name: str, amount: Any) -> None:
    values = at("agentk8sglue.queues.gpu.templateOverrides.resources", {"limits": {"nvidia.com/gpu": amount}})
    done = helm(helm_name, "lint", str(CHART), values=json.dumps(merged(CREDENTIALS, values)))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("port", [8080, "http"])
def test_ports_by_number_and_by_name(helm_name: str, port: Any) -> None:
    sidecar = {
        "name": "proxy",
        "image": "proxy",
        "restartPolicy": "Always",
        "startupProbe": {"httpGet": {"port": port}},
    }
    values = at("agentk8sglue.basePodTemplate.initContainers", [sidecar])
    done = helm(helm_name, "lint", str(CHART), values=json.dumps(merged(CREDENTIALS, values)))
    assert done.returncode == 0, done.stdout + done.stderr

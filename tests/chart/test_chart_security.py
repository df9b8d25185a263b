"""Restricted pods, least permissions, and secrets nowhere but in Secrets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from chart_job import job_of
from chart_render import CHART, FULLNAME, NAMESPACE, Rendered, at, load_yaml, merged, strings
from clearml_k8s.config import ResolvedQueue
from clearml_k8s.config.file import load_config_file
from clearml_k8s.names import task_selector
from clearml_k8s.spec.job import template_probe_job
from hostile import written

Render = Callable[..., Rendered]

RESTRICTED_VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"
}  # fmt: skip


def restricted_violations(spec: dict[str, Any]) -> list[str]:
    """What Pod Security Standard "restricted" (Kubernetes documentation) refuses in a pod's spec."""
    found = [key for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)]
    pod = spec.get("securityContext", {})
    for volume in spec.get("volumes", []):
        found += [f"volume {kind}" for kind in set(volume) - {"name"} - RESTRICTED_VOLUMES]
    for container in [*spec.get("initContainers", []), *spec["containers"]]:
        own = container.get("securityContext", {})
        if own.get("privileged"):
            found.append("privileged")
        if own.get("allowPrivilegeEscalation") is not False:
            found.append("allowPrivilegeEscalation")
        if "ALL" not in own.get("capabilities", {}).get("drop", []):
            found.append("capabilities.drop")
        if set(own.get("capabilities", {}).get("add", [])) - {"NET_BIND_SERVICE"}:
            found.append("capabilities.add")
        if own.get("runAsNonRoot", pod.get("runAsNonRoot")) is not True:
            found.append("runAsNonRoot")
        if own.get("runAsUser", pod.get("runAsUser")) == 0:
            found.append("runAsUser")
        if own.get("seccompProfile", pod.get("seccompProfile", {})).get("type") not in ("RuntimeDefault", "Localhost"):
            found.append("seccompProfile")
        if any("hostPort" in port for port in container.get("ports", [])):
            found.append("hostPort")
    return found


@pytest.mark.parametrize("which", ["controller", "test"])
def test_pods_are_restricted(render: Render, which: str) -> None:
    rendered = render()
    spec = rendered.spec if which == "controller" else rendered.test_pod["spec"]
    assert restricted_violations(spec) == []
    assert spec["securityContext"]["runAsUser"] == 65532
    assert spec["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True
    assert spec["automountServiceAccountToken"] is True
    assert spec["enableServiceLinks"] is False


@pytest.mark.parametrize("values", ["default-values.yaml", "restricted-values.yaml"])
def test_task_pods_are_restricted_with_the_preset_alone(render_bare: Render, tmp_path: Path, values: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(render_bare(load_yaml(CHART / "ci" / values)).config))
    config = load_config_file(file)
    queue = ResolvedQueue(config=config.queues["default"], id="q", name="default")
    job = template_probe_job(config, queue, worker_id="w", controller_id="c").manifest
    violations = restricted_violations(job["spec"]["template"]["spec"])
    wanted = {"allowPrivilegeEscalation", "capabilities.drop", "runAsNonRoot", "seccompProfile"}
    assert set(violations) == (set() if values == "restricted-values.yaml" else wanted)


def test_the_check_itself_finds_violations(render: Render) -> None:
    loose = render({"agentk8sglue": {"podSecurityContext": {"runAsNonRoot": False, "seccompProfile": None},
                                     "containerSecurityContext": {"capabilities": None, "allowPrivilegeEscalation": True}}})  # fmt: skip
    assert set(restricted_violations(loose.spec)) == {
        "runAsNonRoot", "seccompProfile", "capabilities.drop", "allowPrivilegeEscalation"
    }  # fmt: skip


def test_only_the_controller_is_bound(render: Render) -> None:
    rendered = render()
    binding = rendered.one("RoleBinding")
    assert binding["roleRef"] == {
        "apiGroup": "rbac.authorization.k8s.io",
        "kind": "Role",
        "name": rendered.one("Role")["metadata"]["name"],
    }
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": rendered.spec["serviceAccountName"], "namespace": NAMESPACE}
    ]
    task = rendered.config["task"]["serviceAccountName"]
    assert task != rendered.spec["serviceAccountName"]
    assert rendered.one("ServiceAccount", task)["automountServiceAccountToken"] is False
    assert not any(kind.startswith("Cluster") for kind, _ in rendered.names())


def test_policy_of_tasks_selects_the_pods_that_the_controller_makes(render: Render) -> None:
    values = {"nameOverride": "other", "networkPolicy": {"tasks": {"enabled": True}, "controller": {"enabled": True}}}
    rendered = render(values, release="r2")
    selectors = {
        o["metadata"]["name"]: o["spec"]["podSelector"]["matchLabels"]
        for o in rendered.objects
        if o["kind"] == "NetworkPolicy"
    }
    task = job_of(rendered)["spec"]["template"]["metadata"]["labels"]
    for name, selector in selectors.items():
        assert (selector.items() <= task.items()) is name.endswith("-task")
        assert (selector.items() <= rendered.pod["metadata"]["labels"].items()) is name.endswith("-controller")
    assert ",".join(f"{key}={value}" for key, value in selectors["r2-other-task"].items()) == task_selector(
        release="r2"
    )
    assert (
        not selectors["r2-other-task"].items()
        <= job_of(render(release="r3"))["spec"]["template"]["metadata"]["labels"].items()
    )


def test_no_secret_outside_secrets(render: Render) -> None:
    marks = {name: f'MARK"{name}\\/é+=' for name in ("access", "secret", "conf", "password", "file")}
    marked = {
        "clearml": {
            "agentk8sglueKey": marks["access"],
            "agentk8sglueSecret": marks["secret"],
            "clearmlConfig": f"sdk.aws.s3.key: {marks['conf']}",
        },
        "imageCredentials": {"password": marks["password"]},
        "agentk8sglue": {"fileMounts": [{"name": "a", "folderPath": "/a", "fileContent": marks["file"]}]},
    }
    rendered = render(marked)
    ways = [way for mark in marks.values() for way in written(mark)]
    for found in rendered.objects:
        for path, text in strings(found):
            assert found["kind"] == "Secret" or not [way for way in ways if way in text], f"{found['kind']} {path}"
    # The search itself finds them where they are.
    secrets = [text for o in rendered.objects if o["kind"] == "Secret" for _, text in strings(o)]
    for name, mark in marks.items():
        assert any(way in text for way in written(mark) for text in secrets), name
    in_secrets = {o["metadata"]["name"] for o in rendered.objects if o["kind"] == "Secret"}
    assert in_secrets == {f"{FULLNAME}-{suffix}" for suffix in ("ac", "conf", "ark", "afm")}


def test_the_checksum_follows_what_the_controller_reads_at_its_start_and_nothing_else(render: Render) -> None:
    def annotations(values: dict[str, Any]) -> dict[str, str]:
        found: dict[str, str] = render(values).pod["metadata"]["annotations"]
        return found

    base = annotations({})
    assert set(base) == {"checksum/config"}
    assert annotations({"agentk8sglue": {"maxPods": 3}}) != base
    files = [
        annotations(at("agentk8sglue.fileMounts", [{"name": "a", "folderPath": "/a", "fileContent": content}]))
        for content in ("one", "two")
    ]
    assert len({found["checksum/files"] for found in files}) == 2
    assert {found["checksum/config"] for found in files} == {base["checksum/config"]}
    # What it follows while it runs, or never sees, does not restart it.
    named = {"imageCredentials": {"password": "one"}, "clearml": {"clearmlConfig": "a: 1"}}
    changed = {
        "imageCredentials": {"password": "two"},
        "clearml": {"clearmlConfig": "a: 2", "agentk8sglueKey": "other", "agentk8sglueSecret": "other"},
        "test": {"checkServer": False},
    }
    assert render(named).deployment == render(merged(named, changed)).deployment

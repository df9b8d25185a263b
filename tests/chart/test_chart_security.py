"""Restricted pods, least permissions, and secrets nowhere but in Secrets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from chart_job import job_of
from chart_render import FULLNAME, NAMESPACE, Rendered, at, merged, strings
from clearml_k8s.app.checks import NEEDED
from clearml_k8s.names import task_selector

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


def test_the_check_itself_finds_violations(render: Render) -> None:
    loose = render({"agentk8sglue": {"podSecurityContext": {"runAsNonRoot": False, "seccompProfile": None},
                                     "containerSecurityContext": {"capabilities": None, "allowPrivilegeEscalation": True}}})  # fmt: skip
    assert set(restricted_violations(loose.spec)) == {
        "runAsNonRoot", "seccompProfile", "capabilities.drop", "allowPrivilegeEscalation"
    }  # fmt: skip


def test_role_is_exactly_this(render: Render) -> None:
    rules = render().one("Role")["rules"]
    found = {
        (group, resource, tuple(rule.get("resourceNames", []))): set(rule["verbs"])
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    assert found == {
        ("batch", "jobs", ()): {"get", "list", "watch", "create", "delete"},
        ("", "pods", ()): {"list", "watch"},
        ("", "pods/log", ()): {"get"},
        ("", "events", ()): {"list"},
        ("", "configmaps", ()): {"create"},
        ("", "configmaps", (f"{FULLNAME}-claims",)): {"get", "patch"},
        ("", "namespaces", (NAMESPACE,)): {"get"},
    }


def test_role_is_what_check_asks_for(render: Render) -> None:
    granted = {
        (resource, verb)
        for rule in render().one("Role")["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        if resource not in ("configmaps", "namespaces")
    }
    asked = {
        (f"{resource.plural}/{sub}" if sub else resource.plural, verb)
        for resource, sub, verbs in NEEDED
        for verb in verbs
    }
    assert granted == asked


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
    marked = {
        "clearml": {
            "agentk8sglueKey": "MARK-access",
            "agentk8sglueSecret": "MARK-secret",
            "clearmlConfig": "sdk.aws.s3.key: MARK-conf",
        },
        "imageCredentials": {"password": "MARK-password"},
        "agentk8sglue": {"fileMounts": [{"name": "a", "folderPath": "/a", "fileContent": "MARK-file"}]},
    }
    rendered = render(marked)
    for found in rendered.objects:
        if found["kind"] != "Secret":
            for path, text in strings(found):
                assert "MARK" not in text, f"{found['kind']} {path}"
                assert "TUFSSy" not in text, f"{found['kind']} {path} (base64)"
    in_secrets = {o["metadata"]["name"] for o in rendered.objects if o["kind"] == "Secret"}
    assert in_secrets == {f"{FULLNAME}-{suffix}" for suffix in ("ac", "conf", "ark", "afm")}


def test_checksums_follow_what_the_controller_reads_and_nothing_else(render: Render) -> None:
    def annotations(values: dict[str, Any]) -> dict[str, str]:
        found: dict[str, str] = render(values).pod["metadata"]["annotations"]
        return found

    base = annotations({})
    config = annotations({"agentk8sglue": {"maxPods": 3}})
    assert config["checksum/config"] != base["checksum/config"]
    assert config["checksum/credentials"] == base["checksum/credentials"]
    credentials = annotations({"clearml": {"agentk8sglueSecret": "other"}})
    assert credentials["checksum/config"] == base["checksum/config"]
    assert credentials["checksum/credentials"] != base["checksum/credentials"]
    assert "checksum/files" not in base
    files = [
        annotations(at("agentk8sglue.fileMounts", [{"name": "a", "folderPath": "/a", "fileContent": content}]))
        for content in ("one", "two")
    ]
    assert len({found["checksum/files"] for found in files}) == 2
    assert {found["checksum/config"] for found in files} == {base["checksum/config"]}
    # What does not reach the controller does not restart it.
    named = {"imageCredentials": {"password": "one"}, "clearml": {"clearmlConfig": "a: 1"}}
    changed = {
        "imageCredentials": {"password": "two"},
        "clearml": {"clearmlConfig": "a: 2"},
        "test": {"checkServer": False},
    }
    assert annotations(named) == annotations(merged(named, changed))


def test_existing_credentials_have_no_checksum(render_bare: Render) -> None:
    rendered = render_bare({"clearml": {"existingAgentk8sglueSecret": "mine"}})
    assert set(rendered.pod["metadata"]["annotations"]) == {"checksum/config"}

"""What the tests of the spec share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from clearml_k8s.spec.job import BuiltJob

TASK_ID = "5e6f0a1b2c3d4e5f60718293a4b5c6d7"
ATTEMPT = "2026-01-15T06:22:11.065000+00:00"
WORKER_ID = "clearml-agent-gpu-1a2b3c4d"
CONTROLLER = "73428caf09"
KUBERNETES_VERSIONS = ("1.29", "1.37")

Build = Callable[..., BuiltJob]


def pod_spec(built: BuiltJob) -> dict[str, Any]:
    spec: dict[str, Any] = built.manifest["spec"]["template"]["spec"]
    return spec


def task_container(built: BuiltJob) -> dict[str, Any]:
    container: dict[str, Any] = pod_spec(built)["containers"][0]
    return container


def environment(built: BuiltJob) -> dict[str, Any]:
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in task_container(built)["env"]}


def kubernetes_expansion(text: str, variables: Mapping[str, str]) -> str:
    """Port of k8s.io/kubernetes/third_party/forked/golang/expansion, as the kubelet applies it."""
    result, cursor = "", 0
    while cursor < len(text):
        if text[cursor] != "$" or cursor + 1 >= len(text):
            result += text[cursor]
            cursor += 1
            continue
        following = text[cursor + 1]
        if following == "$":
            result += "$"
            cursor += 2
        elif following == "(":
            end = text.find(")", cursor + 2)
            if end < 0:
                result += "$("
                cursor += 2
            else:
                name = text[cursor + 2 : end]
                result += variables.get(name, f"$({name})")
                cursor = end + 1
        else:
            result += "$" + following
            cursor += 2
    return result

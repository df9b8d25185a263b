"""What the tests of the spec share: a config, queues, tasks and Kubernetes' own expansion."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import kubernetes_validate
import pytest
from clearml_k8s.clearml.tasks import Container, TaskView
from clearml_k8s.config import ClearMLConfig, Config, QueueConfig, ResolvedQueue, TaskCredentials, TaskPodConfig
from clearml_k8s.names import controller_id
from clearml_k8s.spec.job import BuiltJob, build_job

TASK_ID = "5e6f0a1b2c3d4e5f60718293a4b5c6d7"
ATTEMPT = "2026-01-15T06:22:11.065000+00:00"
WORKER_ID = "clearml-agent-gpu-1a2b3c4d"
KUBERNETES_VERSIONS = ("1.29", "1.37")

Build = Callable[..., BuiltJob]


@pytest.fixture
def config() -> Config:
    return Config(
        release_name="gpu",
        fullname="gpu-clearml-agent",
        namespace="clearml",
        clearml=ClearMLConfig(
            api_server="https://api.example.com",
            web_server="https://app.example.com",
            file_server="https://files.example.com",
            task_credentials=TaskCredentials(secret_name="gpu-clearml-agent-ac"),
        ),
        task=TaskPodConfig(service_account_name="gpu-clearml-agent-task", image_pull_secrets=("gpu-clearml-agent-ark",)),
        queues={"default": QueueConfig(name="default")},
    )


@pytest.fixture
def build(config: Config) -> Build:
    """Builds a Job; every one is validated strictly against the oldest and the newest Kubernetes."""

    def build_one(
        *,
        base: Mapping[str, Any] | None = None,
        override: Mapping[str, Any] | None = None,
        config: Config = config,
        queue: QueueConfig | None = None,
        task: TaskView | None = None,
        validate: bool = True,
        **container: str,
    ) -> BuiltJob:
        queue = queue or QueueConfig(name="default", template_overrides=override or {})
        if base is not None:
            config = dataclasses.replace(config, base_pod_template=base)
        task = task or TaskView(
            id=TASK_ID, name="train", status="queued", status_changed=ATTEMPT, container=Container(**container)
        )
        built = build_job(
            config=config,
            queue=ResolvedQueue(config=queue, id="0a1b2c3d4e5f60718293a4b5c6d7e8f9", name=queue.name),
            task=task,
            attempt=ATTEMPT,
            worker_id=WORKER_ID,
            controller_id=controller_id(WORKER_ID),
        )
        if validate:
            for version in KUBERNETES_VERSIONS:
                kubernetes_validate.validate(built.manifest, version, strict=True)
        return built

    return build_one


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

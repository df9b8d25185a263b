"""A config, and a way to build Jobs of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import kubernetes_validate
import pytest
from clearml_k8s.clearml.tasks import Container, TaskView
from clearml_k8s.config import ClearMLConfig, Config, QueueConfig, ResolvedQueue, TaskCredentials, TaskPodConfig
from clearml_k8s.spec.job import BuiltJob, build_job
from spec_pod import pod as pod
from spec_pod import server as server
from spec_support import ATTEMPT, CONTROLLER, KUBERNETES_VERSIONS, TASK_ID, WORKER_ID, Build


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
        task=TaskPodConfig(
            service_account_name="gpu-clearml-agent-task", image_pull_secrets=("gpu-clearml-agent-ark",)
        ),
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
        properties: Mapping[str, str] | None = None,
        validate: bool = True,
        **container: str,
    ) -> BuiltJob:
        queue = queue or QueueConfig(name="default", template_overrides=override or {})
        if base is not None:
            config = dataclasses.replace(config, base_pod_template=base)
        task = task or TaskView(
            id=TASK_ID,
            name="train",
            status="queued",
            status_changed=ATTEMPT,
            container=Container(**container),
            properties=properties or {},
        )
        built = build_job(
            config=config,
            queue=ResolvedQueue(config=queue, id="0a1b2c3d4e5f60718293a4b5c6d7e8f9", name=queue.name),
            task=task,
            attempt=ATTEMPT,
            worker_id=WORKER_ID,
            controller_id=CONTROLLER,
        )
        if validate:
            for version in KUBERNETES_VERSIONS:
                kubernetes_validate.validate(built.manifest, version, strict=True)
        return built

    return build_one

"""The Job that the controller builds of a rendered config, and what the kubelet would find for its mounts."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from chart_render import Rendered
from clearml_k8s.clearml.tasks import Container, TaskView
from clearml_k8s.cli.render import SAMPLE_NAMESPACE_UID
from clearml_k8s.config import Config, ResolvedQueue
from clearml_k8s.config.file import config_from_document
from clearml_k8s.flow.edits import Edits
from clearml_k8s.hooks.template_module import TemplateModule
from clearml_k8s.names import controller_id
from clearml_k8s.spec.job import SAMPLE_ATTEMPT, SAMPLE_TASK_ID, BuiltJob, build_job


def job_of(rendered: Rendered, queue: str = "default") -> dict[str, Any]:
    """The manifest of the Job of a task without settings of its own, from this queue."""
    built = asked_of(rendered, queue=queue)
    assert built.ignored == ()
    return built.manifest


def asked_of(rendered: Rendered, *, queue: str, arguments: str = "", folder: str = "") -> BuiltJob:
    """The Job of a task of this queue with these docker arguments; ``folder``: where the template module is."""
    config = config_from_document(rendered.config, source="rendered")
    task = TaskView(
        id=SAMPLE_TASK_ID,
        name="sample",
        project="project-of-the-task",
        status_changed=SAMPLE_ATTEMPT,
        container=Container(arguments=arguments),
        document={"id": SAMPLE_TASK_ID, "project": "project-of-the-task"},
    )
    found = ResolvedQueue(config=config.queues[queue], id=queue, name=queue)
    return build_job(
        config=config,
        queue=found,
        task=task,
        edited=None if config.template_module is None else asyncio.run(_edited(config, found, task, folder)),
        attempt=SAMPLE_ATTEMPT,
        worker_id="worker",
        controller_id=controller_id(namespace_uid=SAMPLE_NAMESPACE_UID, release=config.release_name),
    )


async def _edited(config: Config, queue: ResolvedQueue, task: TaskView, folder: str) -> Mapping[str, Any] | None:
    assert config.template_module is not None
    module = TemplateModule(replace(config.template_module, path=(folder,)))
    try:
        return await Edits(config=config, module=module, worker_id="worker").of_task(task, queue)
    finally:
        await module.stop()


def pod_of_task(built: BuiltJob) -> dict[str, Any]:
    """The spec of its pod."""
    spec: dict[str, Any] = built.manifest["spec"]["template"]["spec"]
    return spec


def mounted_files(rendered: Rendered, spec: dict[str, Any]) -> dict[str, str]:
    """Path -> contents of the files of rendered Secrets that the first container of a pod mounts one by one."""
    secrets = {
        volume["name"]: volume["secret"]["secretName"] for volume in spec.get("volumes", []) if "secret" in volume
    }
    found = {}
    for mount in spec["containers"][0].get("volumeMounts", []):
        if "subPath" in mount:
            assert mount["readOnly"] is True
            found[mount["mountPath"]] = rendered.secret(secrets[mount["name"]])[mount["subPath"]]
    return found

"""The Job that the controller builds of a rendered config, and what the kubelet would find for its mounts."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from chart_render import Rendered
from clearml_k8s.clearml.tasks import Container, TaskView
from clearml_k8s.cli.render import SAMPLE_NAMESPACE_UID
from clearml_k8s.clock import SystemClock
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


def asked_of(rendered: Rendered, *, queue: str, arguments: str = "") -> BuiltJob:
    """The Job of a task of this queue with these docker arguments."""
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
        edited=None if config.template_module is None else asyncio.run(_edited(rendered, config, found, task)),
        attempt=SAMPLE_ATTEMPT,
        worker_id="worker",
        controller_id=controller_id(namespace_uid=SAMPLE_NAMESPACE_UID, release=config.release_name),
    )


async def _edited(rendered: Rendered, config: Config, queue: ResolvedQueue, task: TaskView) -> Mapping[str, Any] | None:
    """By the template module, from the files that the controller's pod has."""
    assert config.template_module is not None
    with TemporaryDirectory() as folder:
        for path, content in mounted_files(rendered, rendered.pod["spec"]).items():
            if str(PurePosixPath(path).parent) in config.template_module.path:
                (Path(folder) / PurePosixPath(path).name).write_text(content, encoding="utf-8")
        module = TemplateModule(replace(config.template_module, path=(folder,)), clock=SystemClock())
        return await Edits(config=config, module=module, worker_id="worker").of_task(task, queue)


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
        if "subPath" in mount and mount["name"] in secrets:
            assert mount["readOnly"] is True
            found[mount["mountPath"]] = rendered.secret(secrets[mount["name"]])[mount["subPath"]]
    return found

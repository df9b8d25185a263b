"""The Job that the controller builds of a rendered config, and what the kubelet would find for its mounts."""

from __future__ import annotations

from typing import Any

from chart_render import Rendered
from clearml_k8s.clearml.tasks import TaskView
from clearml_k8s.cli.render import SAMPLE_NAMESPACE_UID
from clearml_k8s.config import ResolvedQueue
from clearml_k8s.config.file import config_from_document
from clearml_k8s.names import controller_id
from clearml_k8s.spec.job import SAMPLE_ATTEMPT, SAMPLE_TASK_ID, build_job


def job_of(rendered: Rendered, queue: str = "default") -> dict[str, Any]:
    """The manifest of the Job of a task without settings of its own, from this queue."""
    config = config_from_document(rendered.config, source="rendered")
    built = build_job(
        config=config,
        queue=ResolvedQueue(config=config.queues[queue], id=queue, name=queue),
        task=TaskView(id=SAMPLE_TASK_ID, name="sample", status_changed=SAMPLE_ATTEMPT),
        attempt=SAMPLE_ATTEMPT,
        worker_id="worker",
        controller_id=controller_id(namespace_uid=SAMPLE_NAMESPACE_UID, release=config.release_name),
    )
    assert built.ignored == ()
    return built.manifest


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

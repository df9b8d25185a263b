"""Pods that ClearML's own glue made, as it labels and names them (clearml-agent 3.0.3, ``glue/k8s.py``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from clearml_k8s import names
from clearml_k8s.kube.slim import NO_MEASURE, Condition, JobRecord, PodRecord, slim_pod
from clearml_k8s.kube.uses import Measure


@dataclass(frozen=True, kw_only=True, slots=True)
class OldPod:
    """One pod; its record has the queue of the glue's label. ``reports_as``: the worker id of its agent, "" unknown."""

    pod: PodRecord
    reports_as: str

    @property
    def uid(self) -> str:
        return self.pod.uid

    @property
    def name(self) -> str:
        return self.pod.name

    @property
    def resource_version(self) -> str:
        return self.pod.resource_version

    @property
    def task(self) -> str | None:
        return self.pod.task

    def as_job(self, *, attempt: str, gone: bool) -> JobRecord:
        """The Job that the pod stands for; ``gone``: it is not there any more."""
        over = Condition(type="Failed", status="True", reason="PodGone", message="The pod is gone")
        return JobRecord(
            uid=self.uid,
            name=self.name,
            resource_version=self.resource_version,
            task=self.task,
            attempt=attempt,
            queue=self.pod.queue,
            worker=None,
            controller=None,
            suspend=False,
            created=self.pod.created,
            deleted=None,
            conditions=(over,) if gone else (),
        )


def selector(worker_id: str) -> str:
    """Label selector of the pods that the glue of this worker id made."""
    return f"{names.LABEL_LEGACY_AGENT}={names.legacy_agent_label(worker_id)},!{names.LABEL_CONTROLLER}"


def slim_old_pod(pod: Mapping[str, Any], *, measure: Measure = NO_MEASURE) -> OldPod:
    """The record of a Pod object. Raises KubeUnanswered for one without uid or name."""
    record = slim_pod(pod, measure=measure)
    labels = pod["metadata"].get("labels")
    queue = labels.get(names.LABEL_QUEUE) if isinstance(labels, Mapping) else None
    # The pod is its own Job: the glue's Jobs are followed by their pods alone.
    return OldPod(
        pod=replace(record, queue=queue if isinstance(queue, str) and queue else None, job_uid=record.uid),
        reports_as=_worker_id(pod),
    )


def _worker_id(pod: Mapping[str, Any]) -> str:
    spec = pod.get("spec")
    containers = spec.get("containers") if isinstance(spec, Mapping) else None
    for container in containers if isinstance(containers, list) else ():
        env = container.get("env") if isinstance(container, Mapping) else None
        for variable in env if isinstance(env, list) else ():
            if isinstance(variable, Mapping) and variable.get("name") == names.ENV_WORKER_ID:
                value = variable.get("value")
                return value if isinstance(value, str) else ""
    return ""

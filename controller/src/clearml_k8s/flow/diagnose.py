"""Why a task's pod does not run, or how it ended: a pure function from what the cluster shows to words."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from clearml_k8s.kube.store import ContainerRecord, JobRecord, PodRecord


class Category(enum.Enum):
    """The stable list of reasons; names do not change between versions."""

    IMAGE_NAME = "image-name"
    IMAGE_PULL = "image-pull"
    CONTAINER_CONFIG = "container-config"
    UNSCHEDULABLE = "unschedulable"
    NO_POD = "no-pod"
    STARTING = "starting"
    OOM_KILLED = "oom-killed"
    EVICTED = "evicted"
    PREEMPTED = "preempted"
    DEADLINE = "deadline"
    NOT_STARTED = "not-started"
    CRASHED = "crashed"
    ENDED = "ended"


@dataclass(frozen=True, kw_only=True, slots=True)
class Diagnosis:
    """What is the matter, in words for the task's user.

    ``patience``: seconds this may last before the task is failed, None for as long as it takes, 0 at once.
    """

    category: Category
    summary: str
    advice: str = ""
    patience: float | None = None

    def __str__(self) -> str:
        return f"{self.summary}. {self.advice}" if self.advice else self.summary


PULL_PATIENCE = 300.0
CONFIG_PATIENCE = 60.0

_BAD_IMAGE = frozenset({"InvalidImageName", "ErrImageNeverPull"})
_PULLING = frozenset({"ErrImagePull", "ImagePullBackOff", "ImageInspectError", "RegistryUnavailable"})
_CONFIG = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
_CANNOT_TELL = 75  # exit code of the start script when the server does not answer its check


def waiting(*, job: JobRecord, pods: Sequence[PodRecord]) -> Diagnosis | None:
    """Why the Job's pod does not run; None when it runs or has ended."""
    pod = newest(pods)
    if pod is None:
        if job.finished:
            return None
        summary = "Kubernetes has not made the pod yet" if not job.suspend else "The Job is suspended"
        return Diagnosis(category=Category.NO_POD, summary=summary)
    if pod.finished or any(c.running and not c.init for c in pod.containers):
        return None
    for container in pod.containers:
        found = _stuck(container)
        if found is not None:
            return found
    scheduled = pod.scheduled
    if pod.node is None and scheduled is not None and scheduled.status == "False":
        return Diagnosis(
            category=Category.UNSCHEDULABLE,
            summary=f"No node takes the pod: {scheduled.message or scheduled.reason}",
            advice="It waits until a node has room; compare its resources, nodeSelector and tolerations with the nodes",
        )
    return Diagnosis(category=Category.STARTING, summary="The pod is starting")


def _stuck(container: ContainerRecord) -> Diagnosis | None:
    what = f"Container {container.name}: {container.waiting}" + (f": {container.message}" if container.message else "")
    if container.waiting in _BAD_IMAGE:
        return Diagnosis(
            category=Category.IMAGE_NAME, summary=what, advice="Correct the image's name in the task", patience=0.0
        )
    if container.waiting in _PULLING:
        return Diagnosis(
            category=Category.IMAGE_PULL,
            summary=what,
            advice="Check the image's name and tag, and imageCredentials for a private registry",
            patience=PULL_PATIENCE,
        )
    if container.waiting in _CONFIG:
        return Diagnosis(
            category=Category.CONTAINER_CONFIG,
            summary=what,
            advice="Check the Secrets, ConfigMaps and volumes that the pod template names",
            patience=CONFIG_PATIENCE,
        )
    return None


def ended(*, job: JobRecord, pods: Sequence[PodRecord]) -> Diagnosis:
    """How the Job's pod ended, seen from outside; the task's own status says whether the task ended well."""
    pod = newest(pods)
    disrupted = pod.condition("DisruptionTarget") if pod else None
    if disrupted is not None:
        text = disrupted.message or disrupted.reason
        if "Preempt" in disrupted.reason:
            return Diagnosis(category=Category.PREEMPTED, summary=f"The pod was preempted: {text}")
        return Diagnosis(category=Category.EVICTED, summary=f"The pod was evicted: {text}")
    if pod is not None and pod.reason == "Evicted":
        return Diagnosis(category=Category.EVICTED, summary=f"The pod was evicted: {pod.message}")
    failed = job.condition("Failed")
    if failed is not None and failed.reason == "DeadlineExceeded":
        return Diagnosis(category=Category.DEADLINE, summary="The pod ran longer than its activeDeadlineSeconds")
    for container in pod.containers if pod else ():
        if container.terminated == "OOMKilled":
            return Diagnosis(
                category=Category.OOM_KILLED,
                summary=f"Container {container.name} was killed: it used more memory than its limit",
                advice="Give it more memory (resources.limits.memory), or use less",
            )
    for container in pod.containers if pod else ():
        if container.exit_code == _CANNOT_TELL and not container.init:
            return Diagnosis(
                category=Category.NOT_STARTED,
                summary="The pod could not ask the ClearML server whether to start the task",
                advice="See the pod's last lines",
            )
        if container.terminated is not None and container.exit_code:
            how = f"signal {container.signal}" if container.signal else f"exit code {container.exit_code}"
            text = f": {container.message}" if container.message else ""
            return Diagnosis(
                category=Category.CRASHED,
                summary=f"Container {container.name} ended with {how} ({container.terminated}){text}",
            )
    if failed is not None:
        return Diagnosis(category=Category.CRASHED, summary=f"The Job failed: {failed.message or failed.reason}")
    return Diagnosis(category=Category.ENDED, summary="The pod ended")


def newest(pods: Sequence[PodRecord]) -> PodRecord | None:
    """The pod made last."""
    return max(pods, key=lambda pod: (pod.created, pod.uid), default=None)

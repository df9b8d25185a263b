"""Why a task's pod does not run, or how it ended: a pure function from what the cluster shows to words."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from clearml_k8s.kube.slim import ContainerRecord, JobRecord, PodRecord


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
    DELETED = "deleted"
    NOT_STARTED = "not-started"
    CRASHED = "crashed"
    ENDED = "ended"


@dataclass(frozen=True, kw_only=True, slots=True)
class Diagnosis:
    """What is the matter, in words for the task's user.

    ``patience``: seconds this may last before it is acted on, None for as long as it takes, 0 at once.
    """

    category: Category
    summary: str
    advice: str = ""
    patience: float | None = None

    def __str__(self) -> str:
        return f"{self.summary}. {self.advice}" if self.advice else self.summary


PULL_PATIENCE = 300.0
CONFIG_PATIENCE = 60.0
CAUSE_PATIENCE = 5.0
"""How long a better reason for a pod's end may come after the end itself."""

FINAL_SECONDS = 60
"""How long after its containers' end a deleted pod may stay; who ended longer ago was not ended by the deletion."""

_BAD_IMAGE = frozenset({"InvalidImageName", "ErrImageNeverPull"})
_PULLING = frozenset({"ErrImagePull", "ImagePullBackOff", "ImageInspectError", "RegistryUnavailable"})
_CONFIG = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
_DEADLINE = "DeadlineExceeded"
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


def ended(*, job: JobRecord, pods: Sequence[PodRecord], gone: Sequence[PodRecord] = ()) -> Diagnosis:
    """How the Job's pod ended, seen from outside; the task's own status says whether the task ended well.

    ``gone``: the last states of pods that are not there any more.
    """
    pod = newest([*pods, *gone])
    found = _disruption(job, pod)
    if found is not None:
        return found
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
    if pod is not None and _ended_by_deletion(pod, gone=pod in gone):
        return _deletion(job)
    for container in pod.containers if pod else ():
        if container.terminated is not None and container.exit_code:
            how = f"signal {container.signal}" if container.signal else f"exit code {container.exit_code}"
            text = f": {container.message}" if container.message else ""
            return Diagnosis(
                category=Category.CRASHED,
                summary=f"Container {container.name} ended with {how} ({container.terminated}){text}",
            )
    failed = job.condition("Failed")
    if failed is not None:
        return Diagnosis(category=Category.CRASHED, summary=f"The Job failed: {failed.message or failed.reason}")
    return Diagnosis(category=Category.ENDED, summary="The pod ended")


def interrupted(*, job: JobRecord, pods: Sequence[PodRecord], gone: Sequence[PodRecord] = ()) -> Diagnosis:
    """Who told the pod to end whose agent reports a SIGTERM."""
    pod = newest([*pods, *gone])
    found = _disruption(job, pod)
    if found is not None:
        return found
    if pod is not None and (pod.deleted is not None or pod in gone):
        found = _deletion(job)
    else:
        found = Diagnosis(
            category=Category.ENDED, summary="The pod was told to end (SIGTERM); nothing in the cluster says by whom"
        )
    return replace(found, patience=0.0 if job.finished else CAUSE_PATIENCE)


def _disruption(job: JobRecord, pod: PodRecord | None) -> Diagnosis | None:
    """What the cluster itself says of why it ended the pod."""
    disrupted = pod.condition("DisruptionTarget") if pod else None
    if disrupted is not None:
        text = disrupted.message or disrupted.reason
        if "Preempt" in disrupted.reason:
            return Diagnosis(category=Category.PREEMPTED, summary=f"The pod was preempted: {text}")
        return Diagnosis(category=Category.EVICTED, summary=f"The pod was evicted: {text}")
    if pod is not None and pod.reason == "Evicted":
        return Diagnosis(category=Category.EVICTED, summary=f"The pod was evicted: {pod.message}")
    reasons = [condition.reason for kind in ("Failed", "FailureTarget") if (condition := job.condition(kind))]
    if _DEADLINE in [*reasons, pod.reason if pod else ""]:
        return Diagnosis(category=Category.DEADLINE, summary="The pod ran longer than its activeDeadlineSeconds")
    return None


def _deletion(job: JobRecord) -> Diagnosis:
    if job.suspend:
        return Diagnosis(category=Category.EVICTED, summary="The pod was deleted: its Job was suspended")
    return Diagnosis(category=Category.DELETED, summary="The pod was deleted")


def _ended_by_deletion(pod: PodRecord, *, gone: bool) -> bool:
    """The pod had not ended before its deletion was asked for."""
    if pod.deleted is None:
        return gone and not pod.finished
    # The last call of a deletion has no grace left, and its own time.
    before = pod.grace_seconds or FINAL_SECONDS
    asked = datetime.fromisoformat(pod.deleted) - timedelta(seconds=before)
    ends = [datetime.fromisoformat(c.finished_at) for c in pod.containers if c.finished_at and not c.init]
    return not ends or max(ends) >= asked


def newest(pods: Sequence[PodRecord]) -> PodRecord | None:
    """The pod made last."""
    return max(pods, key=lambda pod: (pod.created, pod.uid), default=None)

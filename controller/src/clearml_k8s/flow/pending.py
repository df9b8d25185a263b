"""Why a task's pod does not run yet: a pure function from what the cluster shows to words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from clearml_k8s.flow import kueue
from clearml_k8s.flow.diagnosis import PATIENCE, Category, Diagnosis, Patience, newest, of_rank, ranks
from clearml_k8s.kube.events import EventRecord
from clearml_k8s.kube.slim import Condition, ContainerRecord, JobRecord, PodRecord

_BAD_IMAGE = frozenset({"InvalidImageName", "ErrImageNeverPull"})
_PULLING = frozenset({"ErrImagePull", "ImagePullBackOff", "ImageInspectError", "RegistryUnavailable"})
_CONFIG = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
_VOLUME = frozenset({"FailedMount", "FailedAttachVolume", "FailedMapVolume"})

_REFUSALS: tuple[tuple[re.Pattern[str], Category, str], ...] = (
    (re.compile("exceeded quota"), Category.QUOTA, "It waits until other pods of the namespace have ended"),
    (
        re.compile("violates PodSecurity"),
        Category.POD_SECURITY,
        "Set podSecurityContext and containerSecurityContext in the queue's template",
    ),
    (
        re.compile(r"(minimum|maximum) \S+ usage per |usage per (Container|Pod)|limit to request ratio"),
        Category.LIMIT_RANGE,
        "Set resources in the queue's template within the namespace's LimitRange",
    ),
    (
        re.compile("denied the request|is forbidden: "),
        Category.ADMISSION,
        "Change the queue's template, or ask the cluster's administrator",
    ),
)
"""What the API server says of a pod that it does not take, by the text of the Job's FailedCreate event."""

_BEFORE = re.compile(r'^Error creating: (pods "[^"]*" is forbidden: )?')
"""Each try names another pod, which never came to be."""

_UNBOUND = re.compile(r"persistentvolumeclaim|PersistentVolumeClaim|volume node affinity|max volume count")
_SHORT = re.compile(r"Insufficient |Too many pods")
_TAINT = re.compile(r"taint")
_PLACE = re.compile(r"affinity|selector|topology spread")
_CORDONED = re.compile(r"were unschedulable")
"""Looked at before all else, so nobody knows whether such a node would take the pod."""


_SCALES = "TriggeredScaleUp"
_SCALES_NOT = "NotTriggerScaleUp"


def pending(
    *, job: JobRecord, pods: Sequence[PodRecord], events: Sequence[EventRecord] = (), patience: Patience = PATIENCE
) -> Diagnosis | None:
    """Why the Job's pod does not run; None when it runs or has ended.

    ``events``: those of the Job and its pods, oldest first, as far as they were read.
    """
    if job.pods > 1 and pods:
        return _of_ranks(job, ranks(pods), events, patience)
    return _of_one(job, newest(pods), events, patience)


def placed(pods: Sequence[PodRecord]) -> int:
    """How many ranks have a node."""
    return sum(pod.node is not None for pod in ranks(pods))


def _of_ranks(
    job: JobRecord, pods: Sequence[PodRecord], events: Sequence[EventRecord], patience: Patience
) -> Diagnosis | None:
    """Of all that is the matter with several pods that what ends the task first, else what will not pass by itself."""
    found = [
        of_rank(one, pod, pods=job.pods) for pod in pods if (one := _of_one(job, pod, events, patience)) is not None
    ]
    if len(pods) < job.pods and not job.finished:
        found.append(_without_pod(job, events, patience))
    if not found:
        return None

    def order(one: Diagnosis) -> tuple[float, bool]:
        return float("inf") if one.patience is None else one.patience, one.category is Category.STARTING

    worst = min(found, key=order)
    if (there := placed(pods)) == job.pods:
        return worst
    return replace(worst, summary=f"{there} of {job.pods} pods have a node. {worst.summary}")


def _of_one(
    job: JobRecord, pod: PodRecord | None, events: Sequence[EventRecord], patience: Patience
) -> Diagnosis | None:
    if pod is None:
        return None if job.finished else _without_pod(job, events, patience)
    if pod.finished or any(c.running and not c.init for c in pod.containers):
        return None
    if job.suspend and not job.finished:
        return _suspended(job)  # whatever its pod, which is being ended, was waiting for
    if lacks_secret(job, pod):
        summary = "The Secret with the token of the task's owner is not there yet"
        advice = "The controller makes it, and tells here what keeps it from that"
        return _of(Category.OWNER_TOKEN, patience, summary=summary, advice=advice)
    for container in pod.containers:
        found = _stuck(container, patience)
        if found is not None:
            return found
    own = [event for event in events if event.about == pod.uid]
    scheduled = pod.scheduled
    if pod.node is None and scheduled is not None and scheduled.status == "False":
        return _unscheduled(scheduled, own, patience)
    if pod.node is None and pod.scheduler is not None and scheduled is None:
        summary = f"The scheduler {pod.scheduler} has not looked at the pod yet"
        advice = "If this lasts, it does not run: correct schedulerName of the queue's template, or start it"
        return _of(Category.UNSCHEDULABLE, patience, summary=summary, advice=advice)
    return _held_up(own, patience) or Diagnosis(category=Category.STARTING, summary="The pod is starting")


def lacks_secret(job: JobRecord, pod: PodRecord) -> bool:
    """The pod's node says that the Secret with the token of the task's owner is not there."""
    if job.token_secret is None:
        return False
    said = f'secret "{job.token_secret}" not found'
    return any(c.waiting in _CONFIG and said in c.message for c in pod.containers)


def _of(category: Category, patience: Patience, *, summary: str, advice: str = "", since: str = "") -> Diagnosis:
    return Diagnosis(category=category, summary=summary, advice=advice, patience=patience.get(category), since=since)


def _without_pod(job: JobRecord, events: Sequence[EventRecord], patience: Patience) -> Diagnosis:
    if job.suspend:
        return _suspended(job)
    refused = next((e for e in reversed(events) if e.about == job.uid and e.reason == "FailedCreate"), None)
    if refused is None:
        return _of(Category.NO_POD, patience, summary="Kubernetes has not made the pod yet")
    said = _BEFORE.sub("", refused.message)
    for pattern, category, advice in _REFUSALS:
        if pattern.search(refused.message):
            return _of(category, patience, summary=f"Kubernetes does not take the pod: {said}", advice=advice)
    return _of(Category.NO_POD, patience, summary=f"Kubernetes has not made the pod yet: {said}")


def _suspended(job: JobRecord) -> Diagnosis:
    if job.local_queue is not None:
        return kueue.waits(job)
    return Diagnosis(category=Category.SUSPENDED, summary="The Job is suspended")


def _stuck(container: ContainerRecord, patience: Patience) -> Diagnosis | None:
    what = f"Container {container.name}: {container.waiting}" + (f": {container.message}" if container.message else "")
    if container.waiting in _BAD_IMAGE:
        return _of(Category.IMAGE_NAME, patience, summary=what, advice="Correct the image's name in the task")
    if container.waiting in _PULLING:
        advice = "Check the image's name and tag, and imageCredentials for a private registry"
        return _of(Category.IMAGE_PULL, patience, summary=what, advice=advice)
    if container.waiting in _CONFIG:
        advice = "Check the Secrets, ConfigMaps and volumes that the pod template names"
        return _of(Category.CONTAINER_CONFIG, patience, summary=what, advice=advice)
    return None


def _unscheduled(scheduled: Condition, events: Sequence[EventRecord], patience: Patience) -> Diagnosis:
    """A node that lacks room passed every other test, so lack of room is named before what rules nodes out."""
    # What follows says only that no other pod would be preempted for it.
    text = (scheduled.message or scheduled.reason).partition(" preemption:")[0]
    summary = f"No node takes the pod: {text}"
    if _UNBOUND.search(text):
        return _of(Category.VOLUME, patience, summary=summary, advice="Check the volume claims of the pod template")
    if _SHORT.search(text):
        advice = "It waits until a node has room; no node has what it asks for if this lasts: compare its resources"
    elif _CORDONED.search(text):
        advice = "Nodes are cordoned, or are being drained: it waits until one is uncordoned, or another one comes"
        if _TAINT.search(text) or _PLACE.search(text):
            advice += "; else compare nodeSelector, affinity and tolerations of the queue's template with the others"
    elif _TAINT.search(text) and _PLACE.search(text):
        advice = "Compare nodeSelector, affinity and tolerations of the queue's template with the nodes"
    elif _TAINT.search(text):
        advice = "The nodes have taints (kubectl describe nodes): set tolerations in the queue's template"
    elif _PLACE.search(text):
        advice = "Compare nodeSelector, affinity and topologySpreadConstraints of the queue's template with the nodes"
    else:
        advice = "Compare resources, nodeSelector and tolerations of the queue's template with the nodes"
    scaled = next((e for e in reversed(events) if e.reason in (_SCALES, _SCALES_NOT)), None)
    if scaled is not None and scaled.reason == _SCALES:
        # A node is on its way: the time to wait begins anew.
        summary += "; the autoscaler adds a node"
        return _of(Category.UNSCHEDULABLE, patience, summary=summary, since=scaled.last)
    return _of(Category.UNSCHEDULABLE, patience, summary=summary, advice=advice)


def _held_up(events: Sequence[EventRecord], patience: Patience) -> Diagnosis | None:
    """What the node says of a pod that has a place and no container."""
    for event in reversed(events):
        if event.reason in _VOLUME:
            advice = "Check the volumes of the pod template, and the Secrets and ConfigMaps that they name"
            return _of(Category.VOLUME, patience, summary=f"A volume is not there: {event.message}", advice=advice)
        if event.reason == "FailedCreatePodSandBox":
            summary = f"The node cannot make the pod's sandbox: {event.message}"
            return _of(Category.SANDBOX, patience, summary=summary, advice="Ask the cluster's administrator")
        if event.reason in ("Pulling", "Pulled", "Created", "Started"):
            return None
    return None

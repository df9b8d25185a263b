"""What is kept of a Job and of a pod.

Full objects take 35 KiB each in memory; the records hold what reconciling and counting read, and nothing else. What is
missing or of another type is left out, but for an object's uid and name: without them it is not known which one it is.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from clearml_k8s import names
from clearml_k8s.errors import KubeUnanswered, trimmed
from clearml_k8s.hidden import without_secrets
from clearml_k8s.kube.uses import NOTHING as USES_NOTHING
from clearml_k8s.kube.uses import Measure, Uses
from clearml_k8s.wire import NOTHING, got

if TYPE_CHECKING:
    from clearml_k8s.kube.workload import WorkloadRecord

MESSAGE_LIMIT = 1024
DEFAULT_SCHEDULER: Final = "default-scheduler"


@dataclass(frozen=True, kw_only=True, slots=True)
class Condition:
    """One condition of a status; ``status`` is "True", "False" or "Unknown", ``since`` its lastTransitionTime."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    since: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobRecord:
    """A Job. Times are the API server's strings.

    ``attempt``, ``queue`` (its id) and ``worker`` (the id under which its pod reports, without the task) are None when
    the annotation is missing. ``taken``: when its task was taken out of its queue; "" when that is not known.
    ``uses``: what its pod takes of what is limited.
    """

    uid: str
    name: str
    resource_version: str
    task: str | None
    attempt: str | None
    queue: str | None
    worker: str | None
    controller: str | None
    suspend: bool
    created: str
    deleted: str | None
    conditions: tuple[Condition, ...]
    uses: Uses = USES_NOTHING
    taken: str = ""
    queue_name: str | None = None
    reports_as: str | None = None
    """The worker id of its pod as a whole, where a template made it."""
    session_port: int | None = None
    """The container's port at which the SSH server of a session listens; None: no session, or not to be reached."""
    token_secret: str | None = None
    """The Secret with the token of its task's owner, which its pod waits for; None: it has other credentials."""
    local_queue: str | None = None
    """The LocalQueue of Kueue that it waits in; None: Kueue has no part in it."""
    workload: WorkloadRecord | None = None
    """What Kueue says of it, which the reconciler joins; None: nothing, or nothing that was seen."""
    pods: int = 1
    """How many it makes, all of them at one time."""
    ranked: bool = False
    """Its pods have ranks, and talk to rank 0: a task on several nodes."""

    @property
    def fields(self) -> Mapping[str, str | None]:
        """What each log line about it says."""
        return {"task": self.task, "queue": self.queue_name or self.queue, "job": self.name}

    def condition(self, kind: str) -> Condition | None:
        """The condition of this type when it is "True"."""
        return _true(self.conditions, kind)

    @property
    def finished(self) -> bool:
        """True when the Job controller has ended it (Complete or Failed)."""
        return self.condition("Complete") is not None or self.condition("Failed") is not None

    @property
    def resumed(self) -> str:
        """When it was resumed after a suspension; "" when it was not."""
        found = next((c for c in self.conditions if c.type == "Suspended" and c.status == "False"), None)
        return found.since if found is not None and not self.suspend else ""


@dataclass(frozen=True, kw_only=True, slots=True)
class ContainerRecord:
    """A container's state: at most one of ``waiting`` and ``terminated`` is set (their reason), or it is running.

    ``exit_code`` and ``signal`` belong to the end.
    """

    name: str
    init: bool = False
    running: bool = False
    waiting: str | None = None
    terminated: str | None = None
    message: str = ""
    exit_code: int | None = None
    signal: int | None = None
    started_at: str = ""
    finished_at: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class PodRecord:
    """A pod. Times are the API server's strings; ``attempt``, ``queue`` (its id), ``queue_name``, ``uses`` as in its
    `JobRecord`."""

    uid: str
    name: str
    resource_version: str
    task: str | None
    attempt: str | None
    queue: str | None
    job_uid: str | None
    created: str
    deleted: str | None
    grace_seconds: int | None
    node: str | None
    phase: str
    reason: str
    message: str
    conditions: tuple[Condition, ...]
    containers: tuple[ContainerRecord, ...]
    queue_name: str | None = None
    uses: Uses = USES_NOTHING
    host_ip: str | None = None
    """The address of its node; None until it has one."""
    scheduler: str | None = None
    """The name of its scheduler, where that is not Kubernetes' own."""
    rank: int = 0
    """Its number among the pods of its Job."""

    def condition(self, kind: str) -> Condition | None:
        """The condition of this type when it is "True"."""
        return _true(self.conditions, kind)

    @property
    def scheduled(self) -> Condition | None:
        """The PodScheduled condition, whatever its status."""
        return next((c for c in self.conditions if c.type == "PodScheduled"), None)

    @property
    def finished(self) -> bool:
        """True when no container will run again (phase Succeeded or Failed)."""
        return self.phase in ("Succeeded", "Failed")


NO_MEASURE: Final = Measure()


def slim_job(job: Mapping[str, Any], *, measure: Measure = NO_MEASURE) -> JobRecord:
    """The record of a Job object. Raises KubeUnanswered for one without uid or name."""
    uid, name = _identity("Job", job)
    meta, spec, status = _map(job, "metadata"), _map(job, "spec"), _map(job, "status")
    labels, annotations = _map(meta, "labels"), _map(meta, "annotations")
    return JobRecord(
        uid=uid,
        name=name,
        resource_version=_optional(meta, "resourceVersion") or "",
        task=names.task_id_of(name=name, labels=labels),
        attempt=_optional(annotations, names.ANNOTATION_ATTEMPT),
        queue=_shared(annotations.get(names.ANNOTATION_QUEUE_ID)),
        worker=_shared(annotations.get(names.ANNOTATION_WORKER)),
        reports_as=_optional(annotations, names.ANNOTATION_REPORTS_AS),
        controller=_shared(labels.get(names.LABEL_CONTROLLER)),
        suspend=spec.get("suspend") is True,
        created=_optional(meta, "creationTimestamp") or "",
        deleted=_optional(meta, "deletionTimestamp"),
        conditions=slim_conditions(status),
        taken=_optional(annotations, names.ANNOTATION_TAKEN) or "",
        queue_name=_shared(annotations.get(names.ANNOTATION_QUEUE_NAME)),
        uses=measure(spec.get("template")),
        token_secret=_optional(annotations, names.ANNOTATION_TOKEN_SECRET),
        session_port=_port(annotations.get(names.ANNOTATION_SESSION_PORT)),
        local_queue=_shared(labels.get(names.LABEL_KUEUE_QUEUE)),
        **_ranks(spec),
    )


def slim_pod(pod: Mapping[str, Any], *, measure: Measure = NO_MEASURE) -> PodRecord:
    """The record of a Pod object. Raises KubeUnanswered for one without uid or name."""
    uid, name = _identity("Pod", pod)
    meta, spec, status = _map(pod, "metadata"), _map(pod, "spec"), _map(pod, "status")
    labels, annotations = _map(meta, "labels"), _map(meta, "annotations")
    owner = next((o for o in _items(meta, "ownerReferences") if o.get("kind") == "Job"), {})
    grace = meta.get("deletionGracePeriodSeconds")
    return PodRecord(
        uid=uid,
        name=name,
        resource_version=_optional(meta, "resourceVersion") or "",
        task=names.task_id_of(name=name, labels=labels),
        attempt=_optional(annotations, names.ANNOTATION_ATTEMPT),
        queue=_shared(annotations.get(names.ANNOTATION_QUEUE_ID)),
        job_uid=_optional(owner, "uid"),
        created=_optional(meta, "creationTimestamp") or "",
        deleted=_optional(meta, "deletionTimestamp"),
        grace_seconds=grace if isinstance(grace, int) else None,
        node=_shared(spec.get("nodeName")),
        phase=_shared(status.get("phase")) or "Pending",
        reason=_shared(status.get("reason")) or "",
        message=_message(status),
        conditions=slim_conditions(status),
        containers=(
            *(_container(c, init=True) for c in _items(status, "initContainerStatuses")),
            *(_container(c, init=False) for c in _items(status, "containerStatuses")),
        ),
        uses=measure(pod),
        queue_name=_shared(annotations.get(names.ANNOTATION_QUEUE_NAME)),
        host_ip=_shared(status.get("hostIP")),
        scheduler=_foreign(spec.get("schedulerName")),
        rank=_rank(labels.get(names.LABEL_POD_INDEX) or annotations.get(names.LABEL_POD_INDEX)),
    )


# ---- reading objects -----------------------------------------------------------------------------------------------


def _identity(kind: str, thing: object) -> tuple[str, str]:
    if not isinstance(thing, Mapping):
        raise KubeUnanswered(kind, got(thing, expected="an object"))
    meta = _map(thing, "metadata")
    for key in ("uid", "name"):
        found = meta.get(key, NOTHING)
        if not isinstance(found, str) or not found:
            raise KubeUnanswered(kind, f"metadata.{key}: {got(found, expected='text')}")
    return meta["uid"], meta["name"]


def _items(source: Mapping[str, Any], key: str) -> Iterator[Mapping[str, Any]]:
    found = source.get(key)
    return (item for item in found if isinstance(item, Mapping)) if isinstance(found, list) else iter(())


def _map(source: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = source.get(key)
    return found if isinstance(found, Mapping) else {}


def _optional(source: Mapping[str, Any], key: str) -> str | None:
    found = source.get(key)
    return found if isinstance(found, str) and found else None


def _foreign(scheduler: object) -> str | None:
    return None if scheduler == DEFAULT_SCHEDULER else _shared(scheduler)


def _shared(value: object) -> str | None:
    """The string, one copy for all records that hold it."""
    return sys.intern(value) if isinstance(value, str) and value else None


def _message(source: Mapping[str, Any]) -> str:
    found = source.get("message")
    return trimmed(found, limit=MESSAGE_LIMIT) if isinstance(found, str) else ""


def _true(conditions: tuple[Condition, ...], kind: str) -> Condition | None:
    return next((c for c in conditions if c.type == kind and c.status == "True"), None)


def slim_conditions(status: Mapping[str, Any]) -> tuple[Condition, ...]:
    """Those of an object's status."""
    return tuple(
        Condition(
            type=_shared(c.get("type")) or "",
            status=_shared(c.get("status")) or "",
            reason=_shared(c.get("reason")) or "",
            message=_message(c),
            since=_optional(c, "lastTransitionTime") or "",
        )
        for c in _items(status, "conditions")
    )


def _container(status: Mapping[str, Any], *, init: bool) -> ContainerRecord:
    state = _map(status, "state")
    waiting, ended = _map(state, "waiting"), _map(state, "terminated")
    return ContainerRecord(
        name=_shared(status.get("name")) or "",
        init=init,
        running="running" in state,
        waiting=(_shared(waiting.get("reason")) or "Waiting") if "waiting" in state else None,
        terminated=(_shared(ended.get("reason")) or "Terminated") if "terminated" in state else None,
        # What an ended one says may be the end of its log (terminationMessagePolicy).
        message=_message(waiting) or without_secrets(_message(ended)),
        exit_code=_number(ended.get("exitCode")),
        signal=_number(ended.get("signal")),
        started_at=_optional(_map(state, "running"), "startedAt") or _optional(ended, "startedAt") or "",
        finished_at=_optional(ended, "finishedAt") or "",
    )


def _number(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _port(value: object) -> int | None:
    number = int(value) if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= 5 else 0
    return number if 1 <= number <= 65535 else None


def _rank(value: object) -> int:
    return int(value) if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= 9 else 0


def _ranks(spec: Mapping[str, Any]) -> dict[str, Any]:
    if spec.get("completionMode") != "Indexed":
        return {}
    pods = _number(spec.get("parallelism"))
    return {"pods": max(1, pods or 1), "ranked": True}

"""The states of the reconcile table: how a task may stand on the server, and what the cluster may show of its Job."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from clearml_k8s.clearml.tasks import TaskView
from clearml_k8s.flow.decide import ABORTING, SIGTERM_REASON, TOLD, Decision, decide
from clearml_k8s.kube.events import EventRecord
from clearml_k8s.kube.slim import Condition, JobRecord, PodRecord
from flow_parts import LATER, make_container, make_job, make_pod, make_task
from kueue_objects import PREEMPTED_TEXT, evicted, make_workload, pending_workload, readmitted

WORKER = "w:task"
LACKS, GIVEN, ENDS = "no owner's token", "no owner's token, made", "no owner's token, none made any more"
"""Rows of pods whose node finds no Secret with it: not made yet, as far as this process knows; made a moment ago; not
to be made, as `useOwnerToken` is off by now."""

TOGETHER = 1800.0
"""Seconds that the first of several pods may wait for the others."""
LIMITED = "running, limited"
"""The row whose queue has a `maxRunMinutes`."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A Job, its pods, the last states of pods that are gone, and the events that were read."""

    job: JobRecord
    pods: tuple[PodRecord, ...] = ()
    gone: tuple[PodRecord, ...] = ()
    events: tuple[EventRecord, ...] = ()


def _true(kind: str, reason: str = "") -> tuple[Condition, ...]:
    return (Condition(type=kind, status="True", reason=reason),)


def _refused(message: str) -> Shown:
    job = make_job()
    event = EventRecord(
        uid="e", about=job.uid, kind="Job", reason="FailedCreate", message=message, warning=True, last="2026"
    )
    return Shown(job=job, events=(event,))


def _pod(**fields: object) -> Shown:
    container = fields.pop("container", None)
    containers = (make_container(**container),) if isinstance(container, dict) else ()
    return Shown(job=make_job(), pods=(make_pod("t", *containers, **fields),))


_NOT_FOUND = make_container(waiting="CreateContainerConfigError", message='secret "owner-token-t-1" not found')
_WITHOUT_TOKEN = Shown(job=make_job(token_secret="owner-token-t-1"), pods=(make_pod("t", _NOT_FOUND),))
_RUNNING = {"container": {"running": True}, "phase": "Running"}
_RUNNING_SINCE = {"container": {"running": True, "started_at": "2026-01-15T07:00:00Z"}, "phase": "Running"}
_UNSCHEDULED = (Condition(type="PodScheduled", status="False", reason="Unschedulable", message="0/1 nodes"),)
_OOM = {"terminated": "OOMKilled", "exit_code": 137}

_ENDING = {"deleted": "2026-01-15T07:00:30Z", "grace_seconds": 30}
_KILLED = {"container": {"terminated": "Error", "exit_code": 143}, "phase": "Failed", **_ENDING}


def _in_kueue(pod: dict[str, Any] | None = None, **workload: Any) -> Shown:
    """A Job that Kueue holds suspended; with a ``pod`` it was let in before. That pod's end is no
    failure of the Job: Kubernetes takes its tracking finalizer away before it deletes it."""
    found = make_workload(**workload)
    if pod is None:
        return Shown(job=make_job(suspend=True, local_queue="team", workload=found))
    return Shown(job=make_job(suspend=True, local_queue="team", workload=found), pods=_pod(**pod).pods)


def _let_in_again() -> Shown:
    shown = _in_kueue(_KILLED, conditions=readmitted("Preempted", PREEMPTED_TEXT))
    resumed = Condition(type="Suspended", status="False", reason="JobResumed", since="2026-01-15T07:00:40Z")
    job = dataclasses.replace(shown.job, suspend=False, conditions=(*shown.job.conditions, resumed))
    return dataclasses.replace(shown, job=job)


_STOPPED = evicted("Deactivated", "The workload is deactivated")

_SUCCEEDED = {"container": {"terminated": "Completed", "exit_code": 0}, "phase": "Succeeded"}


def _ranks(*ranks: dict[str, object]) -> Shown:
    """A Job of several pods, each as `_pod` makes it."""
    pods = tuple(
        dataclasses.replace(_pod(**fields).pods[0], uid=f"pod-{rank}", rank=rank) for rank, fields in enumerate(ranks)
    )
    return Shown(job=make_job(pods=len(ranks), ranked=True), pods=pods)


CLUSTER: dict[str, Shown] = {
    "suspended": Shown(job=make_job(suspend=True)),
    "suspended by Kueue": _in_kueue(conditions=pending_workload("insufficient unused quota")),
    "suspended, pod ending": Shown(job=make_job(suspend=True), pods=_pod(**_RUNNING, **_ENDING).pods),
    "suspended, pod gone": Shown(job=make_job(suspend=True), gone=(make_pod(phase="Running"),)),
    "failed: evicted by Kueue": _in_kueue(_KILLED, conditions=evicted("PodsReadyTimeout", "Exceeded the timeout")),
    "failed: preempted by Kueue": _in_kueue(_KILLED, conditions=evicted("Preempted", PREEMPTED_TEXT)),
    "failed: evicted, let in again": _let_in_again(),
    "failed: stopped in Kueue": _in_kueue(_KILLED, conditions=_STOPPED, active=False),
    "no pod yet": Shown(job=make_job()),
    "no pod: quota": _refused("exceeded quota: q"),
    "no pod: LimitRange": _refused("maximum cpu usage per Container is 1"),
    "no pod: Pod Security": _refused("violates PodSecurity"),
    "no pod: admission": _refused('admission webhook "w" denied the request'),
    "pod unscheduled": _pod(node=None, conditions=_UNSCHEDULED),
    "pod starting": _pod(),
    "image name": _pod(container={"waiting": "InvalidImageName"}),
    "image pull": _pod(container={"waiting": "ImagePullBackOff"}),
    "container config": _pod(container={"waiting": "CreateContainerConfigError"}),
    **dict.fromkeys((LACKS, GIVEN, ENDS), _WITHOUT_TOKEN),
    "running": _pod(**_RUNNING),
    LIMITED: _pod(**_RUNNING_SINCE),
    "running, being deleted": _pod(**_RUNNING, deleted="2026-01-15T07:00:30Z", grace_seconds=30),
    "task's container ended": _pod(container={"terminated": "Error", "exit_code": 1}, phase="Running"),
    "succeeded": _pod(container={"terminated": "Completed", "exit_code": 0}, phase="Succeeded"),
    "failed: exit code": _pod(container={"terminated": "Error", "exit_code": 1}, phase="Failed"),
    "failed: OOM": _pod(container=_OOM, phase="Failed"),
    "failed: evicted": _pod(phase="Failed", reason="Evicted"),
    "failed: preempted": _pod(phase="Failed", conditions=_true("DisruptionTarget", "PreemptionByScheduler")),
    "failed: node lost": _pod(phase="Failed", conditions=_true("DisruptionTarget", "DeletionByPodGC")),
    "failed: out of service": _pod(**{**_RUNNING, "phase": "Failed"}, deleted="2026-01-15T07:00:30Z", grace_seconds=30),
    "failed: deadline": Shown(job=make_job(finished="Failed", reason="DeadlineExceeded")),
    "pod gone, Job failed": Shown(job=make_job(finished="Failed"), gone=(make_pod(phase="Running"),)),
    "pod gone, Job not": Shown(job=make_job(), gone=(make_pod(phase="Running"),)),
    "Job complete": Shown(job=make_job(finished="Complete")),
    "ranks: some without a node": _ranks(_RUNNING, {"node": None, "conditions": _UNSCHEDULED}),
    "ranks: all run": _ranks(_RUNNING, _RUNNING),
    "ranks: 1 ended well": _ranks(_RUNNING, _SUCCEEDED),
    "ranks: 0 ended well": _ranks(_SUCCEEDED, _RUNNING),
    "ranks: 1 failed": _ranks(
        {**_RUNNING, "deleted": "2026-01-15T07:00:31Z", "grace_seconds": 30},
        {"container": {"terminated": "Error", "exit_code": 3}, "phase": "Failed"},
    ),
    "ranks: 1 being deleted": _ranks(_RUNNING, {**_RUNNING, "deleted": "2026-01-15T07:00:30Z", "grace_seconds": 30}),
    "ranks: 1 evicted, gone": Shown(
        job=make_job(finished="Failed", pods=2, ranked=True),
        gone=(make_pod(phase="Running"), make_pod(uid="pod-1", rank=1, phase="Failed", reason="Evicted")),
    ),
}
"""Of the Job of the task's attempt; a Job that is being deleted, or is not this controller's, is left alone."""

_ABORTED = make_task("stopped", status_reason=SIGTERM_REASON, status_message="Changed by clearml_agent w:0")

TASK: dict[str, TaskView | None] = {
    "queued": make_task(),
    "queued again": make_task(changed=LATER),
    "in_progress": make_task("in_progress", changed=LATER, last_worker=WORKER),
    "in_progress, stopping": make_task("in_progress", changed=LATER, last_worker=WORKER, status_message=ABORTING),
    "in_progress elsewhere": make_task("in_progress", changed=LATER, last_worker="agent:0"),
    "created": make_task("created", changed=LATER),
    "stopped": make_task("stopped", changed=LATER),
    "stopped, SIGTERM": _ABORTED,
    "stopped, explained": make_task("stopped", status_reason=SIGTERM_REASON, status_message=f"{TOLD}evicted"),
    "completed": make_task("completed"),
    "failed": make_task("failed"),
    "failed, explained": make_task("failed", status_message=f"{TOLD}Container task was killed"),
    "failed: preempted": make_task("failed", status_reason=f"{TOLD}preempted", status_message="The pod was preempted"),
    "closed": make_task("closed"),
    "published": make_task("published"),
    "publishing": make_task("publishing"),
    "unknown status": make_task("something new"),
    "no such task": None,
}


def step(task: str, cluster: str) -> Decision:
    """What `decide` says of the two."""
    return step_of(task, CLUSTER[cluster], row=cluster)


def step_of(task: str, shown: Shown, *, row: str) -> Decision:
    """The same, of anything that a cluster shows; ``row``: what else is known there."""
    return decide(
        task=TASK[task],
        job=shown.job,
        pods=shown.pods,
        gone=shown.gone,
        worker=WORKER,
        events=shown.events,
        limited=row == LIMITED,
        tokens=row != ENDS,
        lacks_token=row == LACKS,
        together=TOGETHER,
    )

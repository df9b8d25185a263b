"""How a task's pod ended, and who told it to: pure functions from what the cluster shows to words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from clearml_k8s.clearml.tasks import TaskView
from clearml_k8s.clock import moment
from clearml_k8s.flow import kueue
from clearml_k8s.flow.diagnosis import PATIENCE, Category, Diagnosis, Patience, of_rank, ranks
from clearml_k8s.kube.slim import JobRecord, PodRecord

CAUSE_PATIENCE = 5.0
"""How long a better reason for a pod's end may come after the end itself."""

WORKLOAD_PATIENCE = 30.0
"""How long a Job's Workload may stay unseen while a pod's end depends on it: its stream may begin after the others."""

FINAL_SECONDS = 60
"""How long after its containers' end a deleted pod may stay; who ended longer ago was not ended by the deletion."""

LONGEST_GRACE_SECONDS = 10 * 365 * 86400
"""What a pod's terminationGracePeriodSeconds counts for at most."""

_DEADLINE = "DeadlineExceeded"
_NODE_GONE = "DeletionByPodGC"  # the Node object is gone: the pod runs nowhere
_CANNOT_TELL = 75  # exit code of the start script when the server does not answer its check


def ended(*, job: JobRecord, pods: Sequence[PodRecord], gone: Sequence[PodRecord] = ()) -> Diagnosis:
    """How the Job's pod ended, seen from outside; the task's own status says whether the task ended well.

    ``gone``: the last states of pods that are not there any more. Of several pods: how the one did that ended all.
    """
    pod = _cause(job, [*pods, *gone])
    return of_rank(_ended(job, pod, gone=gone), pod, pods=job.pods)


def _cause(job: JobRecord, pods: Sequence[PodRecord]) -> PodRecord | None:
    """Of the pods of one Job that by whose end Kubernetes ended the others; the only one where there is one.

    The others are deleted thereafter, so what the cluster itself ended comes first, then what ended undeleted. Of a Job
    that was suspended and resumed Kubernetes may make another pod, which the start check turns away or which has not
    begun: it does not hide the end of the one before.
    """

    def order(pod: PodRecord) -> tuple[bool, bool, str, int]:
        ends = [c.finished_at for c in pod.containers if not c.init and c.finished_at]
        at = pod.deleted or min(ends, default="")
        return not _disrupted(pod), pod.deleted is not None, at, pod.rank

    several = ranks(pods)
    found = [pod for pod in several if broken(pod)] or [p for p in pods if broken(p) and _older(p, job.resumed)]
    return min(found, key=order, default=several[0] if several else None)


def broken(pod: PodRecord) -> bool:
    """It did not end well, or is told to end; of several pods one such ends all."""
    codes = [c.exit_code for c in pod.containers if not c.init]
    return _disrupted(pod) or pod.phase == "Failed" or pod.deleted is not None or any(codes)


def _disrupted(pod: PodRecord) -> bool:
    return pod.reason == "Evicted" or pod.condition("DisruptionTarget") is not None or _out_of_service(pod)


def _ended(job: JobRecord, pod: PodRecord | None, *, gone: Sequence[PodRecord]) -> Diagnosis:
    found = _disruption(job, pod)
    if found is not None:
        return found
    found = out_of_memory([pod] if pod else [])
    if found is not None:
        return found
    for container in pod.containers if pod else ():
        if container.exit_code == _CANNOT_TELL and not container.init:
            return Diagnosis(
                category=Category.NOT_STARTED,
                summary="The pod could not ask the ClearML server whether to start the task",
                advice="See the pod's last lines",
            )
    if (pod is None and job.suspend) or (pod is not None and _ended_by_deletion(pod, gone=pod in gone)):
        return _deletion(job, pod)
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
    ends = [container.exit_code for container in (pod.containers if pod else ()) if not container.init]
    # The containers' ends show before the pod's phase does.
    if (ends and not any(code != 0 for code in ends)) or job.condition("Complete") is not None:
        return Diagnosis(
            category=Category.CLEAN_EXIT,
            summary="The pod ended without an error (exit code 0), and nothing reported the end of the task",
            advice="See the pod's last lines: a setup script or a command of the template may end it (exit 0)",
        )
    return Diagnosis(category=Category.ENDED, summary="The pod ended")


def out_of_memory(pods: Sequence[PodRecord]) -> Diagnosis | None:
    """That a container was killed for its memory; also where the agent lived on, and reported a script that failed."""
    several = ranks(pods)
    for pod in several:
        for container in pod.containers:
            if container.terminated == "OOMKilled":
                found = Diagnosis(
                    category=Category.OOM_KILLED,
                    summary=f"Container {container.name} was killed: it used more memory than its limit",
                    advice="Give it more memory (resources.limits.memory), or use less",
                )
                return of_rank(found, pod, pods=len(several))
    return None


def interrupted(*, job: JobRecord, pods: Sequence[PodRecord], gone: Sequence[PodRecord] = ()) -> Diagnosis:
    """Who told the pod to end whose agent reports a SIGTERM; of several pods, which one's end ended it."""
    pod = _cause(job, [*pods, *gone])
    found = _disruption(job, pod)
    if found is not None:
        return of_rank(found, pod, pods=job.pods)
    if pod is not None and job.pods > 1 and broken(pod) and (pod.rank or pod.deleted is None):
        found = of_rank(_ended(job, pod, gone=gone), pod, pods=job.pods)
    elif by_suspension(job, pod) or (pod is not None and (pod.deleted is not None or pod in gone)):
        found = _deletion(job, pod)
    else:
        found = Diagnosis(
            category=Category.ENDED, summary="The pod was told to end (SIGTERM); nothing in the cluster says by whom"
        )
    return replace(found, patience=max(found.patience or 0.0, 0.0 if job.finished else CAUSE_PATIENCE))


def lost(*, task: TaskView, pods: Sequence[PodRecord], patience: Patience = PATIENCE) -> Diagnosis | None:
    """A pod that was told to end and does not, so that its node seems lost; None when there is none.

    Its patience begins anew with each report of the task: whoever reports runs.
    """
    several = ranks(pods)
    pod = next((p for p in several if p.deleted is not None and p.node is not None and not p.finished), None)
    if pod is None:
        return None
    seconds = patience.get(Category.NODE_LOST)
    found = Diagnosis(
        category=Category.NODE_LOST,
        summary=f"The pod was told to end and its node {pod.node} does not say that it did",
        advice="If the node is gone for good, delete the Node, or taint it out-of-service",
        patience=None if seconds is None else seconds + min(max(pod.grace_seconds or 0, 0), LONGEST_GRACE_SECONDS),
        since=f"{pod.deleted} {task.last_update}",
    )
    return of_rank(found, pod, pods=len(several))


def _disruption(job: JobRecord, pod: PodRecord | None) -> Diagnosis | None:
    """What the cluster itself says of why it ended the pod."""
    if pod is not None and _out_of_service(pod):
        return Diagnosis(
            category=Category.NODE_LOST,
            summary=f"The pod's node was lost: {pod.node} is tainted out-of-service, so Kubernetes ended the pod",
        )
    disrupted = pod.condition("DisruptionTarget") if pod else None
    if disrupted is not None:
        text = disrupted.message or disrupted.reason
        if disrupted.reason == _NODE_GONE:
            return Diagnosis(category=Category.NODE_LOST, summary=f"The pod's node was lost: {text}")
        if "Preempt" in disrupted.reason:
            return Diagnosis(category=Category.PREEMPTED, summary=f"The pod was preempted: {text}")
        return Diagnosis(category=Category.EVICTED, summary=f"The pod was evicted: {text}")
    if pod is not None and pod.reason == "Evicted":
        return Diagnosis(category=Category.EVICTED, summary=f"The pod was evicted: {pod.message}")
    reasons = [condition.reason for kind in ("Failed", "FailureTarget") if (condition := job.condition(kind))]
    if _DEADLINE in [*reasons, pod.reason if pod else ""]:
        return Diagnosis(category=Category.DEADLINE, summary="The pod ran longer than its activeDeadlineSeconds")
    return None


def _out_of_service(pod: PodRecord) -> bool:
    """Kubernetes' pod collector has ended the pod, which was being deleted, as its node is not ready and has the taint.

    It sets the phase alone: a reason stays that of the deletion (the taint manager's, or none). No kubelet says that a
    pod has ended before it says how its containers did.
    """
    if pod.phase != "Failed" or pod.deleted is None or pod.node is None or pod.reason:
        return False
    found = pod.condition("DisruptionTarget")
    if found is not None and found.reason == _NODE_GONE:
        return False
    containers = [container for container in pod.containers if not container.init]
    return not containers or any(container.terminated is None for container in containers)


def by_suspension(job: JobRecord, pod: PodRecord | None) -> bool:
    """The pod was ended because its Job was suspended, as Kueue does it.

    Kueue may have let the Job in again since, as it does not wait for the pod's end: then the pod is older than that.
    """
    if job.suspend:
        return True
    if job.workload is None or job.workload.condition("Evicted") is None or pod is None:
        return False
    return _older(pod, job.resumed)


def _older(pod: PodRecord, since: str) -> bool:
    made, at = moment(pod.created), moment(since)
    return made is not None and at is not None and made < at


def _deletion(job: JobRecord, pod: PodRecord | None) -> Diagnosis:
    unseen = job.local_queue is not None and job.workload is None
    if by_suspension(job, pod):
        suspended = Diagnosis(category=Category.EVICTED, summary="The pod was deleted: its Job was suspended")
        if job.local_queue is not None:
            # What Kueue says comes by a stream of its own, perhaps after the end itself.
            suspended = replace(suspended, patience=WORKLOAD_PATIENCE if unseen else CAUSE_PATIENCE)
        return kueue.evicted(job.workload) or suspended
    resumed = pod is not None and _older(pod, job.resumed)
    patience = WORKLOAD_PATIENCE if unseen and resumed else None
    return Diagnosis(category=Category.DELETED, summary="The pod was deleted", patience=patience)


def _ended_by_deletion(pod: PodRecord, *, gone: bool) -> bool:
    """The pod had not ended before its deletion was asked for."""
    if pod.deleted is None:
        return gone and not pod.finished
    # The last call of a deletion has no grace left, and its own time.
    before = timedelta(seconds=min(max(pod.grace_seconds or FINAL_SECONDS, 0), LONGEST_GRACE_SECONDS))
    deleted = moment(pod.deleted)
    ends = [at for c in pod.containers if not c.init and (at := moment(c.finished_at))]
    # Compared by what lies between: a time near either end of the calendar has none before or after it.
    return not ends or deleted is None or deleted - max(ends) <= before


JOB_DELETED = Diagnosis(
    category=Category.DELETED, summary="The Job was deleted, by somebody or something in the cluster", patience=10.0
)
"""Its patience, and that of the next, is for what still has to be reported."""

ABORT_UNREPORTED = Diagnosis(
    category=Category.ENDED, summary="Its user aborted it, and its agent did not report the end", patience=10.0
)

TOO_LONG = Diagnosis(
    category=Category.DEADLINE,
    summary="The task ran longer than it may",
    advice="The time is maxRunMinutes of its queue, counted from the start of its container",
)


def started_at(pods: Sequence[PodRecord]) -> datetime | None:
    """When the task's container began to run; None while it does not."""
    containers = [c for pod in ranks(pods) for c in pod.containers if c.running and not c.init]
    return min((at for c in containers if (at := moment(c.started_at))), default=None)


def finished_at(job: JobRecord, pods: Sequence[PodRecord]) -> datetime | None:
    """When the Job's last container ended; None while one may still run."""
    if not job.finished and not all(pod.finished for pod in pods):
        return None
    if not job.finished and not pods:
        return None
    times = [c.finished_at for pod in pods for c in pod.containers if c.finished_at]
    times += [condition.since for condition in job.conditions if condition.since]
    return max((at for time in times if (at := moment(time))), default=None)

"""One task, its Job and its pods: the next single step. Pure, so that the whole table can be read and tested."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, replace

from clearml_k8s import names
from clearml_k8s.clearml.tasks import TaskView
from clearml_k8s.flow.diagnosis import DISRUPTIONS, PATIENCE, Category, Diagnosis, Patience
from clearml_k8s.flow.ending import (
    ABORT_UNREPORTED,
    JOB_DELETED,
    TOO_LONG,
    broken,
    ended,
    interrupted,
    lost,
    out_of_memory,
    started_at,
)
from clearml_k8s.flow.pending import lacks_secret, pending, placed
from clearml_k8s.kube.events import EventRecord
from clearml_k8s.kube.slim import JobRecord, PodRecord

WAITS = frozenset({"queued"})
RUNS = frozenset({"in_progress"})
ENDING = frozenset({"completed", "failed", "closed", "published", "publishing"})
"""States that the agent in the pod sets shortly before it ends by itself."""

CANCELLED = frozenset({"created", "stopped"})
"""States that a user sets (reset, abort): its pod is not wanted any more."""

SIGTERM_REASON = "user abort"
"""The ``status_reason`` of a task whose agent was told to end: by anybody who ends its pod."""

TOLD = "Kubernetes: "
"""How a ``status_message`` and a ``status_reason`` of ours begins."""

ABORTING = "stopping"
"""The ``status_message`` of a running task whose user aborts it; the agent in its pod sees that seconds later, may call
back what the script has for it, and reports the end."""


STUCK = frozenset({Category.VOLUME, Category.SANDBOX})
"""What may keep a pod that has a node from starting for as long as it takes."""


class Step(enum.Enum):
    """What to do next."""

    NOTHING = "nothing"
    DELETE_JOB = "delete the Job"
    DELETE_LATER = "delete the Job when it has been kept long enough"
    GIVE_TOKEN = "its pod waits for the token of the task's owner: make the Secret"  # noqa: S105 - a step
    TELL = "tell the user why it waits"
    EXPLAIN_STOP = "its pod was told to end, which reads as a user's abort: tell who did it"
    EXPLAIN_FAILURE = "its agent failed it, and knows less of the reason than the cluster: tell it"
    FAIL_WAITING = "it cannot start: fail the task, then delete the Job"
    GIVE_BACK = "some of its pods have a node and others cannot start: put the task back, some times; then fail it"
    END_ABORTED = "its user aborts it and its agent does nothing about it: delete the Job"
    FAIL_LONG = "it may not run longer: fail the task, which tells its agent to end"
    FAIL_LOST = "the pod was told to end and its node does not answer: fail the task"
    FAIL_ENDED = "the pod ended and the task did not: fail the task"
    DISRUPTED = "the cluster ended the pod: put the task back, as often as its queue says; else fail it"


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """The step, why, and the diagnosis that goes with it."""

    step: Step
    why: str = ""
    diagnosis: Diagnosis | None = None


def decide(
    *,
    task: TaskView | None,
    job: JobRecord,
    pods: Sequence[PodRecord],
    gone: Sequence[PodRecord] = (),
    worker: str,
    explained: bool = False,
    aborting: bool = False,
    events: Sequence[EventRecord] = (),
    patience: Patience = PATIENCE,
    limited: bool = False,
    tokens: bool = True,
    lacks_token: bool = False,
    together: float | None = None,
) -> Decision:
    """The next step for ``job``.

    ``task`` None: it does not exist. ``gone``: the last states of pods that are not there any more. ``worker``: the id
    under which the Job's pod reports. ``explained``: the end of its pod was told, or is our own doing. ``aborting``:
    its user was seen to abort it. ``events``: those of the Job and its pods, as far as they were read. ``patience`` and
    ``limited`` (it may only run for some time) are its queue's. ``tokens``: Jobs get the Secrets that they wait
    for; ``lacks_token``: see `OwnerTokens.lacks`. ``together``: seconds after which the first of several
    pods do not wait any longer for the others to get a node and start, None for as long as it takes.
    A step that ends something (fail, delete) is taken only on a read of the task that is newer than the cluster's news.
    """
    over = _over(job, [pod for pod in pods if pod.job_uid == job.uid], begun=task is None or task.status not in WAITS)
    if task is None:
        return Decision(step=Step.DELETE_JOB, why="the task does not exist any more")
    if task.status in WAITS:
        if task.status_changed != job.attempt:
            return Decision(step=Step.DELETE_JOB, why="the task was enqueued again")
        if over:
            found = ended(job=job, pods=pods, gone=gone)
            return _pod_ended(found, why="its pod ended before the task began")
        if (silent := _lost(task, pods, patience)) is not None:
            return silent
        if not tokens and any(lacks_secret(job, pod) for pod in pods):
            return Decision(step=Step.DELETE_JOB, why="tasks do not get tokens of their owners any more")
        if lacks_token:
            return Decision(step=Step.GIVE_TOKEN, why="its pod waits for its owner's token")
        diagnosis = pending(job=job, pods=pods, events=events, patience=patience)
        if diagnosis is None:
            return Decision(step=Step.NOTHING)
        waits = diagnosis.patience
        if together is not None and _in_vain(job, pods, diagnosis) and (waits is None or waits > together):
            # Counted from when they are there: a Job may be suspended for long before.
            diagnosis = replace(diagnosis, patience=together, since=min(pod.created for pod in pods))
            return Decision(step=Step.GIVE_BACK, why="not all of its pods can start", diagnosis=diagnosis)
        step = Step.TELL if waits is None else Step.FAIL_WAITING
        return Decision(step=step, why=diagnosis.category.value, diagnosis=diagnosis)
    if task.status in RUNS:
        ours = _ours(task, job, worker)
        # It ran, so it had a pod: Kueue has ended that, and nobody reported its end.
        left = job.suspend and not pods and task.last_worker is not None and ours
        if not over and not left:
            if ours and (silent := _lost(task, pods, patience)) is not None:
                return silent
            if ours and task.status_message == ABORTING:
                return Decision(step=Step.END_ABORTED, why="its user aborts it, and its agent is silent")
            if ours and limited and started_at(pods) is not None:
                return Decision(step=Step.FAIL_LONG, why="it ran too long", diagnosis=TOO_LONG)
            return Decision(step=Step.NOTHING)
        if not ours:
            return Decision(step=Step.DELETE_LATER, why="another worker runs the task")
        found = ended(job=job, pods=pods, gone=gone)
        return _pod_ended(found, why="its pod ended and the task did not", aborting=aborting)
    if _interrupted(task) and not explained and not aborting:
        # Said first: with the Job goes what shows the reason.
        found = interrupted(job=job, pods=pods, gone=gone)
        if found.category in (*DISRUPTIONS, Category.DEADLINE):
            return _pod_ended(found, why="the cluster ended its pod")
        if found.rank is not None:
            return _pod_ended(found, why="one of its pods ended, and with it the others")
        return Decision(step=Step.EXPLAIN_STOP, why="its pod was told to end", diagnosis=found)
    begun = _requeue_begun(task)
    if begun is not None and not explained:
        return Decision(step=Step.DISRUPTED, why="the cluster ended its pod", diagnosis=begun)
    if task.status == "failed" and not explained and _ours(task, job, worker) and not _told(task):
        memory = out_of_memory([*pods, *gone])
        if memory is not None:
            return Decision(step=Step.EXPLAIN_FAILURE, why="it was out of memory", diagnosis=memory)
    if over or task.status in ENDING:
        return Decision(step=Step.DELETE_LATER, why=f"the task is {task.status}")
    if task.status in CANCELLED:
        return Decision(step=Step.DELETE_JOB, why=f"the task is {task.status}")
    # A state that we do not know is no reason to end anything.
    return Decision(step=Step.NOTHING)


def decide_without_job(
    *,
    task: TaskView | None,
    job: JobRecord,
    pods: Sequence[PodRecord],
    worker: str,
    explained: bool,
    aborting: bool = False,
) -> Decision:
    """The next step for the task of a ``job`` that is gone, in its last state.

    ``pods``: those of the task that may still run. ``explained``: its end was told, or is our own doing. ``aborting``:
    its user was seen to abort it. A task that waits is one of the
    claims, which put it back.
    """
    if task is None or pods or explained or job.finished:
        return Decision(step=Step.NOTHING)
    if task.status in RUNS and task.last_worker is not None and _ours(task, job, worker):
        found = ABORT_UNREPORTED if aborting else JOB_DELETED
        return Decision(step=Step.FAIL_ENDED, why="its Job is gone and the task did not end", diagnosis=found)
    if _interrupted(task) and not aborting:
        return Decision(step=Step.EXPLAIN_STOP, why="its Job was deleted", diagnosis=JOB_DELETED)
    return Decision(step=Step.NOTHING)


def _in_vain(job: JobRecord, pods: Sequence[PodRecord], diagnosis: Diagnosis) -> bool:
    """Some of several pods hold nodes while another has none, or cannot start on its own."""
    held = placed(pods)
    return 0 < held < job.pods or (job.pods > 1 and held > 0 and diagnosis.category in STUCK)


def _lost(task: TaskView, pods: Sequence[PodRecord], patience: Patience) -> Decision | None:
    found = lost(task=task, pods=pods, patience=patience)
    if found is None or found.patience is None:
        return None
    return Decision(step=Step.FAIL_LOST, why="its node does not answer", diagnosis=found)


def _pod_ended(found: Diagnosis, *, why: str, aborting: bool = False) -> Decision:
    disrupted = found.category in DISRUPTIONS and not aborting
    return Decision(step=Step.DISRUPTED if disrupted else Step.FAIL_ENDED, why=why, diagnosis=found)


def _requeue_begun(task: TaskView) -> Diagnosis | None:
    """What we failed the task for, if it is one of the reasons for which a task is put back right after."""
    if task.status != "failed" or not task.status_reason.startswith(TOLD):
        return None
    category = next((c for c in DISRUPTIONS if c.value == task.status_reason.removeprefix(TOLD)), None)
    return None if category is None else Diagnosis(category=category, summary=task.status_message)


def _told(task: TaskView) -> bool:
    """What stands on the task is ours."""
    return task.status_reason.startswith(TOLD) or task.status_message.startswith(TOLD)


def _interrupted(task: TaskView) -> bool:
    """The agent reported a SIGTERM, and its user was not told yet who sent it."""
    reported = task.status == "stopped" and task.status_reason == SIGTERM_REASON
    return reported and not task.status_message.startswith(TOLD)


def _ours(task: TaskView, job: JobRecord, worker: str) -> bool:
    """Nobody else has reported as the task's worker; each rank does under an id of its own."""
    own = {names.rank_worker_id(worker, rank) for rank in range(job.pods)}
    return task.last_worker is None or task.last_worker in own


def _over(job: JobRecord, pods: Sequence[PodRecord], *, begun: bool) -> bool:
    """Nothing more comes of it. Of several pods, once they have begun, rank 0 speaks for all, and others may end well
    before it; one that does not ends all."""
    if job.finished:
        return True
    if job.pods == 1 or not begun:
        return any(_ended(pod) for pod in pods)
    return any(_ended(pod) and (pod.rank == 0 or broken(pod)) for pod in pods)


def _ended(pod: PodRecord) -> bool:
    containers = [c for c in pod.containers if not c.init]
    return pod.finished or (bool(containers) and all(c.terminated is not None for c in containers))

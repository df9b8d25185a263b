"""How long each thing has lasted, as this process saw it, and when the next step is due."""

from __future__ import annotations

from collections.abc import Container, Sequence

from clearml_k8s.clearml.tasks import TaskView
from clearml_k8s.clock import Clock
from clearml_k8s.config import Config
from clearml_k8s.flow.decide import RUNS, WAITS, Decision, Step
from clearml_k8s.flow.diagnosis import Category, Diagnosis
from clearml_k8s.flow.ending import finished_at, started_at
from clearml_k8s.kube.slim import JobRecord, PodRecord

TELL_SECONDS, NO_POD_SECONDS, STARTING_SECONDS = 3.0, 5.0, 10.0
"""How long it may wait before its user is told why; most start sooner."""

ENDING_SECONDS = 120.0
"""How long the agent may take to end after it reported the end of the task."""

LEAVES_SECONDS = 20.0
"""How long the agent of an older attempt may take to see that its task is queued anew; it looks every 5 s."""
ABORT_SECONDS = 150.0
"""How long nothing may be reported of a task that its user aborts: its agent does so every 60 s, also while it waits
for what the script does on an abort, which may be long."""

APART_SECONDS = 300.0
"""How long several pods may run, and prepare themselves, before it is told that they have not begun together."""

CONFIRM_SECONDS = 1.0
"""How long a task must show as running after its pod's end before it is failed."""


class Lasting:
    """When each thing was seen first: by a Job's uid and what it is."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._since: dict[tuple[str, str], float] = {}

    def __len__(self) -> int:
        return len(self._since)

    def keep(self, jobs: Container[str]) -> None:
        """Forget all but these Jobs (uids)."""
        self._since = {key: since for key, since in self._since.items() if key[0] in jobs}

    def untold(self, job: JobRecord, diagnosis: Diagnosis, *, has_pod: bool) -> float:
        """Seconds until it has waited long enough to be told of."""
        waited = self._lasted(job, "waiting")
        if diagnosis.category is Category.STARTING:
            return STARTING_SECONDS - waited
        return (TELL_SECONDS if has_pod else NO_POD_SECONDS) - waited

    def apart(self, job: JobRecord) -> float:
        """Seconds until several pods that all run should have begun."""
        return APART_SECONDS - self._lasted(job, "all of its pods run")

    def left(
        self,
        job: JobRecord,
        task: TaskView | None,
        decision: Decision,
        *,
        pods: Sequence[PodRecord],
        config: Config,
        max_run: float | None,
    ) -> float:
        """Seconds until the step is due; ``max_run``: minutes that a task of its queue may run."""
        diagnosis, status = decision.diagnosis, "" if task is None else task.status
        match decision.step:
            case Step.GIVE_BACK if diagnosis is not None:
                return (diagnosis.patience or 0.0) - self._lasted(job, f"held in vain {diagnosis.since}")
            case Step.FAIL_WAITING | Step.FAIL_LOST | Step.EXPLAIN_STOP if diagnosis is not None:
                what = f"{diagnosis.category.value} {diagnosis.since}"
                return (diagnosis.patience or 0.0) - self._lasted(job, what)
            case Step.FAIL_ENDED | Step.DISRUPTED if diagnosis is not None and status == "stopped":
                # A better reason may follow the first one.
                return (diagnosis.patience or 0.0) - self._lasted(job, "the report of a SIGTERM")
            case Step.FAIL_ENDED | Step.DISRUPTED if task is not None and diagnosis is not None and status in RUNS:
                # Whoever else has started it since (after an abort and an enqueue) shows as its worker a moment later.
                what = f"ended, but {status} since {task.status_changed} on {task.last_worker}"
                return (diagnosis.patience or CONFIRM_SECONDS) - self._lasted(job, what)
            case Step.FAIL_ENDED | Step.DISRUPTED if diagnosis is not None and diagnosis.patience and status in WAITS:
                return diagnosis.patience - self._lasted(job, "its pod's end")
            case Step.DELETE_JOB if task is not None and status in WAITS and _run(pods):
                # Told to end it would report an abort, which takes the next attempt out of its queue.
                return LEAVES_SECONDS - self._lasted(job, f"enqueued again at {task.status_changed}")
            case Step.END_ABORTED if task is not None:
                return ABORT_SECONDS - self._lasted(job, f"abort, last report {task.last_update}")
            case Step.FAIL_LONG:
                return self._may_run(pods, minutes=max_run)
            case Step.DELETE_LATER:
                return self._kept(job, pods, keep=kept_minutes(config=config, status=status))
            case _:
                return 0.0

    def _may_run(self, pods: Sequence[PodRecord], *, minutes: float | None) -> float:
        """Seconds that it may still run, counted from the container's start, whoever saw that."""
        began = started_at(pods)
        if began is None or minutes is None:
            return 1.0
        return 60 * minutes - (self._clock.now() - began).total_seconds()

    def _kept(self, job: JobRecord, pods: Sequence[PodRecord], *, keep: float) -> float:
        """Seconds that the Job of an ended task stays: until its pod has ended, and then ``keep`` minutes."""
        done = finished_at(job, pods)
        if done is None:
            return ENDING_SECONDS - self._lasted(job, "the task's end")
        return 60 * keep - (self._clock.now() - done).total_seconds()

    def _lasted(self, job: JobRecord, what: str) -> float:
        now = self._clock.monotonic()
        return now - self._since.setdefault((job.uid, what), now)


def _run(pods: Sequence[PodRecord]) -> bool:
    """A container of them runs that nobody told to end."""
    return any(c.running and not c.init for pod in pods if pod.deleted is None for c in pod.containers)


def kept_minutes(*, config: Config, status: str) -> float:
    """How long the Job of a task with this status is kept."""
    failed = config.failed_pod_deletion_delay_minutes
    return failed if status == "failed" and failed is not None else config.completed_pod_deletion_delay_minutes

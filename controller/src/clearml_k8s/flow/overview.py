"""What becomes of each task that has a Job, for people who look at the whole: pure, from what the cluster shows."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from clearml_k8s.flow.diagnosis import Category, Diagnosis
from clearml_k8s.kube.slim import JobRecord, PodRecord


class Phase(enum.Enum):
    """Where a task's Job is on its way."""

    PENDING = "pending"
    """No container of the task runs yet."""
    RUNNING = "running"
    ENDING = "ending"
    """It was told to end, or has ended and is kept."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One Job. ``queue`` is its id; ``since``: when this phase began, as the API server wrote it, "" if not known;
    ``category`` and ``why`` of what is pending, None and "" else."""

    task: str
    job: str
    queue: str
    phase: Phase
    since: str = ""
    category: Category | None = None
    why: str = ""


def row(*, job: JobRecord, pods: Sequence[PodRecord], diagnosis: Diagnosis | None) -> Row:
    """``diagnosis``: why its pod does not run, None when it runs or has ended (`pending.pending`)."""
    task, queue = job.task or "", job.queue or ""
    over = job.deleted or next((pod.deleted for pod in pods if pod.deleted), None)
    if over or job.finished or (pods and all(pod.finished for pod in pods)):
        return Row(task=task, job=job.name, queue=queue, phase=Phase.ENDING, since=over or "")
    if diagnosis is not None:
        return Row(
            task=task,
            job=job.name,
            queue=queue,
            phase=Phase.PENDING,
            since=job.created,
            category=diagnosis.category,
            why=str(diagnosis),
        )
    started = [c.started_at for pod in pods for c in pod.containers if c.running and not c.init and c.started_at]
    return Row(task=task, job=job.name, queue=queue, phase=Phase.RUNNING, since=min(started, default=""))

"""Sees each Job come, however its creation was answered, and its pod start; each once, with how long that took."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from clearml_k8s.clock import moment
from clearml_k8s.flow.measures import Measures
from clearml_k8s.kube.slim import JobRecord, PodRecord
from clearml_k8s.kube.store import Store

SPARE = 100
"""Jobs remembered beyond those that exist, before the list is cleared of what is gone."""


class Starts:
    """Called at each change of a task's Job or pods: a pod may have started and be gone by the time of a look."""

    def __init__(self, *, jobs: Store[JobRecord], pods: Store[PodRecord], measures: Measures) -> None:
        self._jobs = jobs
        self._pods = pods
        self._measures = measures
        self._seen: dict[str, bool] = {}  # uid of a Job -> its pod has started

    def changed(self, task: str) -> None:
        """Count and measure what is new of the task. What the first lists bring was counted by another process."""
        for job in self._jobs.of_task(task):
            if job.uid not in self._seen:
                self._seen[job.uid] = False
                if self._jobs.synced.is_set():
                    self._measures.created(job.queue)
            if not self._seen[job.uid] and (at := self._started(job)) is not None:
                self._seen[job.uid] = True
                if self._jobs.synced.is_set() and self._pods.synced.is_set():
                    self._measures.started(
                        job.queue, from_job=_seconds(job.created, at), from_queue=_seconds(job.attempt, at)
                    )
        if len(self._seen) > 2 * len(self._jobs) + SPARE:
            there = {job.uid for job in self._jobs}
            self._seen = {uid: started for uid, started in self._seen.items() if uid in there}

    def _started(self, job: JobRecord) -> datetime | None:
        return first_start([pod for pod in self._pods.of_task(job.task or "") if pod.job_uid == job.uid])


def first_start(pods: Sequence[PodRecord]) -> datetime | None:
    """When the first container of them began that is no init container, whether it still runs or not."""
    times = (moment(c.started_at) for pod in pods for c in pod.containers if not c.init and c.started_at)
    return min((at for at in times if at is not None), default=None)


def _seconds(since: str | None, at: datetime) -> float | None:
    """Never negative: the clocks are two machines'."""
    begun = moment(since) if since else None
    return None if begun is None else max(0.0, (at - begun).total_seconds())

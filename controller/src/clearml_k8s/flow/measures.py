"""Counts what becomes of tasks, by queue: launched, failed, put back, and how long it took."""

from __future__ import annotations

from clearml_k8s.config import ResolvedQueue
from clearml_k8s.flow.diagnosis import DISRUPTIONS, FAILS, Category
from clearml_k8s.flow.launch import Launch
from clearml_k8s.flow.served import ServedQueues
from clearml_k8s.metrics import Metrics

CANNOT_BE_LAUNCHED = "cannot-be-launched"
"""Why a task is failed of which no Job can be made; all other reasons are categories of a diagnosis."""

NOT_SERVED = ""
"""The label of tasks whose queue is not served (any more)."""


class Measures:
    """What the flow reports to the metrics. A queue is named by its key under ``queues``, which never changes."""

    def __init__(self, *, metrics: Metrics, served: ServedQueues) -> None:
        self._metrics = metrics
        self._served = served
        for key in served.states:
            # From 0: Prometheus sees no increase in a series that begins with its first event.
            for launch in Launch:
                metrics.launches.labels(queue=key, result=launch.value)
            for reason in (CANNOT_BE_LAUNCHED, *(category.value for category in FAILS)):
                metrics.failed.labels(queue=key, reason=reason)
            for category in DISRUPTIONS:
                metrics.requeued.labels(queue=key, reason=category.value)
            for histogram in (metrics.take_to_job, metrics.job_to_running, metrics.queued_to_running):
                histogram.labels(queue=key)

    def key_of(self, queue: str | None) -> str:
        """The key of a queue's id."""
        found = self._served.by_id(queue) if queue else None
        return NOT_SERVED if found is None else found.config.name

    def launched(self, queue: ResolvedQueue, how: Launch, *, seconds: float | None) -> None:
        """A launch ended so, ``seconds`` after the task was chosen (None: unknown)."""
        if how is not Launch.CREATED:
            self._metrics.launches.labels(queue=queue.config.name, result=how.value).inc()
        elif seconds is not None:
            self._metrics.take_to_job.labels(queue=queue.config.name).observe(seconds)

    def created(self, queue: str | None) -> None:
        """A Job for the queue (its id) is there: seen, as the answer to its creation may be lost."""
        self._metrics.launches.labels(queue=self.key_of(queue), result=Launch.CREATED.value).inc()

    def failed(self, queue: str | None, reason: Category | None) -> None:
        """A task of the queue (its id) was failed, None: as no Job can be made of it; or its failure explained."""
        text = CANNOT_BE_LAUNCHED if reason is None else reason.value
        self._metrics.failed.labels(queue=self.key_of(queue), reason=text).inc()

    def requeued(self, queue: str | None, reason: Category) -> None:
        """A task was put back into the queue (its id)."""
        self._metrics.requeued.labels(queue=self.key_of(queue), reason=reason.value).inc()

    def started(self, queue: str | None, *, from_job: float | None, from_queue: float | None) -> None:
        """The pod of a task runs, so many seconds after its Job was created, and after it was enqueued."""
        key = self.key_of(queue)
        if from_job is not None:
            self._metrics.job_to_running.labels(queue=key).observe(from_job)
        if from_queue is not None:
            self._metrics.queued_to_running.labels(queue=key).observe(from_queue)

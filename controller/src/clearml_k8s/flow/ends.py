"""Ends what is over: fails a task and says why, deletes a Job."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from clearml_k8s.clearml import queues, tasks
from clearml_k8s.clearml.session import Session
from clearml_k8s.clearml.tasks import TaskView
from clearml_k8s.errors import InvalidStatus, KubeConflict, Unanswered
from clearml_k8s.flow.decide import TOLD
from clearml_k8s.flow.diagnosis import Diagnosis
from clearml_k8s.flow.explain import Explainer
from clearml_k8s.flow.measures import Measures
from clearml_k8s.kube.client import KubeClient
from clearml_k8s.kube.resources import JOBS
from clearml_k8s.kube.slim import JobRecord, PodRecord
from clearml_k8s.logs import kv

log = logging.getLogger(__name__)


class Ends:
    """The last calls to both APIs for a task and its Job."""

    def __init__(
        self,
        *,
        session: Session,
        client: KubeClient,
        explain: Explainer,
        measures: Measures,
        namespace: str,
        pending_queue: Callable[[], str | None],
    ) -> None:
        """``pending_queue``: its id, if known."""
        self._session = session
        self._client = client
        self._explain = explain
        self._measures = measures
        self._namespace = namespace
        self._pending_queue = pending_queue

    async def fail(
        self, job: JobRecord, task: TaskView, diagnosis: Diagnosis, *, pods: Sequence[PodRecord], why: str
    ) -> bool:
        """Fail the task and tell why; False when its status does not allow that any more. Errors as `Session.call`."""
        try:
            await tasks.failed(
                self._session,
                task.id,
                reason=f"{TOLD}{diagnosis.category.value}",
                message=str(diagnosis),
                force=task.status == "queued",
            )
        except InvalidStatus:
            return False
        except Unanswered:
            # It may be done, and then nobody comes back here to tell.
            await self._explain.ended(job, pods, diagnosis, why=why)
            raise
        self._measures.failed(job.queue, diagnosis.category)
        await self._explain.ended(job, pods, diagnosis, why=why)
        if task.status == "queued":
            await self.hide(task.id)
        log.warning("task failed", extra=kv(**job.fields, category=diagnosis.category.value, why=diagnosis.summary))
        return True

    async def delete(self, job: JobRecord, why: str) -> None:
        """Delete this very Job, and with it its pod, which gets its grace period. Errors as `KubeClient.delete`."""
        try:
            await self._client.delete(JOBS, job.name, uid=job.uid, namespace=self._namespace)
        except KubeConflict:
            return
        log.info("Job deleted", extra=kv(**job.fields, why=why))

    async def hide(self, task: str) -> None:
        """Take the entry out of the pending queue, which the server leaves there when a queued task is failed. Errors
        as `Session.call`."""
        pending = self._pending_queue()
        if pending is not None:
            await queues.remove_task(self._session, pending, task)

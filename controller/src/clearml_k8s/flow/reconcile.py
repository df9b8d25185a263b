"""Brings tasks and Jobs together: one level-triggered step at a time for each task that has a Job.

Watches and reads only mark tasks; what is done follows from how things are, never from what happened.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from clearml_k8s import names
from clearml_k8s.clearml import queues, tasks
from clearml_k8s.clearml.session import Session
from clearml_k8s.clearml.tasks import TaskView
from clearml_k8s.config import Config, ResolvedQueue
from clearml_k8s.errors import InvalidStatus, KubeConflict, Refused, Unanswered
from clearml_k8s.flow import decide as rules
from clearml_k8s.flow.decide import Decision, Step
from clearml_k8s.flow.diagnosis import Category, Diagnosis, patience
from clearml_k8s.flow.ending import finished_at
from clearml_k8s.flow.explain import Explainer
from clearml_k8s.flow.happenings import AGAIN_SECONDS, EXPLAINED_BY_EVENTS, Happenings
from clearml_k8s.flow.presence import Presence
from clearml_k8s.flow.reads import TaskReads
from clearml_k8s.flow.tell import Teller
from clearml_k8s.flow.workqueue import QueueClosed, WorkQueue
from clearml_k8s.kube.client import KubeClient
from clearml_k8s.kube.resources import JOBS
from clearml_k8s.kube.slim import JobRecord, PodRecord
from clearml_k8s.kube.store import Store
from clearml_k8s.logs import kv

log = logging.getLogger(__name__)

WORKERS = 16
STATE_SECONDS = 4.0
"""Between two looks at the states of all tasks that have a Job."""

TELL_SECONDS, NO_POD_SECONDS, STARTING_SECONDS = 3.0, 5.0, 10.0
"""How long it may wait before its user is told why; most start sooner."""

ENDING_SECONDS = 120.0
"""How long the agent may take to end after it reported the end of the task."""

CONFIRM_SECONDS = 1.0
"""How long a task must show as running after its pod's end before it is failed."""


class Reconciler:
    """The workers and their queue of tasks to look at."""

    def __init__(
        self,
        *,
        config: Config,
        session: Session,
        client: KubeClient,
        jobs: Store[JobRecord],
        pods: Store[PodRecord],
        reads: TaskReads,
        teller: Teller,
        work: WorkQueue[str],
        worker_id: str,
        controller: str,
        pending_queue: Callable[[], str | None],
        queue: Callable[[str], ResolvedQueue | None],
    ) -> None:
        """``pending_queue``: its id, if known. ``queue``: the served queue of an id, if there is one."""
        self._config = config
        self._session = session
        self._client = client
        self._clock = session.clock
        self._jobs = jobs
        self._pods = pods
        self._reads = reads
        self._work = work
        self._worker_id = worker_id
        self._controller = controller
        self._since: dict[tuple[str, str], float] = {}  # (Job uid, what) -> when it was seen first
        self._explained: set[str] = set()  # uids of Jobs whose pod's end was told, or is our own doing
        self._explain = Explainer(session=session, client=client, teller=teller, namespace=config.namespace)
        self._presence = Presence(session=session, jobs=jobs, namespace=config.namespace, release=config.release_name)
        self._pending_queue = pending_queue
        self._queue = queue
        self._happenings = Happenings(client=client, clock=session.clock, namespace=config.namespace)

    # ---- loops ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Work for ever; end by closing the queue."""
        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(self._worker())

    async def follow_states(self) -> None:
        """Read the states of all tasks that have a Job, every few seconds, and mark those that changed."""
        while True:
            await self._clock.sleep(STATE_SECONDS)
            try:
                changed = await self._reads.refresh(self._jobs.tasks())
            except (Refused, Unanswered) as error:
                log.debug("task states not read: %s", error)
                continue
            for task in changed:
                self._work.put(task)

    async def _worker(self) -> None:
        while True:
            try:
                task = await self._work.get()
            except QueueClosed:
                return
            try:
                again = await self._reconcile(task)
                self._work.forget(task)
                if again is not None:
                    self._work.put_after(task, again)
            except (Refused, Unanswered) as error:
                wait = self._work.put_backoff(task)
                log.info("task looked at again later", extra=kv(task=task, retry_in=round(wait, 1), why=str(error)))
            except Exception:
                # One task's trouble must not end the work on all others.
                log.exception("reconciling failed", extra=kv(task=task))
                self._work.put_backoff(task)
            finally:
                self._work.done(task)

    # ---- one task ---------------------------------------------------------------------------------------------------

    async def _reconcile(self, task: str) -> float | None:
        """One step for each Job of the task (there is one but for replaced ones); seconds until the next look."""
        again: list[float] = []
        for job in self._jobs.of_task(task):
            if job.deleted is not None or job.controller != self._controller:
                continue
            wait = await self._step(job)
            if wait is not None:
                again.append(wait)
        if not self._jobs.of_task(task):
            self._forget(task)
        return min(again, default=None)

    async def _step(self, job: JobRecord) -> float | None:
        task = job.task or ""
        seen = self._reads.last(task)
        if seen is None:
            seen = await self._reads.fresh(task)
        decision = self._decide(seen.task, job)
        if decision.step is Step.NOTHING:
            return None
        if decision.diagnosis is not None and decision.step in (Step.TELL, Step.FAIL_WAITING):
            decision = await self._look_closer(job, seen.task, decision)
        if decision.step is Step.TELL:
            return await self._tell(job, decision.diagnosis)
        left = self._left(job, seen.task, decision)
        if left > 0:
            if decision.step is Step.FAIL_WAITING and decision.diagnosis is not None:
                await self._explain.waits(job, decision.diagnosis)
            return left
        if seen.task is None and (doubt := await self._presence.doubt(job, since=seen.at)) is not None:
            return doubt
        # Before anything ends: read again, after the cluster's news came in, and decide anew.
        latest = await self._reads.fresh(task)
        # A witness after either read: between them the address may have come to name another server.
        if latest.task is None and (doubt := await self._presence.doubt(job, since=latest.at)) is not None:
            return doubt
        known = self._jobs.get(job.uid)
        if known is None or known.deleted is not None:
            return None
        again = self._decide(latest.task, known)
        if again.step is not decision.step or (latest.task is None) is not (seen.task is None):
            return 0.0
        left = self._left(known, latest.task, again)
        if left > 0:
            return left
        return await self._end(known, latest.task, again)

    async def _end(self, job: JobRecord, task: TaskView | None, decision: Decision) -> float | None:
        """Take a step that is due, on a read that is new."""
        diagnosis = decision.diagnosis
        if decision.step is Step.EXPLAIN_STOP and diagnosis is not None:
            await self._explain.interrupted(job, diagnosis)
            self._explained.add(job.uid)
            return 0.0
        if decision.step is Step.FAIL_ENDED and diagnosis is not None:
            await self._fail(job, task, diagnosis, why=decision.why)
        elif decision.step is Step.FAIL_WAITING and diagnosis is not None:
            if await self._fail(job, task, diagnosis, why="it cannot start"):
                await self._delete(job, diagnosis.summary)
        else:
            await self._delete(job, decision.why)
        return None

    def _left(self, job: JobRecord, task: TaskView | None, decision: Decision) -> float:
        """Seconds until the step is due."""
        match decision.step:
            case Step.FAIL_WAITING | Step.EXPLAIN_STOP if decision.diagnosis is not None:
                what = f"{decision.diagnosis.category.value} {decision.diagnosis.since}"
                return (decision.diagnosis.patience or 0.0) - self._lasted(job, what)
            case Step.FAIL_ENDED if task is not None and task.status in rules.RUNS:
                # Whoever else has started it since (after an abort and an enqueue) shows as its worker a moment later.
                what = f"ended, but {task.status} since {task.status_changed} on {task.last_worker}"
                return CONFIRM_SECONDS - self._lasted(job, what)
            case Step.DELETE_LATER:
                return self._kept(job)
            case _:
                return 0.0

    def _kept(self, job: JobRecord) -> float:
        """Seconds that the Job of an ended task stays: until its pod has ended, and then as long as configured."""
        done = finished_at(job, self._pods_of(job))
        if done is None:
            return ENDING_SECONDS - self._lasted(job, "the task's end")
        keep = 60 * self._config.completed_pod_deletion_delay_minutes
        return keep - (self._clock.now() - done).total_seconds()

    def _decide(self, task: TaskView | None, job: JobRecord) -> Decision:
        return rules.decide(
            task=task,
            job=job,
            pods=self._pods_of(job),
            gone=[pod for pod in self._pods.gone_of_task(job.task or "") if pod.job_uid == job.uid],
            worker=names.task_worker_id(worker_id=job.worker or self._worker_id, task_id=job.task or ""),
            explained=job.uid in self._explained,
            events=self._happenings.of(job),
            patience=patience(config=self._config, queue=self._queue(job.queue or "")),
        )

    def _pods_of(self, job: JobRecord) -> list[PodRecord]:
        return [pod for pod in self._pods.of_task(job.task or "") if pod.job_uid == job.uid]

    async def _tell(self, job: JobRecord, diagnosis: Diagnosis | None) -> float | None:
        if diagnosis is None:
            return None
        if (left := self._untold(job, diagnosis)) > 0:
            return left
        again = await self._explain.waits(job, diagnosis)
        if diagnosis.category not in EXPLAINED_BY_EVENTS:
            return again
        return max(1.0, min(again or AGAIN_SECONDS, self._happenings.due(job)))

    async def _look_closer(self, job: JobRecord, task: TaskView | None, decision: Decision) -> Decision:
        """The same decision, or another one when the events say more than the objects do."""
        diagnosis = decision.diagnosis
        if diagnosis is None or diagnosis.category not in EXPLAINED_BY_EVENTS:
            return decision
        if self._untold(job, diagnosis) > 0 or self._happenings.due(job) > 0:
            return decision
        await self._happenings.read(job, self._pods_of(job))
        self._explain.happened(job, self._happenings.of(job))
        return self._decide(task, job)

    def _untold(self, job: JobRecord, diagnosis: Diagnosis) -> float:
        """Seconds until it has waited long enough to be told of."""
        waited = self._lasted(job, "waiting")
        if diagnosis.category is Category.STARTING:
            return STARTING_SECONDS - waited
        return (TELL_SECONDS if self._pods_of(job) else NO_POD_SECONDS) - waited

    def _lasted(self, job: JobRecord, what: str) -> float:
        now = self._clock.monotonic()
        return now - self._since.setdefault((job.uid, what), now)

    # ---- ends -------------------------------------------------------------------------------------------------------

    async def _fail(self, job: JobRecord, task: TaskView | None, diagnosis: Diagnosis, *, why: str) -> bool:
        """Fail the task and tell why; False when its status does not allow that any more."""
        if task is None:
            return False
        try:
            await tasks.failed(
                self._session,
                task.id,
                reason=f"Kubernetes: {diagnosis.category.value}",
                message=str(diagnosis),
                force=task.status == "queued",
            )
        except InvalidStatus:
            # Someone was faster; the next look sees how it is now.
            self._work.put_after(task.id, 1.0)
            return False
        except Unanswered:
            # It may be done, and then nobody comes back here to tell.
            await self._explain.ended(job, self._pods_of(job), diagnosis, why=why)
            raise
        await self._explain.ended(job, self._pods_of(job), diagnosis, why=why)
        if task.status == "queued":
            await self._hide(task.id)
        log.warning("task failed", extra=kv(task=task.id, category=diagnosis.category.value, why=diagnosis.summary))
        await self._reads.fresh(task.id)
        self._work.put(task.id)
        return True

    async def _hide(self, task: str) -> None:
        """Take the entry out of the pending queue, which the server leaves there when a queued task is failed."""
        pending = self._pending_queue()
        if pending is not None:
            await queues.remove_task(self._session, pending, task)

    async def _delete(self, job: JobRecord, why: str) -> None:
        # Before the call: its pod may report its end before the call has ended.
        self._explained.add(job.uid)
        try:
            await self._client.delete(JOBS, job.name, uid=job.uid, namespace=self._config.namespace)
        except KubeConflict:
            return
        log.info("Job deleted", extra=kv(job=job.name, why=why))

    def _forget(self, task: str) -> None:
        self._explain.forget(task)
        self._pods.forget(task)
        if len(self._since) + len(self._explained) > 4 * len(self._jobs) + 100:
            uids = {job.uid for job in self._jobs}
            self._since = {key: since for key, since in self._since.items() if key[0] in uids}
            self._explained &= uids
            self._happenings.forget(list(self._jobs))

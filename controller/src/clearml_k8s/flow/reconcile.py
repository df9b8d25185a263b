"""Brings tasks and Jobs together: one level-triggered step at a time for each task that has a Job.

Watches and reads only mark tasks; what is done follows from how things are, never from what happened.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from clearml_k8s import names
from clearml_k8s.clearml import queues, tasks
from clearml_k8s.clearml.session import Session
from clearml_k8s.clearml.tasks import TaskView
from clearml_k8s.config import Config
from clearml_k8s.errors import InvalidStatus, KubeConflict, KubeRefused, Refused, Unanswered
from clearml_k8s.flow import decide as rules
from clearml_k8s.flow.decide import Decision, Step
from clearml_k8s.flow.diagnose import Category, Diagnosis, newest
from clearml_k8s.flow.reads import TaskReads
from clearml_k8s.flow.tell import Teller
from clearml_k8s.flow.workqueue import QueueClosed, WorkQueue
from clearml_k8s.kube.client import KubeClient
from clearml_k8s.kube.resources import EVENTS, JOBS, PODS
from clearml_k8s.kube.store import JobRecord, PodRecord, Store
from clearml_k8s.logs import kv

log = logging.getLogger(__name__)

WORKERS = 16
STATE_SECONDS = 4.0
"""Between two looks at the states of all tasks that have a Job."""

NO_POD_SECONDS = 5.0
TELL_SECONDS = 3.0
"""How long a pod may wait before its user is told why; most start sooner."""

ENDING_SECONDS = 120.0
"""How long the agent may take to end after it reported the end of the task."""

REPEAT_SECONDS = 60.0
CONFIRM_SECONDS = 1.0
"""How long a task must show as running after its pod's end before it is failed."""

LOG_LINES = 50
LOG_BYTES = 32_768
LOG_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class _Told:
    """What a task's user was told last."""

    category: Category
    text: str
    at: float


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
    ) -> None:
        """``pending_queue``: its id, if known."""
        self._config = config
        self._session = session
        self._client = client
        self._clock = session.clock
        self._jobs = jobs
        self._pods = pods
        self._reads = reads
        self._teller = teller
        self._work = work
        self._worker_id = worker_id
        self._controller = controller
        self._since: dict[tuple[str, str], float] = {}  # (Job uid, what) -> when it was seen first
        self._told: dict[str, _Told] = {}
        self._pending_queue = pending_queue

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
        if decision.step in (Step.FAIL_ENDED, Step.DELETE_JOB):
            # Before anything ends: read again, after the cluster's news came in.
            seen = await self._reads.fresh(task)
            decision = self._decide(seen.task, job)
        match decision.step:
            case Step.NOTHING:
                return None
            case Step.TELL if decision.diagnosis:
                return await self._tell(job, decision.diagnosis)
            case Step.FAIL_WAITING if decision.diagnosis:
                return await self._fail_waiting(job, decision.diagnosis)
            case Step.FAIL_ENDED if decision.diagnosis:
                return await self._fail_ended(job, seen.task, decision)
            case Step.DELETE_LATER:
                return await self._delete_later(job, decision)
            case _:
                await self._delete(job, decision.why)
                return None

    def _decide(self, task: TaskView | None, job: JobRecord) -> Decision:
        worker = names.task_worker_id(worker_id=self._worker_id, task_id=job.task or "")
        return rules.decide(task=task, job=job, pods=self._pods_of(job), worker=worker)

    def _pods_of(self, job: JobRecord) -> list[PodRecord]:
        return [pod for pod in self._pods.of_task(job.task or "") if pod.job_uid == job.uid]

    # ---- waiting ----------------------------------------------------------------------------------------------------

    async def _tell(self, job: JobRecord, diagnosis: Diagnosis) -> float | None:
        if diagnosis.category is Category.STARTING:
            return None
        lasted = self._lasted(job, diagnosis.category.value)
        patience = NO_POD_SECONDS if diagnosis.category is Category.NO_POD else TELL_SECONDS
        if lasted < patience:
            return patience - lasted
        text = str(diagnosis)
        if diagnosis.category is Category.NO_POD:
            text += await self._job_events(job)
        again = await self._say_waiting(job, diagnosis.category, text)
        return 30.0 if diagnosis.category is Category.NO_POD else again

    async def _fail_waiting(self, job: JobRecord, diagnosis: Diagnosis) -> float | None:
        lasted = self._lasted(job, diagnosis.category.value)
        if diagnosis.patience is not None and lasted < diagnosis.patience:
            await self._say_waiting(job, diagnosis.category, str(diagnosis))
            return diagnosis.patience - lasted
        seen = await self._reads.fresh(job.task or "")
        again = self._decide(seen.task, job)
        if again.step is not Step.FAIL_WAITING or again.diagnosis is None:
            return 0.0
        if await self._fail(job, seen.task, again.diagnosis, why="it cannot start"):
            await self._delete(job, diagnosis.summary)
        return None

    async def _say_waiting(self, job: JobRecord, category: Category, text: str) -> float | None:
        """Tell it, and each change of the reason; of mere changes of its words one a minute. Seconds to the next."""
        task, now = job.task or "", self._clock.monotonic()
        before = self._told.get(task)
        if before is not None and before.text == text:
            return None
        if before is not None and before.category is category and now < before.at + REPEAT_SECONDS:
            return before.at + REPEAT_SECONDS - now
        self._told[task] = _Told(category=category, text=text, at=now)
        self._teller.say(task, f"Waiting: {text}")
        await tasks.set_status_message(self._session, task, f"Kubernetes: {text}")
        return None

    async def _job_events(self, job: JobRecord) -> str:
        """What the Job controller says about pods it could not make (quota, admission)."""
        selector = f"involvedObject.uid={job.uid},reason=FailedCreate"
        try:
            async for page in self._client.list_pages(
                EVENTS, namespace=self._config.namespace, field_selector=selector, limit=20
            ):
                messages = [str(event.get("message") or "") for event in page["items"]]
                return f": {messages[-1]}" if messages else ""
        except KubeRefused as error:
            log.debug("events not read: %s", error)
        return ""

    def _lasted(self, job: JobRecord, what: str) -> float:
        now = self._clock.monotonic()
        return now - self._since.setdefault((job.uid, what), now)

    # ---- ends -------------------------------------------------------------------------------------------------------

    async def _fail_ended(self, job: JobRecord, task: TaskView | None, decision: Decision) -> float | None:
        if task is not None and task.status in rules.RUNS:
            # Whoever else has started it since (after an abort and an enqueue) shows as its worker only a moment later.
            lasted = self._lasted(job, f"ended, but {task.status} since {task.status_changed} on {task.last_worker}")
            if lasted < CONFIRM_SECONDS:
                return CONFIRM_SECONDS - lasted
        if decision.diagnosis is not None:
            await self._fail(job, task, decision.diagnosis, why=decision.why)
        return None

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
            await self._explain(job, task, diagnosis, why=why)
            raise
        await self._explain(job, task, diagnosis, why=why)
        if task.status == "queued":
            await self._hide(task.id)
        log.warning("task failed", extra=kv(task=task.id, category=diagnosis.category.value, why=diagnosis.summary))
        await self._reads.fresh(task.id)
        self._work.put(task.id)
        return True

    async def _explain(self, job: JobRecord, task: TaskView, diagnosis: Diagnosis, *, why: str) -> None:
        self._teller.say(task.id, f"{diagnosis} ({why})", level="ERROR")
        for line in await self._last_lines(job):
            self._teller.say(task.id, line, level="ERROR")

    async def _hide(self, task: str) -> None:
        """Take the entry out of the pending queue, which the server leaves there when a queued task is failed."""
        pending = self._pending_queue()
        if pending is not None:
            await queues.remove_task(self._session, pending, task)

    async def _last_lines(self, job: JobRecord) -> list[str]:
        pod = newest(self._pods_of(job))
        if pod is None or pod.node is None:
            return []
        path = PODS.path(namespace=self._config.namespace, name=pod.name, subresource="log")
        params: dict[str, str | int | bool] = {
            "container": names.TASK_CONTAINER,
            "tailLines": LOG_LINES,
            "limitBytes": LOG_BYTES,
        }
        try:
            async with self._clock.timeout(LOG_SECONDS), self._client.stream(path, params=params) as chunks:
                text = b"".join([chunk async for chunk in chunks]).decode("utf-8", "replace").strip()
        except TimeoutError:
            return [f"The pod's log cannot be read: no answer within {LOG_SECONDS:.0f} s"]
        except (Refused, Unanswered) as error:
            return [f"The pod's log cannot be read: {error}"]
        return [f"Last lines of the pod:\n{text}"] if text else []

    async def _delete_later(self, job: JobRecord, decision: Decision) -> float | None:
        done = _finished_at(job, self._pods_of(job))
        if done is None:
            lasted = self._lasted(job, "the task's end")
            if lasted < ENDING_SECONDS:
                return ENDING_SECONDS - lasted
            await self._delete(job, f"{decision.why}, and its pod does not end")
            return None
        keep = timedelta(minutes=self._config.completed_pod_deletion_delay_minutes)
        left = (done + keep - self._clock.now()).total_seconds()
        if left > 0:
            return left
        await self._delete(job, decision.why)
        return None

    async def _delete(self, job: JobRecord, why: str) -> None:
        try:
            await self._client.delete(JOBS, job.name, uid=job.uid, namespace=self._config.namespace)
        except KubeConflict:
            return
        log.info("Job deleted", extra=kv(job=job.name, why=why))

    def _forget(self, task: str) -> None:
        self._teller.forget(task)
        self._told.pop(task, None)
        if len(self._since) > 4 * len(self._jobs) + 100:
            uids = {job.uid for job in self._jobs}
            self._since = {key: since for key, since in self._since.items() if key[0] in uids}


def _finished_at(job: JobRecord, pods: list[PodRecord]) -> datetime | None:
    """When the Job's last container ended; None while one may still run."""
    if not job.finished and not all(pod.finished for pod in pods):
        return None
    if not job.finished and not pods:
        return None
    times = [c.finished_at for pod in pods for c in pod.containers if c.finished_at]
    times += [condition.since for condition in job.conditions if condition.since]
    return max((datetime.fromisoformat(t.replace("Z", "+00:00")) for t in times), default=None)

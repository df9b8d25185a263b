"""Brings tasks and Jobs together: one level-triggered step at a time for each task that has a Job.

Watches and reads only mark tasks; what is done follows from how things are, never from what happened.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from clearml_k8s import names
from clearml_k8s.clearml.session import Session
from clearml_k8s.clearml.tasks import TaskView
from clearml_k8s.config import Config, ResolvedQueue
from clearml_k8s.config.multi_node import MultiNodeConfig
from clearml_k8s.errors import Refused, Unanswered
from clearml_k8s.flow import decide as rules
from clearml_k8s.flow import overview
from clearml_k8s.flow.decide import Decision, Step
from clearml_k8s.flow.diagnosis import Diagnosis, max_run_minutes, most_requeues, newest, patience
from clearml_k8s.flow.ending import by_suspension
from clearml_k8s.flow.ends import Ends
from clearml_k8s.flow.explain import Explainer
from clearml_k8s.flow.happenings import AGAIN_SECONDS, EXPLAINED_BY_EVENTS, Happenings
from clearml_k8s.flow.lasting import Lasting
from clearml_k8s.flow.measures import Measures
from clearml_k8s.flow.overview import Row
from clearml_k8s.flow.owner_tokens import OwnerTokens
from clearml_k8s.flow.pending import pending, placed
from clearml_k8s.flow.presence import Presence
from clearml_k8s.flow.reads import TaskReads
from clearml_k8s.flow.requeue import Requeued, Requeuer
from clearml_k8s.flow.tell import Teller
from clearml_k8s.flow.workqueue import QueueClosed, WorkQueue
from clearml_k8s.kube.client import KubeClient
from clearml_k8s.kube.events import EventRecord
from clearml_k8s.kube.slim import JobRecord, PodRecord
from clearml_k8s.kube.store import Store
from clearml_k8s.kube.workload import WorkloadRecord
from clearml_k8s.logs import kv

log = logging.getLogger(__name__)

WORKERS = 16
STATE_SECONDS = 4.0
"""Between two looks at the states of all tasks that have a Job."""

WAITING = (Step.FAIL_WAITING, Step.GIVE_BACK)
"""Steps that end a wait: until they are due, its reason is told."""

ENDED = (Step.FAIL_ENDED, Step.DISRUPTED)
"""Steps after a pod's end, whose reason the pod shows."""

AGAIN, CHANGED_SECONDS = 0.0, 1.0
"""When to look again: there is a next step; somebody was faster, and how it is now shows in a moment."""

GONE_SECONDS = 10.0
"""Between two looks at a task whose Job is gone while a pod of it is not."""


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
        measures: Measures,
        work: WorkQueue[str],
        worker_id: str,
        controller: str,
        pending_queue: Callable[[], str | None],
        queue: Callable[[str], ResolvedQueue | None],
        owners: OwnerTokens | None = None,
        workloads: Store[WorkloadRecord] | None = None,
        listed: Callable[[], bool] = lambda: True,
    ) -> None:
        """``pending_queue``: its id, if known. ``queue``: the served queue of an id, if there is one. ``owners``: where
        pods get tokens of them. ``workloads``: what Kueue says of the Jobs; None where it has no part in it.
        ``listed``: whether the pods were listed once, so that a pod that is not known is not there."""
        self._listed = listed
        self._owners = owners
        self._workloads = workloads
        self._config = config
        # Jobs of several pods may be left from before that was switched off.
        self._multi_node = config.multi_node or MultiNodeConfig()
        self._clock = session.clock
        self._jobs = jobs
        self._pods = pods
        self._reads = reads
        self._work = work
        self._worker_id = worker_id
        self._controller = controller
        self._lasting = Lasting(clock=session.clock)
        self._explained: set[str] = set()  # uids of Jobs whose pod's end was told, or is our own doing
        self._aborting: set[str] = set()  # uids of Jobs whose task's user was seen to abort it
        self._explain = Explainer(session=session, client=client, teller=teller, namespace=config.namespace)
        self._ends = Ends(
            session=session,
            client=client,
            explain=self._explain,
            measures=measures,
            namespace=config.namespace,
            pending_queue=pending_queue,
        )
        self._requeuer = Requeuer(session=session, teller=teller, measures=measures)
        self._presence = Presence(session=session, jobs=jobs, namespace=config.namespace, release=config.release_name)
        self._queue = queue
        self._measures = measures
        self._happenings = Happenings(client=client, clock=session.clock, namespace=config.namespace)

    def events(self, job: JobRecord) -> Sequence[EventRecord]:
        """Those of the Job and its pods, oldest first, as far as they were read."""
        return self._happenings.of(job)

    # ---- loops ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """All workers; they end by closing the queue."""
        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(self.worker())

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

    async def worker(self) -> None:
        """One of `WORKERS`: works for ever."""
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
                fields = kv(**self._fields(task), retry_in=round(wait, 1), why=str(error))
                log.info("task looked at again later", extra=fields)
            except Exception:
                # One task's trouble must not end the work on all others.
                log.exception("reconciling failed", extra=kv(**self._fields(task)))
                self._work.put_backoff(task)
            finally:
                self._work.done(task)

    def _fields(self, task: str) -> Mapping[str, str | None]:
        """What each log line about the task says."""
        job = next(iter(self._jobs.of_task(task)), None)
        return {"task": task} if job is None else job.fields

    def overview(self) -> Iterator[Row]:
        """Every Job of ours as it is known now."""
        for job in self._jobs:
            if job.task is not None and job.controller == self._controller:
                pods = self._pods_of(job)
                job = self._joined(job)
                why = pending(job=job, pods=pods, events=self._happenings.of(job))
                yield overview.row(job=job, pods=pods, diagnosis=why)

    # ---- one task ---------------------------------------------------------------------------------------------------

    async def _reconcile(self, task: str) -> float | None:
        """One step for each Job of the task (there is one but for replaced ones); seconds until the next look."""
        again: list[float] = []
        for job in self._jobs.of_task(task):
            if job.deleted is not None or job.controller != self._controller:
                continue
            waits = [await self._step(self._joined(job)), None if self._owners is None else self._owners.due(job)]
            again += [wait for wait in waits if wait is not None]
        if not self._jobs.of_task(task):
            # The last one alone: those of older attempts went before it was made.
            for job in self._jobs.gone_of_task(task)[-1:]:
                if (wait := await self._without(job)) is not None:
                    again.append(wait)
            if not again:
                self._forget(task)
        return min(again, default=None)

    async def _without(self, job: JobRecord) -> float | None:
        """One step for the task of a Job that is gone, unless that was our doing or nobody needs to know."""
        if job.controller != self._controller or job.uid in self._explained:
            return None
        # All of the task: with `--cascade=orphan` they outlive their Job, and have no owner any more.
        pods = [pod for pod in self._pods.of_task(job.task or "") if not pod.finished]
        task = (await self._reads.fresh(job.task or "")).task
        decision = rules.decide_without_job(
            task=task,
            job=job,
            pods=pods,
            worker=self._worker_of(job),
            explained=job.uid in self._explained,
            aborting=job.uid in self._aborting,
        )
        if decision.step is Step.NOTHING or task is None:
            # Each pod, as it goes, brings us here again.
            return GONE_SECONDS if pods else None
        left = self._left(job, task, decision)
        return left if left > 0 else await self._end(job, task, decision)

    async def _step(self, job: JobRecord) -> float | None:
        task = job.task or ""
        seen = self._reads.last(task)
        if seen is None:
            seen = await self._reads.fresh(task)
        decision = self._decide(seen.task, job)
        if decision.step is Step.NOTHING:
            return self._apart(job, seen.task)
        if decision.step in ENDED and not self._pods_of(job) and not self._listed():
            return CHANGED_SECONDS
        if decision.step is Step.GIVE_TOKEN and self._owners is not None and seen.task is not None:
            # It ends nothing, so what was read a moment ago will do.
            await self._owners.give(job, seen.task)
            return AGAIN
        if decision.diagnosis is not None and decision.step in (Step.TELL, *WAITING):
            decision = await self._look_closer(job, seen.task, decision)
        if decision.step is Step.TELL:
            return await self._tell(job, decision.diagnosis)
        if decision.step is Step.DELETE_LATER:
            self._explain.over(job, seen.task, self._pods_of(job))
        left = self._left(job, seen.task, decision)
        if left > 0:
            if decision.step in WAITING and decision.diagnosis is not None:
                told = await self._waits(job, decision.diagnosis)
                return left if told is None else min(left, told)
            return left
        if decision.step in WAITING and (wait := await self._news(job, decision.diagnosis)) > 0:
            return wait
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
        known = self._joined(known)
        again = self._decide(latest.task, known)
        if again.step is not decision.step or (latest.task is None) is not (seen.task is None):
            return 0.0
        left = self._left(known, latest.task, again)
        if left > 0:
            # At once where there is news that its user is to be told.
            return 0.0 if again.step in WAITING else left
        return await self._end(known, latest.task, again)

    def _apart(self, job: JobRecord, task: TaskView | None) -> float | None:
        """Of several pods that all run and do not begin: tell of what; seconds until it is time for that.

        On the console alone: they may begin at any moment, and then the status message is the agent's.
        """
        if job.pods == 1 or task is None or task.status not in rules.WAITS:
            return None
        if (left := self._lasting.apart(job)) > 0:
            return left
        self._explain.apart(job)
        return None

    async def _end(self, job: JobRecord, task: TaskView | None, decision: Decision) -> float | None:
        """Take a step that is due, on a read that is new; seconds until the next look."""
        diagnosis = decision.diagnosis
        if diagnosis is None or task is None:
            if decision.step is not Step.END_ABORTED:  # its agent may be too far gone to report its end
                # Before the call: its pod may report its end before the call has ended.
                self._explained.add(job.uid)
            self._explain.over(job, task, self._pods_of(job))
            await self._ends.delete(job, decision.why)
            return None
        match decision.step:
            case Step.EXPLAIN_STOP:
                await self._explain.interrupted(job, diagnosis)
                self._explained.add(job.uid)
                return 0.0
            case Step.EXPLAIN_FAILURE:
                await self._explain.failed(job, diagnosis)
                self._measures.failed(job.queue, diagnosis.category)
                self._explained.add(job.uid)
                return 0.0
            case Step.DISRUPTED:
                return await self._disrupted(job, task, decision, diagnosis)
            case Step.GIVE_BACK:
                return await self._give_back(job, task, diagnosis)
            case Step.FAIL_WAITING:
                failed = await self._fail(job, task, diagnosis, why="it cannot start")
                if failed:
                    self._explained.add(job.uid)
                    await self._ends.delete(job, diagnosis.summary)
            case _:
                failed = await self._fail(job, task, diagnosis, why=decision.why)
        return AGAIN if failed else CHANGED_SECONDS

    async def _disrupted(self, job: JobRecord, task: TaskView, decision: Decision, diagnosis: Diagnosis) -> float:
        """Put the task back, or fail it."""
        if (doubt := self._requeuer.doubt(job)) > 0:
            return doubt
        most: int | None = most_requeues(
            config=self._config, queue=self._queue(job.queue or ""), category=diagnosis.category
        )
        if task.status in rules.WAITS and job.local_queue is not None and self._suspended(job):
            most = None  # nothing was lost: it waits for Kueue again
        found = Requeued.NOT
        if most is None or most > 0:
            found = await self._requeuer.requeue(job, task, diagnosis, most=most)
        if found is Requeued.CHANGED:
            return CHANGED_SECONDS
        if found is Requeued.NOT:
            if task.status != "failed" and not await self._fail(job, task, diagnosis, why=decision.why):
                return CHANGED_SECONDS
            self._explained.add(job.uid)
        await self._reads.fresh(task.id)
        return AGAIN

    async def _give_back(self, job: JobRecord, task: TaskView, diagnosis: Diagnosis) -> float:
        """Put the task back, so that others get what its pods hold in vain; or fail it, so that it ends some time."""
        if (doubt := self._requeuer.doubt(job)) > 0:
            return doubt
        minutes, most = self._multi_node.start_timeout_minutes, self._multi_node.max_give_backs
        lacked = "had a node" if placed(self._pods_of(job)) < job.pods else "could start"
        late = replace(
            diagnosis, summary=f"Not all of its pods {lacked} after {minutes:g} minutes. {diagnosis.summary}"
        )
        found = await self._requeuer.requeue(job, task, late, most=most) if most > 0 else Requeued.NOT
        if found is Requeued.CHANGED:
            return CHANGED_SECONDS
        if found is Requeued.NOT:
            if not await self._fail(job, task, late, why="it cannot start"):
                return CHANGED_SECONDS
            self._explained.add(job.uid)
            await self._ends.delete(job, late.summary)
        await self._reads.fresh(task.id)
        return AGAIN

    async def _fail(self, job: JobRecord, task: TaskView, diagnosis: Diagnosis, *, why: str) -> bool:
        failed = await self._ends.fail(job, task, diagnosis, pods=self._pods_of(job), why=why)
        if failed:
            await self._reads.fresh(task.id)
        return failed

    def _left(self, job: JobRecord, task: TaskView | None, decision: Decision) -> float:
        """Seconds until the step is due."""
        max_run = max_run_minutes(config=self._config, queue=self._queue(job.queue or ""))
        return self._lasting.left(job, task, decision, pods=self._pods_of(job), config=self._config, max_run=max_run)

    def _decide(self, task: TaskView | None, job: JobRecord) -> Decision:
        if task is not None and task.status in rules.RUNS and task.status_message == rules.ABORTING:
            # The agent's report of its end will not say it.
            self._aborting.add(job.uid)
        queue = self._queue(job.queue or "")
        return rules.decide(
            task=task,
            job=job,
            pods=self._pods_of(job),
            gone=self._gone_of(job),
            worker=self._worker_of(job),
            explained=job.uid in self._explained,
            aborting=job.uid in self._aborting,
            events=self._happenings.of(job),
            patience=patience(config=self._config, queue=queue),
            limited=max_run_minutes(config=self._config, queue=queue) is not None,
            tokens=self._owners is not None,
            lacks_token=self._owners is not None and self._owners.lacks(job, self._pods_of(job)),
            together=60 * self._multi_node.start_timeout_minutes,
        )

    def _joined(self, job: JobRecord) -> JobRecord:
        """With what Kueue says of it."""
        if self._workloads is None or job.local_queue is None:
            return job
        workload = next((one for one in self._workloads.of_task(job.task or "") if one.job == job.uid), None)
        return job if workload is None else replace(job, workload=workload)

    def _suspended(self, job: JobRecord) -> bool:
        """Its pod was ended by its suspension."""
        return by_suspension(job, newest([*self._pods_of(job), *self._gone_of(job)]))

    def _worker_of(self, job: JobRecord) -> str:
        return job.reports_as or names.task_worker_id(worker_id=job.worker or self._worker_id, task_id=job.task or "")

    def _pods_of(self, job: JobRecord) -> list[PodRecord]:
        return [pod for pod in self._pods.of_task(job.task or "") if pod.job_uid == job.uid]

    def _gone_of(self, job: JobRecord) -> list[PodRecord]:
        return [pod for pod in self._pods.gone_of_task(job.task or "") if pod.job_uid == job.uid]

    async def _tell(self, job: JobRecord, diagnosis: Diagnosis | None) -> float | None:
        if diagnosis is None:
            return None
        if (left := self._untold(job, diagnosis)) > 0:
            return left
        return await self._waits(job, diagnosis)

    async def _waits(self, job: JobRecord, diagnosis: Diagnosis) -> float | None:
        """Tell why it waits; seconds until there may be more to tell, None when it will show by itself."""
        again = await self._explain.waits(job, diagnosis)
        if diagnosis.category not in EXPLAINED_BY_EVENTS:
            return again
        return max(1.0, min(again or AGAIN_SECONDS, self._happenings.due(job)))

    async def _news(self, job: JobRecord, diagnosis: Diagnosis | None) -> float:
        """Before it is failed for waiting: know its events as they are now; seconds until that may be tried, 0: done.

        A read that fails decides nothing.
        """
        if diagnosis is None or diagnosis.category not in EXPLAINED_BY_EVENTS:
            return 0.0
        wait = await self._happenings.news(job, self._pods_of(job))
        if wait == 0.0:
            self._explain.happened(job, self._happenings.of(job))
        return wait

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
        return self._lasting.untold(job, diagnosis, has_pod=bool(self._pods_of(job)))

    def _forget(self, task: str) -> None:
        self._explain.forget(task)
        self._pods.forget(task)
        self._jobs.forget(task)
        if self._workloads is not None:
            self._workloads.forget(task)
        tokens = 0 if self._owners is None else len(self._owners)
        if len(self._lasting) + len(self._explained) + len(self._aborting) + tokens > 4 * len(self._jobs) + 100:
            uids = {job.uid for job in (*self._jobs, *self._jobs.gone())}
            self._lasting.keep(uids)
            self._explained &= uids
            self._aborting &= uids
            self._requeuer.keep(uids)
            if self._owners is not None:
                self._owners.keep(uids)
            self._happenings.forget(list(self._jobs))

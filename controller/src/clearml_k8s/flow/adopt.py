"""Follows the pods that ClearML's own glue made for this release, to their end (ADR 0009).

Each is taken for a Job of one pod, so that the same table decides. They only become fewer: a look at all of them every
few seconds is enough.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

from clearml_k8s.clearml import queues, tasks
from clearml_k8s.clearml.session import Session
from clearml_k8s.clearml.tasks import TaskView
from clearml_k8s.config import Config
from clearml_k8s.errors import KubeConflict, KubeForbidden, Refused, Unanswered
from clearml_k8s.flow import decide as rules
from clearml_k8s.flow.decide import Decision, Step
from clearml_k8s.flow.diagnosis import patience
from clearml_k8s.flow.ends import Ends
from clearml_k8s.flow.explain import Explainer
from clearml_k8s.flow.happenings import EXPLAINED_BY_EVENTS
from clearml_k8s.flow.lasting import Lasting
from clearml_k8s.flow.measures import Measures
from clearml_k8s.flow.tell import Teller
from clearml_k8s.kube.client import KubeClient
from clearml_k8s.kube.old_pod import OldPod
from clearml_k8s.kube.resources import PODS
from clearml_k8s.kube.slim import JobRecord, PodRecord
from clearml_k8s.kube.store import Store
from clearml_k8s.logs import kv

log = logging.getLogger(__name__)

LOOK_SECONDS = 4.0
"""Between two looks."""

OVER = rules.ENDING | rules.CANCELLED

FORBIDDEN_SECONDS = 60.0
"""After a deletion was forbidden, until it is tried again: the chart grants the right only where it sees such pods."""


class Adopted:
    """The old pods, and what is done for their tasks."""

    def __init__(
        self,
        *,
        config: Config,
        session: Session,
        client: KubeClient,
        old: Store[OldPod],
        teller: Teller,
        measures: Measures,
        pending_queue: Callable[[], str | None],
    ) -> None:
        """``old`` keeps what is gone. ``pending_queue``: its id, if known."""
        self._config = config
        self._session = session
        self._client = client
        self._clock = session.clock
        self._old = old
        self._pending_queue = pending_queue
        self._explain = Explainer(session=session, client=client, teller=teller, namespace=config.namespace)
        self._ends = Ends(
            session=session,
            client=client,
            explain=self._explain,
            measures=measures,
            namespace=config.namespace,
            pending_queue=pending_queue,
        )
        self._lasting = Lasting(clock=session.clock)
        self._explained: set[str] = set()
        self._aborting: set[str] = set()
        self._again: set[str] = set()  # uids of pods whose task was enqueued again
        self._not_before: dict[str, float] = {}  # by uid: when its deletion is tried again

    # ---- what others ask ------------------------------------------------------------------------------------------

    def pods(self) -> Iterator[PodRecord]:
        """The old pods that are there."""
        return (old.pod for old in self._old)

    def has(self, task: str) -> bool:
        """An old pod of the task may still run."""
        return any(not old.pod.finished for old in self._old.of_task(task))

    def in_the_way(self, task: str) -> bool:
        """Whether an old pod of a task that was seen in a served queue may still run: it is not wanted any more."""
        found = [old.uid for old in self._old.of_task(task) if not old.pod.finished]
        self._again.update(found)
        return bool(found)

    # ---- a look -----------------------------------------------------------------------------------------------------

    async def look(self) -> None:
        """One step for each pod that is due. Errors of the reads as `Session.call`."""
        present = list(self._old)
        there = {old.task for old in present}
        gone = [old for old in self._old.gone() if old.task not in there]
        self._keep({old.uid for old in (*present, *gone)})
        wanted = [old.task for old in (*present, *gone) if old.task is not None]
        if not wanted:
            return
        # After the pods: a step that ends something is taken on a read that is newer than the cluster's news.
        views = await tasks.get_many(self._session, wanted, fields=tasks.STATE_FIELDS)
        shown = await self._shown()
        for old, is_gone in (*((old, True) for old in gone), *((old, False) for old in present)):
            task = views.get(old.task or "")
            if task is None or (task.status in rules.WAITS and not (old.task in shown or old.uid in self._again)):
                # Not on the server, which may be another one now; or it waits elsewhere. No pod is ended for that.
                self._forget(old, gone=is_gone)
                continue
            try:
                if old.task in shown and task.status in OVER:
                    # The server leaves it there when a queued task is failed; whoever failed it may have died since.
                    await self._ends.hide(task.id)
                await self._step(old, task, gone=is_gone)
            except (Refused, Unanswered) as error:
                log.info("old pod looked at again later", extra=kv(task=old.task, pod=old.name, why=str(error)))
            except Exception:
                # One pod's trouble must not end the work on all others.
                log.exception("following an old pod failed", extra=kv(task=old.task, pod=old.name))

    async def _shown(self) -> set[str]:
        """The tasks that have an entry in the pending queue, where the glue keeps those whose pod waits."""
        pending = self._pending_queue()
        found = await queues.all_entries(self._session, ids=[pending]) if pending is not None else ()
        return {entry.task for queue in found for entry in queue.entries}

    async def _step(self, old: OldPod, task: TaskView, *, gone: bool) -> None:
        again = old.uid in self._again
        job = old.as_job(attempt="" if again else task.status_changed, gone=gone)
        pods = [] if gone else [old.pod]
        if task.status in rules.RUNS and task.status_message == rules.ABORTING:
            self._aborting.add(old.uid)
        decision = rules.decide(
            task=task,
            job=job,
            pods=pods,
            gone=[old.pod] if gone else [],
            worker=old.reports_as,
            explained=old.uid in self._explained,
            aborting=old.uid in self._aborting,
            # Its events are not read, and nothing is failed on a guess.
            patience={**patience(config=self._config, queue=None), **dict.fromkeys(EXPLAINED_BY_EVENTS)},
        )
        diagnosis = decision.diagnosis
        waits = diagnosis is not None and decision.step in (Step.TELL, Step.FAIL_WAITING)
        if diagnosis is not None and waits and self._lasting.untold(job, diagnosis, has_pod=True) <= 0:
            await self._explain.waits(job, diagnosis)
        if decision.step in (Step.NOTHING, Step.TELL):
            return
        if self._lasting.left(job, task, decision, pods=pods, config=self._config, max_run=None) <= 0:
            await self._end(old, job, task, decision, gone=gone)

    async def _end(self, old: OldPod, job: JobRecord, task: TaskView, decision: Decision, *, gone: bool) -> None:
        diagnosis, ended = decision.diagnosis, decision.diagnosis is None
        if diagnosis is not None and decision.step in (Step.EXPLAIN_STOP, Step.EXPLAIN_FAILURE):
            stop = decision.step is Step.EXPLAIN_STOP
            await (self._explain.interrupted if stop else self._explain.failed)(job, diagnosis)
            self._explained.add(old.uid)
        elif diagnosis is not None and await self._ends.fail(job, task, diagnosis, pods=[old.pod], why=decision.why):
            self._explained.add(old.uid)
            ended = decision.step is Step.FAIL_WAITING
        if ended and gone:
            self._forget(old, gone=True)
        elif ended:
            self._explained.add(old.uid)
            await self._delete(old, decision.why or "it cannot start")

    async def _delete(self, old: OldPod, why: str) -> None:
        if old.pod.deleted is not None or self._clock.monotonic() < self._not_before.get(old.uid, 0.0):
            return
        try:
            await self._client.delete(PODS, old.name, uid=old.uid, namespace=self._config.namespace)
        except KubeConflict:
            return
        except KubeForbidden:
            first = not self._not_before
            self._not_before[old.uid] = self._clock.monotonic() + FORBIDDEN_SECONDS
            if first:
                log.warning(
                    "this account may not delete pods: pods of ClearML's own agent stay; helm upgrade allows it while "
                    "there are any, or: kubectl -n %s delete pods -l CLEARML --field-selector status.phase!=Running",
                    self._config.namespace,
                )
            return
        log.info("pod of ClearML's own agent deleted", extra=kv(task=old.task, pod=old.name, why=why))

    def _forget(self, old: OldPod, *, gone: bool) -> None:
        if not gone:
            return
        self._old.forget(old.task or "")
        self._explain.forget(old.task or "")

    def _keep(self, uids: set[str]) -> None:
        self._lasting.keep(uids)
        self._explained &= uids
        self._aborting &= uids
        self._again &= uids
        self._not_before = {uid: at for uid, at in self._not_before.items() if uid in uids}

"""All parts of one running controller, put together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from clearml_k8s import names
from clearml_k8s.app.connect import Identity
from clearml_k8s.clearml import workers
from clearml_k8s.clearml.session import Session
from clearml_k8s.clock import Clock
from clearml_k8s.config import Config
from clearml_k8s.flow.adopt import Adopted
from clearml_k8s.flow.book import ClaimBook
from clearml_k8s.flow.claim import Claims
from clearml_k8s.flow.clash import WorkerClash
from clearml_k8s.flow.graces import Graces
from clearml_k8s.flow.launch import Launcher
from clearml_k8s.flow.lengths import QueueLengths
from clearml_k8s.flow.marking import Marking
from clearml_k8s.flow.measures import Measures
from clearml_k8s.flow.poll import Poller
from clearml_k8s.flow.reads import TaskReads
from clearml_k8s.flow.reconcile import Reconciler
from clearml_k8s.flow.recover import Recovery
from clearml_k8s.flow.returning import Returning
from clearml_k8s.flow.served import ServedQueues
from clearml_k8s.flow.starts import Starts
from clearml_k8s.flow.tell import Teller
from clearml_k8s.flow.workqueue import WorkQueue
from clearml_k8s.kube import old_pod
from clearml_k8s.kube.client import KubeClient
from clearml_k8s.kube.old_pod import OldPod, slim_old_pod
from clearml_k8s.kube.record import ClaimRecord
from clearml_k8s.kube.resources import JOBS, PODS
from clearml_k8s.kube.slim import JobRecord, PodRecord, slim_job, slim_pod
from clearml_k8s.kube.store import Store
from clearml_k8s.kube.watch import Watch
from clearml_k8s.logs import Redactor
from clearml_k8s.metrics import Metrics

STALE_SECONDS = 120.0
"""A watch silent for longer says nothing about what exists."""


@dataclass(frozen=True, kw_only=True)
class Followed:
    """What stands in the cluster, and the streams that it comes by."""

    clock: Clock
    jobs: Store[JobRecord]
    pods: Store[PodRecord]
    job_watch: Watch[JobRecord]
    pod_watch: Watch[PodRecord]
    old: Store[OldPod]
    old_watch: Watch[OldPod] | None
    """Of the pods that ClearML's own glue left; None where there was none."""

    def known(self) -> bool:
        """Listed once, and the streams not silent for long."""
        now = self.clock.monotonic()
        seen = [self.job_watch.last_seen, self.pod_watch.last_seen]
        synced = [self.jobs.synced, self.pods.synced]
        if self.old_watch is not None:
            seen.append(self.old_watch.last_seen)
            synced.append(self.old.synced)
        return all(one.is_set() for one in synced) and all(at is not None and now - at < STALE_SECONDS for at in seen)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What the loops of the process drive. ``may_begin``: it certainly leads, and knows what exists in the cluster;
    ``clash`` is None where the worker id is made of the namespace's uid, so that nobody else has it."""

    session: Session
    cluster: Followed
    may_begin: Callable[[], bool]
    served: ServedQueues
    record: ClaimRecord
    book: ClaimBook
    claims: Claims
    poller: Poller
    recovery: Recovery
    reconciler: Reconciler
    adopted: Adopted
    teller: Teller
    lengths: QueueLengths
    max_pods: int | None
    clash: WorkerClash | None


def make(
    *,
    config: Config,
    session: Session,
    client: KubeClient,
    identity: Identity,
    instance: str,
    holder: str,
    grace_seconds: float,
    redact: Redactor,
    metrics: Metrics,
    leads: Callable[[], bool],
    stop: asyncio.Event,
) -> Parts:
    """The parts of one controller; asks nobody anything. ``stop`` set says that nothing new is to be begun.

    ``instance``: which life of the controller's process this is, in marks; ``holder``: the same in the record, with
    more for people; ``leads``: whether it certainly leads now.
    """
    worker_id, controller = identity.worker_id, identity.controller
    session.health.use_probe(lambda: workers.probe(session, worker_id))
    teller = Teller(session=session, worker_id=worker_id, redact=redact)
    work: WorkQueue[str] = WorkQueue(clock=session.clock)

    def changed(task: str) -> None:
        starts.changed(task)
        work.put(task)

    jobs: Store[JobRecord] = Store(dirty=changed, keep_gone=True)
    pods: Store[PodRecord] = Store(dirty=changed, keep_gone=True)
    old: Store[OldPod] = Store(keep_gone=True)
    selector = names.task_selector(release=config.release_name)
    cluster = Followed(
        clock=session.clock,
        jobs=jobs,
        pods=pods,
        job_watch=Watch(
            client=client, resource=JOBS, slim=slim_job, namespace=config.namespace, label_selector=selector
        ),
        pod_watch=Watch(
            client=client, resource=PODS, slim=slim_pod, namespace=config.namespace, label_selector=selector
        ),
        old=old,
        old_watch=None
        if config.old_worker_id is None
        else Watch(
            client=client,
            resource=PODS,
            slim=slim_old_pod,
            namespace=config.namespace,
            label_selector=old_pod.selector(config.old_worker_id),
        ),
    )
    served = ServedQueues(config=config, session=session, client=client, worker_id=worker_id, controller=controller)
    measures = Measures(metrics=metrics, served=served)
    starts = Starts(jobs=jobs, pods=pods, measures=measures)
    graces = Graces(
        session=session,
        controller=controller,
        pending_queue=lambda: served.pending_queue,
        grace_seconds=grace_seconds,
    )
    record = ClaimRecord(
        client=client,
        namespace=config.namespace,
        name=names.claims_name(config.fullname),
        holder=holder,
        labels=names.own_labels(release=config.release_name),
    )
    launcher = Launcher(
        config=config,
        client=client,
        jobs=jobs,
        teller=teller,
        worker_id=worker_id,
        controller=controller,
        stop=stop,
    )
    book = ClaimBook(session=session, record=record, graces=graces, controller=controller)
    returning = Returning(
        session=session,
        record=record,
        book=book,
        graces=graces,
        served=served,
        teller=teller,
        measures=measures,
        controller=controller,
        stop=stop,
    )
    adopted = Adopted(
        config=config,
        session=session,
        client=client,
        old=old,
        teller=teller,
        measures=measures,
        pending_queue=lambda: served.pending_queue,
    )
    marking = Marking(
        session=session,
        book=book,
        returning=returning,
        jobs=jobs,
        adopted=adopted,
        worker_id=worker_id,
        controller=controller,
        instance=instance,
    )
    claims = Claims(
        session=session,
        record=record,
        book=book,
        marking=marking,
        returning=returning,
        launcher=launcher,
        served=served,
        teller=teller,
        measures=measures,
        controller=controller,
        stop=stop,
    )

    def may_begin() -> bool:
        return cluster.known() and leads()

    poller = Poller(
        config=config,
        session=session,
        served=served,
        claims=claims,
        book=book,
        jobs=jobs,
        pods=pods,
        adopted=adopted,
        may_take=may_begin,
    )
    recovery = Recovery(
        session=session,
        claims=claims,
        book=book,
        launcher=launcher,
        graces=graces,
        served=served,
        jobs=jobs,
        adopted=adopted,
        controller=controller,
        room=poller.room,
    )
    reconciler = Reconciler(
        config=config,
        session=session,
        client=client,
        jobs=jobs,
        pods=pods,
        reads=TaskReads(session=session),
        teller=teller,
        measures=measures,
        work=work,
        worker_id=worker_id,
        controller=controller,
        pending_queue=lambda: served.pending_queue,
        queue=served.by_id,
    )
    return Parts(
        session=session,
        cluster=cluster,
        may_begin=may_begin,
        served=served,
        record=record,
        book=book,
        claims=claims,
        poller=poller,
        recovery=recovery,
        reconciler=reconciler,
        adopted=adopted,
        teller=teller,
        lengths=QueueLengths(session=session, served=served),
        max_pods=config.max_pods,
        clash=WorkerClash(session=session, worker_id=worker_id, controller=controller) if config.worker_id else None,
    )

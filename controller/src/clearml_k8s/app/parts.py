"""All parts of one running controller, put together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from clearml_k8s import names
from clearml_k8s.app.connect import Identity
from clearml_k8s.app.followed import Followed, follow
from clearml_k8s.app.reports import Reports, make_reports
from clearml_k8s.clearml import tasks, workers
from clearml_k8s.clearml.projects import ProjectNames
from clearml_k8s.clearml.session import Session
from clearml_k8s.clock import Clock
from clearml_k8s.config import Config
from clearml_k8s.flow.adopt import Adopted
from clearml_k8s.flow.book import ClaimBook
from clearml_k8s.flow.claim import Claims
from clearml_k8s.flow.clash import WorkerClash
from clearml_k8s.flow.commands import Commands
from clearml_k8s.flow.counting import Counting
from clearml_k8s.flow.edits import Edits
from clearml_k8s.flow.graces import Graces
from clearml_k8s.flow.launch import Launcher
from clearml_k8s.flow.lengths import QueueLengths
from clearml_k8s.flow.marking import Marking
from clearml_k8s.flow.measures import Measures
from clearml_k8s.flow.needs import Needs, measure_of
from clearml_k8s.flow.owner_tokens import OwnerTokens
from clearml_k8s.flow.poll import Poller, Watched
from clearml_k8s.flow.ranks import Ranks
from clearml_k8s.flow.reads import TaskReads
from clearml_k8s.flow.reconcile import Reconciler
from clearml_k8s.flow.recover import Recovery
from clearml_k8s.flow.returning import Returning
from clearml_k8s.flow.served import ServedQueues
from clearml_k8s.flow.sessions import Sessions
from clearml_k8s.flow.starts import Starts
from clearml_k8s.flow.task_conf import TaskConf
from clearml_k8s.flow.tell import Teller
from clearml_k8s.flow.workqueue import WorkQueue
from clearml_k8s.hooks.shell import Shell
from clearml_k8s.hooks.template_module import TemplateModule
from clearml_k8s.kube.client import KubeClient
from clearml_k8s.kube.record import ClaimRecord
from clearml_k8s.logs import Redactor
from clearml_k8s.metrics import Metrics


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What the loops of the process drive. ``may_begin``: it certainly leads, and knows what exists in the cluster;
    ``clash`` is None where the worker id is made of the namespace's uid, so that nobody else has it."""

    session: Session
    worker_id: str
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
    clash: WorkerClash | None
    graces: Graces
    counting: Counting
    reports: Reports
    sessions: Sessions | None
    """None where sessions are not to be reached."""
    commands: Commands | None
    """None where no command is configured."""
    ranks: Ranks | None
    """None where no task runs on several nodes."""


def edits_of(config: Config, *, worker_id: str, clock: Clock) -> Edits:
    """Of the configured template module."""
    module = None if config.template_module is None else TemplateModule(config.template_module, clock=clock)
    return Edits(config=config, module=module, worker_id=worker_id)


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
    watched: Watched,
    stop: asyncio.Event,
    conf: TaskConf | None = None,
) -> Parts:
    """The parts of one controller; asks nobody anything. ``stop`` set says that nothing new is to be begun.

    ``instance``: which life of the controller's process this is, in marks; ``holder``: the same in the record, with
    more for people; ``leads``: whether it certainly leads now; ``watched``: see `Poller`.
    """
    worker_id, controller = identity.worker_id, identity.controller
    session.health.use_probe(lambda: workers.probe(session, worker_id))
    teller = Teller(session=session, worker_id=worker_id, redact=redact)
    work: WorkQueue[str] = WorkQueue(clock=session.clock)

    def changed(task: str) -> None:
        starts.changed(task)
        work.put(task)

    measure = measure_of(config)
    cluster = follow(config=config, client=client, clock=session.clock, measure=measure, changed=changed, look=work.put)
    jobs, pods = cluster.jobs, cluster.pods
    needs = Needs(config=config, session=session, measure=measure, worker_id=worker_id)
    edits = edits_of(config, worker_id=worker_id, clock=session.clock)
    owners = None
    if config.clearml.owner_tokens:
        owners = OwnerTokens(
            config=config,
            session=session,
            client=client,
            teller=teller,
            controller=controller,
            conf=conf if config.clearml.config_secret is not None else None,
        )
    served = ServedQueues(
        config=config,
        session=session,
        client=client,
        worker_id=worker_id,
        controller=controller,
        edits=edits,
        conf=conf,
        owners=owners,
    )
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
    book = ClaimBook(session=session, record=record, graces=graces, controller=controller)
    commands = None
    if config.pod_commands:
        commands = Commands(
            config=config.pod_commands,
            namespace=config.namespace,
            client=client,
            record=record,
            book=book,
            jobs=jobs,
            pods=pods,
            teller=teller,
            shell=partial(Shell, seconds=config.pod_commands.timeout_seconds, clock=session.clock, may_run=leads),
            may_run=leads,
        )
    launcher = Launcher(
        config=config,
        client=client,
        jobs=jobs,
        teller=teller,
        worker_id=worker_id,
        controller=controller,
        stop=stop,
        measure=measure,
        projects=ProjectNames(session=session),
        document=partial(tasks.get_document, session),
        edits=edits,
        conf=conf,
        commands=commands,
    )
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
        old=cluster.old,
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
        needs=needs,
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
        owners=owners,
    )

    def may_begin() -> bool:
        return cluster.known() and leads()

    reconciler = Reconciler(
        config=config,
        session=session,
        client=client,
        jobs=jobs,
        pods=pods,
        reads=TaskReads(session=session, owners=owners is not None),
        teller=teller,
        measures=measures,
        work=work,
        worker_id=worker_id,
        controller=controller,
        pending_queue=lambda: served.pending_queue,
        queue=served.by_id,
        owners=owners,
        workloads=cluster.workloads if config.uses_kueue else None,
        listed=pods.synced.is_set,
    )
    counting = Counting(
        config=config,
        needs=needs,
        clock=session.clock,
        served=served,
        book=book,
        jobs=jobs,
        pods=pods,
        adopted=adopted,
        quotas=cluster.seen_quotas,
        events=reconciler.events,
        unknown=cluster.unknown,
        kueue=cluster.kueue_unknown,
    )
    poller = Poller(
        config=config,
        session=session,
        served=served,
        claims=claims,
        book=book,
        counting=counting,
        needs=needs,
        teller=teller,
        may_take=may_begin,
        watched=watched,
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
        needs=needs,
        room=poller.room,
    )
    return Parts(
        session=session,
        worker_id=worker_id,
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
        clash=WorkerClash(session=session, worker_id=worker_id, controller=controller) if config.worker_id else None,
        graces=graces,
        counting=counting,
        reports=make_reports(config=config, session=session, client=client, worker_id=worker_id, served=served),
        commands=commands,
        sessions=None
        if config.sessions is None
        else Sessions(
            config=config,
            sessions=config.sessions,
            session=session,
            client=client,
            jobs=jobs,
            pods=pods,
            teller=teller,
            controller=controller,
        ),
        ranks=None
        if config.multi_node is None
        else Ranks(config=config, client=client, jobs=jobs, teller=teller, controller=controller),
    )

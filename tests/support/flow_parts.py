"""The parts of the flow put together for tests: a whole claiming side against a real ClearML and Kubernetes server."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from clearml_k8s import metrics, names
from clearml_k8s.clearml import queues, workers
from clearml_k8s.clearml.keys import Credentials
from clearml_k8s.clearml.projects import ProjectNames
from clearml_k8s.clearml.session import Session
from clearml_k8s.clearml.tasks import TaskView, get_document
from clearml_k8s.config import ClearMLConfig, Config, QueueConfig, QueueSettings, ResolvedQueue, TaskCredentials
from clearml_k8s.flow.adopt import Adopted
from clearml_k8s.flow.book import ClaimBook
from clearml_k8s.flow.choose import Turns, choose
from clearml_k8s.flow.claim import Claims
from clearml_k8s.flow.commands import Commands, Runs
from clearml_k8s.flow.counting import Counting
from clearml_k8s.flow.graces import Graces
from clearml_k8s.flow.launch import Launcher
from clearml_k8s.flow.marking import Marking
from clearml_k8s.flow.measures import Measures
from clearml_k8s.flow.needs import Needs, measure_of
from clearml_k8s.flow.owner_tokens import OwnerTokens
from clearml_k8s.flow.picture import Picture
from clearml_k8s.flow.recover import Recovery
from clearml_k8s.flow.returning import Returning
from clearml_k8s.flow.room import Room
from clearml_k8s.flow.served import ServedQueues
from clearml_k8s.flow.starts import Starts
from clearml_k8s.flow.task_conf import TaskConf
from clearml_k8s.flow.tell import Teller
from clearml_k8s.kube.client import KubeClient
from clearml_k8s.kube.events import EventRecord
from clearml_k8s.kube.old_pod import OldPod
from clearml_k8s.kube.quota import QuotaRecord
from clearml_k8s.kube.record import ClaimRecord
from clearml_k8s.kube.slim import Condition, ContainerRecord, JobRecord, PodRecord, slim_job
from clearml_k8s.kube.store import Store
from clearml_k8s.kube.watch import Listed
from clearml_k8s.logs import Redactor
from kubernetes.aio.client.configuration import Configuration
from manual_clock import ManualClock

GRACE = 40.0
ATTEMPT = "2026-01-15T06:22:11.065000+00:00"
LATER = "2026-01-15T06:23:11.065000+00:00"
TASK = "5e6f0a1b2c3d4e5f60718293a4b5c6d7"


def make_config(*, api_server: str = "https://api.example.com", queue: str = "default", **changes: Any) -> Config:
    config = Config(
        release_name="gpu",
        fullname="gpu-clearml-agent",
        namespace="ns",
        clearml=ClearMLConfig(api_server=api_server, task_credentials=TaskCredentials(secret_name="ac")),
        queues={queue: QueueConfig(name=queue)},
        max_pending_pods=10_000,  # in most of the tests no pod ever gets a node
    )
    return dataclasses.replace(config, **changes)


def make_queue(key: str, *, limit: int | None = None) -> ResolvedQueue:
    """A queue whose id is ``id-<key>``."""
    settings = QueueSettings(max_pods=limit)
    return ResolvedQueue(config=QueueConfig(name=key, settings=settings), id=f"id-{key}", name=key)


def make_task(status: str = "queued", *, task: str = TASK, changed: str = ATTEMPT, **fields: Any) -> TaskView:
    return TaskView(id=task, name="train", status=status, status_changed=changed, **fields)


def make_picture(**changes: Any) -> Picture:
    """Queued, in its queue, nobody's."""
    found = Picture(status="queued", attempt=ATTEMPT, entry="2026-01-15T06:22:11", marks={}, worker=False)
    return dataclasses.replace(found, **changes)


def make_job(
    task: str = TASK, *, uid: str = "job-uid", finished: str = "", reason: str = "", **changes: Any
) -> JobRecord:
    """A Job; ``finished`` is its true condition ("Complete", "Failed")."""
    conditions: tuple[Condition, ...] = ()
    if finished:
        conditions = (Condition(type=finished, status="True", reason=reason, since="2026-01-15T07:00:00Z"),)
    job = JobRecord(
        uid=uid,
        name=f"clearml-id-{task}",
        resource_version="1",
        task=task,
        attempt=ATTEMPT,
        queue="id-default",
        worker=None,
        controller="c",
        suspend=False,
        created="2026-01-15T06:22:12Z",
        deleted=None,
        conditions=conditions,
    )
    return dataclasses.replace(job, **changes)


def make_container(name: str = "task", **changes: Any) -> ContainerRecord:
    return dataclasses.replace(ContainerRecord(name=name), **changes)


def make_pod(task: str = TASK, *containers: ContainerRecord, phase: str = "Pending", **changes: Any) -> PodRecord:
    pod = PodRecord(
        uid="pod-uid",
        name=f"clearml-id-{task}-x",
        resource_version="1",
        task=task,
        attempt=ATTEMPT,
        queue="id-default",
        job_uid="job-uid",
        created="2026-01-15T06:22:13Z",
        deleted=None,
        grace_seconds=None,
        node="node-1",
        phase=phase,
        reason="",
        message="",
        conditions=(),
        containers=containers,
    )
    return dataclasses.replace(pod, **changes)


def kube_client(url: str, clock: ManualClock) -> KubeClient:
    return KubeClient(configuration=Configuration(host=url), clock=clock, namespace="ns", random=Random(7))


class Side:
    """One controller's claiming side: everything from the queue to the Job, driven by the test in place of loops."""

    def __init__(
        self,
        *,
        server: Any,
        cluster: Any,
        worker_id: str = "worker-a",
        namespace_uid: str | None = None,
        config: Config | None = None,
        clock: ManualClock | None = None,
        conf: Path | None = None,
        shell: Callable[[], Runs] | None = None,
    ) -> None:
        """``server``: a DevServer; ``cluster``: a scripted Kubernetes API server, which keeps record and Jobs;
        ``namespace_uid``: None for a namespace of its own for each worker id; ``clock``: None for one of its own;
        ``conf``: the clearml.conf of task pods; ``shell``: of commands around pods, where some are configured."""
        self.server, self.cluster, self.worker_id = server, cluster, worker_id
        self.clock = clock or ManualClock(auto=True)
        self.config = config or make_config(api_server=server.url)
        self.controller = names.controller_id(
            namespace_uid=namespace_uid or f"uid-{worker_id}", release=self.config.release_name
        )
        identity = {"worker_id": worker_id, "controller": self.controller}
        credentials = Credentials(access_key=server.access_key, secret_key=server.secret_key, source="the test")
        self.session = Session(api_server=server.url, credentials=credentials, clock=self.clock, random=Random(7))
        self.session.health.use_probe(lambda: workers.probe(self.session, worker_id))
        self.client = kube_client(cluster.url, self.clock)
        self.jobs: Store[JobRecord] = Store(keep_gone=True, dirty=self._changed)
        self.teller = Teller(session=self.session, worker_id=worker_id, redact=Redactor())
        self.graces = Graces(
            session=self.session,
            controller=self.controller,
            pending_queue=lambda: self.served.pending_queue,
            grace_seconds=GRACE,
        )
        self.conf = TaskConf(conf, clock=self.clock)
        self.owners = None
        if self.config.clearml.owner_tokens:
            self.owners = OwnerTokens(
                config=self.config,
                session=self.session,
                client=self.client,
                teller=self.teller,
                controller=self.controller,
                conf=self.conf,
            )
        self.served = ServedQueues(
            config=self.config,
            session=self.session,
            client=self.client,
            **identity,
            conf=self.conf,
            owners=self.owners,
        )
        self.metrics = metrics.create()
        self.measures = Measures(metrics=self.metrics, served=self.served)
        self.starts = Starts(jobs=self.jobs, pods=Store(), measures=self.measures)
        self.record = ClaimRecord(
            client=self.client, namespace="ns", name="gpu-clearml-agent-claims", holder=str(id(self))
        )
        self.stop = asyncio.Event()
        self.book = ClaimBook(session=self.session, record=self.record, graces=self.graces, controller=self.controller)
        self.pods: Store[PodRecord] = Store(keep_gone=True)
        self.leads = True
        self.commands = None
        if self.config.pod_commands:
            assert shell is not None
            self.commands = Commands(
                config=self.config.pod_commands,
                namespace=self.config.namespace,
                client=self.client,
                record=self.record,
                book=self.book,
                jobs=self.jobs,
                pods=self.pods,
                teller=self.teller,
                shell=shell,
                may_run=lambda: self.leads,
            )
        self.launcher = Launcher(
            config=self.config,
            client=self.client,
            jobs=self.jobs,
            teller=self.teller,
            **identity,
            stop=self.stop,
            measure=measure_of(self.config),
            projects=ProjectNames(session=self.session),
            document=partial(get_document, self.session),
            conf=self.conf,
            commands=self.commands,
        )
        self.returning = Returning(
            session=self.session,
            record=self.record,
            book=self.book,
            graces=self.graces,
            served=self.served,
            teller=self.teller,
            measures=self.measures,
            controller=self.controller,
            stop=self.stop,
        )
        self.old: Store[OldPod] = Store(keep_gone=True)
        self.adopted = Adopted(
            config=self.config,
            session=self.session,
            client=self.client,
            old=self.old,
            teller=self.teller,
            measures=self.measures,
            pending_queue=lambda: self.served.pending_queue,
        )
        self.needs = Needs(
            config=self.config, session=self.session, measure=measure_of(self.config), worker_id=worker_id
        )
        self.marking = Marking(
            session=self.session,
            book=self.book,
            returning=self.returning,
            jobs=self.jobs,
            adopted=self.adopted,
            needs=self.needs,
            **identity,
            instance=f"{id(self):x}",
        )
        self.claims = Claims(
            session=self.session,
            record=self.record,
            book=self.book,
            marking=self.marking,
            returning=self.returning,
            launcher=self.launcher,
            served=self.served,
            teller=self.teller,
            measures=self.measures,
            controller=self.controller,
            stop=self.stop,
            owners=self.owners,
        )
        self.quotas: Store[QuotaRecord] = Store()
        self.events: Callable[[JobRecord], Sequence[EventRecord]] = lambda _: ()
        self.unknown = ""
        self.turns = Turns()
        self.counting = Counting(
            config=self.config,
            needs=self.needs,
            clock=self.clock,
            served=self.served,
            book=self.book,
            jobs=self.jobs,
            pods=self.pods,
            adopted=self.adopted,
            quotas=lambda: self.quotas,
            events=self._seen_events,
            unknown=lambda: self.unknown,
        )
        self.recovery = Recovery(
            session=self.session,
            claims=self.claims,
            book=self.book,
            launcher=self.launcher,
            graces=self.graces,
            served=self.served,
            jobs=self.jobs,
            adopted=self.adopted,
            controller=self.controller,
            needs=self.needs,
            room=self.room,
        )

    def _changed(self, task: str) -> None:
        self.starts.changed(task)

    async def start(self) -> Side:
        """As the process does: what exists, the record, the queues."""
        self.relist()
        await self.record.open()
        await self.served.refresh()
        return self

    async def close(self) -> None:
        await self.session.close()
        await self.client.close()

    def relist(self) -> None:
        """What a watch would bring."""
        measure = measure_of(self.config)
        jobs = self.cluster.objects.get("jobs", {}).values()
        self.jobs.apply(Listed(items=tuple(slim_job(job, measure=measure) for job in jobs)))

    def room(self) -> Room:
        return self.counting.room()

    def _seen_events(self, job: JobRecord) -> Sequence[EventRecord]:
        return self.events(job)

    async def poll(self) -> int:
        """One look at the queues and the claims that come of it; how many were launched."""
        await self.session.health.ready()
        active = self.served.active()
        found = {q.id: q for q in await queues.get_queues(self.session, ids=[q.id for q in active])} if active else {}
        waiting = [(q, e.task) for q in active for e in found[q.id].entries if not self.book.busy(e.task)]
        begun = [(q, task) for task, of in self.book.in_flight().items() if (q := self.served.by_id(of)) is not None]
        await self.needs.look(waiting, under_way=begun)
        choice = choose(
            queues=[(queue, found[queue.id]) for queue in active],
            room=self.room(),
            busy=self.book.busy,
            turns=self.turns,
            limit=50,
        )
        self.turns = choice.turns
        self.book.begin(choice.candidates)
        return await self.claims.claim(choice.candidates)

    async def rest(self, *, rounds: int = 8) -> None:
        """Let graces end, sweep and poll, until there is nothing left to do."""
        for _ in range(rounds):
            await self.session.health.ready()
            await self.recovery.step()
            await self.clock.advance(GRACE + 1)
            await self.recovery.step()
            await self.recovery.sweep()
            await self.poll()
            await self.book.flush()

    def created(self, task: str) -> list[dict[str, Any]]:
        """Every Job that was ever made for the task in this cluster."""
        name = names.job_name(task)
        return [
            thing
            for _, collection, kind, thing in self.cluster.history
            if collection == "jobs" and kind == "ADDED" and thing["metadata"]["name"] == name
        ]

    def stored(self) -> dict[str, str]:
        """The record as it stands in the cluster."""
        found = self.cluster.objects.get("configmaps", {}).get("gpu-clearml-agent-claims", {})
        data: dict[str, str] = found.get("data") or {}
        return data

    def mark(self, task: str) -> str | None:
        """Our mark on the task, as the server has it."""
        return mark_of(self.server, task, self.controller)


def mark_as(server: Any, task: str, controller: str) -> None:
    """The controller marks the task, in its present attempt."""
    value = server.task(task)["status_changed"]
    item = {"section": names.PROPERTIES_SECTION, "name": names.mark_key(controller), "value": value}
    server.call("tasks.edit_hyper_params", task=task, hyperparams=[item], replace_hyperparams="none")


def mark_of(server: Any, task: str, controller: str) -> str | None:
    section = server.task(task).get("hyperparams", {}).get(names.PROPERTIES_SECTION, {})
    found: str | None = section.get(names.mark_key(controller), {}).get("value")
    return found

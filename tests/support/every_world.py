"""A world in which one call goes wrong: both servers, the controller's lives one after the other, and the audit."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from clearml_k8s import names
from clearml_k8s.clearml.token import read
from clearml_k8s.errors import Refused, Unanswered
from clearml_k8s.flow.clash import WorkerClash
from clearml_k8s.flow.ranks import Ranks
from clearml_k8s.flow.sessions import Sessions
from clearml_k8s.kube.old_pod import slim_old_pod
from clearml_k8s.kube.service import headless, manifest
from clearml_k8s.kube.token_secret import manifest as token_secret
from clearml_k8s.kube.watch import Gone, Listed, Upsert
from clearml_server.app import Server
from clearml_server.auth import make_identity
from every_servers import LocalClearML, LocalCluster
from every_shell import LocalShell
from every_wires import Life, Wires, wired
from flow_parts import GRACE, Side, make_config, make_pod
from manual_clock import ManualClock
from reconcile_loop import Loop

MOST_ROUNDS = 14
RESTART_SECONDS = 0.01


class World:
    """``loop``, ``side`` are of the present life."""

    def __init__(self, app: Server) -> None:
        self.clock = ManualClock(auto=True)
        self.server = LocalClearML(app, self.clock)
        self.cluster = LocalCluster()
        self.wires = Wires(self.clock)
        self.config: dict[str, Any] = {}
        self.tasks: list[str] = []
        self.pods: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {}
        self.old_pods: list[str] = []
        self.made: set[str] = set()  # what commands before a Job have made, and those after a pod have not removed
        self.applied: set[str] = set()  # the same, of commands once the Job is there
        self.reconciles = self.blind = False
        self.clashes = self.told_of_clash = False  # somebody else works under our worker id; we say so
        self._shown: object = None
        self.lives: list[Side] = []  # kept: the record knows its holder by id()
        self.started = False
        self.stopped = False

    def server_tasks(self, count: int, queue: str = "default") -> list[str]:
        """New tasks in the queue."""
        return [self.server.create_task(f"task {number}", queue=queue) for number in range(count)]

    # ---- the controller -------------------------------------------------------------------------------------------

    async def start(self) -> Side:
        """Another life of the same controller, which has begun to work."""
        self.life = Life()
        self.started = self.stopped = False
        with wired(wires=self.wires, life=self.life, server=self.server, cluster=self.cluster):
            self.side = Side(
                server=self.server,
                cluster=self.cluster,
                config=make_config(api_server=self.server.url, **self.config),
                clock=self.clock,
                shell=lambda: LocalShell(wires=self.wires, life=self.life, made=self.made, applied=self.applied),
            )
        self.lives.append(self.side)
        self.loop = Loop(self.side)
        side = self.side
        self.clash = WorkerClash(session=side.session, worker_id=side.worker_id, controller=side.controller)
        self.sessions = None
        if side.config.sessions is not None:
            self.sessions = Sessions(
                config=side.config, sessions=side.config.sessions, session=side.session, client=side.client,
                jobs=side.jobs, pods=self.loop.pods, teller=side.teller, controller=side.controller,
            )  # fmt: skip
        self.ranks = None
        if side.config.multi_node is not None:
            self.ranks = Ranks(
                config=side.config, client=side.client, jobs=side.jobs, teller=side.teller, controller=side.controller
            )
        await self._patiently(self.side.session.login)
        self.see()
        await self._patiently(self.side.record.open)
        await self.side.session.health.ready()
        await self._patiently(self.side.served.refresh)
        self.started = True
        return self.side

    async def _patiently(self, step: Callable[[], Awaitable[object]]) -> None:
        while True:
            try:
                await step()
            except (Refused, Unanswered):
                await self.clock.sleep(1.0)
            else:
                return

    def see(self) -> None:
        """What the watches would bring, unless they are slow."""
        if self.blind or self._shown == (now := (self.side, self.cluster.version, dict(self.pods))):
            return
        self._shown = now
        self.side.relist()
        for task, (containers, fields) in self.pods.items():
            for job in self.side.jobs.of_task(task):
                if job.attempt == fields.get("attempt", job.attempt):
                    pod = make_pod(task, *containers, **{**fields, "job_uid": job.uid})
                    self.loop.pods.apply(Upsert(item=pod))
            if not self.side.jobs.of_task(task):
                for pod in self.loop.pods.of_task(task):
                    self.loop.pods.apply(Gone(item=pod))
        old = [slim_old_pod(pod) for pod in self.cluster.objects.get("pods", {}).values()]
        self.side.old.apply(Listed(items=tuple(old)))

    async def live(self, acting: Coroutine[Any, Any, object]) -> None:
        """Let this life act until it has done so or dies, in the middle of whatever it is at."""
        self.wires.died.clear()
        before = asyncio.all_tasks()
        task = asyncio.create_task(acting)
        died = asyncio.create_task(self.wires.died.wait())
        await asyncio.wait({task, died}, return_when=asyncio.FIRST_COMPLETED)
        died.cancel()
        if self.wires.died.is_set():
            self.started = False
            while left := asyncio.all_tasks() - before:
                for one in left:
                    one.cancel()
                await asyncio.wait(left)
            await self.clock.sleep(RESTART_SECONDS)
        elif (error := task.exception()) is not None and not isinstance(error, Refused | Unanswered):
            raise error

    async def rest(self) -> None:
        """Let it go on, in another life if need be, until there is nothing left to do."""
        self.blind = False
        if not self.started or self.stopped:
            await self.start()
        before: Any = None
        for _ in range(MOST_ROUNDS):
            await self.round()
            now = self._state(), self.wires.met
            if now == before and not self.wires.late:
                return
            before = now

    async def round(self) -> None:
        """What the process' loops do in about a minute; a loop outlives its errors."""
        side = self.side
        self._collect()
        self.see()
        await side.session.health.ready()
        for step in (
            side.served.refresh,
            side.recovery.step,
            self._moment,
            side.recovery.step,
            side.poll,
            self._grace,
            side.recovery.step,
            side.recovery.sweep,
            side.poll,
            side.book.flush,
            self.look,
            self._follow_old_pods,
            self.look_for_clash,
            self.follow_sessions,
            self.follow_commands,
            self.follow_ranks,
            side.teller.flush,
        ):
            self.see()
            try:
                await step()
            except (Refused, Unanswered):
                await self.clock.sleep(1.0)

    def _collect(self) -> None:
        """As Kubernetes' garbage collector: what a Job owned goes after it."""
        there = {job["metadata"]["uid"] for job in self.jobs()}
        for collection in ("services", "secrets"):
            for name, thing in list(self.cluster.objects.get(collection, {}).items()):
                if not {owner["uid"] for owner in thing["metadata"].get("ownerReferences", ())} & there:
                    self.cluster.drop(collection, name)

    async def _follow_old_pods(self) -> None:
        """For longer than an agent may take to end (`lasting.ENDING_SECONDS`)."""
        await self.side.adopted.look()
        if self.cluster.objects.get("pods"):
            await self.clock.advance(125.0)
            await self.side.adopted.look()

    async def look_for_clash(self) -> None:
        await self.clash.look()
        self.told_of_clash |= self.clash.problem != ""

    async def follow_sessions(self) -> None:
        if self.sessions is not None:
            await self.sessions.look()

    async def follow_commands(self) -> None:
        if self.side.commands is not None:
            for due in self.side.commands.due():
                await self.side.commands.settle(due)
            await self.side.commands.write()

    def _unpaid(self) -> list[str]:
        """What commands around pods should have done, or undone."""
        if self.side.commands is None:
            return []
        there = {job["metadata"]["name"] for job in self.jobs()}
        owed = {names.JOB_NAME_PREFIX + task for task in self.side.record.owed}
        return [
            f"{what}: {sorted(found)}, and there are the Jobs {sorted(there)}"
            for what, found in (("made", self.made), ("applied", self.applied), ("owed", owed))
            if found != there
        ]

    async def follow_ranks(self) -> None:
        if self.ranks is not None:
            await self.ranks.look()

    def ranks_body(self, task: str) -> dict[str, Any]:
        """The Service that the present life would make for the pods of the task's Job."""
        config, (job,) = self.side.config, self.side.jobs.of_task(task)
        return headless(job, namespace=config.namespace, release=config.release_name, controller=self.side.controller)

    def _without_service(self) -> list[str]:
        """Tasks on several nodes that have a Job and no Service of it."""
        services = self.cluster.objects.get("services", {})
        found = [f"{len(services)} Services for {len(self.tasks)} tasks"] if len(services) > len(self.tasks) else []
        for task in (task for task in self.tasks if self.place(task) == "job"):
            service = services.get(names.nodes_name(task))
            (job,) = self.side.jobs.of_task(task)
            if service is None or service["metadata"]["ownerReferences"][0]["uid"] != job.uid:
                found.append(f"the pods of task {task} have no Service")
        return found

    def sessions_body(self, task: str) -> dict[str, Any]:
        """The Service that the present life would make of the task's Job."""
        config, (job,) = self.side.config, self.side.jobs.of_task(task)
        assert config.sessions is not None
        return manifest(
            job, port=10022, node_port=30001, sessions=config.sessions, namespace=config.namespace,
            release=config.release_name, controller=self.side.controller,
        )  # fmt: skip

    def token_of(self, secret: dict[str, Any]) -> str:
        """Whose token a Secret has."""
        return read(secret["stringData"][names.TOKEN_KEY], at=0.0).info.user

    def give_token(self, task: str) -> None:
        """The Secret that the task's Job names, as an earlier process would have made it."""
        (job,) = self.side.jobs.of_task(task)
        owner = make_identity(user=self.server.task(task)["user"], role="user")
        token = self.server.app.auth.issue(owner, seconds=None)
        body = token_secret(
            job, token=token, namespace="ns", release=self.side.config.release_name, controller=self.side.controller
        )
        self.cluster.put("secrets", body["metadata"]["name"], **body)

    def _without_token(self) -> list[str]:
        """Of tasks that have a Job: pods with a node whose Secret is not there, or is not their owner's."""
        secrets = self.cluster.objects.get("secrets", {})
        found = [f"{len(secrets)} Secrets for {len(self.pods)} pods"] if len(secrets) > len(self.pods) else []
        for task in (task for task in self.tasks if self.place(task) == "job"):
            (job,) = self.side.jobs.of_task(task)
            secret, user = secrets.get(job.token_secret), self.server.task(task)["user"]
            _, pod = self.pods.get(task, ((), {}))
            if pod and pod.get("attempt", job.attempt) == job.attempt and secret is None:
                found.append(f"the pod of task {task} has no Secret {job.token_secret}")
            elif secret is not None and self.token_of(secret) != user:
                found.append(f"the pod of task {task} has a token of {self.token_of(secret)}, not of {user}")
            elif secret is not None and secret["metadata"]["ownerReferences"][0]["uid"] != job.uid:
                found.append(f"the Secret of task {task} does not go with its Job")
        return found

    def _unreached(self) -> list[str]:
        """Sessions that have a Job and no Service, or not the way to it."""
        services = self.cluster.objects.get("services", {})
        found = [f"{len(services)} Services for {len(self.tasks)} sessions"] if len(services) > len(self.tasks) else []
        for task in (task for task in self.tasks if self.place(task) == "job"):
            service = services.get(names.session_name(task))
            properties = self.server.task(task).get("hyperparams", {}).get(names.PROPERTIES_SECTION, {})
            way = [properties.get(key, {}).get("value") for key in (names.PROPERTY_GATEWAY, names.PROPERTY_POD_PORT)]
            port = service["spec"]["ports"][0]["nodePort"] if service else None
            if way != ["gate", str(port)]:
                found.append(f"session {task} is reached at {way}, and its Service has port {port}")
        return found

    async def _moment(self) -> None:
        """As the loop of recovery waits: nothing may be ended by that."""
        await self.clock.advance(1.0)

    async def _grace(self) -> None:
        await self.clock.advance(GRACE + 1)

    async def look(self) -> None:
        """Reconcile all tasks until none wants more."""
        if not self.reconciles:
            return
        await self.loop.reads.refresh(self.side.jobs.tasks())
        for task in self.tasks:
            await self.look_at(task)

    async def look_at(self, task: str) -> None:
        """As a worker does it, whatever meets it."""
        for _ in range(12):
            try:
                again = await self.loop.look(task)
            except (Refused, Unanswered):
                again = 1.0
            if again is None:
                return
            await self.clock.advance(again + 0.001)
            self.see()

    # ---- what is so -------------------------------------------------------------------------------------------------

    def shown(self) -> list[str]:
        """The tasks in the pending queue."""
        found = self.server.app.store.queues.by_name(names.PENDING_QUEUE)
        return list(found.entries) if found else []

    def queues_of(self, task: str) -> list[str]:
        """The queues that tasks are taken from, as far as they hold the task."""
        queues = self.server.app.store.queues
        return [queue.name for queue in queues if task in queue.entries and queue.name != names.PENDING_QUEUE]

    def jobs(self) -> list[dict[str, Any]]:
        return list(self.cluster.objects.get("jobs", {}).values())

    def place(self, task: str) -> str:
        """Where the task is, and what is wrong with that, joined by "+": our mark on a task in its queue, which is
        in others' way; none on one that has a Job and has not begun, which others may take for nobody's; an entry in
        the pending queue without a Job."""
        found = self.server.app.store.tasks.get(task)
        if found is None:
            where = ["deleted"]
        elif found["status"] == "queued":
            where = []
        else:
            reason = found.get("status_reason") or ""
            where = [f"{found['status']}: {reason}" if reason.startswith("Kubernetes") else found["status"]]
        where += ["queue" for _ in self.queues_of(task)]
        for job in self.jobs():
            if job["metadata"]["labels"][names.LABEL_TASK_ID] == task:
                attempt = job["metadata"]["annotations"][names.ANNOTATION_ATTEMPT]
                waits = found is not None and found["status"] == "queued"
                where.append("old job" if waits and attempt != found["status_changed"].isoformat() else "job")
        where += ["pod" for name in self.cluster.objects.get("pods", {}) if name.endswith(task)]
        if where == ["job"] and found and found["status"] == "queued" and not self._marked(task):
            where.append("unmarked")
        if "job" not in where:
            where += ["marked"] if self.queues_of(task) and self._marked(task) else []
            where += ["shown" for shown in self.shown() if shown == task]
        return "+".join(where) or "nowhere"

    def places(self) -> Counter[str]:
        return Counter(self.place(task) for task in self.tasks)

    def _state(self) -> object:
        marks = [self.side.mark(task) if self.server.app.store.tasks.get(task) else "" for task in self.tasks]
        held = sorted((held.task, held.doubt) for held in self.side.graces)
        return self.places(), self.side.stored(), self.shown(), marks, held

    def audit(self) -> list[str]:
        """What is wrong, read on both sides; nothing when all is well."""
        found: list[str] = []
        started: Counter[tuple[str, str]] = Counter()
        alive: set[str] = set()
        limit = self.config.get("max_pods")
        for _, collection, kind, thing in self.cluster.history:
            if collection != "jobs":
                continue
            meta = thing["metadata"]
            if kind == "ADDED":
                alive.add(meta["uid"])
                started[meta["labels"][names.LABEL_TASK_ID], meta["annotations"][names.ANNOTATION_ATTEMPT]] += 1
            elif kind == "DELETED":
                alive.discard(meta["uid"])
            if limit is not None and len(alive) > limit:
                found.append(f"{len(alive)} Jobs at one time, with maxPods {limit}")
        found += [f"attempt {a} of task {t} was started {n} times" for (t, a), n in started.items() if n > 1]
        found += [f"the record has {key} still" for key in self.side.stored() if not key.startswith("owed.")]
        found += self._unpaid()
        found += [
            f"task {held.task} is on hold: {held.why}"
            for held in self.side.graces
            if self.place(held.task) != "nowhere"  # else it waits for room, looked at again and again
        ]
        if self.told_of_clash is not self.clashes:
            found.append("a clash of worker ids is not told" if self.clashes else self.clash.problem)
        found += self._without_token() if self.side.owners is not None else []
        found += self._unreached() if self.sessions is not None else []
        found += self._without_service() if self.ranks is not None else []
        if flight := self.side.book.in_flight():
            found.append(f"in flight for ever: {flight}")
        return found

    def _marked(self, task: str) -> bool:
        mark = self.side.mark(task)
        return mark is not None and names.marked_attempt(mark) == self.server.task(task)["status_changed"]

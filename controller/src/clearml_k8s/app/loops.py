"""The loops of the process, each by its name."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from functools import partial
from typing import Any, TypeVar

from clearml_k8s.app.parts import Parts
from clearml_k8s.app.reports import Reports
from clearml_k8s.app.waiting import Rounds, patiently
from clearml_k8s.clearml.health import State
from clearml_k8s.clock import in_turns
from clearml_k8s.flow import commands as pod_commands
from clearml_k8s.flow.adopt import LOOK_SECONDS as OLD_PODS_SECONDS
from clearml_k8s.flow.adopt import Adopted
from clearml_k8s.flow.clash import WorkerClash
from clearml_k8s.flow.commands import LOOK_SECONDS as COMMANDS_SECONDS
from clearml_k8s.flow.commands import Commands
from clearml_k8s.flow.ranks import LOOK_SECONDS as RANKS_SECONDS
from clearml_k8s.flow.ranks import Ranks
from clearml_k8s.flow.reconcile import WORKERS
from clearml_k8s.flow.sessions import LOOK_SECONDS as SESSIONS_SECONDS
from clearml_k8s.flow.sessions import Sessions
from clearml_k8s.kube.node import NodeRecord
from clearml_k8s.kube.store import Record, Store
from clearml_k8s.kube.watch import Watch
from clearml_k8s.logs import kv
from clearml_k8s.report.dashboard import Dashboard
from clearml_k8s.report.nodes import Nodes
from clearml_k8s.report.worker import ControllerWorker

log = logging.getLogger(__name__)

R = TypeVar("R", bound=Record)

RECOVER_SECONDS = 1.0
REFRESH_SECONDS = 60.0
LOOK_SECONDS = 10.0
"""Between two looks at whether a queue is in trouble, which has all looked up at once."""

CLASH_SECONDS = 60.0
"""Between two looks at the list of workers, which may be long."""

LENGTHS_SECONDS = 15.0
"""Between two looks at how long the queues are, as often as Prometheus may ask."""
SERVING_SECONDS = 1.0
"""Between two looks at whether it serves now, before the first report."""

FLUSH_SECONDS = 1.0
HEALTH_SECONDS = 0.5

_HINTS = {
    State.UNAUTHORIZED: "correct clearml.agentk8sglueKey and clearml.agentk8sglueSecret, or the Secret named by "
    "clearml.existingAgentk8sglueSecret",
    State.UNREACHABLE: "check agentk8sglue.apiServerUrlReference, and that this pod can reach it; it is tried again",
    State.HALF_WAY: "the server answers with errors; nothing is taken until a probe succeeds",
}


class Loops:
    """Drives the parts. ``serving`` once the record is open, and what exists is known; ``unfinished`` are steps that go
    on when their loop has been ended."""

    def __init__(self, *, parts: Parts, sweep_seconds: float, stop: asyncio.Event) -> None:
        self._parts = parts
        self._session = parts.session
        self._clock = parts.session.clock
        self._sweep_seconds = sweep_seconds
        self._stop = stop
        self.serving = False
        self.unfinished: set[asyncio.Future[None]] = set()

    def all(self) -> Mapping[str, Coroutine[Any, Any, None]]:
        """Every loop, not yet begun; none of them ends by itself but by an error."""
        parts, cluster = self._parts, self._parts.cluster
        return {
            "watch of jobs": _follow(cluster.job_watch, cluster.jobs),
            "watch of pods": _follow(cluster.pod_watch, cluster.pods),
            "queues": self._refresh(),
            "take": self._take(),
            "recovery": self._recover(),
            "record": self._flush(),
            # Each alone: one that hangs holds its task for ever, and the others would hide it.
            **{f"reconcile {number}": parts.reconciler.worker() for number in range(1, WORKERS + 1)},
            "task states": parts.reconciler.follow_states(),
            "console": parts.teller.run(),
            "server state": self._tell_health(),
            "queue lengths": self._measure(),
            **self._old_pods(),
            **({"watch of quotas": _follow(cluster.quota_watch, cluster.quotas)} if cluster.quota_watch else {}),
            **self._workloads(),
            **({"worker id": self._look_for(parts.clash)} if parts.clash else {}),
            **({"sessions": self._follow_sessions(parts.sessions)} if parts.sessions else {}),
            **({"commands": self._follow_pods(parts.commands)} if parts.commands else {}),
            **({"ranks": self._follow_ranks(parts.ranks)} if parts.ranks else {}),
            **self._reports(parts.reports),
        }

    def _reports(self, reports: Reports) -> Mapping[str, Coroutine[Any, Any, None]]:
        found = {"worker": self._report_worker(reports.worker)}
        if reports.watch is not None:
            found["watch of nodes"] = _follow_nodes(reports.watch, reports.nodes)
        if reports.dashboard is not None:
            found["dashboard"] = self._report_capacity(reports.dashboard, reports)
        return found

    async def _report_worker(self, worker: ControllerWorker) -> None:
        rounds = Rounds("reporting as a worker")
        while True:
            await self._clock.sleep(worker.seconds if self.serving else SERVING_SECONDS)
            if self.serving:
                await rounds.once(worker.report)

    async def _report_capacity(self, dashboard: Dashboard, reports: Reports) -> None:
        rounds = Rounds("reporting to the Orchestration Dashboard", level=logging.WARNING)
        while True:
            if self.serving:
                if reports.quota is not None:
                    await reports.quota.read()
                await rounds.once(dashboard.report)
            await self._clock.sleep(dashboard.wait_seconds if self.serving else SERVING_SECONDS)

    def _workloads(self) -> Mapping[str, Coroutine[Any, Any, None]]:
        watch, store = self._parts.cluster.workload_watch, self._parts.cluster.workloads
        return {} if watch is None else {"watch of workloads": _follow(watch, store)}

    def _old_pods(self) -> Mapping[str, Coroutine[Any, Any, None]]:
        cluster = self._parts.cluster
        if cluster.old_watch is None:
            return {}
        return {
            "watch of old pods": _follow(cluster.old_watch, cluster.old),
            "old pods": self._follow_old(self._parts.adopted),
        }

    async def _follow_old(self, adopted: Adopted) -> None:
        rounds = Rounds("following the pods of ClearML's own agent")
        while True:
            await self._clock.sleep(OLD_PODS_SECONDS)
            if self.serving:
                await rounds.once(adopted.look)

    async def _follow_sessions(self, sessions: Sessions) -> None:
        rounds = Rounds("following sessions", level=logging.WARNING)
        while True:
            await self._clock.sleep(SESSIONS_SECONDS)
            if self.serving and self._parts.may_begin():
                await rounds.once(sessions.look)

    async def _follow_pods(self, commands: Commands) -> None:
        rounds = Rounds("writing down which commands have run", level=logging.WARNING)
        running: set[asyncio.Task[None]] = set()
        try:
            while True:
                await self._clock.sleep(COMMANDS_SECONDS)
                if self.serving and self._parts.may_begin():
                    for due in commands.due():
                        running.add(task := asyncio.create_task(commands.settle(due)))
                        task.add_done_callback(running.discard)
                    await rounds.once(commands.write)
        finally:
            # With the processes that they wait for; the next life runs these commands again.
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _follow_ranks(self, ranks: Ranks) -> None:
        rounds = Rounds("following tasks on several nodes", level=logging.WARNING)
        while True:
            await self._clock.sleep(RANKS_SECONDS)
            if self.serving and self._parts.may_begin():
                await rounds.once(ranks.look)

    async def _take(self) -> None:
        parts = self._parts
        opened = await patiently("opening the claim record", parts.record.open, clock=self._clock, stop=self._stop)
        if opened is None:
            return
        if parts.commands is None:
            dropping = partial(pod_commands.drop, parts.record)
            await patiently("dropping commands", dropping, clock=self._clock, stop=self._stop)
        await in_turns(parts.cluster.jobs.synced.wait, clock=self._clock)
        await in_turns(parts.cluster.pods.synced.wait, clock=self._clock)
        if parts.cluster.old_watch is not None:
            await in_turns(parts.cluster.old.synced.wait, clock=self._clock)
        await self._session.health.ready()
        self.serving = True
        await parts.poller.run()

    async def _recover(self) -> None:
        parts = self._parts
        recovery, sweep = Rounds("recovery"), Rounds("sweep")
        await in_turns(parts.cluster.jobs.synced.wait, clock=self._clock)
        last_sweep = self._clock.monotonic() - self._sweep_seconds + 5.0
        while True:
            await self._clock.sleep(RECOVER_SECONDS)
            if not self.serving or not parts.may_begin():
                continue
            await self._to_its_end(recovery.once(parts.recovery.step))
            if self._clock.monotonic() - last_sweep >= self._sweep_seconds and self._session.health.healthy:
                last_sweep = self._clock.monotonic()
                await sweep.once(parts.recovery.sweep)

    async def _to_its_end(self, step: Coroutine[Any, Any, None]) -> None:
        """Await the step; when the loop is ended meanwhile, it goes on, and is found in ``unfinished``."""
        running = asyncio.ensure_future(step)
        self.unfinished.add(running)
        running.add_done_callback(self.unfinished.discard)
        await asyncio.shield(running)

    async def _refresh(self) -> None:
        served = self._parts.served
        rounds = Rounds("looking the queues up", level=logging.WARNING)
        while True:
            await rounds.once(served.refresh)
            due = self._clock.monotonic() + REFRESH_SECONDS
            await self._clock.sleep(LOOK_SECONDS)
            while self._clock.monotonic() < due and not served.troubled:
                await self._clock.sleep(LOOK_SECONDS)

    async def _measure(self) -> None:
        rounds = Rounds("looking at how long the queues are")
        while True:
            if self.serving and self._session.health.healthy:
                await rounds.once(self._parts.lengths.look)
            await self._clock.sleep(LENGTHS_SECONDS if self.serving else RECOVER_SECONDS)

    async def _flush(self) -> None:
        rounds = Rounds("writing the claim record")
        while True:
            await self._clock.sleep(FLUSH_SECONDS)
            await rounds.once(self._parts.book.flush)

    async def _look_for(self, clash: WorkerClash) -> None:
        rounds = Rounds("looking for others of this worker id")
        while True:
            await rounds.once(clash.look)
            await self._clock.sleep(CLASH_SECONDS)

    async def _tell_health(self) -> None:
        """Log each change of the ClearML server's state once, with what to do."""
        told, reason = State.HEALTHY, ""
        while True:
            now = self._session.health
            if now.state is not told or (not now.healthy and now.reason[:80] != reason):
                told, reason = now.state, now.reason[:80]
                if now.healthy:
                    log.info("ClearML server is well", extra=kv(server=self._session.address))
                else:
                    log.error("ClearML server %s: %s; %s", now.state.value, now.reason, _HINTS[now.state])
            await self._clock.sleep(HEALTH_SECONDS)


async def _follow_nodes(watch: Watch[NodeRecord], nodes: Nodes) -> None:
    async for event in watch.events():
        nodes.apply(event)


async def _follow(watch: Watch[R], store: Store[R]) -> None:
    async for event in watch.events():
        store.apply(event)

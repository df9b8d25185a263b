"""A fault, or the process's death, wherever claim, launch, recovery and end await a server: enumerated, not sampled.

Each scenario runs once as it is, which gives its calls, then once for each place of a call and fault. A call that is
not in the list by hand fails the test, so that none is left out.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import clearml_k8s
import pytest
from clearml_k8s import names
from clearml_k8s.kube.old_pod import slim_old_pod
from clearml_k8s.kube.watch import Gone, Upsert
from clearml_server.process import DevServer
from every_call import FAULTS, OF_READS, Wire, first_and_last, look_at, reads, tolerant
from flow_parts import GRACE, Side, make_config, make_container
from reconcile_loop import ENDED, Loop, start
from scripted_kube import Cluster, Fault, status
from scripted_servers import serving

WORKER = "worker-a"
QUOTA = status(403, "Forbidden", 'jobs.batch "x" is forbidden: exceeded quota: few, requested: count/jobs.batch=1')
INVALID = status(422, "Invalid", "Job is invalid: spec.template.spec.containers[0].image: no")
MOST_PODS = 2
ROUNDS = 4
"""Until nothing is left to do: a claim in doubt takes two."""

RUNNING = make_container(running=True)


@dataclass
class World:
    """Both servers, the tasks of the scenario, and what its pods show."""

    server: DevServer
    cluster: Cluster
    tasks: list[str] = field(default_factory=list)
    pods: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By task: the fields of its pod that has ended; the others' run."""
    old: bool = False
    faults: list[Fault] = field(default_factory=list)
    """Of the requests to create a Job, once the process has begun."""
    sides: list[Side] = field(default_factory=list)

    async def process(self, wire: Wire | None = None) -> Loop:
        """A new life of the controller's process."""
        config = make_config(api_server=self.server.url, max_pods=MOST_PODS, max_requeues={"evicted": 1})
        side = Side(server=self.server, cluster=self.cluster, worker_id=WORKER, config=config)
        self.sides.append(side)
        # Later than all that the server shows: only tasks that were enqueued a grace ago are looked for.
        await side.clock.advance(365 * 86400)
        await side.start()
        if wire is not None:
            wire.tap(side)
        loop = Loop(side)
        self.show(loop)
        return loop

    def show(self, loop: Loop) -> None:
        """What the watches bring."""
        loop.side.relist()
        for task in self.tasks:
            if self.old:
                self._show_old(loop, task)
            elif loop.side.jobs.of_task(task):
                ended = self.pods.get(task)
                container, shown = (RUNNING, {"phase": "Running"}) if ended is None else (ENDED, ended)
                loop.pod(task, container, uid=f"pod-of-{task}", **shown)
            else:
                loop.pod_goes(task)

    def _show_old(self, loop: Loop, task: str) -> None:
        name = f"clearml-id-{task}"
        there = name in self.cluster.objects.get("pods", {})
        known = loop.side.old.of_task(task)
        if not there and known:
            loop.side.old.apply(Gone(item=known[0]))
        elif there:
            loop.side.old.apply(Upsert(item=slim_old_pod(self.cluster.objects["pods"][name])))

    def entries(self, queue: str) -> list[str]:
        found: list[str] = self.server.entries(self.server.queue_id(queue))
        return found

    def status(self, task: str) -> str:
        found: str = self.server.task(task)["status"]
        return found


async def poll(world: World, loop: Loop) -> None:
    """One round of the process: take, reconcile, recover, write."""
    side = loop.side
    await tolerant(side, side.poll())
    await tolerant(side, side.recovery.step())
    await tolerant(side, side.book.flush())
    await tolerant(side, side.teller.flush())


async def recover(world: World, loop: Loop) -> None:
    side = loop.side
    for _ in range(3):
        await tolerant(side, side.recovery.step())
        await side.clock.advance(GRACE + 1)
        await tolerant(side, side.recovery.step())
        await tolerant(side, side.recovery.sweep())
        await tolerant(side, side.book.flush())


async def reconcile(world: World, loop: Loop) -> None:
    for task in world.tasks:
        await look_at(loop, task)
    await tolerant(loop.side, loop.side.teller.flush())


async def adopt(world: World, loop: Loop) -> None:
    for _ in range(4):
        await tolerant(loop.side, loop.side.adopted.look())
        await loop.side.clock.advance(4)
        world.show(loop)
    await tolerant(loop.side, loop.side.teller.flush())


async def uninstalled(world: World, loop: Loop) -> None:
    """Told to end with its rights gone: what was taken goes back."""
    side, post = loop.side, loop.side.session._transport.post

    async def posted(endpoint: str, *words: Any, **options: Any) -> Any:
        if endpoint == "queues.remove_task":
            side.stop.set()
        return await post(endpoint, *words, **options)

    side.session._transport.post = posted  # type: ignore[method-assign]
    refused = Fault(code=403, status=status(403, "Forbidden", "jobs.batch is forbidden: RBAC: role not found"))
    world.cluster.fault("POST", *[refused] * 100, path="jobs")
    await tolerant(side, side.poll())
    side.stop.set()
    await tolerant(side, side.claims.release())
    await tolerant(side, side.teller.flush())


# ---- how each begins ------------------------------------------------------------------------------------------------


async def queued(world: World) -> None:
    world.tasks = [world.server.create_task(queue="default")]


async def two(world: World) -> None:
    world.tasks = world.server.bulk_tasks(2, queue="default")


async def refused(world: World) -> None:
    await queued(world)
    # The dry run of the template between them is taken.
    fault = Fault(code=422, status=INVALID)
    world.faults = [fault, Fault(), fault]


async def over_quota(world: World) -> None:
    await queued(world)
    world.faults = [Fault(code=403, status=QUOTA)]


async def killed_at_the_take(world: World, *, fault: str) -> None:
    await queued(world)
    wire = Wire()
    loop = await world.process(wire)
    await wire.live(poll(world, loop))
    at = wire.calls.index("queues.remove_task")
    await begin_anew(world)
    await queued(world)
    wire = Wire(at=at, fault=fault)
    loop = await world.process(wire)
    assert not await wire.live(poll(world, loop))
    await wire.land()


async def absent(world: World) -> None:
    await queued(world)
    world.server.call("queues.remove_task", queue=world.server.queue_id("default"), task=world.tasks[0])


async def launched(world: World) -> Loop:
    await queued(world)
    loop = await world.process()
    assert await loop.side.poll() == 1
    await loop.side.book.flush()
    return loop


async def out_of_memory(world: World) -> None:
    await launched(world)
    start(world.server, world.tasks[0], worker=f"{WORKER}:{world.tasks[0]}")
    world.pods = {world.tasks[0]: {"phase": "Failed"}}


async def evicted(world: World) -> None:
    await launched(world)
    start(world.server, world.tasks[0], worker=f"{WORKER}:{world.tasks[0]}")
    world.pods = {world.tasks[0]: {"phase": "Failed", "reason": "Evicted", "message": "low on memory"}}


async def told_of_memory(world: World) -> None:
    await out_of_memory(world)
    world.server.call("tasks.failed", task=world.tasks[0], status_reason="worker execution exit code -9")


async def completed(world: World) -> None:
    await out_of_memory(world)
    world.server.call("tasks.completed", task=world.tasks[0])


async def aborted(world: World) -> None:
    await launched(world)
    world.server.call("tasks.stop", task=world.tasks[0], force=True)


async def left_by_the_glue(world: World) -> None:
    await queued(world)
    server, (task,) = world.server, world.tasks
    loop = await world.process()
    server.call("queues.get_next_task", queue=server.queue_id("default"))
    server.call("tasks.stop", task=task, force=True)
    server.call("tasks.enqueue", task=task, queue=loop.side.served.pending_queue)
    waiting = {"reason": "InvalidImageName", "message": "no such name"}
    world.cluster.put(
        "pods",
        f"clearml-id-{task}",
        metadata={"labels": {"CLEARML": "agent-x", "clearml-agent-queue": server.queue_id("default")}},
        spec={"containers": [{"name": "c", "env": [{"name": "CLEARML_WORKER_ID", "value": f"gpu:{task}"}]}]},
        status={"phase": "Pending", "containerStatuses": [{"name": "c", "state": {"waiting": waiting}}]},
    )
    world.old = True


# ---- how each must have ended ---------------------------------------------------------------------------------------


def runs_once(world: World) -> None:
    """One Job, of the present attempt."""
    for task in world.tasks:
        (job,) = world.sides[-1].created(task)
        assert job["metadata"]["annotations"][names.ANNOTATION_ATTEMPT] == world.server.task(task)["status_changed"]
        assert world.status(task) == "queued"
    assert len(world.cluster.objects["jobs"]) == len(world.tasks)
    assert world.entries("default") == []


def failed(world: World) -> None:
    for task in world.tasks:
        assert world.status(task) == "failed"
    over(world)


def failed_or_runs(world: World) -> None:
    """A fault may have used up one of the two refusals: then the Job was taken at last."""
    (failed if world.status(world.tasks[0]) == "failed" else runs_once)(world)


def over(world: World) -> None:
    assert world.cluster.objects.get("jobs", {}) == {}
    assert world.cluster.objects.get("pods", {}) == {}
    assert world.entries("default") == world.entries(names.PENDING_QUEUE) == []


def explained(world: World) -> None:
    assert world.server.task(world.tasks[0])["status_message"].startswith("Kubernetes: Container task was killed")
    failed(world)


def ended_well(world: World) -> None:
    assert world.status(world.tasks[0]) == "completed"
    over(world)


def stopped(world: World) -> None:
    assert world.status(world.tasks[0]) in ("stopped", "created")
    over(world)


def runs_again(world: World) -> None:
    """Put back once: two Jobs, of two attempts, and the second is there."""
    (task,) = world.tasks
    first, second = (job["metadata"]["annotations"][names.ANNOTATION_ATTEMPT] for job in world.sides[-1].created(task))
    assert first != second == world.server.task(task)["status_changed"]
    assert world.server.task(task)["hyperparams"]["properties"]["k8s-requeues"]["value"].startswith("1: ")
    assert world.entries("default") == []


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """``act`` is one life of the process; ``calls``: what it calls, each name once, in the order they come first."""

    begin: Callable[[World], Awaitable[object]]
    act: Callable[[World, Loop], Awaitable[None]]
    end: Callable[[World], None]
    calls: tuple[str, ...]


async def _killed_before_the_take(world: World) -> None:
    await killed_at_the_take(world, fault="killed before it")


async def _killed_after_the_take(world: World) -> None:
    await killed_at_the_take(world, fault="killed after it")


CLAIM = ("queues.get_all", "tasks.get_all", "tasks.edit_hyper_params", "PATCH configmaps", "queues.remove_task")

SCENARIOS: dict[str, Scenario] = {
    "a launch": Scenario(
        begin=queued,
        act=poll,
        end=runs_once,
        calls=(*CLAIM, "queues.add_task", "POST jobs", "events.add_batch"),
    ),
    "two launches": Scenario(
        begin=two,
        act=poll,
        end=runs_once,
        calls=(*CLAIM, "queues.add_task", "POST jobs", "events.add_batch"),
    ),
    "refused for good": Scenario(
        begin=refused,
        act=poll,
        end=failed_or_runs,
        calls=(*CLAIM, "queues.add_task", "POST jobs", "POST jobs (dry run)", "tasks.failed", "events.add_batch"),
    ),
    "over quota": Scenario(
        begin=over_quota,
        act=poll,
        end=runs_once,
        calls=(
            *CLAIM,
            "queues.add_task",
            "POST jobs",
            "tasks.delete_hyper_params",
            "queues.move_task_to_front",
            "events.add_batch",
        ),
    ),
    "uninstalled": Scenario(
        begin=queued,
        act=uninstalled,
        end=runs_once,
        calls=(
            *CLAIM,
            "POST jobs",
            "POST jobs (dry run)",
            "queues.add_task",
            "tasks.delete_hyper_params",
            "queues.move_task_to_front",
            "events.add_batch",
        ),
    ),
    "recorded, not taken": Scenario(
        begin=_killed_before_the_take,
        act=recover,
        end=runs_once,
        calls=("queues.get_all", "tasks.get_all", "PATCH configmaps"),
    ),
    "taken, no Job": Scenario(
        begin=_killed_after_the_take,
        act=recover,
        end=runs_once,
        calls=("queues.get_all", "tasks.get_all", "POST jobs", "PATCH configmaps"),
    ),
    "in no queue": Scenario(
        begin=absent,
        act=recover,
        end=runs_once,
        calls=("queues.get_all", "tasks.get_all", "tasks.edit_hyper_params", "PATCH configmaps", "POST jobs"),
    ),
    "out of memory": Scenario(
        begin=out_of_memory,
        act=reconcile,
        end=failed,
        calls=("tasks.get_all", "tasks.failed", "GET events", "DELETE jobs", "events.add_batch"),
    ),
    "out of memory, said by its agent": Scenario(
        begin=told_of_memory,
        act=reconcile,
        end=explained,
        calls=("tasks.get_all", "tasks.update", "DELETE jobs", "events.add_batch"),
    ),
    "completed": Scenario(
        begin=completed,
        act=reconcile,
        end=ended_well,
        calls=("tasks.get_all", "DELETE jobs"),
    ),
    "aborted": Scenario(
        begin=aborted,
        act=reconcile,
        end=stopped,
        calls=("tasks.get_all", "DELETE jobs"),
    ),
    "evicted": Scenario(
        begin=evicted,
        act=reconcile,
        end=runs_again,
        calls=(
            "tasks.get_all",
            "tasks.edit_hyper_params",
            "tasks.failed",
            "tasks.enqueue",
            "queues.move_task_to_front",
            "DELETE jobs",
            "events.add_batch",
        ),
    ),
    "left by the glue": Scenario(
        begin=left_by_the_glue,
        act=adopt,
        end=failed,
        calls=(
            "tasks.get_all",
            "queues.get_all",
            "tasks.failed",
            "GET events",
            "queues.remove_task",
            "DELETE pods",
            "events.add_batch",
        ),
    ),
}


# ---- running them ---------------------------------------------------------------------------------------------------


async def begin_anew(world: World) -> None:
    """Both servers as new."""
    world.server.reset()
    world.cluster.objects.clear()
    world.cluster.history.clear()
    world.cluster.faults.clear()


@asynccontextmanager
async def new_world(server: DevServer) -> AsyncIterator[World]:
    server.reset()
    async with serving(Cluster()) as cluster:
        world = World(server=server, cluster=cluster)
        try:
            yield world
        finally:
            for side in world.sides:
                await side.close()


async def run(scenario: Scenario, server: DevServer, wire: Wire) -> None:
    """The scenario with the wire's fault, what follows until nothing is left to do, and the audit of both sides."""
    async with new_world(server) as world:
        await scenario.begin(world)
        loop = await world.process(wire)
        world.cluster.fault("POST", *world.faults, path="jobs")
        lived = await wire.live(scenario.act(world, loop))
        wire.over = True
        if not lived or loop.side.stop.is_set():
            world.cluster.faults.clear()
            loop = await world.process()
        await wire.land()
        await settle(world, loop)
        scenario.end(world)
        audit(world)


async def settle(world: World, loop: Loop) -> None:
    """Rounds, until there is nothing left to do."""
    side = loop.side
    for _ in range(ROUNDS):
        world.show(loop)
        for task in world.tasks:
            await look_at(loop, task)
        world.pods = {t: f for t, f in world.pods.items() if _still(world, t)}
        await tolerant(side, side.adopted.look())
        await tolerant(side, side.served.refresh())
        await side.rest(rounds=1)
        await side.teller.flush()


def _still(world: World, task: str) -> bool:
    """Its first Job is there."""
    return f"clearml-id-{task}" in world.cluster.objects.get("jobs", {}) and len(world.sides[-1].created(task)) == 1


def audit(world: World) -> None:
    """What holds whatever happened."""
    side = world.sides[-1]
    assert side.stored() == {}
    assert (side.book.in_flight(), len(side.graces)) == ({}, 0)
    for task in world.tasks:
        attempts = [job["metadata"]["annotations"][names.ANNOTATION_ATTEMPT] for job in side.created(task)]
        assert len(attempts) == len(set(attempts)), "an attempt has one Job"
        if world.status(task) != "queued":
            assert task not in world.entries(names.PENDING_QUEUE)
    peak = now = 0
    for _, collection, kind, _ in world.cluster.history:
        now += {"ADDED": 1, "DELETED": -1}.get(kind, 0) if collection == "jobs" else 0
        peak = max(peak, now)
    assert peak <= MOST_PODS


@pytest.mark.parametrize("name", SCENARIOS)
async def test_the_calls_are_known(name: str, server: DevServer) -> None:
    wire = Wire()
    await run(SCENARIOS[name], server, wire)
    assert tuple(dict.fromkeys(wire.calls)) == SCENARIOS[name].calls, "write the new call down: it is then covered"


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", SCENARIOS)
async def test_whatever_happens_to_any_call(name: str, fault: str, server: DevServer) -> None:
    whole = Wire()
    await run(SCENARIOS[name], server, whole)
    for at in first_and_last(whole.points):
        call = whole.calls[at]
        if reads(call) and fault not in OF_READS:
            continue
        wire = Wire(at=at, fault=fault)
        try:
            await run(SCENARIOS[name], server, wire)
        except AssertionError as error:
            error.add_note(f"{fault}: call {at}, {call}, of {wire.calls}")
            raise
        assert wire.calls[: at + 1] == whole.calls[: at + 1]


def test_every_write_of_the_flow_is_among_them() -> None:
    source = Path(clearml_k8s.__file__).parent
    written = set()
    for file in ("tasks.py", "queues.py", "events.py"):
        text = (source / "clearml" / file).read_text(encoding="utf-8")
        written |= set(re.findall(r'"((?:tasks|queues|events)\.[a-z_]+)"', text))
    written = {name for name in written if not reads(name)}
    covered = {call for scenario in SCENARIOS.values() for call in scenario.calls}
    assert written - covered == {
        "queues.create",  # at the look-up of the queues: tests/unit/flow/test_served.py
        "queues.get_num_entries",
        "tasks.stopped",  # of nobody in flow/
    }
    assert {call for call in covered if call.startswith(("POST", "PATCH", "DELETE"))} == {
        "POST jobs", "POST jobs (dry run)", "PATCH configmaps", "DELETE jobs", "DELETE pods"
    }  # fmt: skip

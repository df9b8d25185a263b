"""Two processes of one release: one leads; killed, stalled or told to end, the other goes on with what it left."""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import AsyncExitStack

import pytest
from chaos_agent import Agents
from chaos_controller import ControllerProcess
from chaos_counts import check, shown, statuses, until
from chaos_kube import KubeError
from chaos_proxy import Fate, Proxy, Request, Steps
from chaos_scene import Scene

RELEASE = "pair"
TAKEOVER = 60  # a Lease stands 15 s; then a machine that is busy
LIMITS = {"alpha": 30, "beta": 20, "": 40}


async def leader(scene: Scene) -> str:
    """The pod that the Lease names, "" nobody's."""
    path = f"/apis/coordination.k8s.io/v1/namespaces/{scene.namespaces[0]}/leases/{RELEASE}-clearml-agent-leader"
    try:
        found = (await scene.kube.request("GET", path))["spec"].get("holderIdentity") or ""
    except KubeError as error:
        if error.code != 404:
            raise
        return ""
    return str(found).rpartition("_")[0]


async def leads(scene: Scene, controller: ControllerProcess) -> None:
    async def is_it() -> bool:
        assert controller.running, f"{controller.pod} has ended"
        return await leader(scene) == controller.pod

    await until(is_it, f"{controller.pod} leads", limit=TAKEOVER)


async def stands_by(controller: ControllerProcess) -> None:
    def said() -> bool:
        assert controller.running
        return "standby: " in controller.log.read_text()

    await until(said, f"{controller.pod} stands by", limit=30)


def completed(scene: Scene, tasks: list[str]) -> int:
    return sum(status == "completed" for status in statuses(scene.server, tasks).values())


async def test_killed_or_told_to_end_the_other_goes_on(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    server, began = scene.server, time.monotonic()
    tasks = server.bulk_tasks(90, queue="alpha") + server.bulk_tasks(60, queue="beta")
    first, second = (scene.controller(RELEASE, limits=LIMITS, pod=f"pod-{number}") for number in (1, 2))
    try:
        async with scene.agents() as agents:
            await first.start()
            await leads(scene, first)
            await second.start()
            await stands_by(second)
            await until(lambda: completed(scene, tasks) >= 20, "some tasks are completed", limit=60)
            await first.kill()
            await leads(scene, second)
            await first.start()
            await stands_by(first)
            tasks += server.bulk_tasks(50, queue="alpha")
            await until(lambda: completed(scene, tasks) >= 120, "more tasks are completed", limit=90)
            assert await second.stop() == 0
            assert await leader(scene) in ("", first.pod), "released before it ended"
            await leads(scene, first)
            await scene.settled(tasks, releases={RELEASE: scene.namespaces[0]}, agents=agents)
    finally:
        await first.kill()
        await second.kill()
    counts = scene.count(tasks, agents=agents)
    with capsys.disabled():
        print(shown("TWO PROCESSES OF ONE RELEASE", {"time": f"{time.monotonic() - began:.0f} s"}, counts))
    check(counts, limits=LIMITS)
    assert counts.jobs == len(tasks)


class Leash:
    """What the process that is to stall sends; holds its first take until the other leads, and later its Lease."""

    def __init__(self) -> None:
        self.stalled, self.caught, self.let_go = False, asyncio.Event(), asyncio.Event()
        self.may_ask_for_lease = asyncio.Event()
        self.since: list[Request] = []
        """What it sent since it woke up."""

    async def decide(self, request: Request) -> Fate:
        if request.step == "take" and not self.caught.is_set():
            self.caught.set()
            await self.let_go.wait()
        return Fate.PASS

    async def see(self, request: Request) -> None:
        if self.stalled:
            self.since.append(request)
            if "/leases/" in request.path:
                await self.may_ask_for_lease.wait()

    def reads(self) -> int:
        return sum(".get_" in request.path for request in self.since)

    def gave_up(self) -> bool:
        """It wants to release the Lease, of whose version it has heard last."""
        patches = [r.body["spec"] for r in self.since if "/leases/" in r.path and r.method == "PATCH"]
        return any(spec.get("holderIdentity", "") is None for spec in patches)

    def writes(self) -> list[str]:
        """All that is no read, but for the Lease."""
        return [
            f"{request.method} {request.path}"
            for request in self.since
            if request.method != "GET" and ".get_" not in request.path and "/leases/" not in request.path
        ]


async def test_a_stalled_leader_that_wakes_up_does_nothing_more(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    server, began = scene.server, time.monotonic()
    source, limits = server.create_queue("alpha"), {"alpha": 10}
    pending = server.create_queue("k8s_scheduler", system_tags=["k8s-glue"])
    go_on, leash = asyncio.Event(), Leash()

    async def work(task: str) -> None:
        del task
        await go_on.wait()

    async with AsyncExitStack() as stack:
        to_clearml = await stack.enter_async_context(Proxy(server.url))
        to_kube = await stack.enter_async_context(Proxy(scene.access.server, tls=scene.access.tls))
        for proxy in (to_clearml, to_kube):
            proxy.steps = Steps(sources=frozenset([source]), pending=pending)
            proxy.decide, proxy.see = leash.decide, leash.see
        agents = await stack.enter_async_context(scene.agents(work=work))
        first = scene.controller(RELEASE, limits=limits, pod="pod-1", clearml=to_clearml, kube=to_kube)
        second = scene.controller(RELEASE, limits=limits, pod="pod-2")
        await stack.enter_async_context(first)
        await leads(scene, first)
        await stack.enter_async_context(second)
        await stands_by(second)
        tasks = server.bulk_tasks(20, queue="alpha")
        await asyncio.wait_for(leash.caught.wait(), 30)
        first.signal(signal.SIGSTOP)
        await leads(scene, second)
        # Sent by the one, landing when the other leads.
        leash.let_go.set()
        await until(lambda: running(agents) == 10, lambda: f"all places are taken: {running(agents)}", limit=60)
        assert len(server.entries(source)) == 10
        leash.stalled = True
        first.signal(signal.SIGCONT)
        # It is awake, finds tasks that wait, and cannot ask for its Lease; the record may tell it that another leads.
        await until(
            lambda: leash.reads() >= 5 or leash.gave_up(), lambda: f"it reads, or gives up: {leash.since}", limit=30
        )
        assert leash.writes() == []
        leash.may_ask_for_lease.set()
        assert await first.ended() == 1
        assert "another process serves release 'pair'" in first.log.read_text()
        assert leash.writes() == []
        assert await leader(scene) == second.pod
        go_on.set()
        await scene.settled(tasks, releases={RELEASE: scene.namespaces[0]}, agents=agents)
    counts = scene.count(tasks, agents=agents)
    with capsys.disabled():
        facts = {
            "sent after it woke up": f"{len(leash.since)} requests, no write",
            "time": f"{time.monotonic() - began:.0f} s",
        }
        print(shown("A STALLED LEADER", facts, counts))
    check(counts, limits=limits)
    assert counts.jobs == len(tasks)


def running(agents: list[Agents]) -> int:
    return sum(len(one.starts) - len(one.ended) for one in agents)

"""Everything at once, for minutes: faults of both servers, kills, outages, a user who aborts; nothing lost, none twice.

Then one life without trouble, whose memory does not grow with its tasks: told by the short one, which is part of `make
test`, as far as it is exact; by the long one (`make soak`) also where little is kept of each.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from chaos_cluster import kill_apiserver
from chaos_controller import ControllerProcess
from chaos_counts import check, shown, statuses, until
from chaos_faults import Faults, add_faults, faults_met
from chaos_proxy import Proxy
from chaos_scene import Scene
from clearml_server.process import DevServer

from ci.cluster.local import LocalCluster

MODES = ("refuse", "close", "503")
API_SERVER_EVERY = 20
"""Of so many troubles one is an API server that dies, and starts again."""


@dataclass(kw_only=True)
class Trouble:
    """What befalls the controller and its servers; ``memory``: KiB of each look at it, in order."""

    server: DevServer
    cluster: LocalCluster
    controller: ControllerProcess
    draw: random.Random
    done: Counter[str] = field(default_factory=Counter)
    memory: list[int] = field(default_factory=list)

    async def go_on(self) -> None:
        """For ever: every few seconds something; between that, looks at the memory."""
        while True:
            for _ in range(self.draw.randint(3, 8)):
                await asyncio.sleep(1.0)
                self.memory.append(self.controller.resident_kib())
            if not self.controller.running:
                # A fault at its start may end it; the kubelet would start it again.
                self.done["ended by itself"] += 1
                await self.controller.start()
                continue
            what = self.draw.choice(("kill", "kill", "end", "server away"))
            if self.done.total() % API_SERVER_EVERY == 2:
                what = "API server killed"
            self.done[what] += 1
            if what == "API server killed":
                await kill_apiserver(self.cluster)
                await asyncio.to_thread(self.cluster.up)
                continue
            if what == "server away":
                self.server.down(mode=self.draw.choice(MODES), seconds=self.draw.uniform(0.5, 3.0))
                continue
            if what == "kill":
                await self.controller.kill()
            else:
                await self.controller.stop()
            await self.controller.start()


@asynccontextmanager
async def beside(trouble: Trouble) -> AsyncIterator[None]:
    """The trouble goes on during the block."""
    going = asyncio.create_task(trouble.go_on())
    try:
        yield
    finally:
        going.cancel()
        ended = await asyncio.gather(going, return_exceptions=True)
    assert isinstance(ended[0], asyncio.CancelledError), ended[0]


@pytest.mark.parametrize(
    ("tasks_of_each", "in_peace", "limits"),
    [
        pytest.param(350, 400, {"alpha": 40, "beta": 30, "": 60}, id="short", marks=pytest.mark.long),
        pytest.param(
            2500,
            1500,
            {"alpha": 150, "beta": 100, "": 200},
            id="long",
            marks=[pytest.mark.long, pytest.mark.timeout(3600)],
        ),
    ],
)
async def test_all_tasks_run_once_whatever_happens(
    cluster: LocalCluster,
    scene: Scene,
    capsys: pytest.CaptureFixture[str],
    tasks_of_each: int,
    in_peace: int,
    limits: dict[str, int | None],
) -> None:
    server, draw = scene.server, random.Random(tasks_of_each)
    tasks = [task for name in ("alpha", "beta") for task in server.bulk_tasks(tasks_of_each, queue=name)]
    add_faults(server, probability=0.005, seed=3)
    kube_faults = Faults(probability=0.02, watches=0.2, seed=4)
    aborted = draw.sample(tasks, len(tasks) // 50)
    patience = 60.0 + len(tasks) * 0.6
    began = time.monotonic()
    async with Proxy(scene.access.server, tls=scene.access.tls) as to_kube, scene.agents() as agents:
        to_kube.decide = kube_faults.decide
        async with scene.controller("soak", limits=limits, kube=to_kube) as controller:
            trouble = Trouble(server=server, cluster=cluster, controller=controller, draw=draw)
            async with beside(trouble):
                for task in aborted:
                    await asyncio.sleep(draw.uniform(0.0, 1.0))
                    await asyncio.to_thread(server.call, "tasks.stop", task=task, force=True)
                await until(
                    lambda: Counter(statuses(server, tasks).values())["completed"] >= len(tasks) * 0.9,
                    lambda: f"nearly all are completed: {Counter(statuses(server, tasks).values())}",
                    limit=patience,
                )
            # The last trouble may have been cut off between an end and the next start.
            await asyncio.to_thread(cluster.up)
            await controller.kill()
            await controller.start()
            met = faults_met(server)
            server.clear_faults()
            kube_faults.on = False

            async def settled() -> int:
                """Blocks of memory that are held when all is done."""
                await scene.settled(
                    tasks, releases={"soak": scene.namespaces[0]}, agents=agents, aborted=aborted, limit=patience
                )
                return await controller.blocks()

            await settled()
            # What is made once in a life is there after its first tasks.
            tasks += server.bulk_tasks(100, queue="alpha")
            before = await settled()
            tasks += server.bulk_tasks(in_peace, queue="alpha")
            growth = await settled() - before
    counts = scene.count(tasks, agents=agents, aborted=aborted)
    with capsys.disabled():
        facts = {
            "troubles": ", ".join(f"{what} {number}" for what, number in trouble.done.items()),
            "faults of the ClearML server": met,
            "faults of the API server": str(kube_faults),
            "memory": f"at most {max(trouble.memory) // 1024} MiB; {growth} blocks more after {in_peace} tasks",
            "time": f"{time.monotonic() - began:.0f} s",
        }
        print(shown("SOAK", facts, counts))
    check(counts, limits=limits)
    # What is remembered of each task takes some blocks; what comes and goes at any time is some 2,000 of them.
    assert growth < max(2 * in_peace, 3000)
    assert trouble.done["kill"] > 0
    assert trouble.done["API server killed"] > 0

"""Either API is away for a while, while tasks wait, launch and run: none is lost, failed or started twice."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter

import pytest
from chaos_cluster import apiserver, kill_apiserver
from chaos_counts import check, shown, statuses, until
from chaos_scene import Scene

from ci.cluster.local import LocalCluster

TASKS = 120
LIMITS = {"alpha": 30, "beta": 20, "": 40}


async def test_both_apis_are_away_for_a_while(
    cluster: LocalCluster, scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    server = scene.server
    tasks = server.bulk_tasks(70, queue="alpha") + server.bulk_tasks(50, queue="beta")

    async def work(task: str) -> None:
        await asyncio.sleep(2.0)

    async def some_completed(number: int) -> None:
        await until(
            lambda: Counter(statuses(server, tasks).values())["completed"] >= number,
            lambda: f"{number} tasks are completed: {Counter(statuses(server, tasks).values())}",
            limit=60,
        )

    controller = scene.controller("away", limits=LIMITS)
    began = time.monotonic()
    try:
        async with scene.agents(work=work) as agents, controller:
            await some_completed(5)
            pid = await asyncio.to_thread(apiserver, cluster)
            os.kill(pid, signal.SIGSTOP)  # silent: connections stay, nothing answers
            await asyncio.sleep(6)
            os.kill(pid, signal.SIGCONT)
            await some_completed(35)
            await kill_apiserver(cluster)
            await asyncio.sleep(2)
            await asyncio.to_thread(cluster.up)
            await some_completed(60)
            for mode in ("refuse", "503"):
                server.down(mode=mode, seconds=4)
                await asyncio.sleep(4)
            os.kill(server.pid, signal.SIGSTOP)
            await asyncio.sleep(4)
            os.kill(server.pid, signal.SIGCONT)
            await scene.settled(tasks, releases={"away": scene.namespaces[0]}, agents=agents)
            assert controller.running
    finally:
        await asyncio.to_thread(cluster.up)
    counts = scene.count(tasks, agents=agents)
    failed = [call for call in server.calls(endpoint=r"^tasks\.(failed|stopped)$") if call["client"] is None]
    with capsys.disabled():
        facts = {
            "API server": "stopped for 6 s, killed and started again after 2 s",
            "ClearML server": "refuses for 4 s, answers 503 for 4 s, stopped for 4 s",
            "tasks failed by the controller": len(failed),
            "time": f"{time.monotonic() - began:.0f} s",
        }
        print(shown("AWAY", facts, counts))
    assert not failed
    check(counts, limits=LIMITS)
    assert counts.jobs == TASKS

"""Both servers err at every call, others take from the same queues: each task runs once, by someone."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import AsyncExitStack

import pytest
from chaos_agent import ClearML, PlainConsumer
from chaos_controller import kept_running
from chaos_counts import check, shown
from chaos_faults import Faults, add_faults, faults_met
from chaos_proxy import Proxy
from chaos_scene import Scene

TASKS = 200


async def test_errors_after_commit_lost_replies_and_late_calls(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    server, limits = scene.server, {"alpha": 30, "beta": 20, "": 40}
    tasks = server.bulk_tasks(110, queue="alpha") + server.bulk_tasks(90, queue="beta")
    add_faults(server, probability=0.02, seed=1)
    kube_faults = Faults(probability=0.06, watches=0.4, seed=2)
    began = time.monotonic()
    async with (
        Proxy(scene.access.server, tls=scene.access.tls) as to_kube,
        scene.agents() as agents,
    ):
        to_kube.decide = kube_faults.decide
        async with scene.controller("faulty", limits=limits, kube=to_kube) as controller, kept_running(controller):
            for mode in ("refuse", "close", "503"):  # and is away now and then
                await asyncio.sleep(6)
                server.down(mode=mode, seconds=2.5)
            await scene.settled(tasks, releases={"faulty": scene.namespaces[0]}, agents=agents)
    counts = scene.count(tasks, agents=agents)
    with capsys.disabled():
        facts = {
            "faults of the ClearML server": faults_met(server) + "; away three times for 2.5 s",
            "faults of the API server": str(kube_faults),
            "time": f"{time.monotonic() - began:.0f} s",
        }
        print(shown("FAULTS", facts, counts))
    check(counts, limits=limits)
    assert counts.jobs == TASKS


async def test_two_controllers_and_a_plain_agent_on_the_same_queues(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    server = scene.server
    queues = tuple(server.create_queue(name) for name in ("alpha", "beta"))
    tasks = server.bulk_tasks(110, queue="alpha") + server.bulk_tasks(90, queue="beta")
    add_faults(server, probability=0.01, seed=7)
    releases = {f"same-{number}": namespace for number, namespace in enumerate(scene.namespaces)}
    limits = {"alpha": None, "beta": None, "": 12}
    began = time.monotonic()
    async with AsyncExitStack() as stack:
        clearml = await stack.enter_async_context(ClearML(server, name="agent"))
        plain = PlainConsumer(clearml=clearml, queues=queues, every=0.3)
        agents = await stack.enter_async_context(scene.agents())
        for release, namespace in releases.items():
            await stack.enter_async_context(scene.controller(release, namespace=namespace, limits=limits))
        consuming = asyncio.create_task(plain.run())
        try:
            await scene.settled(tasks, releases=releases, agents=agents)
        finally:
            consuming.cancel()
            await asyncio.gather(consuming, return_exceptions=True)
    counts = scene.count(tasks, agents=agents, others=plain.starts)
    of_each = Counter(job.namespace for job in scene.jobs(agents))
    with capsys.disabled():
        facts = {
            "faults of the ClearML server": faults_met(server),
            "launched by": f"{[of_each[namespace] for namespace in scene.namespaces]}, plain agent {len(plain.starts)}",
            "time": f"{time.monotonic() - began:.0f} s",
        }
        print(shown("TWO CONTROLLERS AND A PLAIN AGENT", facts, counts))
    check(counts, limits={"": 24})
    assert counts.jobs + len(plain.starts) == TASKS
    assert set(of_each) == set(scene.namespaces)
    assert plain.starts

"""Both servers err at every step of the claim, others take from the same queues: each task runs once, by someone."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from contextlib import AsyncExitStack

import pytest
from chaos_agent import ClearML, PlainConsumer
from chaos_counts import check, shown
from chaos_proxy import Fate, Proxy, Request, Steps
from chaos_scene import Scene
from clearml_server.process import DevServer

TASKS = 200
# Every call that the controller makes on the way of a task, also those that only look or tell.
ENDPOINTS = (
    r"^tasks\.edit_hyper_params$",
    r"^tasks\.delete_hyper_params$",
    r"^tasks\.get_all$",
    r"^queues\.get_all$",
    r"^queues\.remove_task$",
    r"^queues\.add_task$",
    r"^workers\.status_report$",
    r"^events\.add_batch$",
)
KINDS = ("error_after_commit", "error_before", "drop_reply", "drop_before", "late", "unauthorized")
KUBE_FATES = (Fate.DROP_BEFORE, Fate.DROP_AFTER, Fate.ERROR_BEFORE, Fate.ERROR_AFTER)


def add_faults(server: DevServer, *, probability: float, seed: int) -> None:
    """Each kind on each endpoint with this probability; for calls of controllers only, who send no client's name."""
    for number, endpoint in enumerate(ENDPOINTS):
        for kind_number, kind in enumerate(KINDS):
            server.add_fault(
                kind=kind,
                endpoint=endpoint,
                client="^$",
                probability=probability,
                seed=seed + 100 * number + kind_number,
                **({"seconds": 1.5} if kind == "late" else {}),
            )


def faults_met(server: DevServer) -> str:
    """How often each kind came."""
    hits: Counter[str] = Counter()
    for rule in server.faults():
        hits[rule["kind"]] += rule["hits"]
    return ", ".join(f"{kind} {number}" for kind, number in hits.items())


class KubeFaults:
    """A seeded share of the writes of a claim to the API server is dropped or answered with an error."""

    def __init__(self, *, probability: float, seed: int) -> None:
        self._probability, self._draw = probability, random.Random(seed)
        self.hits: Counter[str] = Counter()

    async def decide(self, request: Request) -> Fate:
        if self._draw.random() >= self._probability:
            return Fate.PASS
        fate = self._draw.choice(KUBE_FATES)
        self.hits[fate.name.lower()] += 1
        return fate


async def test_errors_after_commit_lost_replies_and_late_calls(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    server, limits = scene.server, {"alpha": 30, "beta": 20, "": 40}
    sources = {name: server.create_queue(name) for name in ("alpha", "beta")}
    pending = server.create_queue("k8s_scheduler", system_tags=["k8s-glue"])
    tasks = server.bulk_tasks(110, queue="alpha") + server.bulk_tasks(90, queue="beta")
    add_faults(server, probability=0.02, seed=1)
    kube_faults = KubeFaults(probability=0.1, seed=2)
    began = time.monotonic()
    async with (
        Proxy(scene.access.server, tls=scene.access.tls) as to_kube,
        scene.agents() as agents,
    ):
        to_kube.steps, to_kube.decide = Steps(sources=frozenset(sources.values()), pending=pending), kube_faults.decide
        async with scene.controller("faulty", limits=limits, kube=to_kube):
            for mode in ("refuse", "close", "503"):  # and is away now and then
                await asyncio.sleep(6)
                server.down(mode=mode, seconds=2.5)
            await scene.settled(tasks, releases={"faulty": scene.namespaces[0]}, agents=agents)
    counts = scene.count(tasks, agents=agents)
    with capsys.disabled():
        facts = {
            "faults of the ClearML server": faults_met(server) + "; away three times for 2.5 s",
            "faults of the API server": ", ".join(f"{kind} {number}" for kind, number in kube_faults.hits.items()),
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

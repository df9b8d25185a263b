"""Both servers err at every step of the claim, others take from the same queues: each task runs once, by someone."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from chaos_agent import Agents, ClearML, PlainConsumer
from chaos_controller import ControllerProcess, config
from chaos_counts import check, count, settled, shown, stored
from chaos_kube import Access, AuditLog, Kube, plain_kubeconfig
from chaos_proxy import Fate, Proxy, Request, Steps
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


async def quick(task: str) -> None:
    """The work of a task."""
    await asyncio.sleep(0.5)


async def test_errors_after_commit_lost_replies_and_late_calls(
    kube: Kube,
    kube_access: Access,
    namespaces: tuple[str, str],
    audit: AuditLog,
    server: DevServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    namespace, limits = namespaces[0], {"alpha": 30, "beta": 20, "": 40}
    sources = {name: server.create_queue(name) for name in ("alpha", "beta")}
    pending = server.create_queue("k8s_scheduler", system_tags=["k8s-glue"])
    tasks = server.bulk_tasks(110, queue="alpha") + server.bulk_tasks(90, queue="beta")
    add_faults(server, probability=0.02, seed=1)
    kube_faults = KubeFaults(probability=0.1, seed=2)
    began = time.monotonic()
    async with (
        Proxy(kube_access.server, tls=kube_access.tls) as to_kube,
        ClearML(server, name="agent") as clearml,
        Agents(kube=kube, clearml=clearml, namespace=namespace, work=quick) as agents,
    ):
        to_kube.steps, to_kube.decide = Steps(sources=frozenset(sources.values()), pending=pending), kube_faults.decide
        kubeconfig = tmp_path / "kubeconfig"
        kubeconfig.write_text(plain_kubeconfig(to_kube.url))
        controller = ControllerProcess(
            document=config(
                release="faulty",
                namespace=namespace,
                api_server=server.url,
                queues={"alpha": limits["alpha"], "beta": limits["beta"]},
                max_pods=limits[""],
            ),
            folder=tmp_path,
            kubeconfig=kubeconfig,
            access_key=server.access_key,
            secret_key=server.secret_key,
        )
        async with controller:
            for mode in ("refuse", "close", "503"):  # and is away now and then
                await asyncio.sleep(6)
                server.down(mode=mode, seconds=2.5)
            await settled(server=server, tasks=tasks, kube=kube, releases={"faulty": namespace}, agents=[agents])
    counts = count(server=server, tasks=tasks, jobs=audit.jobs(), agents=[agents])
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
    kube: Kube,
    cluster_kubeconfig: Path,
    namespaces: tuple[str, str],
    audit: AuditLog,
    server: DevServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    queues = tuple(server.create_queue(name) for name in ("alpha", "beta"))
    tasks = server.bulk_tasks(110, queue="alpha") + server.bulk_tasks(90, queue="beta")
    add_faults(server, probability=0.01, seed=7)
    releases = {f"same-{number}": namespace for number, namespace in enumerate(namespaces)}
    began = time.monotonic()
    async with AsyncExitStack() as stack:
        clearml = await stack.enter_async_context(ClearML(server, name="agent"))
        plain = PlainConsumer(clearml=clearml, queues=queues, every=0.3)
        agents = []
        for release, namespace in releases.items():
            agents.append(
                await stack.enter_async_context(Agents(kube=kube, clearml=clearml, namespace=namespace, work=quick))
            )
            await stack.enter_async_context(
                ControllerProcess(
                    document=config(
                        release=release,
                        namespace=namespace,
                        api_server=server.url,
                        queues={"alpha": None, "beta": None},
                        max_pods=12,
                    ),
                    folder=tmp_path,
                    kubeconfig=cluster_kubeconfig,
                    access_key=server.access_key,
                    secret_key=server.secret_key,
                )
            )
        consuming = asyncio.create_task(plain.run())
        try:
            await settled(server=server, tasks=tasks, kube=kube, releases=releases, agents=agents)
        finally:
            consuming.cancel()
            await asyncio.gather(consuming, return_exceptions=True)
    jobs = stored(audit.jobs(), agents)
    counts = count(server=server, tasks=tasks, jobs=jobs, agents=agents, others=plain.starts)
    of_each = {release: sum(job.namespace == namespace for job in jobs) for release, namespace in releases.items()}
    with capsys.disabled():
        facts = {
            "faults of the ClearML server": faults_met(server),
            "launched by": f"{of_each}, plain agent {len(plain.starts)}",
            "time": f"{time.monotonic() - began:.0f} s",
        }
        print(shown("TWO CONTROLLERS AND A PLAIN AGENT", facts, counts))
    check(counts, limits={"": 24})
    assert counts.jobs + len(plain.starts) == TASKS
    assert all(of_each.values())
    assert plain.starts

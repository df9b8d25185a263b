"""Two releases with one worker id (`workerIdOverride`) on one queue: each task once, as with any two."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from chaos_agent import Agents, ClearML
from chaos_controller import ControllerProcess, config
from chaos_counts import check, count, settled, shown
from chaos_kube import AuditLog, Kube
from clearml_server.process import DevServer

TASKS = 80


async def quick(task: str) -> None:
    """The work of a task: a moment, so that the places change hands often."""
    del task
    await asyncio.sleep(0.2)


async def test_two_controllers_of_one_worker_id(
    kube: Kube,
    cluster_kubeconfig: Path,
    namespaces: tuple[str, str],
    audit: AuditLog,
    server: DevServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server.create_queue("alpha")
    tasks = server.bulk_tasks(TASKS, queue="alpha")
    releases = {f"same-{number}": namespace for number, namespace in enumerate(namespaces)}
    began = time.monotonic()
    async with AsyncExitStack() as stack:
        clearml = await stack.enter_async_context(ClearML(server, name="agent"))
        agents = []
        for release, namespace in releases.items():
            agents.append(
                await stack.enter_async_context(Agents(kube=kube, clearml=clearml, namespace=namespace, work=quick))
            )
            document = config(
                release=release, namespace=namespace, api_server=server.url, queues={"alpha": None}, max_pods=8
            )
            await stack.enter_async_context(
                ControllerProcess(
                    document={**document, "workerId": "one-for-both"},
                    folder=tmp_path,
                    kubeconfig=cluster_kubeconfig,
                    access_key=server.access_key,
                    secret_key=server.secret_key,
                )
            )
        await settled(server=server, tasks=tasks, kube=kube, releases=releases, agents=agents)
    jobs = audit.jobs()
    counts = count(server=server, tasks=tasks, jobs=jobs, agents=agents)
    of_each = {release: sum(job.namespace == namespace for job in jobs) for release, namespace in releases.items()}
    with capsys.disabled():
        facts = {"launched by": str(of_each), "time": f"{time.monotonic() - began:.0f} s"}
        print(shown("TWO CONTROLLERS OF ONE WORKER ID", facts, counts))
    check(counts, limits={"": 16})
    assert counts.jobs == TASKS
    assert all(of_each.values())

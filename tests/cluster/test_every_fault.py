"""Any request to either API may go wrong, in any way; etcd forgets its history while a watch hears nothing."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest
from chaos_cluster import compact, kill_apiserver
from chaos_controller import kept_running
from chaos_counts import check, shown, statuses, until
from chaos_faults import CALLS, LISTS, WATCHES, Faults
from chaos_proxy import Fate, Proxy
from chaos_scene import Scene

from ci.cluster.local import LocalCluster

LIMITS = {"alpha": 12, "beta": 8, "": 16}
TASKS = 120
KUBE_CALLS = {"GET jobs", "watch jobs", "GET pods", "watch pods", "POST jobs", "DELETE jobs", "PATCH configmaps"}
CLEARML_CALLS = {
    *("auth.login", "queues.get_all", "tasks.get_all", "tasks.edit_hyper_params", "queues.remove_task"),
    *("queues.add_task", "events.add_batch", "workers.register", "workers.status_report"),
}


async def test_every_request_may_go_wrong(
    cluster: LocalCluster, scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    """The Jobs' first watch falls silent; while it hears nothing etcd is compacted and the API server starts anew, so
    that its version is too old when it is asked for again."""
    server, began = scene.server, time.monotonic()
    for name in ("alpha", "beta"):
        server.create_queue(name)
    tasks = server.bulk_tasks(TASKS * 3 // 5, queue="alpha") + server.bulk_tasks(TASKS * 2 // 5, queue="beta")

    async def work(task: str) -> None:
        del task
        await asyncio.sleep(2.0)

    def completed() -> int:
        return Counter(statuses(server, tasks).values())["completed"]

    of_kube = Faults(probability=0.04, watches=0.7, seed=11, silent=("watch jobs",))
    of_clearml = Faults(probability=0.04, seed=12)
    try:
        async with (
            Proxy(scene.access.server, tls=scene.access.tls) as to_kube,
            Proxy(server.url) as to_clearml,
            scene.agents(work=work) as agents,
        ):
            to_kube.decide, to_clearml.decide = of_kube.decide, of_clearml.decide
            controller = scene.controller("any", limits=LIMITS, kube=to_kube, clearml=to_clearml)
            async with controller, kept_running(controller) as codes:
                # Not many more can be while no Job is seen to go.
                await until(lambda: completed() >= 8, lambda: f"tasks are completed: {completed()}", limit=60)
                assert of_kube.hits[Fate.SILENT] == 1
                revision = await compact(cluster)
                await kill_apiserver(cluster)
                await asyncio.to_thread(cluster.up)
                too_old = "the watch that was silent is too old for the real API server"
                await until(lambda: to_kube.expired["watch jobs"] > 0, too_old, limit=100)
                tasks += server.bulk_tasks(TASKS // 3, queue="alpha")
                await scene.settled(tasks, releases={"any": scene.namespaces[0]}, agents=agents, limit=150)
    finally:
        await asyncio.to_thread(cluster.up)
    counts = scene.count(tasks, agents=agents)
    failed = [call for call in server.calls(endpoint=r"^tasks\.(failed|stopped)$") if call["client"] is None]
    with capsys.disabled():
        facts = {
            "API server": f"{of_kube}; of {of_kube.asked.total()} requests",
            "ClearML server": f"{of_clearml}; of {of_clearml.asked.total()} requests",
            "etcd": f"compacted at {revision}; too old for the real API server: {dict(to_kube.expired)}",
            "lives of the controller": f"{len(codes) + 1} {codes}",
            "time": f"{time.monotonic() - began:.0f} s",
        }
        print(shown("EVERY REQUEST MAY GO WRONG", facts, counts))
    assert not failed
    check(counts, limits=LIMITS)
    assert counts.jobs == len(tasks)
    assert set(of_kube.hits) == {*CALLS, *LISTS, *WATCHES, Fate.SILENT}
    assert set(of_clearml.hits) == set(CALLS)
    assert set(of_kube.asked) >= KUBE_CALLS, of_kube.asked
    assert set(of_clearml.asked) >= CLEARML_CALLS, of_clearml.asked

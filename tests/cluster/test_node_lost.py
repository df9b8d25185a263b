"""A node that is gone for good: the pod collector's evidence puts its task back; the task runs once more, elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from chaos_cluster import out_of_service
from chaos_counts import statuses, until
from chaos_kube import Kube
from chaos_scene import Scene

from ci.cluster.local import LocalCluster

NODES = 4


async def pods_of(kube: Kube, namespace: str, task: str) -> list[dict[str, Any]]:
    path = f"/api/v1/namespaces/{namespace}/pods?labelSelector=clearml-task-id={task}"
    found: list[dict[str, Any]] = (await kube.request("GET", path))["items"]
    return found


async def deleted(kube: Kube, node: str) -> None:
    await kube.request("DELETE", f"/api/v1/nodes/{node}")


@pytest.mark.parametrize("goes", [deleted, out_of_service])
async def test_its_task_is_put_back_and_completes(
    cluster: LocalCluster, scene: Scene, goes: Callable[[Kube, str], Awaitable[None]]
) -> None:
    server, kube, namespace = scene.server, scene.kube, scene.namespaces[0]
    (task,) = server.bulk_tasks(1, queue="alpha")
    go, node = asyncio.Event(), ""

    async def work(task: str) -> None:
        await go.wait()

    try:
        async with (
            scene.agents(work=work) as agents,
            scene.controller("lost", limits={"alpha": 1, "": 1}, delete_after="1h", maxRequeues={"nodeLost": 1}),
        ):
            await until(lambda: statuses(server, [task])[task] == "in_progress", lambda: "the task runs", limit=60)
            (first,) = await pods_of(kube, namespace, task)
            node = first["spec"]["nodeName"]
            await goes(kube, node)

            async def replaced() -> bool:
                return any(
                    pod["metadata"]["uid"] != first["metadata"]["uid"] for pod in await pods_of(kube, namespace, task)
                )

            await until(replaced, "the task has another pod", limit=180)
            go.set()
            await scene.settled([task], releases={"lost": namespace}, agents=agents)
        starts = [start for one in agents for start in one.starts]
        assert len(starts) == 2
        assert len({start.attempt for start in starts}) == 2
        found = server.task(task)
        assert found["status"] == "completed"
        assert found["hyperparams"]["properties"]["k8s-requeues"]["value"].startswith(f"1: {starts[0].attempt} -> ")
        assert "The pod's node was lost: " in server.console(task)
    finally:
        if node and goes is not deleted:
            await deleted(kube, node)
        cluster.kwok_up(nodes=NODES)

"""Kueue decides when Jobs may run; its users are told, and nothing runs twice.

A stand-in plays Kueue, on objects of Kueue's own types; with `make test-long` Kueue itself, built of its Go module.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from chaos_agent import Agents
from chaos_controller import config
from chaos_counts import statuses, until
from chaos_kube import MERGE_PATCH, Kube, KubeError
from chaos_scene import Scene
from clearml_k8s.flow.decide import SIGTERM_REASON
from clearml_k8s.names import TASK_CONTAINER
from cluster_states import ended
from kueue_stand_in import stand_in
from real_kueue import GROUP, cluster_queue, kueue, local_queue, priority

LIMIT = 180.0
ONE_CPU = {"resources": {"requests": {"cpu": "1"}}}
TURN = "The task waits for its turn in Kueue (LocalQueue team)"


@dataclass
class Work:
    """Of the tasks: each goes on until it is let go; how many worked at one time."""

    going: set[str] = field(default_factory=set)
    most: int = 0
    free: set[str] = field(default_factory=set)

    async def __call__(self, task: str) -> None:
        self.going.add(task)
        self.most = max(self.most, len(self.going))
        try:
            while task not in self.free:
                await asyncio.sleep(0.05)
        finally:
            self.going.discard(task)


@pytest.fixture(params=["stand-in", pytest.param("Kueue itself", marks=pytest.mark.long)])
async def team(
    request: pytest.FixtureRequest,
    kube: Kube,
    cluster_kubeconfig: Path,
    namespaces: tuple[str, str],
    tmp_path: Path,
) -> AsyncIterator[str]:
    """Kueue runs; the namespace has a LocalQueue `team` of one CPU. The namespace."""
    namespace = namespaces[0]
    if request.param == "stand-in":
        plays = stand_in(kube=kube, namespace=namespace)
    else:
        plays = kueue(kube=kube, kubeconfig=cluster_kubeconfig, folder=tmp_path)
    async with plays:
        await cluster_queue(kube, namespace, cpus=1)
        await local_queue(kube, "team", namespace=namespace, cluster_queue=namespace)
        yield namespace
        await kube.request("DELETE", f"{GROUP}/clusterqueues/{namespace}")


@asynccontextmanager
async def kubelet(scene: Scene, *, namespace: str, reports: bool) -> AsyncIterator[None]:
    """Pods that are being deleted end, as on a real node; ``reports``: their agents tell the server first, as of a
    SIGTERM."""
    pods = f"/api/v1/namespaces/{namespace}/pods"

    async def end(pod: dict[str, Any]) -> None:
        name, task = pod["metadata"]["name"], pod["metadata"]["labels"]["clearml-task-id"]
        if reports and status_of(scene, task) == "in_progress":
            told = {"status_reason": SIGTERM_REASON, "status_message": "Changed by clearml_agent"}
            scene.server.call("tasks.stopped", task=task, **told)
        # Without its containers' ends it would look as if its node were out of service.
        container = {"name": TASK_CONTAINER, "image": "x", "imageID": "", "ready": False, "restartCount": 0}
        body = {"status": {"phase": "Failed", "containerStatuses": [{**container, "state": ended(143, "Error")}]}}
        await scene.kube.request("PATCH", f"{pods}/{name}/status", body=body, kind=MERGE_PATCH)
        await scene.kube.request("DELETE", f"{pods}/{name}", body={"gracePeriodSeconds": 0})

    async def run() -> None:
        while True:
            # A pod that went meanwhile, an API server that is slow: again.
            with contextlib.suppress(KubeError, aiohttp.ClientError, TimeoutError):
                for pod in (await scene.kube.request("GET", f"{pods}?labelSelector=clearml-task-id"))["items"]:
                    if "deletionTimestamp" in pod["metadata"]:
                        await end(pod)
            await asyncio.sleep(0.2)

    running = asyncio.create_task(run())
    try:
        yield
        assert not running.done(), running
    finally:
        running.cancel()


def settings(*, delete_after: str = "0s", **more: Any) -> dict[str, Any]:
    """Of a controller whose tasks take one CPU each and wait in the LocalQueue `team`."""
    known = config(
        release="", namespace="", api_server="", queues={}, max_pods=None, delete_after=delete_after
    )  # fmt: skip
    template = known["basePodTemplate"]
    return {"kueue": {"queueName": "team"}, "basePodTemplate": {**template, **ONE_CPU}, **more}


async def job_of(kube: Kube, namespace: str, task: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = await kube.request(
            "GET", f"/apis/batch/v1/namespaces/{namespace}/jobs/clearml-id-{task}"
        )
    except KubeError as error:
        if error.code == 404:
            return None
        raise
    return found


def status_of(scene: Scene, task: str) -> str:
    return statuses(scene.server, [task])[task]


def said(scene: Scene, task: str) -> str:
    return str(scene.server.task(task)["status_message"])


def starts(agents: list[Agents]) -> list[str]:
    return [start.task for one in agents for start in one.starts]


async def test_three_tasks_and_a_quota_for_one(scene: Scene, kube: Kube, team: str) -> None:
    """One runs at a time, the others are told why they wait; one of them is aborted, another comes in its place."""
    server, work = scene.server, Work()
    tasks = server.bulk_tasks(3, queue="alpha")
    async with scene.agents(work=work) as agents, scene.controller("team", limits={"alpha": None}, **settings()):
        await until(lambda: len(work.going) == 1, lambda: f"one runs: {work}", limit=LIMIT)
        (first,) = work.going
        others = [task for task in tasks if task != first]
        for task in others:
            await until(lambda t=task: TURN in said(scene, t), lambda t=task: f"told: {said(scene, t)}", limit=LIMIT)
            assert "insufficient unused quota for cpu in flavor default, 1 more needed" in said(scene, task)
            job = await job_of(kube, team, task)
            assert job is not None
            assert job["spec"]["suspend"] is True
        server.call("tasks.stop", task=others[0])

        async def gone() -> bool:
            return await job_of(kube, team, others[0]) is None

        await until(gone, lambda: "the Job of the aborted task is gone", limit=LIMIT)
        (last,) = server.bulk_tasks(1, queue="alpha")
        work.free.update([*tasks, last])
        await scene.settled([*tasks, last], releases={"team": team}, agents=agents, aborted=[others[0]])
        assert work.most == 1
        assert sorted(starts(agents)) == sorted([first, others[1], last])
        assert status_of(scene, others[0]) == "stopped"
        for task in others:
            assert server.console(task).count(TURN) == 1


async def test_a_local_queue_that_is_not_there(scene: Scene, kube: Kube, team: str) -> None:
    server, work = scene.server, Work()
    (task,) = server.bulk_tasks(1, queue="alpha")
    work.free.add(task)
    own = settings(kueue={"queueName": "nowhere"})
    async with scene.agents(work=work) as agents, scene.controller("team", limits={"alpha": None}, **own):
        why = "LocalQueue nowhere doesn't exist. Correct kueue.queueName of the queue"
        await until(lambda: why in said(scene, task), lambda: f"told: {said(scene, task)}", limit=LIMIT)
        await local_queue(kube, "nowhere", namespace=team, cluster_queue=team)
        await scene.settled([task], releases={"team": team}, agents=agents)
        assert starts(agents) == [task]


@pytest.mark.parametrize(("most", "reports"), [(1, True), pytest.param(1, False, marks=pytest.mark.long), (0, True)])
async def test_a_task_that_kueue_preempts(scene: Scene, kube: Kube, team: str, most: int, reports: bool) -> None:
    """It runs once more when the other one is done, or is failed with the reason: as `maxRequeues` says."""
    server, work = scene.server, Work()
    await priority(kube, "high", value=1000)
    (low,) = server.bulk_tasks(1, queue="alpha")
    own = settings(delete_after="1h", maxRequeues={"preempted": most})
    own["queues"] = {"alpha": {}, "beta": {"queueSettings": {"kueue": {"priorityClass": "high"}}}}
    async with (
        scene.agents(work=work) as agents,
        kubelet(scene, namespace=team, reports=reports),
        scene.controller("team", limits={}, **own),
    ):
        await until(lambda: low in work.going, lambda: f"the first runs: {work}", limit=LIMIT)
        (high,) = server.bulk_tasks(1, queue="beta")
        await until(lambda: work.going == {high}, lambda: f"the other took its place: {work}", limit=LIMIT)
        if most:
            await until(lambda: TURN in said(scene, low), lambda: f"it waits again: {said(scene, low)}", limit=LIMIT)
            assert status_of(scene, low) == "queued"
        work.free.update([low, high])
        if most:
            await scene.settled([low, high], releases={"team": team}, agents=agents)
        else:
            await until(lambda: status_of(scene, high) == "completed", lambda: "the other is done", limit=LIMIT)
            await until(lambda: status_of(scene, low) == "failed", lambda: said(scene, low), limit=LIMIT)
            assert server.task(low)["status_reason"] == "Kubernetes: preempted"
        assert sorted(starts(agents)) == sorted([low, high] + [low] * most)
        assert work.most == 1
        told = "Kueue preempted the task: Preempted to accommodate a workload"
        await until(lambda: told in server.console(low), lambda: server.console(low), limit=LIMIT)
        attempts = [start.attempt for one in agents for start in one.starts if start.task == low]
        assert len(set(attempts)) == 1 + most

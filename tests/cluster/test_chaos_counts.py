"""What the chaos tests count is what the API server stored, also where its audit log says otherwise."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from chaos_kube import ATTEMPT, QUEUE, TASK
from chaos_scene import Scene

AT_ONCE, MOST = 20, 6000


def job(number: int) -> dict[str, Any]:
    """It makes no pod."""
    containers = [{"name": "main", "image": "none"}]
    return {
        "metadata": {
            "name": f"cut-{number}",
            "labels": {TASK: f"{number:032x}"},
            "annotations": {ATTEMPT: "1", QUEUE: "alpha"},
        },
        "spec": {"suspend": True, "template": {"spec": {"restartPolicy": "Never", "containers": containers}}},
    }


async def test_a_job_whose_creator_gave_up_is_counted_though_its_audit_event_says_504(
    scene: Scene,
) -> None:
    """The API server writes "context canceled" down when the caller goes, and may have stored the Job all the same."""
    kube, draw, made = scene.kube, random.Random(1), 0
    path = f"/apis/batch/v1/namespaces/{scene.namespaces[0]}/jobs"

    async def create_and_give_up(number: int) -> None:
        try:
            async with asyncio.timeout(draw.uniform(0.002, 0.03)):
                await kube.request("POST", path, body=job(number))
        except TimeoutError:
            pass

    async def in_etcd() -> dict[str, str]:
        """Uid by name."""
        metas = [item["metadata"] for item in (await kube.request("GET", path))["items"]]
        return {meta["name"]: meta["uid"] for meta in metas}

    def given_up() -> set[str]:
        """Names of the Jobs whose create is written down as not answered in time."""
        events = [event for event in scene.audit.events() if event["verb"] == "create"]
        return {event["objectRef"]["name"] for event in events if event["responseStatus"]["code"] == 504}

    async def work(task: str) -> None:
        raise AssertionError(f"a pod of {task}")

    async with scene.agents(work=work) as agents:
        while not given_up() & (await in_etcd()).keys():
            assert made < MOST, f"of {made} creates that were given up, none was stored and audited as 504"
            await asyncio.gather(*(create_and_give_up(made + number) for number in range(AT_ONCE)))
            made += AT_ONCE
        await agents[0].caught_up()
        there = await in_etcd()
        assert {one.uid for one in scene.jobs(agents)} == set(there.values())

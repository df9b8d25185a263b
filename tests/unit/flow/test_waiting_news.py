"""No task is failed for waiting on events that may be old: they are read again first."""

from __future__ import annotations

from typing import Any

import pytest
from clearml_k8s.kube.slim import Condition
from clearml_server.process import DevServer
from flow_parts import make_config
from reconcile_loop import Loop
from scripted_kube import Cluster, Fault, status

PATIENCE = 100


@pytest.fixture
async def loop(new_side: Any, cluster: Cluster, server: DevServer) -> Loop:
    config = make_config(api_server=server.url, patience_seconds={"unschedulable": PATIENCE})
    return Loop(await new_side(cluster, config=config))


async def waits_for_a_node(loop: Loop) -> str:
    """A task whose events were read 3, 23 and 63 s after its pod was seen first; now it is 63 s after that."""
    task = await loop.launched()

    def unscheduled(version: int) -> None:
        message = f"0/{version} nodes are available: Insufficient cpu"
        condition = Condition(type="PodScheduled", status="False", message=message)
        loop.pod(task, node=None, conditions=(condition,), resource_version=str(version))

    unscheduled(1)
    await loop.look(task)
    for version, seconds in enumerate((3.1, 20.1, 40.1), start=2):
        await loop.side.clock.advance(seconds)
        unscheduled(version)
        await loop.look(task)
    assert len(loop.side.cluster.of("GET", "/events")) == 6  # three times, of the Job and of the pod
    return task


def scales_up(loop: Loop, task: str) -> None:
    (pod,) = loop.pods.of_task(task)
    loop.side.cluster.put(
        "events", "up", involvedObject={"uid": pod.uid, "kind": "Pod"}, reason="TriggeredScaleUp",
        message="pod triggered scale-up", type="Normal", lastTimestamp="2026-01-15T07:05:00Z",
    )  # fmt: skip


async def lives(loop: Loop, task: str, *, seconds: float) -> None:
    """Looks at the task as often as it wants, for so long."""
    while seconds > 0:
        again = await loop.look(task)
        step = 0.01 + (seconds if again is None else min(again, seconds))
        await loop.side.clock.advance(step)
        seconds -= step


async def test_a_node_that_is_on_its_way_is_waited_for(loop: Loop, server: DevServer) -> None:
    task = await waits_for_a_node(loop)
    scales_up(loop, task)
    await lives(loop, task, seconds=60)
    found = server.task(task)
    assert found["status"] == "queued"
    assert "the autoscaler adds a node" in found["status_message"]


async def test_the_time_begins_anew_once(loop: Loop, server: DevServer) -> None:
    task = await waits_for_a_node(loop)
    scales_up(loop, task)
    await lives(loop, task, seconds=60 + PATIENCE)
    found = server.task(task)
    assert (found["status"], found["status_reason"]) == ("failed", "Kubernetes: unschedulable")


@pytest.mark.parametrize("code", [500, 403])
async def test_while_events_cannot_be_read_nothing_is_failed(
    loop: Loop, server: DevServer, cluster: Cluster, code: int
) -> None:
    task = await waits_for_a_node(loop)
    # Reads are repeated after doubt, not after a refusal.
    answer = Fault(code=code, status=status(code, "Failed", "no"))
    cluster.fault("GET", *[answer] * 100, path="/events")
    await lives(loop, task, seconds=PATIENCE)
    assert server.task(task)["status"] == "queued"
    cluster.faults.clear()
    await lives(loop, task, seconds=30)
    assert server.task(task)["status"] == "failed"

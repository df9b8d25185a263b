"""Pods that ClearML's own glue left: counted, followed to their end, and out of the way of what comes next."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from clearml_k8s.config import QueueConfig, QueueSettings
from clearml_k8s.kube.old_pod import slim_old_pod
from clearml_k8s.kube.watch import Gone, Upsert
from clearml_server.process import DevServer
from flow_parts import Side, make_config
from reconcile_loop import start
from scripted_kube import Cluster, Fault, status

RUNNING = {"phase": "Running", "containerStatuses": [{"name": "c", "state": {"running": {}}}]}
FETCHING = {
    "phase": "Pending",
    "containerStatuses": [
        {"name": "c", "state": {"waiting": {"reason": "InvalidImageName", "message": "no such name"}}}
    ],
}


def ended(phase: str, how: str, code: int, **more: Any) -> dict[str, Any]:
    end = {"reason": how, "exitCode": code, "finishedAt": "2026-01-01T00:00:00Z"}
    return {"phase": phase, "containerStatuses": [{"name": "c", "state": {"terminated": end}}], **more}


class Left:
    """What the glue left of one task."""

    def __init__(self, side: Side, *, waits: bool = True) -> None:
        self.side, self.server = side, side.server
        self.task: str = self.server.create_task(queue="default")
        self.queue: str = self.server.task(self.task)["execution"]["queue"]
        self.pending = side.served.pending_queue
        self.server.call("queues.get_next_task", queue=self.queue)
        self.server.call("tasks.stop", task=self.task, force=True, status_reason="moving to k8s pending queue")
        self.server.call("tasks.enqueue", task=self.task, queue=self.pending, status_reason="k8s pending scheduler")
        self.worker = f"gpu-clearml-agent:{self.task}"
        if not waits:
            start(self.server, self.task, worker=self.worker)

    def pod(self, shown: dict[str, Any] | None = None, *, node: bool = True) -> None:
        """The watch brings its pod, which the cluster has."""
        labels = {"CLEARML": "agent-x", "clearml-agent-queue": self.queue}
        container = {"name": "c", "env": [{"name": "A"}, {"name": "CLEARML_WORKER_ID", "value": self.worker}]}
        thing = self.side.cluster.put(
            "pods",
            f"clearml-id-{self.task}",
            metadata={"labels": labels},
            spec={"containers": [container], **({"nodeName": "n"} if node else {})},
            status=shown or {"phase": "Pending"},
        )
        self.side.old.apply(Upsert(item=slim_old_pod(thing)))

    def goes(self) -> None:
        """The watch shows that the pod is gone."""
        for pod in self.side.old.of_task(self.task):
            self.side.old.apply(Gone(item=pod))

    @property
    def deleted(self) -> bool:
        return f"clearml-id-{self.task}" not in self.side.cluster.objects["pods"]

    @property
    def state(self) -> tuple[str, str]:
        found = self.server.task(self.task)
        return found["status"], found.get("status_reason", "")

    async def looks(self, *, count: int = 3) -> None:
        for _ in range(count):
            await self.side.adopted.look()
            await self.side.clock.advance(4)


@pytest.fixture
async def waiting(side: Side) -> Left:
    return Left(side)


@pytest.fixture
async def running(side: Side) -> Left:
    return Left(side, waits=False)


async def test_it_takes_a_place_of_its_queue_and_of_all(new_side: Any, cluster: Cluster, server: DevServer) -> None:
    queues = {"default": QueueConfig(name="default", settings=QueueSettings(max_pods=3))}
    side = await new_side(cluster, config=make_config(api_server=server.url, max_pods=5, queues=queues))
    left = Left(side, waits=False)
    left.pod(RUNNING)
    assert (side.room().limits["pods"].left, side.room().of(left.queue)) == (4, 2)
    left.pod(ended("Succeeded", "Completed", 0))
    assert (side.room().limits["pods"].left, side.room().of(left.queue)) == (5, 3)


async def test_why_it_waits_is_told(waiting: Left) -> None:
    short = "0/1 nodes are available: 1 Insufficient cpu."
    found = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": short}
    waiting.pod({"phase": "Pending", "conditions": [found]}, node=False)
    await waiting.looks()
    task = waiting.server.task(waiting.task)
    assert task["status"] == "queued"
    assert "Insufficient cpu" in task["status_message"]
    await waiting.side.teller.flush()
    assert waiting.server.console(waiting.task).count("Insufficient cpu") == 1


async def test_what_cannot_start_fails_and_goes(waiting: Left) -> None:
    waiting.pod(FETCHING)
    await waiting.looks()
    assert waiting.state == ("failed", "Kubernetes: image-name")
    assert waiting.server.entries(waiting.pending) == []
    assert waiting.deleted


@pytest.mark.parametrize(
    ("shown", "reason"),
    [
        (ended("Failed", "OOMKilled", 137), "oom-killed"),
        (ended("Succeeded", "Completed", 0), "clean-exit"),
        (ended("Failed", "Error", 143, reason="Evicted", message="The node was low on memory"), "evicted"),
    ],
    ids=["out of memory", "exit 0, as the glue's script does", "evicted"],
)
async def test_a_task_that_did_not_end_with_its_pod_fails(
    new_side: Any, cluster: Cluster, server: DevServer, shown: dict[str, Any], reason: str
) -> None:
    """Also where the queue's own tasks would be put back: the glue's never were."""
    side = await new_side(cluster, config=make_config(api_server=server.url, max_requeues={"evicted": 3}))
    running = Left(side, waits=False)
    running.pod(RUNNING)
    await running.looks()
    assert running.state[0] == "in_progress"
    running.pod(shown)
    await running.looks()
    assert running.state == ("failed", f"Kubernetes: {reason}")
    assert running.deleted
    await running.side.teller.flush()
    assert running.server.console(running.task).count("(its pod ended and the task did not)") == 1


@pytest.mark.parametrize("waits", [True, False])
async def test_a_task_whose_pod_is_gone_fails(side: Side, waits: bool) -> None:
    left = Left(side, waits=waits)
    left.pod(RUNNING)
    left.goes()
    await left.looks()
    assert left.state == ("failed", "Kubernetes: deleted")
    assert left.server.entries(left.pending) == []
    await left.looks(count=40)
    assert list(side.old.gone()) == []


async def test_a_task_that_ended_keeps_its_end_and_the_pod_goes(running: Left) -> None:
    running.pod(RUNNING)
    running.server.call("tasks.completed", task=running.task)
    await running.looks()
    assert not running.deleted, "its agent may still end"
    running.pod(ended("Succeeded", "Completed", 0))
    await running.looks()
    assert running.deleted
    running.goes()
    await running.looks()
    assert running.state[0] == "completed"


async def test_a_pod_is_kept_as_long_as_the_values_say(new_side: Any, cluster: Cluster, server: DevServer) -> None:
    config = make_config(api_server=server.url, completed_pod_deletion_delay_minutes=1e9)
    running = Left(await new_side(cluster, config=config), waits=False)
    running.pod(ended("Succeeded", "Completed", 0))
    running.server.call("tasks.completed", task=running.task)
    await running.looks()
    assert not running.deleted


@pytest.mark.parametrize("reset", [True, False])
async def test_the_pod_of_an_aborted_task_goes(waiting: Left, reset: bool) -> None:
    waiting.pod()
    waiting.server.call("tasks.reset" if reset else "tasks.stop", task=waiting.task, force=True)
    await waiting.looks()
    assert waiting.deleted
    assert waiting.state[0] in ("created", "stopped")


async def test_a_task_that_is_enqueued_again_starts_when_the_old_pod_is_gone(waiting: Left) -> None:
    side = waiting.side
    waiting.pod()
    waiting.server.call("tasks.stop", task=waiting.task, force=True)
    waiting.server.call("tasks.enqueue", task=waiting.task, queue=waiting.queue)
    assert await side.poll() == 0
    await waiting.looks()
    assert waiting.deleted
    assert side.created(waiting.task) == []
    waiting.goes()
    await side.rest(rounds=1)
    assert len(side.created(waiting.task)) == 1
    await waiting.looks()
    assert waiting.state[0] == "queued"


async def test_a_task_that_shows_in_no_queue_is_left_to_its_pod(waiting: Left) -> None:
    """Servers of the Enterprise kind keep the queue that it came from on the task."""
    side = waiting.side
    waiting.pod(RUNNING)
    waiting.server.call("queues.remove_task", queue=waiting.pending, task=waiting.task)
    waiting.server.call("tasks.edit", task=waiting.task, execution={"queue": waiting.queue}, force=True)
    await side.rest(rounds=2)
    await waiting.looks()
    assert side.created(waiting.task) == []
    assert (waiting.state[0], waiting.deleted) == ("queued", False)


async def test_without_the_right_to_delete_the_pod_stays_and_that_is_said_once(
    waiting: Left, caplog: pytest.LogCaptureFixture
) -> None:
    waiting.pod()
    refused = Fault(code=403, status=status(403, "Forbidden", "may not"))
    waiting.side.cluster.fault("DELETE", *[refused] * 2, path="pods")
    waiting.server.call("tasks.stop", task=waiting.task, force=True)
    with caplog.at_level(logging.WARNING):
        await waiting.looks(count=20)
    assert not waiting.deleted
    assert len([r for r in caplog.records if "kubectl -n ns delete pods" in r.getMessage()]) == 1
    await waiting.looks(count=20)
    assert waiting.deleted


async def test_a_task_that_the_server_does_not_know_ends_no_pod(waiting: Left) -> None:
    waiting.pod(RUNNING)
    waiting.server.call("tasks.delete", task=waiting.task, force=True)
    await waiting.looks()
    assert not waiting.deleted


async def test_one_pods_trouble_does_not_touch_the_others(side: Side) -> None:
    first, second = Left(side), Left(side)
    for left in (first, second):
        left.pod(FETCHING)
    side.server.add_fault(kind="error_before", endpoint="^tasks.failed$", status=500, count=1)
    await first.looks(count=1)
    assert sorted(left.state[0] for left in (first, second)) == ["failed", "queued"]
    await side.session.health.ready()
    await first.looks()
    assert [left.state[0] for left in (first, second)] == ["failed", "failed"]

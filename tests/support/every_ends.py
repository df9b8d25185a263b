"""The end of a task that has a Job, and why it came."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from clearml_k8s.config import QueueConfig, QueueSettings
from clearml_k8s.config.kueue import KueueConfig
from clearml_k8s.kube.slim import Condition
from every_parts import Act, begins_and_takes, reconciles, waiting
from every_play import Scenario
from every_world import World
from flow_parts import make_container
from reconcile_loop import ENDED, start


def running(change: Callable[[World, str], None], **config: Any) -> Act:
    """A task that runs, and then what happened to it."""

    async def prepare(world: World) -> None:
        await waiting(**config)(world)
        await begins_and_takes(world)
        world.reconciles = True
        (task,) = world.tasks
        start(world.server, task, worker=f"worker-a:{task}")
        change(world, task)
        world.see()

    return prepare


def pod(world: World, task: str, *containers: Any, **fields: Any) -> None:
    attempt = next(job.attempt for job in world.side.jobs.of_task(task))
    world.pods[task] = (containers, {"attempt": attempt, **fields})


def out_of_memory(world: World, task: str) -> None:
    pod(world, task, ENDED, phase="Failed")


def completed(world: World, task: str) -> None:
    world.server.call("tasks.completed", task=task)
    over = make_container(terminated="Completed", exit_code=0, finished_at="2026-01-01T00:00:00Z")
    pod(world, task, over, phase="Succeeded")


def aborted(world: World, task: str) -> None:
    pod(world, task, make_container(running=True, started_at="2026-01-01T00:00:00Z"), phase="Running")
    world.server.call("tasks.stopped", task=task)


def deleted_task(world: World, task: str) -> None:
    aborted(world, task)
    world.server.call("tasks.delete", task=task, force=True)


async def deleted_with_its_queue(world: World) -> None:
    """Of two tasks that run one is deleted, and so is their queue."""
    await waiting(2)(world)
    await begins_and_takes(world)
    world.reconciles = True
    for task in world.tasks:
        start(world.server, task, worker=f"worker-a:{task}")
        pod(world, task, make_container(running=True, started_at="2026-01-01T00:00:00Z"), phase="Running")
    world.server.call("tasks.delete", task=world.tasks[0], force=True)
    world.server.call("queues.delete", queue=world.server.queue_id("default"), force=True)
    world.see()


def evicted(world: World, task: str) -> None:
    why = Condition(type="DisruptionTarget", status="True", reason="EvictionByEvictionAPI")
    over = make_container(terminated="Error", exit_code=137, finished_at="2026-01-01T00:00:00Z")
    pod(world, task, over, phase="Failed", conditions=(why,))


def told_to_end(world: World, task: str) -> None:
    """Somebody has deleted its pod; its agent reports a user's abort."""
    over = make_container(terminated="Error", exit_code=143, finished_at="2026-01-01T00:00:10Z")
    pod(world, task, over, phase="Failed", deleted="2026-01-01T00:00:30Z", grace_seconds=30)
    world.server.call("tasks.stopped", task=task, status_reason="user abort", status_message="Changed by clearml_agent")


def bad_image() -> Act:
    async def prepare(world: World) -> None:
        await waiting()(world)
        await begins_and_takes(world)
        world.reconciles = True
        pod(world, world.tasks[0], make_container(waiting="ErrImagePull", message="no such image"))
        world.see()

    return prepare


async def without_a_node(world: World) -> None:
    await waiting()(world)
    await begins_and_takes(world)
    world.reconciles = True
    short = "0/1 nodes are available: 1 Insufficient cpu."
    why = Condition(type="PodScheduled", status="False", reason="Unschedulable", message=short)
    pod(world, world.tasks[0], node=None, conditions=(why,))
    world.see()


async def evicted_by_kueue(world: World) -> None:
    """Its Job was let in and suspended again before the task began, and has failed of its pod's end."""
    managed = QueueConfig(name="default", settings=QueueSettings(kueue=KueueConfig(queue_name="team")))
    await waiting(queues={"default": managed})(world)
    await begins_and_takes(world)
    world.reconciles = True
    (task,) = world.tasks
    (job,) = world.cluster.objects["jobs"].values()
    job["status"] = {"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]}
    world.cluster._bump("jobs", job, "MODIFIED")
    over = make_container(terminated="Error", exit_code=143, finished_at="2026-01-01T00:00:10Z")
    pod(world, task, over, phase="Failed", deleted="2026-01-01T00:00:30Z", grace_seconds=30)
    world.see()


SCENARIOS = {
    "out of memory": Scenario(
        prepare=running(out_of_memory), act=reconciles, ends={"failed: Kubernetes: oom-killed": 1}
    ),
    "completed": Scenario(prepare=running(completed), act=reconciles, ends={"completed": 1}),
    "aborted by its user": Scenario(prepare=running(aborted), act=reconciles, ends={"stopped": 1}),
    "deleted by its user": Scenario(prepare=running(deleted_task), act=reconciles, ends={"deleted": 1}),
    "deleted with its queue": Scenario(
        prepare=deleted_with_its_queue, act=reconciles, ends={"deleted": 1, "in_progress+job": 1}
    ),
    "evicted, to be put back": Scenario(
        prepare=running(evicted, max_requeues={"evicted": 2}), act=reconciles, ends={"job": 1}
    ),
    "evicted by Kueue before it began": Scenario(prepare=evicted_by_kueue, act=reconciles, ends={"job": 1}),
    "its pod was deleted": Scenario(prepare=running(told_to_end), act=reconciles, ends={"stopped": 1}),
    "its image cannot be pulled": Scenario(
        prepare=bad_image(), act=reconciles, ends={"failed: Kubernetes: image-pull": 1}
    ),
    "no node takes its pod": Scenario(prepare=without_a_node, act=reconciles, ends={"job": 1}),
}

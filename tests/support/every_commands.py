"""Commands around a pod, whatever call goes wrong: what one has made, another has removed when the pod is gone."""

from __future__ import annotations

from clearml_k8s.config.pod_commands import PodCommandsConfig
from every_ends import completed, running
from every_parts import Act, begun, takes, waiting
from every_play import Scenario
from every_world import World

COMMANDS = PodCommandsConfig(
    pre_apply="make {pod_name}", post_apply="apply {pod_name}", post_delete="remove {pod_name}"
)


async def begins(world: World) -> None:
    """Until the Job is there, and the command that comes then has run."""
    await takes(world)
    await world.follow_commands()
    await world.side.teller.flush()


async def ends(world: World) -> None:
    """Until the Job is gone, and the command that comes then has run."""
    await world.look()
    world.see()
    await world.follow_commands()
    await world.side.teller.flush()


async def ends_and_begins(world: World) -> None:
    """A new attempt, which has to wait for the command of the old one."""
    await ends(world)
    await world.clock.advance(6.0)
    await begins(world)


def enqueued_again(world: World, task: str) -> None:
    """It has run, and its user enqueues it once more, while the Job of the former attempt is still there."""
    completed(world, task)
    world.server.call("workers.unregister", worker=f"worker-a:{task}")
    world.server.call("tasks.reset", task=task, force=True)
    world.server.call("tasks.enqueue", task=task, queue=world.server.queue_id("default"))


def has_run(change: Act) -> Act:
    """Its commands until now have run."""

    async def prepare(world: World) -> None:
        await change(world)
        await world.follow_commands()

    return prepare


SCENARIOS = {
    "commands before and after a Job is made": Scenario(
        prepare=begun(waiting(2, pod_commands=COMMANDS)), act=begins, ends={"job": 2}
    ),
    "a command when a pod is gone": Scenario(
        prepare=has_run(running(completed, pod_commands=COMMANDS)), act=ends, ends={"completed": 1}
    ),
    "enqueued again with a command owed": Scenario(
        prepare=has_run(running(enqueued_again, pod_commands=COMMANDS)), act=ends_and_begins, ends={"job": 1}
    ),
}

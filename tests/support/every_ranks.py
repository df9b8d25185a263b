"""A task on several nodes gets the Service by which its pods find each other, whatever call goes wrong."""

from __future__ import annotations

from clearml_k8s.config.multi_node import MultiNodeConfig
from every_ends import pod
from every_parts import begins_and_takes, begun, reconciles, takes
from every_play import Scenario
from every_world import World
from flow_parts import make_container

REQUEST = {
    "properties": {"multi_node_request": {"section": "properties", "name": "multi_node_request", "value": "[0, 2]"}}
}


async def task_waits(world: World) -> None:
    world.config = {"multi_node": MultiNodeConfig()}
    world.tasks = [world.server.create_task("several nodes", queue="default", hyperparams=REQUEST)]


async def task_has_its_job(world: World) -> None:
    await begun(task_waits)(world)
    await takes(world)


async def opens(world: World) -> None:
    """Two looks: the second finds what is there."""
    for _ in range(2):
        world.see()
        await world.follow_ranks()
    await world.side.teller.flush()


async def opens_beside_its_like(world: World) -> None:
    """The Service comes between the list and our own, as after a write that came late."""

    def made_already() -> None:
        world.wires.meet.clear()
        body = world.ranks_body(world.tasks[0])
        world.cluster.put("services", body["metadata"]["name"], **body)

    world.wires.meet["ranks._create POST services"] = made_already
    await opens(world)


async def half_placed(world: World) -> None:
    """One of two pods runs, and the other is not there."""
    await task_waits(world)
    world.config = {"multi_node": MultiNodeConfig(start_timeout_minutes=0.5)}
    await begins_and_takes(world)
    world.reconciles = True
    pod(world, world.tasks[0], make_container(running=True, started_at="2026-01-01T00:00:00Z"), phase="Running")
    world.see()


SCENARIOS = {
    "a task's pods are given back": Scenario(prepare=half_placed, act=reconciles, ends={"job": 1}),
    "a task's pods get their Service": Scenario(prepare=task_has_its_job, act=opens, ends={"job": 1}),
    "a task's pods have their Service already": Scenario(
        prepare=task_has_its_job, act=opens_beside_its_like, ends={"job": 1}
    ),
}

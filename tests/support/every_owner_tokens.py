"""A task runs as its owner: the Secret with that token is there when its pod starts, whatever call goes wrong."""

from __future__ import annotations

from clearml_k8s.config import ClearMLConfig
from clearml_server.auth import make_identity
from every_ends import pod
from every_parts import Act, begun, reconciles, takes
from every_play import Scenario
from every_world import World
from flow_parts import make_container

OWNER = "ada"


async def anothers_task(world: World) -> None:
    """Not of the user whose keys the controller has."""
    world.config = {"clearml": ClearMLConfig(api_server=world.server.url)}
    keys = world.server.app.auth.add_credential(make_identity(user=OWNER, role="user"))
    task = world.server.call("tasks.create", keys=keys, name="a task", type="training")["id"]
    world.server.call("tasks.enqueue", keys=keys, task=task, queue_name="default")
    world.tasks = [task]


def placed(*containers: str) -> Act:
    """It has a Job whose pod has a node; the container waits for these reasons, one after the other."""

    async def prepare(world: World) -> None:
        await begun(anothers_task)(world)
        await takes(world)
        world.reconciles = True
        pod(world, world.tasks[0], *(make_container(waiting=reason) for reason in containers))
        world.see()

    return prepare


async def given_already(world: World) -> None:
    """A Secret comes right before ours: by a write that came late, or by an earlier process."""

    def made_already() -> None:
        world.wires.meet.clear()
        if world.server.app.store.tasks.get(world.tasks[0]):  # its user may have deleted it
            world.give_token(world.tasks[0])

    world.wires.meet["owner_tokens.give POST secrets"] = made_already
    await reconciles(world)


SCENARIOS = {
    "a task that runs as its owner": Scenario(prepare=begun(anothers_task), act=takes, ends={"job": 1}),
    "its owner's token is waited for": Scenario(prepare=placed("ContainerCreating"), act=reconciles, ends={"job": 1}),
    "its owner's token is there already": Scenario(
        prepare=placed("ContainerCreating"), act=given_already, ends={"job": 1}
    ),
}

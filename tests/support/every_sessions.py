"""A session gets its Service, and the way to it on its task, whatever call goes wrong."""

from __future__ import annotations

from clearml_k8s.config.sessions import SessionsConfig
from every_parts import begun, takes
from every_play import Scenario
from every_world import World


async def session_waits(world: World) -> None:
    world.config = {"sessions": SessionsConfig(external_address="gate")}
    world.tasks = [world.server.create_task("session", queue="default", system_tags=["interactive"])]


async def session_has_its_job(world: World) -> None:
    await begun(session_waits)(world)
    await takes(world)


async def opens(world: World) -> None:
    """Two looks: the second finds what is there."""
    for _ in range(2):
        world.see()
        await world.follow_sessions()
    await world.side.teller.flush()


async def opens_beside_its_like(world: World) -> None:
    """The Service comes between the list and our own, as after a write that came late."""

    def made_already() -> None:
        world.wires.meet.clear()
        body = world.sessions_body(world.tasks[0])
        world.cluster.put("services", body["metadata"]["name"], **body)

    world.wires.meet["session_services._create POST services"] = made_already
    await opens(world)


SCENARIOS = {
    "a session gets its Service": Scenario(prepare=session_has_its_job, act=opens, ends={"job": 1}),
    "a session's Service is there already": Scenario(
        prepare=session_has_its_job, act=opens_beside_its_like, ends={"job": 1}
    ),
}

"""What a user does in the UI just before a call of the controller, and where the task may then end."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from clearml_k8s import names
from clearml_server.app import Server
from clearml_server.process import CallFailed
from every_play import Scenario, Unexpected
from every_world import World

OTHER = "moved to"
"""A queue that this controller does not serve."""

Act = Callable[[World, str], object]


def _status(world: World, task: str) -> str:
    found: str = world.server.task(task)["status"]
    return found


def _abort(world: World, task: str) -> None:
    """Of a task that runs the agent reports it; without an agent the server would only ask for it."""
    waits = _status(world, task) == "queued"
    world.server.call("tasks.stop" if waits else "tasks.stopped", task=task, force=True)


def _reset(world: World, task: str) -> None:
    world.server.call("tasks.reset", task=task, force=True)


def _dequeue(world: World, task: str) -> None:
    world.server.call("tasks.dequeue", task=task)


def _delete(world: World, task: str) -> None:
    world.server.call("tasks.delete", task=task, force=True)


def _enqueue(world: World, task: str) -> None:
    world.server.call("tasks.enqueue", task=task, queue=world.server.queue_id("default"))


def _move(world: World, task: str) -> None:
    world.server.call("tasks.enqueue", task=task, queue=world.server.queue_id(OTHER))


def _then_enqueue(first: Act) -> Act:
    def act(world: World, task: str) -> None:
        first(world, task)
        if _status(world, task) != "queued":
            _enqueue(world, task)

    return act


ENDS: dict[str, Act] = {"abort": _abort, "reset": _reset, "dequeue": _dequeue, "delete": _delete}
"""After these the task waits and runs no more."""

AGAIN: dict[str, Act] = {f"{name} and enqueue": _then_enqueue(act) for name, act in ENDS.items() if name != "delete"}
"""After these it waits in its queue, in a new attempt."""

ACTS: dict[str, Act] = {**ENDS, **AGAIN, "move": _move}


@dataclass(frozen=True, kw_only=True)
class Met:
    """A run in which the user acted: ``place`` of the first task in the end, None where the server refused the act;
    ``others``: those of the other tasks; ``wrong``: what the audit found."""

    place: str | None
    others: tuple[str, ...]
    wrong: tuple[str, ...]


async def _with_room(world: World) -> None:
    """Once another task has ended."""
    jobs = world.jobs()
    if jobs:
        task = jobs[0]["metadata"]["labels"][names.LABEL_TASK_ID]
        world.server.call("tasks.completed", task=task, force=True)
        world.cluster.drop("jobs", jobs[0]["metadata"]["name"])
        await world.rest()


async def acts(scenario: Scenario, app: Server, *, act: Act, before: str) -> Met:
    """The scenario, with the act on its first task just before the first call named ``before``."""
    world, unexpected = World(app), Unexpected()
    log = logging.getLogger("clearml_k8s")
    log.addHandler(unexpected)
    met: list[str | None] = []

    def meets() -> None:
        try:
            act(world, world.tasks[0])
        except CallFailed as error:
            met.append(str(error))
        else:
            met.append(None)

    try:
        await scenario.prepare(world)
        world.server.create_queue(OTHER)
        world.wires.died.clear()
        world.wires.count()
        world.wires.user = (before, meets)
        await world.live(scenario.act(world))
        world.wires.rest()
        # The reconciler ends what the user has ended.
        world.reconciles = True
        scenario.afterwards(world)
        await world.rest()
        limited = world.config.get("max_pods") or "queues" in world.config
        if world.place(world.tasks[0]) in ("queue", "nowhere") and limited:
            await _with_room(world)
    finally:
        log.removeHandler(unexpected)
    assert len(met) == 1, f"{before}: met {len(met)} times"
    first, *others = world.tasks
    return Met(
        place=None if met[0] else world.place(first),
        others=tuple(world.place(task) for task in others),
        wrong=(*unexpected.found, *world.audit()),
    )

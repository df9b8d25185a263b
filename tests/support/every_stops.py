"""The orderly end of the process, in the middle of claims."""

from __future__ import annotations

from clearml_k8s.errors import Refused, Unanswered
from every_parts import SHOW, TAKE, WRITE, Act, begun, waiting
from every_play import Scenario
from every_world import World
from scripted_kube import status

NO_ROLE = status(403, "Forbidden", "jobs.batch is forbidden: RBAC: role not found")


def ends_at(point: str, *, rights: bool = True) -> Act:
    """It is told to end just before this call."""

    async def act(world: World) -> None:
        def told() -> None:
            world.side.stop.set()
            if not rights:
                world.cluster.rules.append(lambda seen: (403, NO_ROLE))

        world.wires.meet[point] = told
        side = world.side
        await side.poll()
        world.side.stop.set()
        world.stopped = True
        for step in (side.claims.release, side.book.flush, side.teller.flush):
            try:
                await step()
            except (Refused, Unanswered):
                continue

    return act


def installed_again(world: World) -> None:
    world.cluster.rules.clear()
    world.wires.meet.clear()


def all_free(world: World) -> list[str]:
    """Whoever else serves the queue could have them at once."""
    marks = [task for task in world.tasks if world.side.mark(task)]
    return [f"task {task} is {world.place(task)}" for task in world.tasks if world.place(task) != "queue"] + [
        f"task {task} has our mark" for task in marks
    ]


SCENARIOS = {
    "told to end before the record": Scenario(
        prepare=begun(waiting(3)), act=ends_at(WRITE), afterwards=installed_again, check=all_free, ends={"job": 3}
    ),
    "told to end at the first take": Scenario(
        prepare=begun(waiting(3)), act=ends_at(TAKE), afterwards=installed_again, ends={"job": 3}
    ),
    "uninstalled with the tasks taken": Scenario(
        prepare=begun(waiting(3)),
        act=ends_at(SHOW, rights=False),
        afterwards=installed_again,
        check=all_free,
        ends={"job": 3},
    ),
}

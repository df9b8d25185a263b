"""What most scenarios begin with and do."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from every_faults import FAULTS
from every_world import World
from flow_parts import GRACE
from scripted_kube import Seen

TAKE, SHOW = "claim._take queues.remove_task", "claim._show queues.add_task"
CREATE, WRITE = "launch.launch POST jobs", "claim._recorded PATCH configmaps"

Act = Callable[[World], Coroutine[Any, Any, None]]
DIES = {fault.name: fault for fault in FAULTS}


def waiting(count: int = 1, **config: Any) -> Act:
    """So many tasks in the queue."""

    async def prepare(world: World) -> None:
        world.config = config
        world.tasks = world.server_tasks(count)

    return prepare


def begun(before: Act) -> Act:
    """After that a life has begun; its beginning is for other scenarios."""

    async def prepare(world: World) -> None:
        await before(world)
        await world.start()

    return prepare


async def begins_and_takes(world: World) -> None:
    await world.start()
    await takes(world)


async def takes(world: World) -> None:
    """The present life takes what there is."""
    side = world.side
    world.see()
    await side.poll()
    await side.book.flush()
    await side.teller.flush()


async def begins_and_recovers(world: World) -> None:
    await world.start()
    await recovers(world)


async def recovers(world: World) -> None:
    """What recovery does in two graces."""
    side = world.side
    await side.recovery.sweep()
    for _ in range(3):
        await side.recovery.step()
        await world.clock.advance(GRACE + 1)
    await side.recovery.step()
    await side.poll()
    await side.book.flush()
    await side.teller.flush()


async def reconciles(world: World) -> None:
    """The present life looks at its tasks."""
    await world.look()
    world.see()
    await world.look()
    await world.side.teller.flush()


def creates(seen: Seen) -> bool:
    """A request for a real Job."""
    return seen.method == "POST" and seen.path.endswith("/jobs") and "dryRun" not in seen.query


def dies_at(point: str, fault: str, before: Act) -> Act:
    """A life that ended at its first call of this name."""

    async def prepare(world: World) -> None:
        await before(world)
        at = await _first(world, point)
        world.wires.points.clear()
        world.wires.count({at: DIES[fault]})
        await world.live(begins_and_takes(world))
        assert world.life.dead, f"no call {point}"
        world.wires.points.clear()

    return prepare


async def _first(world: World, point: str) -> int:
    """The number of the call, found by a run of the same in a world of its own."""
    other = World(world.server.app)
    other.config = world.config
    other.tasks = other.server_tasks(len(world.tasks))
    other.wires.count()
    await other.live(begins_and_takes(other))
    found = [name for name, _ in other.wires.points].index(point)
    # The development server is one: what was there is made anew.
    again = World(world.server.app)
    world.__dict__.update({**again.__dict__, "config": other.config})
    world.tasks = world.server_tasks(len(other.tasks))
    return found


OTHER = "0000000000"
"""A controller whose id is lower than ours, so that ours gives way."""

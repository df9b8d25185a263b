"""What a life that ended, a lost reply or another's slip left behind."""

from __future__ import annotations

from clearml_k8s import names
from every_parts import (
    CREATE,
    OTHER,
    TAKE,
    begins_and_recovers,
    begins_and_takes,
    begun,
    dies_at,
    recovers,
    waiting,
)
from every_play import Scenario
from every_world import World
from flow_parts import GRACE, mark_as


async def in_no_queue(world: World) -> None:
    await waiting()(world)
    world.server.call("queues.get_next_task", queue=world.server.queue_id("default"))
    await world.clock.advance(GRACE + 5)


async def made_unseen(world: World) -> None:
    """The Job is there; the watch of the next life is slow to show it."""
    await dies_at(CREATE, "dies after", waiting())(world)


async def recovers_blind(world: World) -> None:
    world.blind = True
    side = await world.start()
    for _ in range(2):
        await side.recovery.step()
        await world.clock.advance(GRACE + 1)
    await side.recovery.step()
    await side.book.flush()


async def ends_after_a_doubt(world: World) -> None:
    """The watch shows the Job within the grace; then the process is told to end."""
    world.blind = True
    side = await world.start()
    await side.recovery.step()
    await world.clock.advance(GRACE + 1)
    world.blind = False
    world.see()
    await side.recovery.step()
    side.stop.set()
    world.stopped = True
    await side.claims.release()
    await side.book.flush()


async def not_served_any_more(world: World) -> None:
    """It died between take and create; the upgrade has taken the queue out of the values."""
    await dies_at(CREATE, "dies before", waiting())(world)
    world.server.create_queue("other")
    world.config = {"queue": "other"}


async def two_in_no_queue(world: World) -> None:
    await waiting(2, max_pods=1)(world)
    for _ in world.tasks:
        world.server.call("queues.get_next_task", queue=world.server.queue_id("default"))
    await world.clock.advance(GRACE + 5)


async def shown_in_vain(world: World) -> None:
    """An ended task still stands in the pending queue."""
    await waiting()(world)
    await begins_and_takes(world)
    (task,) = world.tasks
    world.cluster.drop("jobs", names.job_name(task))
    world.server.call("tasks.failed", task=task, force=True)


async def sweeps(world: World) -> None:
    world.see()
    await world.side.recovery.sweep()


async def marked_without_room(world: World) -> None:
    """Its mark stands on a task, from another life; another task has the only place."""
    await waiting(1, max_pods=1)(world)
    await begins_and_takes(world)
    world.tasks = [*world.server_tasks(1), *world.tasks]
    mark_as(world.server, world.tasks[0], world.side.controller)
    await world.start()
    await world.clock.advance(GRACE + 5)


async def recorded_without_room(world: World) -> None:
    """It died before the take; the upgrade has taken the room."""
    await dies_at(TAKE, "dies before", waiting())(world)
    world.config = {"max_pods": 0}


async def put_back_and_shown(world: World) -> None:
    """Put back, and free for others; the call that shows it came late."""
    await waiting(max_pods=0)(world)
    await world.start()
    (task,) = world.tasks
    mark_as(world.server, task, OTHER)
    pending, queue = (world.server.queue_id(name) for name in (names.PENDING_QUEUE, "default"))
    item = {"section": "properties", "name": names.PROPERTY_QUEUE, "value": "default"}
    world.server.call("tasks.edit_hyper_params", task=task, hyperparams=[item], replace_hyperparams="none")
    world.server.call("queues.add_task", queue=pending, task=task)
    world.server.call("queues.remove_task", queue=queue, task=task)
    world.server.call("queues.add_task", queue=queue, task=task)


SCENARIOS = {
    "its mark, and no room": Scenario(prepare=marked_without_room, act=recovers, ends={"job": 1, "queue": 1}),
    "recorded, its entry there, and no room": Scenario(
        prepare=recorded_without_room, act=begins_and_recovers, ends={"queue": 1}
    ),
    "put back and still shown": Scenario(prepare=put_back_and_shown, act=sweeps, ends={"queue": 1}),
    "recorded and not taken": Scenario(
        prepare=dies_at(TAKE, "dies before", waiting()), act=begins_and_recovers, ends={"job": 1}
    ),
    "taken and without a Job": Scenario(
        prepare=dies_at(TAKE, "dies after", waiting()), act=begins_and_recovers, ends={"job": 1}
    ),
    "a Job that nobody saw": Scenario(prepare=made_unseen, act=recovers_blind, ends={"job": 1}),
    "a Job that is seen late, and the end": Scenario(prepare=made_unseen, act=ends_after_a_doubt, ends={"job": 1}),
    "a task in no queue": Scenario(prepare=begun(in_no_queue), act=recovers, ends={"job": 1}),
    "two tasks in no queue and a limit of one": Scenario(
        prepare=begun(two_in_no_queue), act=recovers, ends={"job": 1, "nowhere": 1}
    ),
    "taken from a queue that is not served any more": Scenario(
        prepare=not_served_any_more,
        act=begins_and_recovers,
        ends={"queue": 1},
    ),
    "an ended task in the pending queue": Scenario(prepare=shown_in_vain, act=sweeps, ends={"failed": 1}),
}

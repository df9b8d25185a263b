"""What becomes of tasks in a queue: taken, put back, left to others."""

from __future__ import annotations

from clearml_k8s.config import QueueConfig, QueueSettings
from clearml_k8s.config.policy import TaskPolicy
from every_parts import OTHER, TAKE, begins_and_takes, begun, creates, takes, waiting
from every_play import Cause, Remains, Scenario
from every_world import World
from flow_parts import mark_as
from reconcile_loop import start
from scripted_kube import status

QUOTA = status(403, "Forbidden", 'jobs.batch "x" is forbidden: exceeded quota: few, requested: count/jobs.batch=1')
INVALID = status(422, "Invalid", "Job is invalid", causes=[{"field": "spec.x", "message": "must be less"}])


async def refused(world: World) -> None:
    await waiting()(world)
    world.cluster.rules.append(lambda seen: (422, INVALID) if creates(seen) else None)


async def over_quota(world: World) -> None:
    """Kubernetes counts Jobs, and takes one."""
    await waiting(2)(world)
    world.cluster.rules.append(lambda seen: (403, QUOTA) if creates(seen) and world.jobs() else None)


async def never_taken(world: World) -> None:
    await waiting()(world)
    world.cluster.rules.append(lambda seen: (403, QUOTA) if creates(seen) else None)


async def takes_aborted(world: World) -> None:
    """Its user aborts it just when it is put back."""
    point = "returning._waiting tasks.get_all"
    world.wires.meet[point] = lambda: world.wires.meet.update({point: lambda: user_aborts(world)})
    await takes(world)


def user_aborts(world: World) -> None:
    """The server's abort had taken the entry out before we put it in; now it sets the status."""
    world.server.call("tasks.stopped", task=world.tasks[0], force=True)


def user_has_aborted(world: World) -> None:
    """At the latest now."""
    world.wires.meet.clear()
    if world.server.task(world.tasks[0])["status"] == "queued":
        world.server.call("tasks.stop", task=world.tasks[0], force=True)


async def queue_to_be_made(world: World) -> None:
    world.config = {"queue": "made", "create_queues": True}


async def makes_a_queue(world: World) -> None:
    await world.start()


def somebody_enqueues(world: World) -> None:
    world.tasks = world.server_tasks(1, queue="made")


async def beside_its_job(world: World) -> None:
    """Somebody has put an entry beside the Job."""
    await waiting()(world)
    await begins_and_takes(world)
    world.server.call("queues.add_task", queue=world.server.queue_id("default"), task=world.tasks[0])


async def looks_at_the_queue(world: World) -> None:
    world.see()
    await world.side.poll()
    await world.side.book.flush()


async def asking(world: World) -> None:
    """Two tasks that say how many GPUs they need, which do not fit together."""
    settings = QueueSettings(max_gpus=4, task_policy=TaskPolicy(max_gpus=4))
    await waiting(2, queues={"default": QueueConfig(name="default", settings=settings)})(world)
    for task in world.tasks:
        asks_for(world, task, 3)


def asks_for(world: World, task: str, gpus: int) -> None:
    item = {"section": "properties", "name": "k8s-gpus", "value": str(gpus)}
    world.server.call("tasks.edit_hyper_params", task=task, hyperparams=[item], replace_hyperparams="none")


async def takes_what_asks_for_more(world: World) -> None:
    """Its user changes it when it is marked already: it is chosen anew, and never fits."""
    world.wires.meet["marking._read tasks.get_all"] = lambda: asks_for_more(world)
    await takes(world)


def asks_for_more(world: World) -> None:
    world.wires.meet.clear()
    for task in world.tasks:
        if world.queues_of(task):
            asks_for(world, task, 4)


async def takes_beside_another(world: World) -> None:
    (task,) = world.tasks
    world.wires.meet["marking._read tasks.get_all"] = lambda: mark_as(world.server, task, OTHER)
    await takes(world)


async def takes_beside_an_agent(world: World) -> None:
    world.wires.meet[TAKE] = lambda: agent_takes(world)
    await takes(world)


def agent_takes(world: World) -> None:
    """A plain agent pops the task and runs it, if it is there still."""
    world.wires.meet.clear()
    (task,) = world.tasks
    if world.queues_of(task):
        world.server.call("queues.get_next_task", queue=world.server.queue_id("default"))
        start(world.server, task, worker="agent:0")


async def under_our_worker_id(world: World) -> None:
    """A controller of another release runs a task, with the `workerIdOverride` that we have; another task is ours."""
    await waiting(2)(world)
    theirs, _ = world.tasks
    await world.start()
    mark_as(world.server, theirs, OTHER)
    world.server.call("queues.remove_task", queue=world.server.queue_id("default"), task=theirs)
    start(world.server, theirs, worker=f"{world.side.worker_id}:{theirs}")
    await begins_and_takes(world)
    world.clashes = True


async def looks_for_a_clash(world: World) -> None:
    await world.look_for_clash()


def other_marks(world: World) -> None:
    """Where the fault came before that: it comes now."""
    for task in world.tasks:
        if world.queues_of(task):
            mark_as(world.server, task, OTHER)


ABORTED_WHILE_PUT_BACK = Remains(
    heading="An abort while a task is being put back",
    ends={"stopped+queue": 1},
    causes=(
        Cause(
            call="returning._give_back queues.add_task",
            faults=frozenset(
                {
                    "dies and it is done soon",
                    "dies and it is done late",
                    "lost and it is done soon",
                    "lost and it is done late",
                }
            ),
            why="the entry comes after the abort, and nobody waits for it: in the next look the task is the user's",
        ),
        Cause(
            call="returning._waiting tasks.get_all (2)",
            faults=frozenset({"dies before", "refused", "away"}),
            why="the read after it that would show the abort; without it the entry may be the right one",
        ),
        Cause(
            call="returning.give_back queues.remove_task",
            faults=frozenset({"dies before", "lost before", "error before", "refused", "away"}),
            why="the call that takes the entry out is not done; all that would tell us later to repeat it is in memory",
        ),
    ),
)


SCENARIOS = {
    "a task is launched": Scenario(prepare=waiting(), act=begins_and_takes, ends={"job": 1}),
    "three tasks and a limit of two": Scenario(
        prepare=begun(waiting(3, max_pods=2)),
        act=takes,
        ends={"job": 2, "queue": 1},
    ),
    "tasks that ask for GPUs": Scenario(prepare=begun(asking), act=takes, ends={"job": 1, "queue": 1}),
    "a task that asks for more at the last moment": Scenario(
        prepare=begun(asking), act=takes_what_asks_for_more, afterwards=asks_for_more, ends={"job": 1, "queue": 1}
    ),
    "the queue is made first": Scenario(
        prepare=queue_to_be_made, act=makes_a_queue, afterwards=somebody_enqueues, ends={"job": 1}
    ),
    "aborted while it is put back": Scenario(
        prepare=begun(never_taken),
        act=takes_aborted,
        afterwards=user_has_aborted,
        ends={"stopped": 1},
        remains=(ABORTED_WHILE_PUT_BACK,),
    ),
    "a Job that Kubernetes refuses": Scenario(prepare=begun(refused), act=takes, ends={"failed": 1}),
    "a quota of one Job": Scenario(prepare=begun(over_quota), act=takes, ends={"job": 1, "queue": 1}),
    "another controller has our worker id": Scenario(
        prepare=under_our_worker_id, act=looks_for_a_clash, ends={"in_progress": 1, "job": 1}
    ),
    "an entry beside its Job": Scenario(prepare=beside_its_job, act=looks_at_the_queue, ends={"job": 1}),
    "another controller has marked it": Scenario(
        prepare=begun(waiting()), act=takes_beside_another, afterwards=other_marks, ends={"queue": 1}
    ),
    "a plain agent is faster": Scenario(
        prepare=begun(waiting()), act=takes_beside_an_agent, afterwards=agent_takes, ends={"in_progress": 1}
    ),
}

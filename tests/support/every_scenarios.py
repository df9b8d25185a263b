"""What the controller does with tasks, in short: each scenario is run once for each call of it and each fault."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from clearml_k8s import names
from clearml_k8s.errors import Refused, Unanswered
from clearml_k8s.kube.slim import Condition
from every_call import FAULTS
from every_world import Remains, Scenario, World
from flow_parts import GRACE, make_container
from reconcile_loop import ENDED, start
from scripted_kube import Seen, status

QUOTA = status(403, "Forbidden", 'jobs.batch "x" is forbidden: exceeded quota: few, requested: count/jobs.batch=1')
INVALID = status(422, "Invalid", "Job is invalid", causes=[{"field": "spec.x", "message": "must be less"}])
NO_ROLE = status(403, "Forbidden", "jobs.batch is forbidden: RBAC: role not found")

TAKE, SHOW = "claim._take queues.remove_task", "claim._show queues.add_task"
CREATE, WRITE = "launch.launch POST jobs", "claim._recorded PATCH configmaps"

Act = Callable[[World], Coroutine[Any, Any, None]]
DIES = {fault.name: fault for fault in FAULTS}


# ---- parts ----------------------------------------------------------------------------------------------------------


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
        world.wires.count(fault=DIES[fault], at=at)
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


# ---- claims ---------------------------------------------------------------------------------------------------------


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
    point = "returning._wanted tasks.get_all"
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


OTHER = "0000000000"
"""A controller whose id is lower than ours, so that ours gives way."""


async def takes_beside_another(world: World) -> None:
    (task,) = world.tasks
    world.wires.meet["marking.marked tasks.get_all"] = lambda: mark_as(world, task, OTHER)
    await takes(world)


async def marked_without_room(world: World) -> None:
    """Its mark stands on a second task, from another life; the first has the only place."""
    await waiting(1, max_pods=1)(world)
    await begins_and_takes(world)
    world.tasks += world.server_tasks(1)
    mark_as(world, world.tasks[1], world.side.controller)
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
    mark_as(world, task, OTHER)
    pending, queue = (world.server.queue_id(name) for name in (names.PENDING_QUEUE, "default"))
    item = {"section": "properties", "name": names.PROPERTY_QUEUE, "value": "default"}
    world.server.call("tasks.edit_hyper_params", task=task, hyperparams=[item], replace_hyperparams="none")
    world.server.call("queues.add_task", queue=pending, task=task)
    world.server.call("queues.remove_task", queue=queue, task=task)
    world.server.call("queues.add_task", queue=queue, task=task)


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


def mark_as(world: World, task: str, controller: str) -> None:
    value = world.server.task(task)["status_changed"]
    item = {"section": "properties", "name": names.mark_key(controller), "value": value}
    world.server.call("tasks.edit_hyper_params", task=task, hyperparams=[item], replace_hyperparams="none")


def other_marks(world: World) -> None:
    """Where the fault came before that: it comes now."""
    for task in world.tasks:
        if world.queues_of(task):
            mark_as(world, task, OTHER)


# ---- recovery -------------------------------------------------------------------------------------------------------


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


# ---- the end of the process -----------------------------------------------------------------------------------------


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


# ---- the end of a task ----------------------------------------------------------------------------------------------


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


def old_pod(*, waits: bool) -> Act:
    """ClearML's own agent left a pod, which has ended, or never will begin."""

    async def prepare(world: World) -> None:
        world.tasks = world.server_tasks(1)
        (task,) = world.tasks
        await world.start()
        queue, server = world.server.queue_id("default"), world.server
        server.call("queues.get_next_task", queue=queue)
        server.call("tasks.stop", task=task, force=True, status_reason="moving to k8s pending queue")
        server.call("tasks.enqueue", task=task, queue=server.queue_id(names.PENDING_QUEUE), status_reason="k8s")
        worker = f"gpu-clearml-agent:{task}"
        if not waits:
            start(server, task, worker=worker)
        over = {"terminated": {"reason": "OOMKilled", "exitCode": 137, "finishedAt": "2026-01-01T00:00:00Z"}}
        state = {"waiting": {"reason": "InvalidImageName", "message": "no such name"}} if waits else over
        world.cluster.put(
            "pods",
            f"clearml-id-{task}",
            metadata={"labels": {"CLEARML": "agent-x", "clearml-agent-queue": queue}},
            spec={"containers": [{"name": "c", "env": [{"name": "CLEARML_WORKER_ID", "value": worker}]}],
                  "nodeName": "n"},
            status={"phase": "Pending" if waits else "Failed", "containerStatuses": [{"name": "c", "state": state}]},
        )  # fmt: skip

    return prepare


async def follows_old_pods(world: World) -> None:
    for _ in range(4):
        world.see()
        await world.side.adopted.look()
        await world.clock.advance(4)
    await world.side.teller.flush()


SCENARIOS = {
    "a task is launched": Scenario(prepare=waiting(), act=begins_and_takes, ends={"job": 1}),
    "three tasks and a limit of two": Scenario(
        prepare=begun(waiting(3, max_pods=2)),
        act=takes,
        ends={"job": 2, "queue": 1},
    ),
    "the queue is made first": Scenario(
        prepare=queue_to_be_made, act=makes_a_queue, afterwards=somebody_enqueues, ends={"job": 1}
    ),
    "aborted while it is put back": Scenario(
        prepare=begun(never_taken),
        act=takes_aborted,
        afterwards=user_has_aborted,
        ends={"stopped": 1},
        remains=(Remains(heading="An abort while a task is being put back", ends={"stopped+queue": 1}),),
    ),
    "a Job that Kubernetes refuses": Scenario(prepare=begun(refused), act=takes, ends={"failed": 1}),
    "a quota of one Job": Scenario(prepare=begun(over_quota), act=takes, ends={"job": 1, "queue": 1}),
    "an entry beside its Job": Scenario(prepare=beside_its_job, act=looks_at_the_queue, ends={"job": 1}),
    "another controller has marked it": Scenario(
        prepare=begun(waiting()), act=takes_beside_another, afterwards=other_marks, ends={"queue": 1}
    ),
    "its mark, and no room": Scenario(prepare=marked_without_room, act=recovers, ends={"job": 1, "queue": 1}),
    "recorded, its entry there, and no room": Scenario(
        prepare=recorded_without_room, act=begins_and_recovers, ends={"queue": 1}
    ),
    "put back and still shown": Scenario(prepare=put_back_and_shown, act=sweeps, ends={"queue": 1}),
    "a plain agent is faster": Scenario(
        prepare=begun(waiting()), act=takes_beside_an_agent, afterwards=agent_takes, ends={"in_progress": 1}
    ),
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
    "its pod was deleted": Scenario(prepare=running(told_to_end), act=reconciles, ends={"stopped": 1}),
    "its image cannot be pulled": Scenario(
        prepare=bad_image(), act=reconciles, ends={"failed: Kubernetes: image-pull": 1}
    ),
    "no node takes its pod": Scenario(prepare=without_a_node, act=reconciles, ends={"job": 1}),
    "an old pod out of memory": Scenario(
        prepare=old_pod(waits=False), act=follows_old_pods, ends={"failed: Kubernetes: oom-killed": 1}
    ),
    "an old pod that cannot begin": Scenario(
        prepare=old_pod(waits=True), act=follows_old_pods, ends={"failed: Kubernetes: image-name": 1}
    ),
}

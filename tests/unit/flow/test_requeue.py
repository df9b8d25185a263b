"""A task whose pod the cluster ended goes back to its queue, as often as its queue says, and no more often."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from clearml_k8s import names
from clearml_k8s.config import QueueConfig, QueueSettings
from clearml_k8s.errors import Unanswered
from clearml_k8s.flow import requeue
from clearml_k8s.kube.slim import Condition
from clearml_k8s.kube.watch import Gone
from clearml_server.process import DevServer
from flow_parts import Side, make_container, make_queue
from reconcile_loop import Loop, start

ENDED = make_container(terminated="Error", exit_code=137, finished_at="2026-01-01T00:00:00Z")
RUNNING = make_container(running=True, started_at="2026-01-01T00:00:00Z")


def disrupted(reason: str = "EvictionByEvictionAPI") -> dict[str, Any]:
    return {"phase": "Failed", "conditions": (Condition(type="DisruptionTarget", status="True", reason=reason),)}


def loop_of(side: Side, **policy: Any) -> Loop:
    side.config = dataclasses.replace(side.config, **policy)
    return Loop(side)


@pytest.fixture
def loop(side: Side) -> Loop:
    return loop_of(side, max_requeues={"evicted": 2})


async def evicted(loop: Loop, server: DevServer, *, reported: bool = True, **pod: Any) -> str:
    """A running task whose pod was just evicted."""
    task = await loop.launched()
    start(server, task, worker=f"worker-a:{task}")
    await again(loop, server, task, reported=reported, **pod)
    return task


async def again(loop: Loop, server: DevServer, task: str, *, reported: bool = True, **pod: Any) -> None:
    loop.pod(task, ENDED, **(pod or disrupted()))
    if reported:
        server.call("tasks.stopped", task=task, status_reason="user abort", status_message="Changed by clearml_agent")
    await loop.reads.refresh([task])


async def launched_again(loop: Loop, task: str) -> int:
    """The watch shows that the former Job is gone, and the task is taken."""
    for job in loop.side.jobs.of_task(task):
        loop.side.jobs.apply(Gone(item=job))
    loop.pods.forget(task)
    return await loop.side.poll()


def tally(server: DevServer, task: str) -> str:
    found = server.task(task)["hyperparams"]["properties"].get(names.PROPERTY_REQUEUES, {})
    return str(found.get("value", ""))


def entries(server: DevServer, queue: str = "default") -> list[str]:
    found = server.call("queues.get_all", name=f"^{queue}$")["queues"][0]["entries"]
    return [entry["task"] for entry in found]


@pytest.mark.parametrize("reported", [True, False], ids=["agent reported an abort", "agent was killed"])
async def test_it_is_put_back_to_the_front_and_counted(loop: Loop, server: DevServer, reported: bool) -> None:
    other = server.create_task()
    task = await evicted(loop, server, reported=reported)
    attempt = loop.job(task).attempt
    server.call("tasks.enqueue", task=other, queue_name="default")
    await loop.looks(task)
    found = server.task(task)
    assert found["status"] == "queued"
    assert found["status_changed"] != attempt
    assert entries(server) == [task, other]
    assert tally(server, task) == f"1: {attempt} -> {found['status_changed']}"
    assert loop.jobs() == set()
    await loop.side.teller.flush()
    assert server.console(task).count("Put back to the front of its queue, time 1 of 2") == 1


async def test_the_next_attempt_gets_a_job_and_the_limit_ends_in_a_failure(loop: Loop, server: DevServer) -> None:
    task = await evicted(loop, server)
    await loop.looks(task)
    for time in (2, 3):
        assert await launched_again(loop, task) == 1
        start(server, task, worker=f"worker-a:{task}")
        await again(loop, server, task)
        await loop.looks(task)
        assert server.task(task)["status"] == ("queued" if time == 2 else "failed")
    found = server.task(task)
    assert found["status_reason"] == "Kubernetes: evicted"
    assert tally(server, task).startswith("2: ")


@pytest.mark.parametrize(
    ("policy", "pod", "status", "reason"),
    [
        ({}, disrupted(), "failed", "Kubernetes: evicted"),
        ({"max_requeues": {"preempted": 9, "nodeLost": 9}}, disrupted(), "failed", "Kubernetes: evicted"),
        ({"max_requeues": {"preempted": 1}}, disrupted("PreemptionByScheduler"), "queued", None),
        ({"max_requeues": {"nodeLost": 1}}, disrupted("DeletionByPodGC"), "queued", None),
        ({}, disrupted("DeletionByPodGC"), "failed", "Kubernetes: node-lost"),
        ({"max_requeues": {"evicted": 9}}, {"phase": "Failed", "deleted": "2025-01-01T00:00:00Z"}, "stopped", None),
        ({"max_requeues": {"evicted": 9}}, {"phase": "Failed", "reason": "DeadlineExceeded"}, "failed",
         "Kubernetes: deadline"),
    ],
)  # fmt: skip
async def test_what_the_policy_says_of_each_end(
    side: Side, server: DevServer, policy: dict[str, Any], pod: dict[str, Any], status: str, reason: str | None
) -> None:
    loop = loop_of(side, **policy)
    task = await evicted(loop, server, **pod)
    await loop.looks(task)
    found = server.task(task)
    assert found["status"] == status
    assert reason is None or found["status_reason"] == reason


@pytest.mark.parametrize(
    ("most", "status", "reason"),
    [({"nodeLost": 1}, "queued", None), ({"evicted": 9}, "failed", "Kubernetes: node-lost")],
)
async def test_a_node_tainted_out_of_service_is_a_lost_one(
    side: Side, server: DevServer, most: dict[str, int], status: str, reason: str | None
) -> None:
    """Nobody else ends a pod and says nothing of its containers; the taint alone is no reason, until then."""
    loop = loop_of(side, max_requeues=most)
    task = await loop.launched()
    start(server, task, worker=f"worker-a:{task}")
    told: dict[str, Any] = {**disrupted("DeletionByTaintManager"), "deleted": "2026-01-01T00:05:30Z"}
    loop.pod(task, RUNNING, **{**told, "phase": "Running"})
    assert await loop.look(task) is not None
    assert server.task(task)["status"] == "in_progress", "its node may still run it"
    loop.pod(task, RUNNING, **told)
    await loop.looks(task)
    found = server.task(task)
    assert found["status"] == status
    assert reason is None or found["status_reason"] == reason


async def test_a_queue_has_a_policy_of_its_own(side: Side, server: DevServer) -> None:
    loop = loop_of(side, max_requeues={"evicted": 3, "preempted": 3})
    settings = QueueSettings(max_requeues={"evicted": 0, "preempted": None})
    queue = dataclasses.replace(make_queue("default"), config=QueueConfig(name="default", settings=settings))
    loop.reconciler._queue = lambda _: queue
    task = await evicted(loop, server)
    await loop.looks(task)
    assert server.task(task)["status"] == "failed"
    server.call("tasks.enqueue", task=task, queue_name="default")
    assert await launched_again(loop, task) == 1
    start(server, task, worker=f"worker-a:{task}")
    await again(loop, server, task, **disrupted("PreemptionByScheduler"))
    await loop.looks(task)
    assert server.task(task)["status"] == "queued"


async def test_a_task_that_had_not_begun_is_put_back_too(loop: Loop, server: DevServer) -> None:
    task = await loop.launched()
    loop.pod(task, make_container(waiting="ContainerCreating"), **disrupted())
    await loop.looks(task)
    assert server.task(task)["status"] == "queued"
    assert entries(server) == [task]
    assert entries(server, "k8s_scheduler") == []
    assert loop.jobs() == set()


async def test_a_task_that_its_user_was_aborting_is_not_put_back(loop: Loop, server: DevServer) -> None:
    task = await loop.launched()
    start(server, task, worker=f"worker-a:{task}")
    loop.pod(task, RUNNING, phase="Running")
    server.call("tasks.stop", task=task)
    await loop.reads.refresh([task])
    await loop.look(task)
    await again(loop, server, task)
    await loop.looks(task)
    assert server.task(task)["status"] == "stopped"
    assert entries(server) == []
    await loop.side.teller.flush()
    assert "Not aborted by its user" not in server.console(task)


@pytest.mark.parametrize("change", ["tasks.reset", "tasks.completed", "tasks.stopped"])
async def test_a_user_who_is_faster_wins(
    loop: Loop, server: DevServer, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between our look and our first step."""
    task = await evicted(loop, server, reported=False)
    whole = requeue.Requeuer.requeue

    async def slow(self: Any, *args: Any, **settings: Any) -> Any:
        server.call(change, task=task)
        return await whole(self, *args, **settings)

    monkeypatch.setattr(requeue.Requeuer, "requeue", slow)
    await loop.looks(task)
    assert server.task(task)["status"] == {"tasks.reset": "created", "tasks.completed": "completed",
                                           "tasks.stopped": "stopped"}[change]  # fmt: skip
    assert entries(server) == []
    assert tally(server, task) == ""


@pytest.mark.parametrize(
    "endpoint", ["tasks.edit_hyper_params", "tasks.failed", "tasks.enqueue", "queues.move_task_to_front"]
)
@pytest.mark.parametrize("kind", ["error_before", "error_after_commit", "drop_reply", "late"])
@pytest.mark.parametrize("restart", [False, True])
async def test_it_is_done_once_whatever_call_goes_wrong(
    loop: Loop, server: DevServer, endpoint: str, kind: str, restart: bool
) -> None:
    """Also when another process goes on: the steps stand on the task."""
    task = await evicted(loop, server, reported=False)
    attempt = loop.job(task).attempt
    server.add_fault(kind=kind, endpoint=f"^{endpoint}$", count=1, **({"seconds": 0.3} if kind == "late" else {}))
    for _ in range(30):
        try:
            wait = await loop.look(task)
        except Unanswered:
            wait = 1.0
            if restart:
                loop = Loop(loop.side)
                loop.pod(task, ENDED, **disrupted())
        await loop.side.session.health.ready()
        if wait is None:
            break
        await loop.side.clock.advance(wait + 0.001)
    found = server.task(task)
    assert found["status"] == "queued"
    assert entries(server) == [task]
    assert tally(server, task).startswith(f"1: {attempt} ->")
    assert loop.jobs() == set()


async def test_where_its_queue_is_gone_it_is_failed(loop: Loop, server: DevServer) -> None:
    task = await evicted(loop, server)
    queue = loop.job(task).queue
    server.call("queues.delete", queue=queue, force=True)
    await loop.looks(task)
    found = server.task(task)
    assert (found["status"], found["status_reason"]) == ("failed", "Kubernetes: evicted")
    assert loop.jobs() == set()


# ---- time limits ----------------------------------------------------------------------------------------------------


async def test_a_task_that_runs_too_long_is_failed_and_its_agent_left_to_end(side: Side, server: DevServer) -> None:
    loop = loop_of(side, max_run_minutes=5.0)
    task = await loop.launched()
    start(server, task, worker=f"worker-a:{task}")
    began = side.clock.now().isoformat()
    loop.pod(task, make_container(running=True, started_at=began), phase="Running")
    assert await loop.look(task) == pytest.approx(300, abs=1)
    assert server.task(task)["status"] == "in_progress"
    await side.clock.advance(301)
    await loop.look(task)
    found = server.task(task)
    assert (found["status"], found["status_reason"]) == ("failed", "Kubernetes: deadline")
    assert len(loop.jobs()) == 1
    await loop.looks(task)
    assert loop.jobs() == set()


async def test_a_pod_that_does_not_end_fails_its_task_once_that_is_silent(loop: Loop, server: DevServer) -> None:
    task = await loop.launched()
    start(server, task, worker=f"worker-a:{task}")
    loop.pod(task, RUNNING, phase="Running", deleted="2026-01-01T00:00:30Z", grace_seconds=30)
    assert await loop.look(task) == pytest.approx(330, abs=1)
    await loop.side.clock.advance(320)
    server.call("tasks.ping", task=task)
    await loop.reads.refresh([task])
    assert await loop.look(task) == pytest.approx(330, abs=1)
    assert server.task(task)["status"] == "in_progress"
    await loop.side.clock.advance(331)
    await loop.look(task)
    found = server.task(task)
    assert (found["status"], found["status_reason"]) == ("failed", "Kubernetes: node-lost")


async def test_jobs_of_failed_tasks_are_kept_for_their_own_time(side: Side, server: DevServer) -> None:
    loop = loop_of(side, completed_pod_deletion_delay_minutes=1, failed_pod_deletion_delay_minutes=60.0)
    for end, kept in (("tasks.failed", 3600), ("tasks.completed", 60)):
        task = await loop.launched()
        start(server, task, worker=f"worker-a:{task}")
        server.call(end, task=task)
        now = side.clock.now().isoformat()
        loop.pod(task, make_container(terminated="Completed", exit_code=0, finished_at=now), phase="Succeeded")
        assert await loop.look(task) == pytest.approx(kept, abs=1)

"""Where the time of an attempt went: literal sentences, and when there is none."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from clearml_k8s.clearml.tasks import TaskView
from clearml_k8s.flow.durations import FRESH, sentence
from clearml_k8s.kube.events import EventRecord
from clearml_k8s.kube.slim import Condition, JobRecord, PodRecord
from clearml_k8s.kube.watch import Upsert
from clearml_server.process import DevServer
from flow_parts import Side, make_container, make_job, make_pod, make_task
from reconcile_loop import Loop, start

# make_job's attempt is of 06:22:11.065, its Job of 06:22:12.
END = datetime(2026, 1, 15, 6, 40, 0, tzinfo=UTC)


def whole() -> tuple[TaskView, JobRecord, PodRecord]:
    """An attempt of which everything was noted."""
    container = make_container(
        started_at="2026-01-15T06:23:30Z", finished_at="2026-01-15T06:40:00Z", terminated="Completed", exit_code=0
    )
    pod = make_pod(
        make_task().id,
        container,
        phase="Succeeded",
        conditions=(Condition(type="PodScheduled", status="True", since="2026-01-15T06:22:15Z"),),
    )
    task = make_task("completed", started="2026-01-15T06:24:10.500000+00:00", changed="2026-01-15T06:39:59+00:00")
    return task, make_job(taken="2026-01-15T06:22:11.565000+00:00"), pod


def told(task: TaskView | None, job: JobRecord, *pods: PodRecord, now: datetime = END) -> str:
    return sentence(task=task, job=job, pods=pods, now=now)


def test_every_phase_stands_in_its_order_and_they_add_up() -> None:
    task, job, pod = whole()
    assert told(task, job, pod) == (
        "Durations: in the queue 0.5 s, until the Job was made 0.4 s, until a node was found 3.0 s, volumes, "
        "image and start 1 min 15 s, until the agent began 40 s, environment and run 15 min 50 s; in all 17 min 49 s"
    )


def test_a_slow_registry_is_told_from_a_slow_volume() -> None:
    task, job, pod = whole()
    line = sentence(task=task, job=job, pods=[pod], now=END, pulling="2026-01-15T06:22:25Z")
    assert ", until a node was found 3.0 s, volumes 10 s, image and start 1 min 5 s, until the agent began 40 s" in line
    # Of an image that was pulled for a pod that is gone.
    line = sentence(task=task, job=job, pods=[pod], now=END, pulling="2026-01-15T06:22:14Z")
    assert ", until a node was found 3.0 s, volumes 0.0 s, image and start 1 min 15 s" in line


def test_what_nobody_noted_is_part_of_the_next_phase() -> None:
    task, _job, pod = whole()
    line = told(dataclasses.replace(task, started=None), make_job(), dataclasses.replace(pod, conditions=()))
    assert line == (
        "Durations: until the Job was made 0.9 s, volumes, image and start 1 min 18 s, environment and run 16 min "
        "30 s; in all 17 min 49 s"
    )


def test_clocks_that_differ_give_no_negative_time() -> None:
    """The API server's clock is behind: the Job seems older than its task's enqueue."""
    task, job, pod = whole()
    line = told(task, dataclasses.replace(job, taken="", created="2026-01-15T06:21:00Z"), pod)
    assert line.startswith("Durations: until the Job was made 0.0 s, until a node was found 3.9 s, ")
    assert "-" not in line


def test_a_start_that_the_server_noted_after_the_end_is_left_out() -> None:
    task, job, pod = whole()
    line = told(dataclasses.replace(task, started="2026-01-15T06:41:00+00:00"), job, pod)
    assert "agent" not in line
    assert "environment and run 16 min 30 s" in line


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"status": "queued"}, id="enqueued again"),
        pytest.param({"status": "created"}, id="reset"),
    ],
)
def test_a_task_that_was_taken_back_has_none(changes: dict[str, Any]) -> None:
    task, job, pod = whole()
    assert told(dataclasses.replace(task, **changes), job, pod) == ""


def test_a_deleted_task_has_none() -> None:
    _, job, pod = whole()
    assert told(None, job, pod) == ""


def test_a_pod_that_runs_has_no_end_yet() -> None:
    task, job, _ = whole()
    running = make_pod(task.id, make_container(running=True, started_at="2026-01-15T06:23:30Z"), phase="Running")
    assert told(task, job, running) == ""


def test_an_aborted_tasks_time_ends_with_the_abort() -> None:
    _, job, _ = whole()
    running = make_pod(make_task().id, make_container(running=True, started_at="2026-01-15T06:23:30Z"), phase="Running")
    line = told(
        make_task("stopped", changed="2026-01-15T06:25:30+00:00"), job, running, now=END - timedelta(minutes=14)
    )
    assert line.endswith("environment and run 2 min 0 s; in all 3 min 19 s")


def test_an_old_end_is_not_told_again() -> None:
    task, job, pod = whole()
    assert told(task, job, pod, now=END + FRESH)
    assert told(task, job, pod, now=END + FRESH + timedelta(seconds=1)) == ""


@pytest.fixture
async def loop(side: Side) -> Loop:
    return Loop(side)


async def test_the_console_ends_with_the_durations_once(loop: Loop, server: DevServer) -> None:
    """Also of a Job that is kept: told at the end, not when the Job goes."""
    loop.reconciler._config = dataclasses.replace(loop.side.config, completed_pod_deletion_delay_minutes=5)
    task = await loop.launched()
    start(server, task)
    server.call("tasks.completed", task=task)
    now = loop.side.clock.now().isoformat()
    ended = make_container(terminated="Completed", exit_code=0, started_at=now, finished_at=now)
    loop.pod(task, ended, phase="Succeeded")
    left = await loop.look(task)
    await loop.side.teller.flush()
    assert server.console(task).count("Durations: in the queue ") == 1
    # The Job's own end is noted a moment later than its container's.
    later = (loop.side.clock.now() + timedelta(seconds=2)).isoformat()
    over = Condition(type="Complete", status="True", since=later)
    loop.side.jobs.apply(Upsert(item=dataclasses.replace(loop.job(task), conditions=(over,))))
    await loop.look(task)
    await loop.side.teller.flush()
    assert server.console(task).count("Durations: ") == 1
    assert len(loop.jobs()) == 1
    await loop.side.clock.advance(left or 0)
    await loop.looks(task)
    assert loop.jobs() == set()
    await loop.side.teller.flush()
    assert server.console(task).count("Durations: ") == 1


async def test_the_job_says_when_its_task_was_taken(loop: Loop) -> None:
    task = await loop.launched()
    (job,) = loop.side.cluster.objects["jobs"].values()
    assert job["metadata"]["annotations"]["clearml-k8s.io/taken"] == loop.job(task).taken
    assert datetime.fromisoformat(loop.job(task).taken) <= loop.side.clock.now()


async def test_when_the_pull_began_is_known_from_the_events_that_were_read(loop: Loop, server: DevServer) -> None:
    task = await loop.launched()
    now = loop.side.clock.now().isoformat()
    pulling = EventRecord(
        uid="e", about="pod", kind="Pod", reason="Pulling", message="Pulling image a", warning=False, last=now
    )
    loop.reconciler._explain.happened(loop.job(task), [pulling])
    start(server, task)
    server.call("tasks.completed", task=task)
    ended = make_container(terminated="Completed", exit_code=0, started_at=now, finished_at=now)
    loop.pod(task, ended, phase="Succeeded")
    await loop.look(task)
    await loop.side.teller.flush()
    console = server.console(task)
    assert ", image and start " in console
    assert "volumes, image and start" not in console

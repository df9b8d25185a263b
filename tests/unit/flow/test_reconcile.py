"""Reconciling with real servers: what is ended, and above all what is not."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from clearml_k8s import names
from clearml_k8s.flow.reads import TaskReads
from clearml_k8s.flow.reconcile import Reconciler
from clearml_k8s.flow.workqueue import WorkQueue
from clearml_k8s.kube.store import Condition, PodRecord, Store
from clearml_server.process import DevServer
from flow_parts import Side, make_container, make_pod
from scripted_kube import Cluster, Fault, status


class Loop:
    """A claiming side with a reconciler; `look` does what a worker does once."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.pods: Store[PodRecord] = Store()
        self.work: WorkQueue[str] = WorkQueue(clock=side.clock)
        self.reads = TaskReads(session=side.session)
        self.reconciler = Reconciler(
            config=side.config,
            session=side.session,
            client=side.client,
            jobs=side.jobs,
            pods=self.pods,
            reads=self.reads,
            teller=side.teller,
            work=self.work,
            worker_id=side.worker_id,
            controller=side.controller,
            pending_queue=lambda: side.served.pending_queue,
        )

    async def launched(self) -> str:
        task: str = self.side.server.create_task(queue="default")
        assert await self.side.poll() == 1
        return task

    def pod(self, task: str, *containers: Any, **fields: Any) -> None:
        (job,) = self.side.jobs.of_task(task)
        self.pods._put(make_pod(task, *containers, job_uid=job.uid, **fields))

    async def look(self, task: str) -> float | None:
        return await self.reconciler._reconcile(task)

    def jobs(self) -> set[str]:
        return set(self.side.cluster.objects["jobs"])


@pytest.fixture
async def loop(side: Side) -> Loop:
    return Loop(side)


ENDED = make_container(terminated="OOMKilled", exit_code=137, finished_at="2026-01-01T00:00:00Z")


def start(server: DevServer, task: str, *, worker: str | None = None) -> None:
    server.call("tasks.dequeue", task=task, new_status="in_progress")
    server.call("tasks.started", task=task, force=True)
    if worker:
        server.call("workers.status_report", worker=worker, task=task, timestamp=1_800_000_000)


async def test_a_pod_that_died_fails_its_task_with_the_reason(loop: Loop, server: DevServer) -> None:
    task = await loop.launched()
    start(server, task, worker=f"worker-a:{task}")
    loop.pod(task, ENDED, phase="Failed")
    again = await loop.look(task)
    assert again is not None
    assert server.task(task)["status"] == "in_progress"  # looked at twice
    await loop.side.clock.advance(again)
    await loop.look(task)
    found = server.task(task)
    assert (found["status"], found["status_reason"]) == ("failed", "Kubernetes: oom-killed")
    await loop.side.teller.flush()
    assert "used more memory than its limit" in server.console(task)


async def test_a_task_that_another_worker_has_begun_meanwhile_is_let_be(loop: Loop, server: DevServer) -> None:
    task = await loop.launched()
    start(server, task, worker=f"worker-a:{task}")
    loop.pod(task, ENDED, phase="Failed")
    again = await loop.look(task)
    server.call("workers.status_report", worker="agent:0", task=task, timestamp=1_800_000_100)
    await loop.side.clock.advance(again or 0)
    await loop.look(task)
    assert server.task(task)["status"] == "in_progress"


async def test_an_abort_ends_the_pod(loop: Loop, server: DevServer) -> None:
    task = await loop.launched()
    assert await loop.look(task) is not None
    server.call("tasks.stopped", task=task)
    await loop.reads.refresh([task])
    await loop.look(task)
    assert loop.jobs() == set()
    (seen,) = loop.side.cluster.of("DELETE", "jobs")
    assert isinstance(seen.body, dict)
    assert seen.body["preconditions"]["uid"] == loop.side.created(task)[0]["metadata"]["uid"]
    assert seen.body["propagationPolicy"] == "Background"


async def test_nothing_is_ended_on_a_stale_read(loop: Loop, server: DevServer) -> None:
    """The task was aborted, as last read, and is wanted again."""
    task = await loop.launched()
    server.call("tasks.stopped", task=task)
    await loop.reads.refresh([task])
    (job,) = loop.side.jobs.of_task(task)
    seen = loop.reads.last(task)
    assert seen is not None
    assert seen.task is not None
    assert seen.task.status == "stopped"
    start(server, task)
    await loop.look(task)
    assert loop.jobs() == {job.name}


async def test_nothing_is_ended_while_the_server_is_away(loop: Loop, server: DevServer) -> None:
    task = await loop.launched()
    server.call("tasks.stopped", task=task)
    await loop.reads.refresh([task])
    server.down(mode="close")
    try:
        with pytest.raises(Exception, match="tasks.get_all"):
            await loop.look(task)
    finally:
        server.up()
    assert len(loop.jobs()) == 1


async def test_a_vanished_task_is_asked_for_again_before_its_job_goes(loop: Loop, server: DevServer) -> None:
    task = await loop.launched()
    before = server.last_call()
    await loop.look(task)
    server.call("tasks.delete", task=task, force=True)
    await loop.reads.refresh([task])
    await loop.look(task)
    assert len(server.calls(since=before, endpoint="tasks.get_all")) >= 3
    assert loop.jobs() == set()


async def test_the_job_of_another_controller_is_never_touched(
    loop: Loop, server: DevServer, new_side: Any, cluster: Cluster
) -> None:
    other = await new_side(cluster, worker_id="other", config=loop.side.config)
    task = server.create_task(queue="default")
    assert await other.poll() == 1
    loop.side.relist()
    server.call("tasks.stopped", task=task)
    await loop.look(task)
    assert loop.jobs() == {names.job_name(task)}


async def test_an_older_attempts_job_goes(loop: Loop, server: DevServer) -> None:
    task = await loop.launched()
    server.call("tasks.dequeue", task=task)
    server.call("tasks.enqueue", task=task, queue_name="default")
    await loop.look(task)
    assert loop.jobs() == set()


async def test_a_bad_image_fails_at_once_and_the_job_goes(loop: Loop, server: DevServer) -> None:
    task = await loop.launched()
    loop.pod(task, make_container(waiting="InvalidImageName", message="couldn't parse image"))
    await loop.look(task)
    found = server.task(task)
    assert found["status"] == "failed"
    assert "couldn't parse image" in found["status_message"]
    assert loop.jobs() == set()
    assert server.entries(server.queue_id(names.PENDING_QUEUE)) == []


async def test_a_job_is_not_deleted_when_failing_its_task_was_refused(loop: Loop, server: DevServer) -> None:
    task = await loop.launched()
    loop.pod(task, make_container(waiting="InvalidImageName"))
    server.add_fault(kind="error_before", endpoint="^tasks.failed$", status=400, subcode=110)
    await loop.look(task)
    assert len(loop.jobs()) == 1


async def test_the_reason_is_told_even_if_failing_ends_in_doubt(loop: Loop, server: DevServer) -> None:
    task = await loop.launched()
    loop.pod(task, ENDED, phase="Failed")
    server.add_fault(kind="drop_reply", endpoint="^tasks.failed$", count=1)
    with pytest.raises(Exception, match="tasks.failed"):
        await loop.look(task)
    await loop.look(task)
    await loop.side.teller.flush()
    assert server.task(task)["status"] == "failed"
    assert server.console(task).count("used more memory") == 1


async def test_who_waits_is_told_once_and_changing_words_once_a_minute(loop: Loop, server: DevServer) -> None:
    task = await loop.launched()

    def unscheduled(count: int) -> None:
        condition = Condition(type="PodScheduled", status="False", message=f"0/{count} nodes are available")
        loop.pod(task, node=None, conditions=(condition,), resource_version=str(count))

    unscheduled(1)
    assert await loop.look(task) == 3.0
    await loop.side.clock.advance(3.1)
    for count in (1, 1, 2, 3):
        unscheduled(count)
        await loop.look(task)
    await loop.side.clock.advance(61)
    await loop.look(task)
    await loop.side.teller.flush()
    console = server.console(task)
    assert [f"0/{count} nodes" in console for count in (1, 2, 3)] == [True, False, True]
    assert console.count("Waiting") == 2
    assert "0/3 nodes" in server.task(task)["status_message"]


async def test_a_log_that_cannot_be_read_stops_nothing(loop: Loop, server: DevServer, cluster: Cluster) -> None:
    task = await loop.launched()
    loop.pod(task, ENDED, phase="Failed")
    cluster.fault("GET", Fault(code=403, status=status(403, "Forbidden", "no")), path="/log")
    await loop.look(task)
    await loop.side.teller.flush()
    assert "The pod's log cannot be read" in server.console(task)
    assert server.task(task)["status"] == "failed"


async def test_one_tasks_trouble_ends_no_worker(loop: Loop, server: DevServer, monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = await loop.launched(), await loop.launched()
    look, seen = loop.reconciler._reconcile, []

    async def broken(task: str) -> float | None:
        if task == bad:
            raise ValueError("boom")
        seen.append(task)
        return await look(task)

    monkeypatch.setattr(loop.reconciler, "_reconcile", broken)
    running = asyncio.create_task(loop.reconciler.run())
    loop.work.put(bad)
    loop.work.put(good)
    async with asyncio.timeout(5):
        while good not in seen:
            await asyncio.sleep(0.001)
    assert not running.done()
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    loop.work.close()

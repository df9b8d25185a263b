"""Reconciling with real servers: what is ended, and above all what is not."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from typing import Any

import pytest
from clearml_k8s import names
from clearml_k8s.flow.decide import SIGTERM_REASON
from clearml_k8s.flow.lasting import ABORT_SECONDS
from clearml_server.process import DevServer
from flow_parts import make_container
from reconcile_loop import ENDED, Loop, start
from scripted_kube import Cluster


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


async def test_each_log_line_names_task_queue_and_job(
    loop: Loop, server: DevServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    task = await loop.launched()
    start(server, task, worker=f"worker-a:{task}")
    loop.pod(task, ENDED, phase="Failed")
    await loop.looks(task)
    said = {r.getMessage(): {key: r.kv.get(key) for key in ("task", "queue", "job")} for r in caplog.records}  # type: ignore[attr-defined]
    whose = {"task": task, "queue": "default", "job": f"clearml-id-{task}"}
    assert {text: said[text] for text in ("task launched", "task failed", "Job deleted")} == {
        "task launched": whose,
        "task failed": whose,
        "Job deleted": whose,
    }


async def test_a_failure_for_want_of_memory_is_explained_once_and_then_the_job_goes(
    loop: Loop, server: DevServer
) -> None:
    """The kernel killed the script, and the agent knows its exit code alone."""
    task = await loop.launched()
    start(server, task, worker=f"worker-a:{task}")
    server.call("tasks.failed", task=task, status_reason="worker execution exit code -9", status_message="by agent")
    loop.pod(task, ENDED, phase="Succeeded")
    await loop.looks(task)
    found = server.task(task)
    assert found["status_reason"] == "worker execution exit code -9"
    assert found["status_message"].startswith("Kubernetes: Container task was killed: it used more memory")
    assert loop.jobs() == set()
    await loop.side.teller.flush()
    assert server.console(task).count("Why it failed: Container task was killed") == 1


async def test_a_task_that_another_worker_has_begun_meanwhile_is_let_be(loop: Loop, server: DevServer) -> None:
    task = await loop.launched()
    start(server, task, worker=f"worker-a:{task}")
    loop.pod(task, ENDED, phase="Failed")
    again = await loop.look(task)
    server.call("workers.status_report", worker="agent:0", task=task, timestamp=1_800_000_100)
    await loop.side.clock.advance(again or 0)
    await loop.look(task)
    assert server.task(task)["status"] == "in_progress"


async def test_a_finished_job_is_not_deleted_on_an_old_read(loop: Loop, server: DevServer) -> None:
    """As last read the task is completed; since then it runs again."""
    task = await loop.launched()
    start(server, task, worker="agent:0")
    server.call("tasks.completed", task=task)
    await loop.reads.refresh([task])
    loop.pod(task, ENDED, phase="Failed")
    server.call("tasks.started", task=task, force=True)
    server.call("workers.status_report", worker=f"worker-a:{task}", task=task, timestamp=1_800_000_100)
    assert await loop.look(task) is not None
    assert len(loop.jobs()) == 1


async def test_a_kept_job_goes_when_its_time_is_over(loop: Loop, server: DevServer) -> None:
    task = await loop.launched()
    start(server, task)
    server.call("tasks.completed", task=task)
    now = loop.side.clock.now().isoformat()
    loop.pod(task, make_container(terminated="Completed", exit_code=0, finished_at=now), phase="Succeeded")
    loop.reconciler._config = dataclasses.replace(loop.side.config, completed_pod_deletion_delay_minutes=5)
    left = await loop.look(task)
    assert left == pytest.approx(300, abs=1)
    await loop.side.clock.advance(left or 0)
    before = server.last_call()
    await loop.look(task)
    assert loop.jobs() == set()
    assert server.calls(since=before, endpoint="tasks.get_all")


async def test_a_task_that_was_begun_anew_is_looked_at_for_as_long_again(loop: Loop, server: DevServer) -> None:
    """Aborted, enqueued and started elsewhere between two looks; its new worker has not reported yet."""
    task = await loop.launched()
    start(server, task, worker=f"worker-a:{task}")
    loop.pod(task, ENDED, phase="Failed")
    again = await loop.look(task)
    server.call("tasks.stopped", task=task)
    server.call("tasks.enqueue", task=task, queue_name="default")
    start(server, task)
    await loop.side.clock.advance(again or 0)
    assert await loop.look(task) is not None
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


async def test_another_server_behind_the_address_costs_no_job(
    loop: Loop, server: DevServer, caplog: pytest.LogCaptureFixture
) -> None:
    """It lists no task and no queue of ours, however often it is asked."""
    ids = [await loop.launched() for _ in range(3)]
    server.reset()
    await loop.reads.refresh(ids)
    for _ in range(4):
        for task in ids:
            again = await loop.look(task)
            assert again is not None
            assert again > 0
        await loop.side.clock.advance(100)
    assert len(loop.jobs()) == 3
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    for words in (server.url, "3 tasks", "apiServerUrlReference", "workspace", "kubectl -n ns delete jobs -l"):
        assert words in record.getMessage()


async def test_a_deleted_task_of_a_deleted_queue_needs_another_task_as_witness(loop: Loop, server: DevServer) -> None:
    task, other = await loop.launched(), await loop.launched()
    server.call("tasks.delete", task=task, force=True)
    server.call("queues.delete", queue=server.queue_id("default"), force=True)
    await loop.reads.refresh([task, other])
    await loop.looks(task)
    assert loop.jobs() == {names.job_name(other)}


async def test_the_last_task_of_a_deleted_queue_keeps_its_job(loop: Loop, server: DevServer) -> None:
    task = await loop.launched()
    server.call("tasks.delete", task=task, force=True)
    server.call("queues.delete", queue=server.queue_id("default"), force=True)
    await loop.reads.refresh([task])
    assert (await loop.look(task) or 0) > 0
    assert len(loop.jobs()) == 1


async def test_a_task_that_vanishes_with_the_last_read_is_asked_for_once_more(loop: Loop, server: DevServer) -> None:
    """Aborted on the server that we know, as last read; now another answers."""
    task = await loop.launched()
    server.call("tasks.stopped", task=task)
    await loop.reads.refresh([task])
    server.reset()
    assert await loop.look(task) is not None
    assert (await loop.look(task) or 0) > 0
    assert len(loop.jobs()) == 1


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


@pytest.mark.parametrize("worker", ["worker-a", "earlier"])
async def test_the_job_says_under_which_worker_its_pod_reports(loop: Loop, server: DevServer, worker: str) -> None:
    """The annotation, else the id of this process."""
    task = await loop.launched()
    annotation = None if worker == "worker-a" else worker
    loop.side.jobs._put(dataclasses.replace(loop.job(task), worker=annotation))
    start(server, task, worker=f"{worker}:{task}")
    loop.pod(task, ENDED, phase="Failed")
    await loop.looks(task)
    assert server.task(task)["status"] == "failed"


async def test_the_job_says_what_a_template_made_of_its_worker_id(loop: Loop, server: DevServer) -> None:
    task = await loop.launched()
    loop.side.jobs._put(dataclasses.replace(loop.job(task), reports_as=f"k8s:H100:{task}"))
    start(server, task, worker=f"k8s:H100:{task}")
    loop.pod(task, ENDED, phase="Failed")
    await loop.looks(task)
    assert server.task(task)["status"] == "failed"


async def aborting(loop: Loop, server: DevServer) -> str:
    """A task that runs, and whose user has aborted it, as the server takes it: its agent is to end it."""
    task = await loop.launched()
    start(server, task, worker=f"worker-a:{task}")
    loop.pod(task, make_container(running=True), phase="Running")
    server.call("tasks.stop", task=task)
    await loop.reads.refresh([task])
    return task


async def test_an_abort_that_its_agent_is_silent_about_is_ended_by_us(loop: Loop, server: DevServer) -> None:
    """Told to end, it reports what it reports of any SIGTERM, and that is no news."""
    task = await aborting(loop, server)
    assert await loop.look(task) == pytest.approx(ABORT_SECONDS)
    await loop.side.clock.advance(ABORT_SECONDS)
    await loop.look(task)
    assert loop.jobs() == set()
    server.call("tasks.stopped", task=task, status_reason=SIGTERM_REASON)
    loop.side.relist()
    loop.pod_goes(task)
    await loop.looks(task)
    assert server.task(task)["status"] == "stopped"
    await loop.side.teller.flush()
    assert "Not aborted by its user" not in server.console(task)


async def test_an_agent_that_reports_has_all_the_time_it_needs_for_an_abort(loop: Loop, server: DevServer) -> None:
    task = await aborting(loop, server)
    for _ in range(5):
        await loop.look(task)
        await loop.side.clock.advance(ABORT_SECONDS - 1)
        server.call("tasks.ping", task=task)
        await loop.reads.refresh([task])
    assert await loop.look(task) == pytest.approx(ABORT_SECONDS)
    assert len(loop.jobs()) == 1


async def test_a_ping_in_the_last_moment_keeps_an_aborted_tasks_job(loop: Loop, server: DevServer) -> None:
    task = await aborting(loop, server)
    await loop.look(task)
    await loop.side.clock.advance(ABORT_SECONDS)
    server.call("tasks.ping", task=task)  # and no look at all states has shown it
    assert await loop.look(task) == pytest.approx(ABORT_SECONDS)
    assert len(loop.jobs()) == 1


async def test_an_aborted_task_whose_agent_never_reports_its_end_is_failed(loop: Loop, server: DevServer) -> None:
    task = await aborting(loop, server)
    await loop.look(task)
    await loop.side.clock.advance(ABORT_SECONDS)
    await loop.look(task)
    loop.side.relist()
    loop.pod_goes(task)
    await loop.looks(task)
    found = server.task(task)
    assert (found["status"], found["status_reason"]) == ("failed", "Kubernetes: ended")
    assert found["status_message"] == "Its user aborted it, and its agent did not report the end"


async def test_nothing_is_kept_of_tasks_whose_job_is_gone(loop: Loop, server: DevServer) -> None:
    task = await loop.launched()
    loop.pod(task, ENDED, phase="Failed", gone=False)
    loop.pod(task, ENDED, phase="Failed", gone=True)
    assert loop.pods.gone_of_task(task)
    server.call("tasks.stopped", task=task)
    await loop.looks(task)
    loop.side.relist()
    await loop.looks(task)
    assert loop.pods.gone_of_task(task) == ()


async def test_an_older_attempts_job_goes(loop: Loop, server: DevServer) -> None:
    task = await loop.launched()
    server.call("tasks.dequeue", task=task)
    server.call("tasks.enqueue", task=task, queue_name="default")
    await loop.look(task)
    assert loop.jobs() == set()


async def again(loop: Loop, server: DevServer) -> str:
    """A running task that its user resets and enqueues again: our look shows the next attempt."""
    task = await loop.launched()
    start(server, task, worker=f"worker-a:{task}")
    loop.pod(task, make_container(running=True), phase="Running")
    server.call("tasks.reset", task=task, force=True)
    server.call("tasks.enqueue", task=task, queue_name="default")
    await loop.reads.refresh([task])
    return task


async def test_the_agent_of_an_older_attempt_may_end_by_itself(loop: Loop, server: DevServer) -> None:
    """Told to end, it would report an abort, and thereby take the next attempt out of its queue."""
    task = await again(loop, server)
    wait = await loop.look(task)
    assert wait is not None
    assert len(loop.jobs()) == 1
    loop.pod(task, make_container(terminated="Completed", exit_code=0), phase="Succeeded")
    await loop.look(task)
    assert loop.jobs() == set()
    assert server.task(task)["status"] == "queued"


async def test_the_agent_of_an_older_attempt_that_does_not_end_is_ended(loop: Loop, server: DevServer) -> None:
    task = await again(loop, server)
    await loop.looks(task)
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

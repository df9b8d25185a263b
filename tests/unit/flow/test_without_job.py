"""Tasks whose Job is gone, and who did not delete it."""

from __future__ import annotations

import dataclasses

import pytest
from clearml_k8s.kube.watch import Gone, Upsert
from clearml_server.process import DevServer
from flow_parts import make_container, make_pod
from reconcile_loop import Loop, start

RUNNING = make_container(running=True)


async def running(loop: Loop, server: DevServer) -> str:
    task = await loop.launched()
    start(server, task, worker=f"worker-a:{task}")
    loop.pod(task, RUNNING, phase="Running")
    await loop.look(task)
    return task


def job_goes(loop: Loop, task: str) -> None:
    loop.side.jobs.apply(Gone(item=loop.job(task)))


async def test_its_task_fails_when_no_pod_is_left(loop: Loop, server: DevServer) -> None:
    task = await running(loop, server)
    job_goes(loop, task)
    loop.pod_goes(task)
    await loop.looks(task)
    found = server.task(task)
    assert (found["status"], found["status_reason"]) == ("failed", "Kubernetes: deleted")
    assert "The Job was deleted" in found["status_message"]


async def test_as_long_as_a_pod_runs_on_nothing_is_done(loop: Loop, server: DevServer) -> None:
    """`kubectl delete job --cascade=orphan`: the pod has no owner any more."""
    task = await running(loop, server)
    orphan = make_pod(task, RUNNING, job_uid=None, phase="Running")
    loop.pods.apply(Upsert(item=orphan))
    job_goes(loop, task)
    for _ in range(4):
        await loop.side.clock.advance(await loop.look(task) or 0)
    assert server.task(task)["status"] == "in_progress"
    server.call("tasks.completed", task=task)
    loop.pods.apply(Gone(item=orphan))
    await loop.looks(task)
    assert server.task(task)["status"] == "completed"


async def test_an_abort_that_its_agent_reports_is_told(loop: Loop, server: DevServer) -> None:
    task = await running(loop, server)
    job_goes(loop, task)
    server.call("tasks.stopped", task=task, status_reason="user abort")
    loop.pod_goes(task)
    await loop.looks(task)
    found = server.task(task)
    assert found["status"] == "stopped"
    assert found["status_message"].startswith("Kubernetes: The Job was deleted")
    await loop.side.teller.flush()
    assert server.console(task).count("Not aborted by its user: The Job was deleted") == 1


async def test_a_job_that_we_deleted_ourselves_is_not_told(loop: Loop, server: DevServer) -> None:
    task = await running(loop, server)
    server.call("tasks.stopped", task=task, status_reason="", status_message="stopped by its user")
    await loop.reads.refresh([task])
    await loop.looks(task)
    job_goes(loop, task)
    server.call("tasks.stopped", task=task, status_reason="user abort")
    loop.pod_goes(task)
    await loop.looks(task)
    await loop.side.teller.flush()
    assert "The Job was deleted" not in server.console(task)


async def test_the_job_of_an_older_attempt_tells_nothing_of_the_new_one(loop: Loop, server: DevServer) -> None:
    """Its launch ended the older one's Job; the user aborts the new attempt, and its agent reports the SIGTERM."""
    task = await running(loop, server)
    older = loop.job(task)
    server.call("tasks.stopped", task=task, status_reason="", status_message="stopped by its user")
    await loop.reads.refresh([task])
    await loop.looks(task)
    newer = dataclasses.replace(older, uid="newer")
    loop.side.jobs.apply(Gone(item=older))
    loop.side.jobs.apply(Upsert(item=newer))
    loop.reconciler._explained.clear()
    loop.reconciler._explained.add("newer")
    loop.side.jobs.apply(Gone(item=newer))
    server.call("tasks.stopped", task=task, status_reason="user abort", status_message="Changed by clearml_agent")
    loop.pod_goes(task)
    await loop.looks(task)
    await loop.side.teller.flush()
    assert "The Job was deleted" not in server.console(task)


@pytest.mark.parametrize("how", ["another worker", "reset", "queued again"])
async def test_whoever_has_the_task_now_keeps_it(loop: Loop, server: DevServer, how: str) -> None:
    task = await running(loop, server)
    if how == "another worker":
        server.call("workers.status_report", worker="agent:0", task=task, timestamp=1_800_000_100)
    else:
        server.call("tasks.reset", task=task, force=True)
        if how == "queued again":
            server.call("tasks.enqueue", task=task, queue_name="default")
    before = server.task(task)["status"]
    job_goes(loop, task)
    loop.pod_goes(task)
    await loop.looks(task)
    assert server.task(task)["status"] == before

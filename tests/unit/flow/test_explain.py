"""What a task's user is told: why it waits, how its pod ended, and that an "abort" was none."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from clearml_k8s.clearml import tasks
from clearml_k8s.errors import Forbidden
from clearml_k8s.flow.explain import LOG_BYTES
from clearml_k8s.kube.slim import Condition
from clearml_server.process import DevServer
from flow_parts import make_container
from reconcile_loop import ENDED, Loop, start
from scripted_kube import Cluster, Fault, status

# ---- waiting and failing --------------------------------------------------------------------------------------------


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


def kubectl(task: str) -> str:
    """What shows all of the log."""
    return f"all of it, while the pod is kept: kubectl -n ns logs clearml-id-{task}-x -c task"


async def test_a_log_that_cannot_be_read_stops_nothing(loop: Loop, server: DevServer, cluster: Cluster) -> None:
    task = await loop.launched()
    loop.pod(task, ENDED, phase="Failed")
    cluster.fault("GET", Fault(code=403, status=status(403, "Forbidden", "no")), path="/log")
    await loop.look(task)
    await loop.side.teller.flush()
    assert "The log of the pod cannot be read" in server.console(task)
    assert kubectl(task) in server.console(task)
    assert server.task(task)["status"] == "failed"


def happens(cluster: Cluster, uid: str, reason: str, message: str, *, second: int, kind: str = "Pod") -> None:
    """An event of the object with this uid."""
    cluster.put(
        "events",
        f"{reason}-{second}",
        involvedObject={"uid": uid, "kind": kind},
        reason=reason,
        message=message,
        type="Normal" if reason == "Scheduled" else "Warning",
        lastTimestamp=f"2026-01-15T07:00:{second:02}Z",
    )


async def test_what_only_events_tell_is_told_once_and_read_seldom(
    loop: Loop, server: DevServer, cluster: Cluster
) -> None:
    task = await loop.launched()
    loop.pod(task, make_container(waiting="ContainerCreating"))
    (pod,) = loop.pods.of_task(task)
    assert await loop.look(task) == 10.0
    assert cluster.of("GET", "/events") == []
    happens(cluster, pod.uid, "Scheduled", "Successfully assigned it", second=1)
    happens(cluster, pod.uid, "FailedMount", 'secret "data" not found', second=2)
    happens(cluster, "another", "FailedMount", "not ours", second=3)
    await loop.side.clock.advance(10.1)
    for _ in range(4):
        await loop.look(task)
        await loop.side.clock.advance(1)
    assert len(cluster.of("GET", "/events")) == 2  # of the Job and of the pod
    await loop.side.clock.advance(20)
    await loop.look(task)
    assert len(cluster.of("GET", "/events")) == 4
    await loop.side.teller.flush()
    console = server.console(task)
    assert console.count('Waiting: A volume is not there: secret "data" not found') == 1
    assert console.count("Pod Scheduled: Successfully assigned it") == 1
    assert console.index("Pod Scheduled") < console.index("Pod FailedMount")
    assert "not ours" not in console
    assert 'secret "data" not found' in server.task(task)["status_message"]
    assert server.task(task)["status"] == "queued"


async def test_a_pod_that_is_never_made_fails_its_task_with_what_the_job_says(
    loop: Loop, server: DevServer, cluster: Cluster
) -> None:
    """First a quota, which may end; then a limit, which does not."""
    task = await loop.launched()
    uid = loop.job(task).uid
    happens(cluster, uid, "FailedCreate", "is forbidden: exceeded quota: q", second=1, kind="Job")
    assert await loop.look(task) == 5.0
    await loop.side.clock.advance(5.1)
    await loop.look(task)
    assert "exceeded quota" in server.task(task)["status_message"]
    await loop.side.clock.advance(3600)
    await loop.look(task)
    assert server.task(task)["status"] == "queued"
    happens(cluster, uid, "FailedCreate", "maximum cpu usage per Container is 1", second=2, kind="Job")
    await loop.side.clock.advance(21)
    await loop.looks(task, most=40)
    found = server.task(task)
    assert (found["status"], found["status_reason"]) == ("failed", "Kubernetes: limit-range")
    assert "maximum cpu usage" in found["status_message"]
    assert loop.jobs() == set()


async def test_events_that_cannot_be_read_stop_nothing(loop: Loop, server: DevServer, cluster: Cluster) -> None:
    task = await loop.launched()
    await loop.look(task)
    await loop.side.clock.advance(5.1)
    cluster.fault("GET", Fault(code=403, status=status(403, "Forbidden", "no")), path="/events")
    await loop.look(task)
    assert "Kubernetes has not made the pod yet" in server.task(task)["status_message"]


async def test_every_container_that_ran_shows_its_last_lines(loop: Loop, server: DevServer, cluster: Cluster) -> None:
    task = await loop.launched()
    containers = (
        make_container("fetch", init=True, terminated="Completed", exit_code=0),
        make_container("prepare", init=True, terminated="Error", exit_code=3),
        make_container("sidecar", running=True),
        make_container("late", waiting="PodInitializing"),
        ENDED,
    )
    loop.pod(task, *containers, phase="Failed")
    for name in ("prepare", "sidecar", "task"):
        cluster.fault("GET", Fault(code=200, text=f"line of {name}"), path="/log")
    await loop.look(task)
    await loop.side.teller.flush()
    console = server.console(task)
    asked = [seen.query for seen in cluster.of("GET", "/log")]
    assert [query["container"] for query in asked] == ["prepare", "sidecar", "task"]
    assert {query["tailLines"] for query in asked} == {"100"}
    assert "Last lines of container prepare:\nline of prepare" in console
    assert "Last lines of the pod:\nline of task" in console
    assert "kubectl" not in console  # they are all that there is


@pytest.mark.parametrize("size", [200, 3_000, 300_000])
async def test_of_a_long_log_the_end_is_shown(loop: Loop, server: DevServer, cluster: Cluster, size: int) -> None:
    """The crash stands last; the API server's own limit would cut it off."""
    task = await loop.launched()
    loop.pod(task, ENDED, phase="Failed")
    text = "\n".join(f"line {number} {'é' * size}" for number in range(100)) + "\nValueError: no data\n"
    cluster.fault("GET", Fault(code=200, text=text), path="/log")
    await loop.look(task)
    await loop.side.teller.flush()
    console = server.console(task)
    assert console.rstrip().endswith("ValueError: no data")
    assert "line 0 " not in console
    assert f"Last lines of the pod ({kubectl(task)}):\n" in console
    assert len(console.encode()) < LOG_BYTES + 2_000
    (asked,) = [seen.query for seen in cluster.of("GET", "/log")]
    assert int(asked["limitBytes"]) >= 100 * 16_384


# ---- ended by a SIGTERM ---------------------------------------------------------------------------------------------

RUNNING = make_container(running=True)
DELETED = "2026-01-15T07:00:00Z"


def sigterm(server: DevServer, task: str) -> None:
    """What the agent reports at a SIGTERM, whoever sent it."""
    server.call(
        "tasks.stopped", task=task, status_reason="user abort", status_message="Changed by clearml_agent worker-a"
    )


def disrupted(reason: str, message: str = "") -> tuple[Condition, ...]:
    return (Condition(type="DisruptionTarget", status="True", reason=reason, message=message),)


@pytest.mark.parametrize(
    ("pod", "words"),
    [
        ({"deleted": DELETED}, "The pod was deleted"),
        ({}, "nothing in the cluster says"),
    ],
)
@pytest.mark.parametrize("gone", [False, True])
async def test_who_sent_a_sigterm_is_told_before_the_job_goes(
    loop: Loop, server: DevServer, pod: dict[str, Any], words: str, gone: bool
) -> None:
    task = await loop.launched()
    start(server, task, worker=f"worker-a:{task}")
    loop.pod(task, RUNNING, phase="Running")
    await loop.look(task)
    loop.pod(task, RUNNING, phase="Running", gone=gone, **pod)
    if gone and not pod:
        words = "The pod was deleted"
    sigterm(server, task)
    await loop.reads.refresh([task])
    await loop.looks(task)
    found = server.task(task)
    assert (found["status"], found["status_reason"]) == ("stopped", "user abort")
    assert found["status_message"].startswith("Kubernetes: ")
    assert words in found["status_message"]
    await loop.side.teller.flush()
    assert server.console(task).count(words) == 1
    assert loop.jobs() == set()


async def test_a_deadline_of_the_job_is_told(loop: Loop, server: DevServer) -> None:
    """The Job controller deletes the pod first; its reason may be seen later."""
    task = await loop.launched()
    start(server, task, worker=f"worker-a:{task}")
    loop.pod(task, RUNNING, phase="Running", deleted=DELETED)
    sigterm(server, task)
    await loop.reads.refresh([task])
    assert (await loop.look(task) or 0) > 0
    late = Condition(type="FailureTarget", status="True", reason="DeadlineExceeded")
    loop.side.jobs._put(dataclasses.replace(loop.job(task), conditions=(late,)))
    await loop.looks(task)
    found = server.task(task)
    assert (found["status"], found["status_reason"]) == ("failed", "Kubernetes: deadline")
    assert "activeDeadlineSeconds" in found["status_message"]
    await loop.side.teller.flush()
    assert "The pod was deleted" not in server.console(task)


async def test_it_is_told_once_over_restarts(loop: Loop, server: DevServer) -> None:
    """The Job is kept for a while, and another process looks at it."""
    task = await loop.launched()
    start(server, task, worker=f"worker-a:{task}")
    sigterm(server, task)
    await loop.reads.refresh([task])
    loop.side.config = dataclasses.replace(loop.side.config, completed_pod_deletion_delay_minutes=10**6)
    for side in (Loop(loop.side), Loop(loop.side)):
        ended = make_container(terminated="Error", exit_code=1, finished_at="2026-01-01T00:00:00Z")
        side.pod(task, ended, phase="Failed", deleted=DELETED)
        await side.reads.refresh([task])
        for _ in range(3):
            await loop.side.clock.advance(min(await side.look(task) or 0, 10))
        await loop.side.teller.flush()
        loop.side.teller.forget(task)
    assert server.console(task).count("The pod was deleted") == 1
    assert len(loop.jobs()) == 1


async def test_a_persons_abort_is_no_eviction(loop: Loop, server: DevServer) -> None:
    """We delete the Job; its pod is told to end, and its agent reports that as it reports every SIGTERM."""
    task = await loop.launched()
    start(server, task, worker=f"worker-a:{task}")
    loop.pod(task, RUNNING, phase="Running")
    server.call("tasks.stopped", task=task, status_reason="", status_message="stopped by its user")
    await loop.reads.refresh([task])
    await loop.looks(task)
    assert loop.jobs() == set()
    sigterm(server, task)
    await loop.reads.refresh([task])
    # The watch of Jobs is behind that of pods.
    loop.pod(task, make_container(terminated="Error", exit_code=1), phase="Failed", deleted=DELETED)
    await loop.looks(task)
    assert server.task(task)["status_message"] == "Changed by clearml_agent worker-a"
    await loop.side.teller.flush()
    assert "The pod" not in server.console(task)


async def test_an_abort_that_the_agent_carried_out_is_no_eviction(loop: Loop, server: DevServer) -> None:
    task = await loop.launched()
    start(server, task, worker=f"worker-a:{task}")
    server.call("tasks.stopped", task=task, status_reason="task was stopped by tasks.stop")
    loop.pod(task, RUNNING, phase="Running", conditions=disrupted("EvictionByEvictionAPI"), deleted=DELETED)
    await loop.reads.refresh([task])
    await loop.looks(task)
    await loop.side.teller.flush()
    assert "evicted" not in server.console(task)
    assert loop.jobs() == set()


async def test_a_message_that_is_refused_keeps_no_job(
    loop: Loop, server: DevServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = await loop.launched()
    start(server, task, worker=f"worker-a:{task}")
    loop.pod(task, RUNNING, phase="Running", deleted=DELETED)
    sigterm(server, task)
    await loop.reads.refresh([task])

    async def refuses(*_: Any, **__: Any) -> None:
        raise Forbidden("tasks.update", 403, 20, "not with this role")

    monkeypatch.setattr(tasks, "set_status_message", refuses)
    await loop.looks(task)
    await loop.side.teller.flush()
    assert server.console(task).count("The pod was deleted") == 1
    assert loop.jobs() == set()


async def test_the_job_stays_until_it_is_told(loop: Loop, server: DevServer) -> None:
    task = await loop.launched()
    start(server, task, worker=f"worker-a:{task}")
    loop.pod(task, RUNNING, phase="Running", deleted=DELETED)
    sigterm(server, task)
    await loop.reads.refresh([task])
    server.add_fault(kind="error_before", endpoint="^tasks.update$", count=1)
    await loop.side.clock.advance(await loop.look(task) or 0)
    with pytest.raises(Exception, match="tasks.update"):
        await loop.look(task)
    assert len(loop.jobs()) == 1
    await loop.side.session.health.ready()
    await loop.looks(task)
    assert "The pod was deleted" in server.task(task)["status_message"]
    await loop.side.teller.flush()
    assert server.console(task).count("The pod was deleted") == 1
    assert loop.jobs() == set()

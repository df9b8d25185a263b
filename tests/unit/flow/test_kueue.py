"""What Kueue says of a Job, in words for the task's user; conditions as Kueue 0.17 writes them."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from clearml_k8s.config.kueue import KueueConfig
from clearml_k8s.flow import kueue
from clearml_k8s.flow.decide import SIGTERM_REASON, Step, decide
from clearml_k8s.flow.diagnosis import PATIENCE, Category
from clearml_k8s.flow.ending import ended, interrupted
from clearml_k8s.flow.pending import pending
from clearml_k8s.kube.slim import Condition, JobRecord, PodRecord
from clearml_k8s.kube.watch import Gone, Listed, Upsert
from clearml_server.process import DevServer
from flow_parts import LATER, Side, make_container, make_job, make_pod, make_task
from kueue_objects import PREEMPTED_TEXT, evicted, make_workload, pending_workload, readmitted
from reconcile_loop import Loop, start
from reconcile_states import WORKER

RUNNING = make_container(running=True, started_at="2026-01-01T00:00:00Z")
KILLED = make_container(terminated="Error", exit_code=143, finished_at="2026-01-15T07:00:10Z")
DELETED = {"deleted": "2026-01-15T07:00:30Z", "grace_seconds": 30}


def held(**workload: Any) -> JobRecord:
    return make_job(suspend=True, local_queue="team", workload=make_workload(**workload))


RESERVED = Condition(type="QuotaReserved", status="True", reason="QuotaReserved")
CHECKS = Condition(type="Admitted", status="False", reason="NoChecks")
ADMITTED = Condition(type="Admitted", status="True", reason="Admitted")
DRAINED = "ClusterQueue cluster is inactive"


# ---- why it waits ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("job", "category", "words"),
    [
        (make_job(suspend=True, local_queue="team"), Category.KUEUE_UNSEEN, "made no Workload of it yet"),
        (held(), Category.KUEUE_QUOTA, "The task waits for its turn in Kueue (LocalQueue team). It starts by itself"),
        (held(conditions=pending_workload("insufficient unused quota for cpu in flavor default, 1 more needed")),
         Category.KUEUE_QUOTA, "LocalQueue team): insufficient unused quota for cpu in flavor default, 1 more needed"),
        (held(conditions=pending_workload("LocalQueue team doesn't exist", reason="Inadmissible")),
         Category.KUEUE_QUEUE, "LocalQueue team doesn't exist. Correct kueue.queueName"),
        (held(conditions=(RESERVED, CHECKS)), Category.KUEUE_CHECKS, "kubectl describe workload job-train"),
        (held(conditions=(RESERVED, ADMITTED)), Category.STARTING, "admitted"),
        (held(active=False), Category.KUEUE_DEACTIVATED, "Workload was deactivated. Abort the task"),
        (held(active=False, conditions=evicted("DeactivatedDueToRequeuingLimitExceeded", "exceeded the maximum")),
         Category.KUEUE_DEACTIVATED, "deactivated: exceeded the maximum. Abort"),
        (held(conditions=evicted("Preempted", PREEMPTED_TEXT)), Category.KUEUE_QUOTA,
         "LocalQueue team): Preempted to accommodate a workload due to prioritization in the ClusterQueue. It starts"),
    ],
)  # fmt: skip
def test_why_a_suspended_job_waits(job: JobRecord, category: Category, words: str) -> None:
    found = pending(job=job, pods=[])
    assert found is not None
    assert (found.category, found.patience) == (category, None)
    assert words in str(found)


def test_patience_does_not_run_while_it_is_suspended() -> None:
    """Its former pod could not pull its image, and is being ended."""
    pod = make_pod("t", make_container(waiting="ImagePullBackOff"), **DELETED)
    found = pending(job=held(), pods=[pod])
    assert found is not None
    assert (found.category, found.patience) == (Category.KUEUE_QUOTA, None)
    assert not {c for c in PATIENCE if c.value.startswith("kueue")}


def test_a_job_that_was_let_in_is_no_matter_of_kueues() -> None:
    job = make_job(local_queue="team", workload=make_workload(conditions=(RESERVED, ADMITTED)))
    found = pending(job=job, pods=[])
    assert found is not None
    assert found.category is Category.NO_POD


# ---- why its pod was ended ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("workload", "category", "words"),
    [
        ({"conditions": evicted("Preempted", PREEMPTED_TEXT)}, Category.PREEMPTED, "Kueue preempted the task: P"),
        ({"conditions": evicted("PodsReadyTimeout", "Exceeded the PodsReady timeout ns/w")}, Category.EVICTED,
         "Kueue evicted the task (PodsReadyTimeout): Exceeded the PodsReady timeout"),
        ({"conditions": evicted("ClusterQueueStopped", "The ClusterQueue is stopped")}, Category.EVICTED, "stopped"),
        ({"conditions": evicted("NodeFailures", "node gone")}, Category.NODE_LOST, "node gone"),
        ({"conditions": evicted("Deactivated", "The workload is deactivated"), "active": False},
         Category.KUEUE_DEACTIVATED, "Kueue stopped the task"),
        ({"conditions": evicted("DeactivatedDueToMaximumExecutionTimeExceeded", "exceeding 60s"), "active": False},
         Category.DEADLINE, "longer than Kueue lets it: exceeding 60s"),
        ({"conditions": readmitted("Preempted", PREEMPTED_TEXT)}, Category.PREEMPTED, "Kueue preempted the task: P"),
        ({"conditions": readmitted("PodsReadyTimeout", "Exceeded it")}, Category.EVICTED, "the task: Exceeded it"),
    ],
)  # fmt: skip
def test_why_kueue_took_the_place_away(workload: dict[str, Any], category: Category, words: str) -> None:
    job = make_job(suspend=True, finished="Failed", local_queue="team", workload=make_workload(**workload))
    pod = make_pod("t", KILLED, phase="Failed", **DELETED)
    for found in (ended(job=job, pods=[pod]), ended(job=job, pods=[], gone=[pod]), interrupted(job=job, pods=[pod])):
        assert found.category is category
        assert words in str(found)
        assert "UID" not in str(found), "another task's"


def test_what_was_never_evicted_says_nothing() -> None:
    assert kueue.evicted(None) is None
    assert kueue.evicted(make_workload()) is None


def resumed(since: str, **job: Any) -> JobRecord:
    condition = Condition(type="Suspended", status="False", reason="JobResumed", since=since)
    job_of = make_job(local_queue="team", **job)
    return dataclasses.replace(job_of, conditions=(*job_of.conditions, condition))


LATER_POD = "2026-01-15T07:00:41Z"
"""After a resumption at 07:00:40."""


@pytest.mark.parametrize(
    "newest",
    [
        make_pod("t", make_container(waiting="ContainerCreating"), uid="second", created=LATER_POD),
        # Turned away by its start check.
        make_pod(
            "t", make_container(terminated="Completed", exit_code=0), uid="second", created=LATER_POD, phase="Succeeded"
        ),
    ],
    ids=["starts", "turned away"],
)
def test_a_pod_made_after_the_resumption_does_not_hide_the_one_that_kueue_ended(newest: PodRecord) -> None:
    """Kubernetes may not fail the suspended Job, and then makes another pod of it."""
    job = resumed("2026-01-15T07:00:40Z", workload=make_workload(conditions=readmitted("Preempted", PREEMPTED_TEXT)))
    first = make_pod("t", KILLED, phase="Failed", **DELETED)
    for found in (
        interrupted(job=job, pods=[first, newest]),
        interrupted(job=job, pods=[newest], gone=[first]),
        ended(job=job, pods=[newest], gone=[first]),
    ):
        assert found.category is Category.PREEMPTED


def test_a_pod_made_after_the_resumption_that_ends_badly_speaks_for_itself() -> None:
    job = resumed("2026-01-15T07:00:40Z", workload=make_workload(conditions=readmitted("Preempted", PREEMPTED_TEXT)))
    first = make_pod("t", KILLED, phase="Failed", **DELETED)
    crashed = make_container(terminated="Error", exit_code=3, finished_at="2026-01-15T07:01:00Z")
    second = make_pod("t", crashed, uid="second", created=LATER_POD, phase="Failed")
    assert ended(job=job, pods=[second], gone=[first]).category is Category.CRASHED


@pytest.mark.parametrize(
    ("since", "workload", "category"),
    [
        # Its pod is of the time before: Kueue let the Job in again while it still ended.
        ("2026-01-15T07:00:20Z", {"conditions": readmitted("Preempted", PREEMPTED_TEXT)}, Category.PREEMPTED),
        # Its pod came after that, so somebody else has deleted it.
        ("2026-01-15T06:22:13Z", {"conditions": readmitted("Preempted", PREEMPTED_TEXT)}, Category.DELETED),
        # A clock that is ahead evicts nothing.
        ("2026-01-15T06:22:20Z", {"conditions": (RESERVED, ADMITTED)}, Category.DELETED),
    ],
)
def test_a_job_that_was_let_in_again_before_its_pod_had_ended(
    since: str, workload: dict[str, Any], category: Category
) -> None:
    pod = make_pod("t", KILLED, phase="Failed", **DELETED)
    found = ended(job=resumed(since, finished="Failed", workload=make_workload(**workload)), pods=[pod])
    assert found.category is category


def test_a_suspended_job_of_a_task_that_ran_has_lost_its_pod() -> None:
    """Also for a controller that began after the pod was gone, and where nobody reported its end."""
    job = held(conditions=evicted("Preempted", PREEMPTED_TEXT))
    task = make_task("in_progress", changed=LATER, last_worker=WORKER)
    found = decide(task=task, job=job, pods=[], worker=WORKER)
    assert (found.step, found.diagnosis and found.diagnosis.category) == (Step.DISRUPTED, Category.PREEMPTED)
    assert decide(task=task, job=job, pods=[make_pod("t", RUNNING)], worker=WORKER).step is Step.NOTHING
    unknown = dataclasses.replace(task, last_worker=None)
    assert decide(task=unknown, job=job, pods=[], worker=WORKER).step is Step.NOTHING


# ---- what becomes of its task ---------------------------------------------------------------------------------------


def loop_of(side: Side, **policy: Any) -> Loop:
    (queue,) = side.config.queues.values()
    settings = dataclasses.replace(queue.settings, kueue=KueueConfig(queue_name="team"))
    queues = {queue.name: dataclasses.replace(queue, settings=settings)}
    side.config = dataclasses.replace(side.config, queues=queues, **policy)
    return Loop(side)


def suspends(loop: Loop, task: str, *, finished: str = "", **workload: Any) -> None:
    """As Kueue and the Job controller: the Job, and why."""
    job = dataclasses.replace(
        loop.job(task), suspend=True, local_queue="team",
        conditions=make_job(finished=finished).conditions,
    )  # fmt: skip
    loop.side.jobs.apply(Upsert(item=job))
    loop.workloads.apply(Upsert(item=make_workload(task=task, job=job.uid, **workload)))


async def again(loop: Loop, task: str) -> None:
    """The watches show that Job and pod are gone, and the task is taken anew."""
    for job in loop.side.jobs.of_task(task):
        loop.side.jobs.apply(Gone(item=job))
    loop.pod_goes(task)
    await loop.looks(task)
    assert await loop.side.poll() == 1


def entries(server: DevServer, queue: str = "default") -> list[str]:
    found = server.call("queues.get_all", name=f"^{queue}$")["queues"][0]["entries"]
    return [entry["task"] for entry in found]


async def console(loop: Loop, server: DevServer, task: str) -> str:
    await loop.side.teller.flush()
    return str(server.console(task))


async def test_each_reason_is_told_once(side: Side, server: DevServer) -> None:
    loop = loop_of(side)
    task = await loop.launched()
    suspends(loop, task, conditions=pending_workload("LocalQueue team doesn't exist", reason="Inadmissible"))
    await loop.looks(task)
    suspends(loop, task, conditions=pending_workload("insufficient unused quota for cpu in flavor default"))
    for _ in range(3):
        await loop.looks(task)
    told = await console(loop, server, task)
    assert told.count("doesn't exist") == told.count("insufficient unused quota") == 1
    assert "insufficient unused quota" in server.task(task)["status_message"]
    (row,) = loop.reconciler.overview()
    assert row.category is Category.KUEUE_QUOTA
    assert server.task(task)["status"] == "queued"


@pytest.mark.parametrize("end", ["tasks.stopped", "tasks.reset", "tasks.dequeue", "tasks.delete"])
async def test_who_gives_a_waiting_task_up_has_its_job_deleted(side: Side, server: DevServer, end: str) -> None:
    loop = loop_of(side)
    task = await loop.launched()
    suspends(loop, task, conditions=pending_workload("insufficient unused quota"))
    await loop.looks(task)
    server.call(end, task=task, **({"force": True} if end == "tasks.delete" else {}))
    await loop.reads.refresh([task])
    await loop.looks(task)
    assert loop.jobs() == set()


@pytest.mark.parametrize("reported", [True, False], ids=["agent reported an abort", "agent was killed"])
@pytest.mark.parametrize(
    ("policy", "status"), [({"preempted": 1}, "queued"), ({}, "failed"), ({"evicted": 9}, "failed")]
)
async def test_a_running_task_that_kueue_preempts(
    side: Side, server: DevServer, reported: bool, policy: dict[str, int], status: str
) -> None:
    loop = loop_of(side, max_requeues=policy)
    task = await loop.launched()
    start(server, task, worker=f"worker-a:{task}")
    loop.pod(task, RUNNING, phase="Running", **DELETED)
    suspends(loop, task, conditions=evicted("Preempted", PREEMPTED_TEXT))
    if reported:
        server.call("tasks.stopped", task=task, status_reason="user abort", status_message="Changed by clearml_agent")
    await loop.reads.refresh([task])
    loop.pod(task, KILLED, phase="Failed", **DELETED)
    loop.pod_goes(task)
    suspends(loop, task, finished="Failed", conditions=evicted("Preempted", PREEMPTED_TEXT))
    await loop.looks(task)
    found = server.task(task)
    assert found["status"] == status
    assert "Kueue preempted the task" in await console(loop, server, task)
    assert loop.jobs() == set()
    if status == "failed":
        assert found["status_reason"] == "Kubernetes: preempted"


@pytest.mark.parametrize("most", [{}, {"preempted": 1}])
async def test_a_task_that_had_not_begun_waits_again_and_that_is_not_counted(
    side: Side, server: DevServer, most: dict[str, int]
) -> None:
    loop = loop_of(side, max_requeues=most)
    task = await loop.launched()
    for _ in range(3):
        before = server.task(task)["status_changed"]
        loop.pod(task, make_container(waiting="ContainerCreating"), **DELETED)
        suspends(loop, task, conditions=evicted("Preempted", PREEMPTED_TEXT))
        await loop.look(task)
        assert entries(server) == [], "its pod may begin it yet"
        loop.pod(task, KILLED, phase="Failed", **DELETED)
        suspends(loop, task, finished="Failed", conditions=evicted("Preempted", PREEMPTED_TEXT))
        await loop.looks(task)
        found = server.task(task)
        assert (found["status"], entries(server), loop.jobs()) == ("queued", [task], set())
        assert found["status_changed"] != before
        assert "k8s-requeues" not in found["hyperparams"]["properties"]
        await again(loop, task)


async def test_what_had_not_begun_keeps_the_count_of_what_had(side: Side, server: DevServer) -> None:
    """Else a task could run, and be ended, for ever."""
    loop = loop_of(side, max_requeues={"preempted": 1})
    task = await loop.launched()

    async def preempted(*, begun: bool) -> None:
        if begun:
            start(server, task, worker=f"worker-a:{task}")
        loop.pod(task, KILLED, phase="Failed", **DELETED)
        suspends(loop, task, finished="Failed", conditions=evicted("Preempted", PREEMPTED_TEXT))
        await loop.reads.refresh([task])
        await loop.looks(task)

    await preempted(begun=True)
    await again(loop, task)
    await preempted(begun=False)
    assert server.task(task)["status"] == "queued"
    await again(loop, task)
    await preempted(begun=True)
    assert server.task(task)["status"] == "failed"


async def test_a_task_whose_workload_was_deactivated_is_not_put_back(side: Side, server: DevServer) -> None:
    """Whoever did it wants it stopped."""
    loop = loop_of(side, max_requeues={"evicted": 9, "preempted": 9})
    task = await loop.launched()
    loop.pod(task, KILLED, phase="Failed", **DELETED)
    why = evicted("Deactivated", "The workload is deactivated")
    suspends(loop, task, finished="Failed", conditions=why, active=False)
    await loop.looks(task)
    found = server.task(task)
    assert (found["status"], found["status_reason"]) == ("failed", "Kubernetes: kueue-deactivated")
    assert entries(server) == []


async def test_the_report_of_a_sigterm_waits_for_what_kueue_says(side: Side, server: DevServer) -> None:
    """Three streams: the agent's report may be seen first."""
    loop = loop_of(side, max_requeues={"preempted": 1})
    task = await loop.launched()
    start(server, task, worker=f"worker-a:{task}")
    loop.pod(task, RUNNING, phase="Running", **DELETED)
    suspends(loop, task)
    server.call("tasks.stopped", task=task, status_reason=SIGTERM_REASON, status_message="Changed by clearml_agent")
    await loop.reads.refresh([task])
    assert await loop.look(task) == pytest.approx(5.0)
    assert server.task(task)["status"] == "stopped"
    suspends(loop, task, conditions=evicted("Preempted", PREEMPTED_TEXT))
    await loop.looks(task)
    assert server.task(task)["status"] == "queued"


@pytest.mark.parametrize("resumed_at", ["", "2026-01-15T07:00:40Z"], ids=["suspended", "let in again"])
@pytest.mark.parametrize("found", ["begun", "begun, and its agent reported an abort"])
async def test_a_pod_that_was_ended_waits_for_what_kueue_says(
    side: Side, server: DevServer, found: str, resumed_at: str
) -> None:
    """The Workloads come by a stream of their own: after a restart they are listed last."""
    loop = loop_of(side, max_requeues={"preempted": 1})
    task = await loop.launched()
    start(server, task, worker=f"worker-a:{task}")
    loop.pod(task, KILLED, phase="Failed", **DELETED)
    suspends(loop, task)
    if resumed_at:
        known = loop.job(task)
        job = dataclasses.replace(known, suspend=False, conditions=resumed(resumed_at).conditions)
        loop.side.jobs.apply(Upsert(item=job))
    for workload in loop.workloads:
        loop.workloads.apply(Gone(item=workload))
    if "reported" in found:
        server.call("tasks.stopped", task=task, status_reason=SIGTERM_REASON, status_message="Changed by clearml_agent")
    await loop.reads.refresh([task])
    before = server.task(task)["status"]
    for _ in range(3):
        await loop.look(task)
        await side.clock.advance(5.0)
    assert server.task(task)["status"] == before
    why = evicted("Preempted", PREEMPTED_TEXT) if not resumed_at else readmitted("Preempted", PREEMPTED_TEXT)
    loop.workloads.apply(Upsert(item=make_workload(task=task, job=loop.job(task).uid, conditions=why)))
    await loop.looks(task)
    assert server.task(task)["status"] == "queued"
    assert "Kueue preempted the task" in await console(loop, server, task)


async def test_a_pod_that_was_ended_before_its_task_began_waits_for_what_kueue_says(
    side: Side, server: DevServer
) -> None:
    """Of a Workload that was deactivated nothing is put back."""
    loop = loop_of(side)
    task = await loop.launched()
    loop.pod(task, KILLED, phase="Failed", **DELETED)
    suspends(loop, task)
    for workload in loop.workloads:
        loop.workloads.apply(Gone(item=workload))
    await loop.look(task)
    await side.clock.advance(5.0)
    await loop.look(task)
    assert entries(server) == []
    why = evicted("Deactivated", "The workload is deactivated")
    loop.workloads.apply(Upsert(item=make_workload(task=task, job=loop.job(task).uid, active=False, conditions=why)))
    await loop.looks(task)
    assert server.task(task)["status_reason"] == "Kubernetes: kueue-deactivated"


@pytest.mark.parametrize("how", ["suspended", "failed"])
async def test_before_the_pods_are_listed_none_has_ended(side: Side, server: DevServer, how: str) -> None:
    """After a restart: the Job comes first, and its pod, which still ends or says why it did, later."""
    loop = loop_of(side)
    task = await loop.launched()
    start(server, task, worker=f"worker-a:{task}")
    why = evicted("Preempted", PREEMPTED_TEXT)
    if how == "suspended":
        suspends(loop, task, conditions=why)
    else:
        job = dataclasses.replace(loop.job(task), conditions=make_job(finished="Failed").conditions)
        loop.side.jobs.apply(Upsert(item=job))
    loop.reconciler._listed = loop.pods.synced.is_set
    await loop.reads.refresh([task])
    for _ in range(5):
        assert await loop.look(task) == pytest.approx(1.0)
        await side.clock.advance(5.0)
    assert server.task(task)["status"] == "in_progress"
    loop.pods.apply(Listed(items=(), version="1"))
    await loop.looks(task)
    assert server.task(task)["status"] == "failed"


async def test_what_kueue_never_says_is_not_waited_for_for_ever(side: Side, server: DevServer) -> None:
    """Kueue may be gone, or somebody else has suspended the Job."""
    loop = loop_of(side, max_requeues={"evicted": 1})
    task = await loop.launched()
    start(server, task, worker=f"worker-a:{task}")
    loop.pod(task, KILLED, phase="Failed", **DELETED)
    suspends(loop, task)
    await loop.reads.refresh([task])
    await loop.looks(task)
    assert server.task(task)["status"] == "queued"


def test_the_job_of_another_task_is_not_joined(side: Side) -> None:
    loop = loop_of(side)
    job = make_job(local_queue="team")
    loop.workloads.apply(Upsert(item=make_workload(task=job.task, job="another")))
    assert loop.reconciler._joined(job).workload is None
    loop.workloads.apply(Upsert(item=make_workload(task=job.task, job=job.uid)))
    assert loop.reconciler._joined(job).workload is not None

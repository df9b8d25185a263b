"""The table of reconciling: what ClearML says against what the cluster says, by hand."""

from __future__ import annotations

import dataclasses

import pytest
from clearml_k8s.clearml.tasks import TaskView
from clearml_k8s.flow.decide import SIGTERM_REASON, TOLD, Step, decide
from clearml_k8s.flow.diagnosis import Category
from clearml_k8s.kube.slim import JobRecord, PodRecord
from flow_parts import LATER, make_container, make_job, make_pod, make_task

WORKER = "w:task"
NOTHING, TELL, FAIL_WAITING = Step.NOTHING, Step.TELL, Step.FAIL_WAITING
FAIL, DELETE, LATER_ON = Step.FAIL_ENDED, Step.DELETE_JOB, Step.DELETE_LATER

CLUSTERS: dict[str, tuple[JobRecord, list[PodRecord]]] = {
    "no pod yet": (make_job(), []),
    "starting": (make_job(), [make_pod()]),
    "bad image": (make_job(), [make_pod("t", make_container(waiting="InvalidImageName"))]),
    "running": (make_job(), [make_pod("t", make_container(running=True), phase="Running")]),
    "container ended": (make_job(), [make_pod("t", make_container(terminated="Error", exit_code=1), phase="Running")]),
    "pod failed": (make_job(), [make_pod("t", phase="Failed")]),
    "pod succeeded": (make_job(), [make_pod("t", phase="Succeeded")]),
    "job failed": (make_job(finished="Failed"), []),
    "job complete": (make_job(finished="Complete"), []),
}
COLUMNS = tuple(CLUSTERS)
OVER = COLUMNS[4:]

TABLE: dict[str, tuple[Step, ...]] = {
    #             no pod  starting  bad image     running  container, pod, pod, job, job ended
    "queued": (TELL, TELL, FAIL_WAITING, NOTHING, FAIL, FAIL, FAIL, FAIL, FAIL),
    "in_progress": (NOTHING,) * 4 + (FAIL,) * 5,
    "created": (DELETE,) * 4 + (LATER_ON,) * 5,
    "stopped": (DELETE,) * 4 + (LATER_ON,) * 5,
    "completed": (LATER_ON,) * 9,
    "failed": (LATER_ON,) * 9,
    "closed": (LATER_ON,) * 9,
    "published": (LATER_ON,) * 9,
    "publishing": (LATER_ON,) * 9,
    "unknown": (NOTHING,) * 4 + (LATER_ON,) * 5,
    "": (NOTHING,) * 4 + (LATER_ON,) * 5,
}


@pytest.mark.parametrize("status", TABLE, ids=lambda status: status or "no status")
@pytest.mark.parametrize("cluster", COLUMNS)
def test_the_next_step(status: str, cluster: str) -> None:
    job, pods = CLUSTERS[cluster]
    found = decide(task=make_task(status, last_worker=None), job=job, pods=pods, worker=WORKER)
    assert found.step is TABLE[status][COLUMNS.index(cluster)]
    assert (found.diagnosis is not None) == (found.step in (TELL, FAIL_WAITING, FAIL))


@pytest.mark.parametrize("cluster", COLUMNS)
def test_a_task_that_does_not_exist_needs_no_job(cluster: str) -> None:
    job, pods = CLUSTERS[cluster]
    assert decide(task=None, job=job, pods=pods, worker=WORKER).step is DELETE


@pytest.mark.parametrize("cluster", COLUMNS)
def test_the_job_of_an_older_attempt_goes(cluster: str) -> None:
    job, pods = CLUSTERS[cluster]
    assert decide(task=make_task(changed=LATER), job=job, pods=pods, worker=WORKER).step is DELETE


@pytest.mark.parametrize("cluster", OVER)
@pytest.mark.parametrize(("worker", "step"), [(None, FAIL), (WORKER, FAIL), ("agent:0", LATER_ON)])
def test_a_task_that_another_worker_runs_is_not_failed(cluster: str, worker: str | None, step: Step) -> None:
    job, pods = CLUSTERS[cluster]
    task = make_task("in_progress", changed=LATER, last_worker=worker)
    assert decide(task=task, job=job, pods=pods, worker=WORKER).step is step


def test_the_pod_of_another_job_says_nothing() -> None:
    ended = make_pod("t", phase="Failed", job_uid="another")
    assert decide(task=make_task("in_progress"), job=make_job(), pods=[ended], worker=WORKER).step is NOTHING


def test_a_sidecar_that_runs_on_is_no_end() -> None:
    pod = make_pod("t", make_container(terminated="Error", exit_code=1), make_container("sidecar", running=True))
    assert decide(task=make_task("in_progress"), job=make_job(), pods=[pod], worker=WORKER).step is NOTHING


def test_an_init_container_that_ended_is_no_end() -> None:
    pod = make_pod("t", make_container("init", init=True, terminated="Completed", exit_code=0))
    found = decide(task=make_task(), job=make_job(), pods=[pod], worker=WORKER)
    assert (found.step, found.diagnosis and found.diagnosis.category) == (TELL, Category.STARTING)


SIGTERM = make_task("stopped", status_reason=SIGTERM_REASON, status_message="Changed by clearml_agent w:0")


@pytest.mark.parametrize("cluster", COLUMNS)
def test_a_sigterm_is_explained_before_the_job_goes(cluster: str) -> None:
    job, pods = CLUSTERS[cluster]
    found = decide(task=SIGTERM, job=job, pods=pods, worker=WORKER)
    assert found.step is Step.EXPLAIN_STOP
    assert found.diagnosis is not None


@pytest.mark.parametrize("cluster", COLUMNS)
@pytest.mark.parametrize(
    ("task", "explained"),
    [
        (SIGTERM, True),
        (dataclasses.replace(SIGTERM, status_message=f"{TOLD}The pod was evicted"), False),
        (dataclasses.replace(SIGTERM, status_reason="task was stopped by tasks.stop"), False),
        (dataclasses.replace(SIGTERM, status="created"), False),
    ],
)
def test_what_was_told_or_is_our_doing_needs_no_explanation(cluster: str, task: TaskView, explained: bool) -> None:
    job, pods = CLUSTERS[cluster]
    step = decide(task=task, job=job, pods=pods, worker=WORKER, explained=explained).step
    assert step is TABLE["stopped"][COLUMNS.index(cluster)]


def test_the_reason_is_taken_from_a_pod_that_is_gone() -> None:
    evicted = make_pod("t", phase="Failed", reason="Evicted", message="low on memory")
    for task in (SIGTERM, make_task("in_progress")):
        found = decide(task=task, job=make_job(finished="Failed"), pods=[], gone=[evicted], worker=WORKER)
        assert found.diagnosis is not None
        assert found.diagnosis.category is Category.EVICTED


def test_a_gone_pod_says_nothing_of_one_that_waits() -> None:
    found = decide(task=make_task(), job=make_job(), pods=[], gone=[make_pod()], worker=WORKER)
    assert (found.step, found.diagnosis and found.diagnosis.category) == (TELL, Category.NO_POD)

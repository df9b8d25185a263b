"""The table of reconciling: what ClearML says against what the cluster says, by hand."""

from __future__ import annotations

import dataclasses

import pytest
from clearml_k8s.clearml.tasks import TaskView
from clearml_k8s.flow.decide import SIGTERM_REASON, Step, decide
from clearml_k8s.flow.diagnosis import Category
from flow_parts import LATER, make_container, make_job, make_pod, make_task
from reconcile_page import PAGE, page
from reconcile_states import CLUSTER, ENDS, GIVEN, LACKS, TASK, WORKER, step

GIVE = Step.GIVE_TOKEN
NOTHING, TELL, FAIL_WAITING, EXPLAIN = Step.NOTHING, Step.TELL, Step.FAIL_WAITING, Step.EXPLAIN_STOP
FAIL, DELETE, LATER_ON = Step.FAIL_ENDED, Step.DELETE_JOB, Step.DELETE_LATER
LONG, LOST, REQUEUE, WHY = Step.FAIL_LONG, Step.FAIL_LOST, Step.DISRUPTED, Step.EXPLAIN_FAILURE
ABORT = Step.END_ABORTED

HELD = ("suspended", "suspended by Kueue")
HELD_ENDING = ("suspended, pod ending",)
TELLS = ("no pod yet", "no pod: quota", "pod unscheduled", "pod starting", "pod gone, Job not", GIVEN)
TOKEN = (LACKS,)
NO_TOKENS = (ENDS,)
STUCK = ("no pod: LimitRange", "no pod: Pod Security", "no pod: admission", "image name", "image pull",
         "container config")  # fmt: skip
RUNS = ("running",)
LIMITED = ("running, limited",)
DELETED = ("running, being deleted",)
OVER = ("task's container ended", "succeeded", "failed: exit code",
        "pod gone, Job failed", "failed: stopped in Kueue", "Job complete")  # fmt: skip
MEMORY = ("failed: OOM",)
DEADLINE = ("failed: deadline",)
DISRUPTED = ("failed: evicted", "failed: preempted", "failed: node lost", "failed: out of service",
             "suspended, pod gone", "failed: evicted by Kueue", "failed: preempted by Kueue",
             "failed: evicted, let in again")  # fmt: skip
COLUMNS = (TELLS, TOKEN, NO_TOKENS, STUCK, RUNS, LIMITED, DELETED, OVER, MEMORY, DEADLINE, DISRUPTED, HELD, HELD_ENDING)

TABLE: dict[str, tuple[Step, ...]] = {
    #                         tells    token    none     stuck         runs     limited  deleted, the others
    "queued":                (TELL,    GIVE,    DELETE,  FAIL_WAITING, NOTHING, NOTHING, LOST, *(FAIL,) * 3, REQUEUE),
    "queued again":          (DELETE,) * 11,
    "in_progress":           (NOTHING, NOTHING, NOTHING, NOTHING,      NOTHING, LONG,    LOST, *(FAIL,) * 3, REQUEUE),
    "in_progress, stopping": (ABORT,   ABORT,   ABORT,   ABORT,        ABORT,   ABORT,   LOST, *(FAIL,) * 3, REQUEUE),
    "in_progress elsewhere": (*(NOTHING,) * 7, *(LATER_ON,) * 4),
    "created":               (*(DELETE,) * 7, *(LATER_ON,) * 4),
    "stopped":               (*(DELETE,) * 7, *(LATER_ON,) * 4),
    "stopped, SIGTERM":      (*(EXPLAIN,) * 9, FAIL, REQUEUE),
    "stopped, explained":    (*(DELETE,) * 7, *(LATER_ON,) * 4),
    "completed":             (LATER_ON,) * 11,
    "failed":                (*(LATER_ON,) * 8, WHY, LATER_ON, LATER_ON),
    "failed, explained":     (LATER_ON,) * 11,
    "failed: preempted":     (REQUEUE,) * 11,
    "closed":                (LATER_ON,) * 11,
    "published":             (LATER_ON,) * 11,
    "publishing":            (LATER_ON,) * 11,
    "unknown status":        (*(NOTHING,) * 7, *(LATER_ON,) * 4),
    "no such task":          (DELETE,) * 11,
}  # fmt: skip

SUSPENDED: dict[str, tuple[Step, ...]] = {
    #                         held     its pod ends
    "queued":                (TELL,    LOST),
    "queued again":          (DELETE,  DELETE),
    "in_progress":           (REQUEUE, LOST),
    "in_progress, stopping": (REQUEUE, LOST),
    "in_progress elsewhere": (NOTHING, NOTHING),
    "created":               (DELETE,  DELETE),
    "stopped":               (DELETE,  DELETE),
    "stopped, SIGTERM":      (REQUEUE, REQUEUE),
    "stopped, explained":    (DELETE,  DELETE),
    "completed":             (LATER_ON,) * 2,
    "failed":                (LATER_ON,) * 2,
    "failed, explained":     (LATER_ON,) * 2,
    "failed: preempted":     (REQUEUE,) * 2,
    "closed":                (LATER_ON,) * 2,
    "published":             (LATER_ON,) * 2,
    "publishing":            (LATER_ON,) * 2,
    "unknown status":        (NOTHING, NOTHING),
    "no such task":          (DELETE,) * 2,
}  # fmt: skip


def test_the_table_is_whole() -> None:
    assert sorted(state for column in COLUMNS for state in column) == sorted(CLUSTER)
    assert set(TABLE) == set(SUSPENDED) == set(TASK)


@pytest.mark.parametrize("task", TASK)
@pytest.mark.parametrize("cluster", CLUSTER)
def test_the_next_step(task: str, cluster: str) -> None:
    (column,) = [index for index, group in enumerate(COLUMNS) if cluster in group]
    found = step(task, cluster)
    assert found.step is (*TABLE[task], *SUSPENDED[task])[column]
    assert (found.diagnosis is not None) == (found.step not in (NOTHING, DELETE, LATER_ON, ABORT, GIVE))


def test_the_documented_table_is_what_the_code_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()


def test_a_task_whose_worker_is_not_known_is_failed() -> None:
    ended = make_pod("t", phase="Failed")
    task = make_task("in_progress", changed=LATER, last_worker=None)
    assert decide(task=task, job=make_job(), pods=[ended], worker=WORKER).step is FAIL


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


@pytest.mark.parametrize(
    ("task", "explained"),
    [
        (SIGTERM, True),
        (dataclasses.replace(SIGTERM, status_reason="task was stopped by tasks.stop"), False),
        (dataclasses.replace(SIGTERM, status="created"), False),
    ],
)
def test_what_is_our_own_doing_or_no_sigterm_needs_no_explanation(task: TaskView, explained: bool) -> None:
    pod = make_pod("t", make_container(running=True), phase="Running")
    assert decide(task=task, job=make_job(), pods=[pod], worker=WORKER, explained=explained).step is DELETE


def test_the_reason_is_taken_from_a_pod_that_is_gone() -> None:
    evicted = make_pod("t", phase="Failed", reason="Evicted", message="low on memory")
    for task in (SIGTERM, make_task("in_progress")):
        found = decide(task=task, job=make_job(finished="Failed"), pods=[], gone=[evicted], worker=WORKER)
        assert found.diagnosis is not None
        assert found.diagnosis.category is Category.EVICTED


def test_a_gone_pod_says_nothing_of_one_that_waits() -> None:
    found = decide(task=make_task(), job=make_job(), pods=[], gone=[make_pod()], worker=WORKER)
    assert (found.step, found.diagnosis and found.diagnosis.category) == (TELL, Category.NO_POD)

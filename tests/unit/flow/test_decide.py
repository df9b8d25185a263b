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

NONE, TELL, WAITS, WHO = Step.NOTHING, Step.TELL, Step.FAIL_WAITING, Step.EXPLAIN_STOP
FAIL, GONE, KEEP = Step.FAIL_ENDED, Step.DELETE_JOB, Step.DELETE_LATER
LONG, LOST, AGAIN, WHY = Step.FAIL_LONG, Step.FAIL_LOST, Step.DISRUPTED, Step.EXPLAIN_FAILURE
ABORT, BACK, GIVE = Step.END_ABORTED, Step.GIVE_BACK, Step.GIVE_TOKEN

HELD = ("suspended", "suspended by Kueue")
HELD_ENDING = ("suspended, pod ending",)
TELLS = ("no pod yet", "no pod: quota", "pod unscheduled", "pod starting", "pod gone, Job not", GIVEN)
TOKEN = (LACKS,)
NO_TOKENS = (ENDS,)
STUCK = ("no pod: LimitRange", "no pod: Pod Security", "no pod: admission", "image name", "image pull",
         "container config")  # fmt: skip
RUNS = ("running", "ranks: all run")
LIMITED = ("running, limited",)
DELETED = ("running, being deleted",)
OVER = ("task's container ended", "succeeded", "failed: exit code",
        "pod gone, Job failed", "failed: stopped in Kueue", "Job complete", "ranks: 0 ended well")  # fmt: skip
MEMORY = ("failed: OOM",)
DEADLINE = ("failed: deadline", "ranks: 1 failed")
DISRUPTED = ("failed: evicted", "failed: preempted", "failed: node lost", "failed: out of service",
             "suspended, pod gone", "failed: evicted by Kueue", "failed: preempted by Kueue",
             "failed: evicted, let in again", "ranks: 1 evicted, gone")  # fmt: skip
RANKS_WAIT = ("ranks: some without a node",)
RANK_DONE = ("ranks: 1 ended well",)
RANK_DELETED = ("ranks: 1 being deleted",)
COLUMNS = (TELLS, STUCK, RUNS, LIMITED, DELETED, OVER, MEMORY, DEADLINE, DISRUPTED, RANKS_WAIT, RANK_DONE, RANK_DELETED,
           TOKEN, NO_TOKENS, HELD, HELD_ENDING)  # fmt: skip

TABLE: dict[str, tuple[Step, ...]] = {
    #                         tells  stuck  runs   limit  del    over   memory time   disr   ranks  r.done r.del
    "queued":                (TELL,  WAITS, NONE,  NONE,  LOST,  FAIL,  FAIL,  FAIL,  AGAIN, BACK,  FAIL,  LOST),
    "queued again":          (GONE,) * 12,
    "in_progress":           (NONE,  NONE,  NONE,  LONG,  LOST,  FAIL,  FAIL,  FAIL,  AGAIN, NONE,  NONE,  LOST),
    "in_progress, stopping": (ABORT, ABORT, ABORT, ABORT, LOST,  FAIL,  FAIL,  FAIL,  AGAIN, ABORT, ABORT, LOST),
    "in_progress elsewhere": (NONE,  NONE,  NONE,  NONE,  NONE,  KEEP,  KEEP,  KEEP,  KEEP,  NONE,  NONE,  NONE),
    "created":               (GONE,  GONE,  GONE,  GONE,  GONE,  KEEP,  KEEP,  KEEP,  KEEP,  GONE,  GONE,  GONE),
    "stopped":               (GONE,  GONE,  GONE,  GONE,  GONE,  KEEP,  KEEP,  KEEP,  KEEP,  GONE,  GONE,  GONE),
    "stopped, SIGTERM":      (WHO,   WHO,   WHO,   WHO,   WHO,   WHO,   WHO,   FAIL,  AGAIN, WHO,   WHO,   FAIL),
    "stopped, explained":    (GONE,  GONE,  GONE,  GONE,  GONE,  KEEP,  KEEP,  KEEP,  KEEP,  GONE,  GONE,  GONE),
    "completed":             (KEEP,) * 12,
    "failed":                (*(KEEP,) * 6, WHY, *(KEEP,) * 5),
    "failed, explained":     (KEEP,) * 12,
    "failed: preempted":     (AGAIN,) * 12,
    "closed":                (KEEP,) * 12,
    "published":             (KEEP,) * 12,
    "publishing":            (KEEP,) * 12,
    "unknown status":        (NONE,  NONE,  NONE,  NONE,  NONE,  KEEP,  KEEP,  KEEP,  KEEP,  NONE,  NONE,  NONE),
    "no such task":          (GONE,) * 12,
}  # fmt: skip

#: Of Jobs that wait for a Secret, or are held by Kueue.
HELD_BACK: dict[str, tuple[Step, ...]] = {
    #                         token  none   held   its pod ends
    "queued":                (GIVE,  GONE,  TELL,  LOST),
    "queued again":          (GONE,  GONE,  GONE,  GONE),
    "in_progress":           (NONE,  NONE,  AGAIN, LOST),
    "in_progress, stopping": (ABORT, ABORT, AGAIN, LOST),
    "in_progress elsewhere": (NONE,  NONE,  NONE,  NONE),
    "created":               (GONE,  GONE,  GONE,  GONE),
    "stopped":               (GONE,  GONE,  GONE,  GONE),
    "stopped, SIGTERM":      (WHO,   WHO,   AGAIN, AGAIN),
    "stopped, explained":    (GONE,  GONE,  GONE,  GONE),
    "completed":             (KEEP,) * 4,
    "failed":                (KEEP,) * 4,
    "failed, explained":     (KEEP,) * 4,
    "failed: preempted":     (AGAIN,) * 4,
    "closed":                (KEEP,) * 4,
    "published":             (KEEP,) * 4,
    "publishing":            (KEEP,) * 4,
    "unknown status":        (NONE,  NONE,  NONE,  NONE),
    "no such task":          (GONE,) * 4,
}  # fmt: skip


def test_the_table_is_whole() -> None:
    assert sorted(state for column in COLUMNS for state in column) == sorted(CLUSTER)
    assert set(TABLE) == set(HELD_BACK) == set(TASK)


@pytest.mark.parametrize("task", TASK)
@pytest.mark.parametrize("cluster", CLUSTER)
def test_the_next_step(task: str, cluster: str) -> None:
    (column,) = [index for index, group in enumerate(COLUMNS) if cluster in group]
    found = step(task, cluster)
    assert found.step is (*TABLE[task], *HELD_BACK[task])[column]
    assert (found.diagnosis is not None) == (found.step not in (NONE, GONE, KEEP, ABORT, GIVE))


def test_the_documented_table_is_what_the_code_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()


def test_a_task_whose_worker_is_not_known_is_failed() -> None:
    ended = make_pod("t", phase="Failed")
    task = make_task("in_progress", changed=LATER, last_worker=None)
    assert decide(task=task, job=make_job(), pods=[ended], worker=WORKER).step is FAIL


def test_the_pod_of_another_job_says_nothing() -> None:
    ended = make_pod("t", phase="Failed", job_uid="another")
    assert decide(task=make_task("in_progress"), job=make_job(), pods=[ended], worker=WORKER).step is NONE


def test_a_sidecar_that_runs_on_is_no_end() -> None:
    pod = make_pod("t", make_container(terminated="Error", exit_code=1), make_container("sidecar", running=True))
    assert decide(task=make_task("in_progress"), job=make_job(), pods=[pod], worker=WORKER).step is NONE


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
    assert decide(task=task, job=make_job(), pods=[pod], worker=WORKER, explained=explained).step is GONE


def test_the_reason_is_taken_from_a_pod_that_is_gone() -> None:
    evicted = make_pod("t", phase="Failed", reason="Evicted", message="low on memory")
    for task in (SIGTERM, make_task("in_progress")):
        found = decide(task=task, job=make_job(finished="Failed"), pods=[], gone=[evicted], worker=WORKER)
        assert found.diagnosis is not None
        assert found.diagnosis.category is Category.EVICTED


def test_a_gone_pod_says_nothing_of_one_that_waits() -> None:
    found = decide(task=make_task(), job=make_job(), pods=[], gone=[make_pod()], worker=WORKER)
    assert (found.step, found.diagnosis and found.diagnosis.category) == (TELL, Category.NO_POD)

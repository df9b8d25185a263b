"""How a pod ended, from the cluster states that tell it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from clearml_k8s.flow.diagnosis import Category, Diagnosis, newest
from clearml_k8s.flow.ending import ended, interrupted
from clearml_k8s.kube.slim import Condition, ContainerRecord, JobRecord, PodRecord
from flow_parts import make_container, make_job, make_pod


def condition(kind: str, status: str = "True", reason: str = "", message: str = "") -> tuple[Condition, ...]:
    return (Condition(type=kind, status=status, reason=reason, message=message),)


PREEMPTED = condition("DisruptionTarget", reason="PreemptionByScheduler")


OOM = make_container(terminated="OOMKilled", exit_code=137)


def exited(time: str) -> ContainerRecord:
    return make_container(terminated="Error", exit_code=1, finished_at=f"2026-01-15T{time}Z")


@pytest.mark.parametrize(
    ("job", "pods", "category", "words"),
    [
        (
            make_job(),
            [
                make_pod(
                    "t", OOM, phase="Failed", conditions=condition("DisruptionTarget", reason="PreemptionByScheduler")
                )
            ],
            Category.PREEMPTED,
            "preempted",
        ),
        (
            make_job(),
            [make_pod("t", phase="Failed", conditions=condition("DisruptionTarget", reason="EvictionByEvictionAPI"))],
            Category.EVICTED,
            "EvictionByEvictionAPI",
        ),
        (
            make_job(),
            [make_pod("t", phase="Failed", reason="Evicted", message="The node was low on resource: memory.")],
            Category.EVICTED,
            "low on resource",
        ),
        (make_job(finished="Failed", reason="DeadlineExceeded"), [], Category.DEADLINE, "activeDeadlineSeconds"),
        # the kernel may kill a child alone: the pod then ends well
        (make_job(), [make_pod("t", OOM, phase="Succeeded")], Category.OOM_KILLED, "resources.limits.memory"),
        (make_job(), [make_pod("t", make_container(), dataclasses.replace(OOM, name="x"))], Category.OOM_KILLED, "x"),
        (
            make_job(),
            [make_pod("t", make_container(terminated="Error", exit_code=75))],
            Category.NOT_STARTED,
            "could not ask the ClearML server",
        ),
        (
            make_job(),
            [make_pod("t", make_container(terminated="Error", exit_code=139, signal=11))],
            Category.CRASHED,
            "signal 11",
        ),
        (
            make_job(),
            [make_pod("t", make_container("init", init=True, terminated="Error", exit_code=75, message="no disk"))],
            Category.CRASHED,
            "Container init ended with exit code 75 (Error): no disk",
        ),
        (make_job(finished="Failed", reason="BackoffLimitExceeded"), [], Category.CRASHED, "BackoffLimitExceeded"),
        (
            make_job(),
            [make_pod("t", make_container(terminated="Completed", exit_code=0))],
            Category.CLEAN_EXIT,
            "exit code 0",
        ),
        (make_job(), [make_pod("t", make_container(terminated="Completed"))], Category.ENDED, "The pod ended"),
        (make_job(finished="Complete"), [], Category.CLEAN_EXIT, "exit code 0"),
    ],
)
def test_how_it_ended(job: JobRecord, pods: list[PodRecord], category: Category, words: str) -> None:
    found = ended(job=job, pods=pods)
    assert found.category is category
    assert words in str(found)


DELETION: dict[str, Any] = {"deleted": "2026-01-15T07:00:30Z", "grace_seconds": 30}  # asked for at 07:00:00
LAST_CALL: dict[str, Any] = {"deleted": "2026-01-15T07:00:01Z", "grace_seconds": 0}


@pytest.mark.parametrize(
    ("pods", "gone", "category"),
    [
        ([make_pod("t", make_container(running=True), **DELETION)], [], Category.DELETED),
        ([make_pod("t", exited("06:59:59"), phase="Failed", **DELETION)], [], Category.CRASHED),
        ([make_pod("t", exited("07:00:01"), phase="Failed", **DELETION)], [], Category.DELETED),
        ([], [make_pod("t", exited("07:00:01"), phase="Failed", **DELETION)], Category.DELETED),
        ([], [make_pod("t", exited("06:59:59"), phase="Failed")], Category.CRASHED),
        ([], [make_pod("t", make_container(running=True), phase="Running")], Category.DELETED),
        ([], [make_pod("t", exited("07:00:00"), phase="Failed", **LAST_CALL)], Category.DELETED),
        ([], [make_pod("t", exited("06:58:00"), phase="Failed", **LAST_CALL)], Category.CRASHED),
        ([make_pod("t", OOM, **DELETION)], [], Category.OOM_KILLED),
        ([make_pod("t", reason="DeadlineExceeded", phase="Failed", **DELETION)], [], Category.DEADLINE),
    ],
)
def test_a_deletion_is_no_crash(pods: list[PodRecord], gone: list[PodRecord], category: Category) -> None:
    assert ended(job=make_job(), pods=pods, gone=gone).category is category


TAINTED = condition("DisruptionTarget", reason="DeletionByTaintManager", message="deleting due to NoExecute taint")


@pytest.mark.parametrize("gone", [False, True])
@pytest.mark.parametrize(
    ("containers", "fields", "category"),
    [
        # The taint is NoExecute, or the node was unreachable before: the taint manager has deleted the pod.
        ([make_container(running=True)], {"conditions": TAINTED, **DELETION}, Category.NODE_LOST),
        # Somebody deleted it on a node that did not answer, and then set the taint.
        ([make_container(running=True)], DELETION, Category.NODE_LOST),
        ([make_container(waiting="ContainerCreating")], DELETION, Category.NODE_LOST),
        ([], DELETION, Category.NODE_LOST),
        ([make_container("sidecar", terminated="Error", exit_code=1), make_container(running=True)], DELETION,
         Category.NODE_LOST),
        # The kubelet says how all containers ended before it says that the pod did.
        ([exited("07:00:01")], {"conditions": TAINTED, **DELETION}, Category.EVICTED),
        ([exited("07:00:01")], DELETION, Category.DELETED),
        # Not seen to be the pod collector's: nobody deleted it, it never had a node, or somebody gave a reason.
        ([make_container(running=True)], {}, Category.ENDED),
        ([], {**DELETION, "node": None}, Category.DELETED),
        ([make_container(running=True)], {**DELETION, "reason": "Evicted"}, Category.EVICTED),
    ],
)  # fmt: skip
def test_a_node_that_is_tainted_out_of_service(
    containers: list[ContainerRecord], fields: dict[str, Any], category: Category, gone: bool
) -> None:
    """The pod collector gives no reason: it sets the phase alone, and deletes the pod."""
    pod = make_pod("t", *containers, phase="Failed", **fields)
    for how in (ended, interrupted):
        found = how(job=make_job(), pods=[] if gone else [pod], gone=[pod] if gone else [])
        if category is Category.ENDED and gone:
            assert found.category in (Category.ENDED, Category.DELETED)
        else:
            assert found.category is category
        assert ("out-of-service" in found.summary) is (category is Category.NODE_LOST)


def test_a_suspended_job_evicts_its_pod() -> None:
    """Kueue does so to make room."""
    found = ended(job=make_job(suspend=True), pods=[make_pod("t", **DELETION)])
    assert (found.category, found.summary) == (Category.EVICTED, "The pod was deleted: its Job was suspended")


def test_a_suspended_job_without_a_pod_has_lost_it() -> None:
    for how in (ended, interrupted):
        assert how(job=make_job(suspend=True, finished="Failed"), pods=[]).category is Category.EVICTED


@pytest.mark.parametrize(
    ("pod", "job", "category", "patience"),
    [
        (make_pod("t", conditions=PREEMPTED), make_job(), Category.PREEMPTED, None),
        (make_pod("t", reason="Evicted"), make_job(), Category.EVICTED, None),
        # what says more may still come
        (make_pod("t", **DELETION), make_job(), Category.DELETED, 5.0),
        (make_pod("t", **DELETION), make_job(finished="Failed"), Category.DELETED, 0.0),
        # as a real one was seen: the deletion's last call has a later time than the container's end
        (make_pod("t", exited("07:00:00"), phase="Failed", **LAST_CALL), make_job(), Category.DELETED, 5.0),
        (make_pod("t", exited("07:00:00")), make_job(), Category.ENDED, 5.0),
        (make_pod("t", exited("07:00:00")), make_job(finished="Failed"), Category.ENDED, 0.0),
        (make_pod("t"), make_job(finished="Failed", reason="DeadlineExceeded"), Category.DEADLINE, None),
    ],
)
def test_who_told_the_pod_to_end(pod: PodRecord, job: JobRecord, category: Category, patience: float | None) -> None:
    found = interrupted(job=job, pods=[pod])
    assert (found.category, found.patience) == (category, patience)


def test_the_newest_pod_counts() -> None:
    old, new = make_pod(created="2026-01-15T06:00:00Z"), make_pod(uid="new", created="2026-01-15T07:00:00Z")
    assert newest([new, old]) is new
    assert newest([]) is None


def test_advice_follows_the_summary() -> None:
    assert str(Diagnosis(category=Category.ENDED, summary="It ended")) == "It ended"
    assert str(Diagnosis(category=Category.ENDED, summary="It ended", advice="Look")) == "It ended. Look"


def test_the_list_of_categories_is_stable() -> None:
    assert [c.value for c in Category] == [
        "image-name", "image-pull", "container-config", "owner-token", "unschedulable", "no-pod", "suspended",
        "kueue-quota", "kueue-queue", "kueue-checks", "kueue-deactivated", "kueue-unseen", "quota", "limit-range",
        "pod-security", "admission", "volume", "sandbox", "starting", "oom-killed", "evicted", "preempted", "node-lost",
        "deadline", "deleted", "not-started", "crashed", "clean-exit", "ended",
    ]  # fmt: skip


def test_every_category_is_documented() -> None:
    text = (Path(__file__).parents[3] / "docs" / "operations.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    told = {c.value for c in Category} - {Category.STARTING.value}
    assert {value for value in told if not any(f"`{value}`" in row for row in rows)} == set()

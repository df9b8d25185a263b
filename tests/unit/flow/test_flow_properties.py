"""Whatever the cluster and the server show of a task: the flow decides something, and never stumbles over it."""

from datetime import UTC, datetime

import pytest
from clearml_k8s.clearml.tasks import TaskView
from clearml_k8s.clock import moment
from clearml_k8s.errors import KubeUnanswered
from clearml_k8s.flow.decide import Decision, Step, decide
from clearml_k8s.flow.diagnosis import Diagnosis
from clearml_k8s.flow.ending import ended, finished_at, interrupted
from clearml_k8s.flow.pending import pending
from clearml_k8s.flow.picture import Picture, Verdict, picture, verdict
from clearml_k8s.kube.events import event_record
from clearml_k8s.kube.slim import slim_job, slim_pod
from flow_parts import make_container, make_job, make_pod
from hostile import BOUNDED, spoilt, texts
from hostile_objects import EVENT, JOB, POD, TASK
from hypothesis import example, given
from hypothesis import strategies as st

STATUSES = ["created", "queued", "in_progress", "stopped", "failed", "completed", "closed", "published", "publishing"]


def records(slim, good):
    """Of spoilt objects; where nothing is left to make one of, of the good one."""

    def made(thing):
        try:
            return slim(thing)
        except KubeUnanswered:
            return slim(good)

    return st.builds(made, spoilt(good))


TASKS = st.none() | st.builds(
    TaskView,
    id=st.just(TASK),
    status=st.sampled_from(STATUSES) | texts(),
    status_changed=texts(),
    status_reason=texts() | st.just("user abort"),
    status_message=texts(),
    last_worker=st.none() | texts(),
    last_worker_report=st.none() | texts(),
    properties=st.dictionaries(texts() | st.sampled_from(["k8s-claim-c", "k8s-claim-b"]), texts(), max_size=2),
)
EVENTS = st.lists(
    st.builds(lambda event: event_record(event if isinstance(event, dict) else {}), spoilt(EVENT)), max_size=2
)


@BOUNDED
@given(
    task=TASKS,
    job=records(slim_job, JOB),
    pods=st.lists(records(slim_pod, POD), max_size=2),
    gone=st.lists(records(slim_pod, POD), max_size=1),
    events=EVENTS,
)
def test_every_picture_has_a_next_step(task, job, pods, gone, events):
    found = decide(task=task, job=job, pods=pods, gone=gone, worker="w", events=events)
    assert isinstance(found, Decision) and isinstance(found.step, Step)
    for diagnosis in (
        found.diagnosis,
        ended(job=job, pods=pods, gone=gone),
        interrupted(job=job, pods=pods, gone=gone),
        pending(job=job, pods=pods, events=events),
    ):
        assert diagnosis is None or (isinstance(diagnosis, Diagnosis) and len(str(diagnosis)) < 10_000)
    at = finished_at(job, pods)
    assert at is None or at.tzinfo is not None


@pytest.mark.parametrize("deleted", ["soon", "", "2026-13-40T99:99:99Z", "0001-01-01T00:00:00Z", "2026-01-15T06:22:11"])
@pytest.mark.parametrize("finished", ["", "late", "2026-01-15T06:22:11", "9999-12-31T23:59:59Z"])
@pytest.mark.parametrize("grace", [None, 0, -5, 30, 10**12, 2**63])
def test_strange_times_of_a_deleted_pod_stop_nothing(deleted, finished, grace):
    """The grace is a template's terminationGracePeriodSeconds, which Kubernetes takes however long it is."""
    container = make_container(terminated="Completed", exit_code=0, finished_at=finished)
    pod = make_pod(TASK, container, deleted=deleted or None, grace_seconds=grace, phase="Failed")
    job = make_job(TASK, finished="Failed")
    assert isinstance(ended(job=job, pods=[pod]), Diagnosis)
    assert finished_at(job, [pod]) is not None  # the Job's own condition says when


@BOUNDED
@given(
    task=TASKS,
    entry=st.none() | texts(),
    recorded=st.none() | texts(),
    job=st.none() | texts(),
    takes=st.booleans(),
)
def test_every_claim_has_a_verdict(task, entry, recorded, job, takes):
    seen = picture(task, entry=entry)
    assert isinstance(seen, Picture)
    assert isinstance(verdict(seen, recorded=recorded, controller="c", job=job, takes=takes), Verdict)


@BOUNDED
@given(text=texts())
@example(text="0001-01-01T00:00:00+14:00")
@example(text="9999-12-31T23:59:59.999999-12:00")
def test_a_moment_is_aware_or_none(text):
    found = moment(text)
    assert found is None or (found.utcoffset().total_seconds() == 0 and found <= datetime.max.replace(tzinfo=UTC))

"""In which phase a Job is, and since when."""

from __future__ import annotations

from typing import Any

import pytest
from clearml_k8s.flow.diagnosis import Category, Diagnosis
from clearml_k8s.flow.overview import Phase, Row, row
from clearml_k8s.kube.slim import JobRecord, PodRecord
from flow_parts import TASK, make_container, make_job, make_pod

SHORT = Diagnosis(category=Category.UNSCHEDULABLE, summary="No node takes the pod.", advice="Add one")
NAME = f"clearml-id-{TASK}"
RUNS = make_container(running=True, started_at="2026-01-15T06:23:30Z")


def test_what_waits_tells_why_and_since_its_job_was_made() -> None:
    assert row(job=make_job(), pods=[make_pod()], diagnosis=SHORT) == Row(
        task=TASK,
        job=NAME,
        queue="id-default",
        phase=Phase.PENDING,
        since="2026-01-15T06:22:12Z",
        category=Category.UNSCHEDULABLE,
        why="No node takes the pod. Add one",
    )


def test_what_runs_does_since_its_container_began() -> None:
    found = row(job=make_job(), pods=[make_pod(TASK, RUNS, phase="Running")], diagnosis=None)
    assert (found.phase, found.since, found.category, found.why) == (Phase.RUNNING, "2026-01-15T06:23:30Z", None, "")


@pytest.mark.parametrize(
    ("job", "pods", "since"),
    [
        pytest.param(make_job(deleted="2026-01-15T06:30:00Z"), [], "2026-01-15T06:30:00Z", id="Job deleted"),
        pytest.param(
            make_job(), [make_pod(TASK, RUNS, deleted="2026-01-15T06:31:00Z")], "2026-01-15T06:31:00Z", id="pod deleted"
        ),
        pytest.param(make_job(finished="Complete"), [], "", id="finished"),
        pytest.param(make_job(), [make_pod(phase="Failed")], "", id="pod ended"),
    ],
)
@pytest.mark.parametrize("diagnosis", [None, SHORT])
def test_what_ends_is_no_more_waited_for(job: JobRecord, pods: list[PodRecord], since: str, diagnosis: Any) -> None:
    found = row(job=job, pods=pods, diagnosis=diagnosis)
    assert (found.phase, found.since, found.why) == (Phase.ENDING, since, "")

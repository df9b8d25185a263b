"""Worker ids: every variable, and what the dashboard reads in them."""

from __future__ import annotations

import re

import pytest
from clearml_k8s.config import worker_ids
from clearml_k8s.config.worker_ids import Place, TaskFacts, WorkerIdError, place_of, task_worker_id

UID = "1234abcd-0000-0000-0000-000000000000"
# Of ClearML's server chart: workers that its dashboard does not show.
HIDDEN = (r"^apps-agent.*", r"^services-agent.*", r"^clearml-agent[^:]*$", r"^k8s:clearml-agent[^:]*$")
FACTS = TaskFacts(
    task_id="5e6f", pod_name="clearml-id-5e6f", task_name="my train: 1", project="a/b c", queue="Big GPUs"
)


def filled(template: str | None, worker_id: str = "k8s:glue-agent:my-agent") -> str:
    return task_worker_id(template, worker_id=worker_id, namespace="ns", task=FACTS)


@pytest.mark.parametrize(
    ("template", "made"),
    [
        (None, "k8s:glue-agent:my-agent:5e6f"),
        ("k8s:group:{task_id}", "k8s:group:5e6f"),
        ("{worker_id}:{task_id}", "k8s:glue-agent:my-agent:5e6f"),
        ("{worker_id_parts[0]}:{worker_id_parts[2]}:{task_id}", "k8s:my-agent:5e6f"),
        ("k8s:{namespace}:{pod_name}", "k8s:ns:clearml-id-5e6f"),
        ("k8s:{queue}:{task_name}-{task_id}", "k8s:Big-GPUs:my-train-1-5e6f"),
        ("k8s:{project}:{task_id}", "k8s:a/b-c:5e6f"),
    ],
)
def test_every_variable(template: str | None, made: str) -> None:
    assert filled(template) == made


def test_a_part_that_the_id_does_not_have() -> None:
    with pytest.raises(WorkerIdError, match=r"no part 1 of the controller's worker id 'my-agent', which has 1"):
        filled("{worker_id_parts[1]}:{task_id}", "my-agent")


@pytest.mark.parametrize(("reports", "made"), [(False, ""), (True, "k8s:")])
def test_the_dashboard_hides_the_controller_and_shows_its_tasks(reports: bool, made: str) -> None:
    own = worker_ids.controller_worker_id(chosen=None, release="gpu", namespace_uid=UID, reports=reports)
    assert own == f"{made}clearml-agent-gpu-1234abcd"
    assert any(re.match(pattern, own) for pattern in HIDDEN)
    assert not any(re.match(pattern, filled(None, own)) for pattern in HIDDEN)
    chosen = worker_ids.controller_worker_id(chosen="k8s:x", release="gpu", namespace_uid=UID, reports=reports)
    assert chosen == "k8s:x"


@pytest.mark.parametrize(
    ("worker", "place"),
    [
        ("k8s:H100:5e6f", Place(category="k8s", group="H100")),
        ("k8s:clearml-agent-gpu-1234abcd:5e6f", Place(category="k8s", group="clearml-agent-gpu-1234abcd")),
        ("a:b:c:d", Place(category="a", group="b")),
        ("k8s:5e6f", Place(category="k8s", group="group")),
        ("alone", Place(category="k8s", group="group")),
        (":x:y", Place(category="k8s", group="x")),
    ],
)
def test_places(worker: str, place: Place) -> None:
    assert place_of(worker) == place

"""A Job that Kueue admits is suspended from the start and carries Kueue's labels; its pods do not."""

from __future__ import annotations

import pytest
from clearml_k8s.config import QueueConfig, QueueSettings
from clearml_k8s.config.kueue import KueueConfig
from spec_support import Build

QUEUE, PRIORITY = "kueue.x-k8s.io/queue-name", "kueue.x-k8s.io/priority-class"


def managed(priority: str | None = None, **settings: object) -> QueueConfig:
    kueue = KueueConfig(queue_name="team", priority_class=priority)
    return QueueConfig(name="default", settings=QueueSettings(kueue=kueue), **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(("priority", "labels"), [(None, {QUEUE: "team"}), ("high", {QUEUE: "team", PRIORITY: "high"})])
def test_the_job_alone_is_kueues(build: Build, priority: str | None, labels: dict[str, str]) -> None:
    job = build(queue=managed(priority)).manifest
    plain = build().manifest
    assert job["spec"] == {**plain["spec"], "suspend": True}
    assert job["metadata"]["labels"] == {**plain["metadata"]["labels"], **labels}
    assert "suspend" not in plain["spec"]


def test_kueues_other_labels_and_annotations_pass_through(build: Build) -> None:
    """As they are for the pods: a time limit, a topology."""
    limit, topology = "kueue.x-k8s.io/max-exec-time-seconds", "kueue.x-k8s.io/podset-preferred-topology"
    base = {"labels": {limit: "3600"}, "annotations": {topology: "rack"}}
    job = build(base=base, queue=managed()).manifest
    assert job["metadata"]["labels"][limit] == "3600"
    assert job["spec"]["template"]["metadata"]["annotations"][topology] == "rack"


def test_the_labels_of_a_template_are_left_out_and_told(build: Build) -> None:
    """A config file with them is refused; a Pod manifest or a template module may have them."""
    for queue, kept in ((managed(), "team"), (None, None)):
        built = build(base={"labels": {QUEUE: "other", "team": "a"}}, queue=queue)
        assert built.manifest["metadata"]["labels"].get(QUEUE) == kept
        pods = built.manifest["spec"]["template"]["metadata"]["labels"]
        assert (pods.get(QUEUE), pods["team"]) == (None, "a")
        assert [str(one) for one in built.ignored if QUEUE in str(one)]

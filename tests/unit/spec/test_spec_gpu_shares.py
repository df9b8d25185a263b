"""Shares of GPUs as ClearML's documentation writes them: what of them stands in the Job, and how they are counted."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from clearml_agent.helper.resource_monitor import GpuFractionsHandler
from clearml_k8s import errors
from clearml_k8s.config import Config, QueueConfig, QueueSettings
from clearml_k8s.config.policy import TaskPolicy
from clearml_k8s.kube.uses import Measure, field_path
from clearml_k8s.spec.job import BuiltJob
from spec_support import Build, environment, task_container

FRACTIONS = "CLEARML_AGENT_GPU_FRACTIONS"
INJECTOR = "clearml-injector/fraction"


def gpus(built: BuiltJob) -> float:
    return float(Measure()(built.manifest["spec"]["template"]).gpus)


@pytest.mark.parametrize(
    ("labels", "limits", "left", "reported", "counted"),
    [
        ({INJECTOR: "0.500"}, {"nvidia.com/gpu": 1, "clear.ml/fraction-1": "0.5"}, {"nvidia.com/gpu": 1}, "0.5", 0.5),
        ({}, {"nvidia.com/mig-2g.10gb": 1, "clear.ml/fraction-1": 0.25}, {"nvidia.com/mig-2g.10gb": 1}, "0.25", 0.25),
        (
            {},
            {"nvidia.com/gpu": 2, "clear.ml/fraction-2": "0.25", "clear.ml/fraction-1": "0.5"},
            {"nvidia.com/gpu": 2},
            "0.5,0.25",
            0.75,
        ),
        ({}, {"nvidia.com/gpu": 1, "clear.ml/fraction": "1"}, {"nvidia.com/gpu": 1}, "1", 1),
        ({}, {"nvidia.com/mig-1g.5gb": 2}, {"nvidia.com/mig-1g.5gb": 2}, "nvidia.com/mig-1g.5gb:2", 2),
        ({INJECTOR: "0.500"}, {"nvidia.com/gpu": 1}, {"nvidia.com/gpu": 1}, "0.500", 0.5),
        ({INJECTOR: "0.500"}, {"nvidia.com/gpu": 2}, {"nvidia.com/gpu": 2}, "0.500", 1),
        ({INJECTOR: "0.25"}, {"cpu": 4}, {"cpu": 4}, "0.250", 0.25),
        ({INJECTOR: "2"}, {"cpu": 4}, {"cpu": 4}, "1.000", 2),
        ({}, {"nvidia.com/gpu": 1}, {"nvidia.com/gpu": 1}, None, 1),
        ({}, {"clear.ml/fraction-1": "0.5"}, None, "0.5", 0.5),
    ],
)
def test_the_documented_ways_to_write_a_share(
    build: Build, labels: dict[str, str], limits: dict[str, Any], left: Any, reported: str | None, counted: float
) -> None:
    """Kubernetes takes no part of a resource: `build` checks the Job, and what is left has whole amounts alone."""
    built = build(base={"labels": labels, "resources": {"limits": limits}})
    assert (task_container(built).get("resources") or {}).get("limits") == left
    assert environment(built).get(FRACTIONS) == reported
    assert gpus(built) == counted


def test_a_limit_by_shares_counts_what_is_kept_out_of_the_pod(build: Build) -> None:
    """`monitoredResources` with the path that the values of ClearML's documentation suggest."""
    limits = {"nvidia.com/gpu": 1, "clear.ml/fraction-1": "0.5"}
    template = build(base={"resources": {"limits": limits}}).manifest["spec"]["template"]
    for path in ("resources|limits|clear.ml/fraction-1", "spec|containers|0|resources|limits|clear.ml/fraction-1"):
        assert float(Measure(fields=(field_path(path),))(template).monitored) == 0.5
    assert Measure(fields=(field_path("resources|limits|nvidia.com/gpu"),))(template).monitored == 1


@pytest.mark.parametrize(
    "limits",
    [
        {"nvidia.com/gpu": 1, "clear.ml/fraction-1": "0.5"},
        {"clear.ml/fraction-2": "0.25", "clear.ml/fraction-1": "0.5"},
    ],
)
def test_the_agent_reads_what_is_reported_as_its_own_glue_writes_it(build: Build, limits: dict[str, Any]) -> None:
    reported = environment(build(base={"resources": {"limits": limits}}))[FRACTIONS]
    assert reported == GpuFractionsHandler.encode_fractions(limits=limits, labels={}, annotations={})


def test_a_request_for_a_share_goes_too(build: Build) -> None:
    amounts = {"nvidia.com/gpu": 1, "clear.ml/fraction-1": "0.5"}
    built = build(base={"resources": {"limits": amounts, "requests": amounts}})
    whole = {"nvidia.com/gpu": 1}
    assert task_container(built)["resources"] == {"limits": whole, "requests": whole}


def test_the_annotation_of_the_documentation_is_reported_where_nothing_else_says_it(build: Build) -> None:
    built = build(base={"annotations": {"gpu-fraction": "0.25"}})
    assert environment(built)[FRACTIONS] == "0.25"


def test_the_templates_own_variable_wins(build: Build) -> None:
    base = {"env": [{"name": FRACTIONS, "value": "0.1"}], "resources": {"limits": {"clear.ml/fraction-1": "0.5"}}}
    assert environment(build(base=base))[FRACTIONS] == "0.1"


def test_what_is_no_share_is_named(build: Build) -> None:
    with pytest.raises(errors.SpecError, match=r"clear\.ml/fraction-1: found 'half'; expected a number, as in 0\.5"):
        build(base={"resources": {"limits": {"clear.ml/fraction-1": "half"}}})


@pytest.mark.parametrize(
    ("labels", "limits", "asked", "label", "left", "counted"),
    [
        ({INJECTOR: "0.500"}, None, "2", "2", None, 2),
        ({INJECTOR: "0.500"}, None, "0", None, None, 0),
        ({INJECTOR: "0.500"}, {"nvidia.com/gpu": 1}, "2", "0.500", {"nvidia.com/gpu": 2}, 1),
        ({INJECTOR: "0.500"}, {"nvidia.com/gpu": 1}, "0", None, None, 0),
        ({}, {"nvidia.com/gpu": 1, "clear.ml/fraction-1": "0.5"}, "2", None, {"nvidia.com/gpu": 2}, 2),
    ],
)
def test_a_task_that_says_how_many_it_needs(
    build: Build, config: Config, labels: dict[str, str], limits: Any, asked: str, label: Any, left: Any, counted: float
) -> None:
    """Of what its queue's template gives: of the injector where that alone gives them."""
    base = {"labels": labels, "resources": {"limits": limits or {}}}
    built = build(
        config=dataclasses.replace(config, base_pod_template=base),
        queue=QueueConfig(name="default", settings=QueueSettings(task_policy=TaskPolicy(max_gpus=4))),
        properties={"k8s-gpus": asked},
    )
    assert built.manifest["spec"]["template"]["metadata"]["labels"].get(INJECTOR) == label
    assert ((task_container(built).get("resources") or {}).get("limits") or None) == left
    assert gpus(built) == counted


def test_no_task_gives_itself_a_share_by_a_label(build: Build, config: Config) -> None:
    """It would be counted for what it says there."""
    built = build(
        config=dataclasses.replace(config, task_policy=TaskPolicy(labels=("clearml-injector/*",))),
        arguments=f"--label {INJECTOR}=0.125",
    )
    assert INJECTOR not in built.manifest["metadata"]["labels"]
    (told,) = map(str, built.ignored)
    assert told == "--label: ignored; shares of GPUs are the queue's template's to give; ask for GPUs with k8s-gpus"

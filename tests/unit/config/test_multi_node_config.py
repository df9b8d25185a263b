"""`multiNode` and `queueSettings.multiNode`: what they mean, and what is refused of them."""

from __future__ import annotations

from typing import Any

import pytest
from clearml_k8s.app.checks import features
from clearml_k8s.config.gpus import limit
from clearml_k8s.config.multi_node import MultiNodeConfig, Split, problems, read, split
from clearml_k8s.kube.permissions import Feature
from flow_parts import make_config


@pytest.mark.parametrize(
    ("given", "pods", "gpus", "total", "together"),
    [
        ([4, 2], 3, 2, 6, 2),
        ([2, 2, 4], 4, 2, 8, 2),
        ([8], 1, 8, 8, 1),
        ([6, 4], 5, 2, 10, 3),
        ([2, 2], 2, 2, 4, 1),
        ([0, 0], 2, 0, 0, 1),
    ],
)
def test_split(given: list[int], pods: int, gpus: int, total: int, together: int) -> None:
    assert split(given) == Split(pods=pods, gpus=gpus, total=total, together=together)


@pytest.mark.parametrize("given", [[], [True], [2.0], [-2, 4], [2, 0], [1025], [1] * 513])
def test_what_is_no_split(given: list[Any]) -> None:
    with pytest.raises(ValueError, match=r"write|leave|most"):
        split(given)


@pytest.mark.parametrize("raw", [None, {}, {"enabled": False, "maxGiveBacks": 7}, {"enabled": None}])
def test_off(raw: dict[str, Any] | None) -> None:
    assert read(raw) is None


def test_on() -> None:
    assert read({"enabled": True}) == MultiNodeConfig(start_timeout_minutes=30, max_give_backs=3)
    assert read({"enabled": True, "startTimeoutMinutes": 0.5, "maxGiveBacks": 0}) == MultiNodeConfig(
        start_timeout_minutes=0.5, max_give_backs=0
    )
    assert Feature.MULTI_NODE in features(make_config(multi_node=MultiNodeConfig()))
    assert Feature.MULTI_NODE not in features(make_config())


@pytest.mark.parametrize(
    ("resources", "gpus"),
    [
        (None, 0),
        ({}, 0),
        ({"limits": {"cpu": 4}}, 0),
        ({"limits": {"nvidia.com/gpu": 2}}, 2),
        ({"limits": {"nvidia.com/gpu": "2"}}, 2),
        ({"limits": {"nvidia.com/mig-1g.5gb": 3}}, 3),
        ({"limits": {"nvidia.com/gpu": "${CLEARML_TASK.x}"}}, None),
    ],
)
def test_gpus_of_a_template(resources: dict[str, Any] | None, gpus: int | None) -> None:
    assert limit(resources) == gpus


def document(*, gpus: Any = 2, base: Any = None, on: bool = True, **settings: Any) -> dict[str, Any]:
    limits = None if gpus is None else {"resources": {"limits": {"nvidia.com/gpu": gpus}}}
    return {
        "multiNode": {"enabled": on},
        "basePodTemplate": {} if base is None else {"resources": {"limits": {"nvidia.com/gpu": base}}},
        "queues": {"big": {"templateOverrides": limits, "queueSettings": {"multiNode": [4, 2], **settings}}, "x": None},
    }


@pytest.mark.parametrize(
    "given",
    [
        document(),
        document(gpus="2"),
        document(gpus=None, base=2),
        document(base=7),
        document(gpus="${CLEARML_TASK.x}"),
        document(gpus=4, multiNode=[]),
        document(gpus=4, multiNode=None, on=False),
    ],
)
def test_what_is_accepted(given: dict[str, Any]) -> None:
    assert list(problems(given)) == []


FOUND = "queues.big.queueSettings.multiNode: found [4, 2]"
MAKES = "that makes 3 pods of 2 GPUs (the greatest common divisor), and the template's limit is"
WRITE = "write queues.big.templateOverrides.resources.limits with nvidia.com/gpu: 2"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (document(on=False), f"{FOUND}; set multiNode.enabled: true, or leave it out"),
        (document(gpus=4), f"{FOUND}; {MAKES} 4: {WRITE}"),
        (document(gpus=None), f"{FOUND}; {MAKES} 0: {WRITE}"),
        (document(gpus=None, base=6), f"{FOUND}; {MAKES} 6: {WRITE}"),
        (document(useImageEntrypoint=True), f"{FOUND} with useImageEntrypoint: true; pods of one task wait"),
        (document(multiNode=[4, 0]), "found [4, 0]; a node without GPUs cannot stand beside others: leave the 0 out"),
        (document(multiNode=[0, 0]), "limit is 2: leave GPUs out of queues.big.templateOverrides.resources.limits"),
    ],
)
def test_what_is_refused(given: dict[str, Any], said: str) -> None:
    (problem,) = problems(given)
    assert said in problem

"""What a task says that it needs: each property and docker argument, on the Job that is built."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from clearml_k8s import errors
from clearml_k8s.config import Config, QueueConfig, QueueSettings
from clearml_k8s.config.policy import TaskPolicy
from clearml_k8s.spec import own_resources
from spec_support import Build

OPEN = TaskPolicy(
    max_gpus=4,
    max_cpus=8.5,
    max_memory="64Gi",
    node_selector=("pool=a100", "zone"),
    priority_classes=("low",),
)
Ask = Callable[..., tuple[dict[str, Any], list[str]]]


@pytest.fixture
def ask(build: Build, config: Config) -> Ask:
    """The pod's spec, and what is told to its user."""

    def asked(
        arguments: str = "",
        *,
        properties: Mapping[str, str] | None = None,
        policy: TaskPolicy = OPEN,
        base: dict[str, Any] | None = None,
    ) -> tuple[dict[str, Any], list[str]]:
        job = build(
            config=dataclasses.replace(config, base_pod_template=base or {}),
            queue=QueueConfig(name="default", settings=QueueSettings(task_policy=policy)),
            arguments=arguments,
            properties=properties or {},
        )
        return job.manifest["spec"]["template"]["spec"], [str(one) for one in job.ignored]

    return asked


def resources(pod: Mapping[str, Any]) -> Any:
    return pod["containers"][0].get("resources")


@pytest.mark.parametrize(
    ("properties", "found"),
    [
        ({"k8s-gpus": "2"}, {"limits": {"nvidia.com/gpu": 2}}),
        ({"k8s-gpus": " 4 "}, {"limits": {"nvidia.com/gpu": 4}}),
        ({"k8s-cpus": "500m"}, {"requests": {"cpu": "500m"}}),
        ({"k8s-memory": "16Gi"}, {"requests": {"memory": "16Gi"}, "limits": {"memory": "16Gi"}}),
        (
            {"k8s-gpus": "1", "k8s-cpus": "8.5", "k8s-memory": "64Gi"},
            {"requests": {"cpu": "8.5", "memory": "64Gi"}, "limits": {"nvidia.com/gpu": 1, "memory": "64Gi"}},
        ),
        ({"k8s-gpus": "", "other": "5"}, None),
    ],
)
def test_properties(ask: Ask, properties: dict[str, str], found: Any) -> None:
    pod, told = ask(properties=properties)
    assert (resources(pod), told) == (found, [])


def test_the_template_tells_which_gpus_and_whether_cpus_are_limited(ask: Ask) -> None:
    base = {
        "resources": {
            "limits": {"nvidia.com/mig-1g.5gb": 1, "cpu": 2, "memory": "8Gi"},
            "requests": {"cpu": 1, "nvidia.com/mig-1g.5gb": 1},
        }
    }
    pod, _ = ask(properties={"k8s-gpus": "3", "k8s-cpus": "4"}, base=base)
    assert resources(pod) == {
        "limits": {"cpu": "4", "memory": "8Gi", "nvidia.com/mig-1g.5gb": 3},
        "requests": {"cpu": "4"},
    }
    pod, _ = ask(properties={"k8s-gpus": "0"}, base={"resources": {"limits": {"amd.com/gpu": 1}}})
    assert not resources(pod)


@pytest.mark.parametrize(
    ("properties", "said"),
    [
        ({"k8s-gpus": "5"}, "k8s-gpus: found '5'; tasks of this queue may have up to 4 (taskPolicy.maxGpus)"),
        ({"k8s-gpus": "two"}, "k8s-gpus: found 'two'; expected a number of GPUs, as in 2"),
        ({"k8s-gpus": "-1"}, "expected a number of GPUs"),
        ({"k8s-cpus": "9"}, "k8s-cpus: found '9'; tasks of this queue may have up to 8.5 (taskPolicy.maxCpus)"),
        ({"k8s-cpus": "0"}, "k8s-cpus: found '0'; expected an amount, as in 500m or 4"),
        ({"k8s-memory": "65Gi"}, "may have up to 64Gi (taskPolicy.maxMemory)"),
        ({"k8s-memory": "16g"}, "k8s-memory: found '16g'; expected an amount, as in 16Gi"),
        ({"k8s-memory": "16"}, "found '16'; with so little no container starts: write its unit, as in 16Gi"),
        ({"k8s-memory": "16000m"}, "with so little no container starts"),
        ({"k8s-node-selector": "pool=h100"}, "found 'pool=h100', which is not for tasks of this queue"),
        ({"k8s-node-selector": "pool"}, "found 'pool'; expected labels of nodes, as in pool=a100,zone=b"),
        ({"k8s-priority-class": "high"}, "'high', which is not for tasks of this queue (taskPolicy.priorityClasses)"),
    ],
)  # fmt: skip
def test_a_property_that_cannot_be_had_fails_the_task(ask: Ask, properties: dict[str, str], said: str) -> None:
    with pytest.raises(errors.SpecError) as caught:
        ask(properties=properties)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "properties", [{"k8s-gpus": "1"}, {"k8s-cpus": "1"}, {"k8s-memory": "1"}, {"k8s-node-selector": "a=b"}]
)
def test_by_default_nothing_can_be_asked_for(ask: Ask, properties: dict[str, str]) -> None:
    with pytest.raises(errors.SpecError, match=r"taskPolicy\."):
        ask(properties=properties, policy=TaskPolicy())


def test_nodes_and_priority(ask: Ask) -> None:
    base = {"nodeSelector": {"pool": "cpu", "disk": "ssd"}, "priorityClassName": "mid"}
    pod, _ = ask(properties={"k8s-node-selector": "pool=a100, zone=b", "k8s-priority-class": "low"}, base=base)
    assert pod["nodeSelector"] == {"pool": "a100", "disk": "ssd", "zone": "b"}
    assert pod["priorityClassName"] == "low"


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ("--gpus 2", {"limits": {"nvidia.com/gpu": 2}}),
        ("--gpus=count=2", {"limits": {"nvidia.com/gpu": 2}}),
        ("--cpus 1.5", {"requests": {"cpu": "1.5"}}),
        ("-m 8g", {"requests": {"memory": "8Gi"}, "limits": {"memory": "8Gi"}}),
        ("--memory=512mb --memory 1g", {"requests": {"memory": "1Gi"}, "limits": {"memory": "1Gi"}}),
    ],
)
def test_docker_arguments(ask: Ask, arguments: str, found: Any) -> None:
    pod, told = ask(arguments)
    assert (resources(pod), told) == (found, [])


@pytest.mark.parametrize(
    ("arguments", "found", "said"),
    [
        ("--gpus 8", {"limits": {"nvidia.com/gpu": 4}}, "--gpus: changed; 4 is the most that is allowed"),
        ("--cpus 16", {"requests": {"cpu": "8.5"}}, "--cpus: changed; 8.5 are the most (taskPolicy.maxCpus)"),
        ("-m 100g", {"requests": {"memory": "64Gi"}, "limits": {"memory": "64Gi"}}, "-m: changed; 64Gi are the most"),
        ("--gpus all", None, "--gpus: ignored; a task has the GPUs of the queue's template; write a number for others"),
        ("--gpus '\"device=0,1\"'", None, "--gpus: ignored; GPUs of a pod are counted, not named: write a number"),
        ("--cpus many", None, "--cpus: ignored; write a number, as in 1.5"),
        ("-m much", None, "-m: ignored; its size is none"),
        ("-m 16", None, "-m: ignored; with so little no container starts: write its unit, as in 8g"),
    ],
)
def test_docker_arguments_are_cut_or_left_out_and_told(ask: Ask, arguments: str, found: Any, said: str) -> None:
    pod, (told,) = ask(arguments)
    assert resources(pod) == found
    assert told.startswith(said)


def test_a_property_goes_before_a_docker_argument(ask: Ask) -> None:
    pod, _ = ask("--gpus 1 --cpus 2", properties={"k8s-gpus": "3"})
    assert resources(pod) == {"limits": {"nvidia.com/gpu": 3}, "requests": {"cpu": "2"}}


@pytest.mark.parametrize("arguments", ["--gpus 1", "--cpus 1", "--memory 1g"])
def test_by_default_docker_arguments_change_nothing(ask: Ask, arguments: str) -> None:
    pod, (told,) = ask(arguments, policy=TaskPolicy())
    assert resources(pod) is None
    assert "taskPolicy.max" in told


def test_who_asks_for_the_most_asks_for_nothing_that_is_refused() -> None:
    policy = TaskPolicy(max_gpus=8, max_cpus=100, max_memory="16")
    asking = own_resources.asking_for_the_most(policy)
    assert asking == {"k8s-gpus": "8", "k8s-cpus": "100"}
    own_resources.of_properties(asking, policy=policy)

"""Where each number of a report comes from."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from clearml_k8s.config import QueueConfig, QueueSettings
from clearml_k8s.config.conditions import ConditionalTemplate
from clearml_k8s.config.dashboard import CpuDiscovery, DashboardConfig, GpuDiscovery
from clearml_k8s.report.capacity import Capacity, Unknown, capacity, cpus_of, workers
from clearml_k8s.report.discovery import Summary
from clearml_k8s.report.lacking import asked, by_queue, lacking
from flow_parts import make_config

NODES = Summary(nodes=3, gpus=24, gpus_usable=8, cpus_milli=383900)
BOTH = {"gpu_discovery": GpuDiscovery(enabled=True), "cpu_discovery": CpuDiscovery(enabled=True)}


def numbers(
    *, summary: Summary | None = NODES, quota: Fraction | None = None, problem: str = "", **dashboard: Any
) -> Capacity | Unknown:
    config = make_config(dashboard=DashboardConfig(**dashboard))
    return capacity(config, summary=summary, quota_cpus=quota, quota_problem=problem)


def test_discovered() -> None:
    assert numbers(**BOTH) == Capacity(gpus=24, cpus=383)
    assert numbers(gpu_discovery=GpuDiscovery(enabled=True)) == Capacity(gpus=24)


def test_numbers_of_the_values_take_the_place_of_discovery() -> None:
    assert numbers(**BOTH, max_gpus=2, max_cpus=8) == Capacity(gpus=2, cpus=8)
    assert numbers(**BOTH, max_gpus=2, max_cpus=8, summary=None) == Capacity(gpus=2, cpus=8)
    assert numbers(**BOTH, max_gpus=0, max_cpus=0) == Capacity(gpus=24, cpus=383)


def test_nothing_is_said_while_the_nodes_are_not_known() -> None:
    assert numbers(**BOTH, max_cpus=8, summary=None) == Unknown(why="the nodes are not known")


def test_the_quota_of_a_namespace() -> None:
    assert numbers(**BOTH, cpu_namespace="ns", quota=Fraction(25, 2)) == Capacity(gpus=24, cpus=12)
    assert numbers(cpu_namespace="ns", summary=None) == Capacity()
    assert numbers(cpu_namespace="ns", problem="away") == Unknown(why="away")
    assert numbers(cpu_namespace="ns", problem="away", max_cpus=3) == Capacity(cpus=3)


def test_the_least_quota_holds() -> None:
    quotas: list[dict[str, Any]] = [
        {"spec": {"hard": {"limits.cpu": "40", "requests.cpu": "20", "pods": "3"}}},
        {"spec": {"hard": {"cpu": "30500m"}}},
        {"spec": {"hard": {"requests.cpu": "1"}, "scopes": ["BestEffort"]}},
        {"spec": {"hard": {"requests.cpu": "1"}, "scopeSelector": {"matchExpressions": []}}},
        {"spec": None},
        {"spec": {"hard": {"requests.cpu": "many"}}},
    ]
    assert cpus_of(quotas) == 20
    assert cpus_of(quotas[1:]) == Fraction(61, 2)
    assert cpus_of(quotas[4:]) is None


@pytest.mark.parametrize(
    ("all_queues", "own", "most"),
    [
        (None, [None, None], 0),
        (10, [None, 3], 10),
        (None, [4, 3], 7),
        (5, [4, 3], 5),
        (20, [4, 3], 7),
        (None, [4, None], 0),
    ],
)
def test_workers(all_queues: int | None, own: list[int | None], most: int) -> None:
    queues = {f"q{i}": QueueConfig(name=f"q{i}", settings=QueueSettings(max_pods=n)) for i, n in enumerate(own)}
    assert workers(make_config(max_pods=all_queues, queues=queues)) == most


def pod(*limits: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"name": "task", "resources": {"limits": found}} for found in limits]


def test_what_no_node_has() -> None:
    largest = (("nvidia.com/gpu", 4),)
    assert asked(pod({"nvidia.com/gpu": 1, "cpu": 2}, {"nvidia.com/gpu": "2"})) == (("nvidia.com/gpu", 3),)
    assert lacking(pod({"nvidia.com/gpu": 4, "cpu": 200, "memory": "9Ti"}), largest=largest) == ()
    assert lacking(pod({"nvidia.com/gpu": 4, "clear.ml/fraction-1": 1}), largest=largest) == ()  # kept out of pods
    (text,) = lacking(pod({"amd.com/gpu": 2}), largest=largest)
    assert text.startswith(
        "asks for amd.com/gpu: 2, which no node of the cluster has: is the operator or device plugin"
    )
    (text,) = lacking(pod({"nvidia.com/gpu": 3}, {"nvidia.com/gpu": 3}), largest=largest)
    assert text == "asks for nvidia.com/gpu: 6 in one pod, and no node of the cluster has more than 4"
    assert lacking([{"name": "task"}], largest=()) == ()


def test_queues_that_lack_something() -> None:
    def queue(name: str, **limits: Any) -> QueueConfig:
        return QueueConfig(name=name, template_overrides={"resources": {"limits": limits}} if limits else {})

    queues = {"cpu": queue("cpu", cpu=4), "base": queue("base"), "amd": queue("amd", **{"amd.com/gpu": 1})}
    base = {"resources": {"limits": {"nvidia.com/gpu": 2}}}
    config = make_config(queues=queues, base_pod_template=base)
    assert set(by_queue(config, largest=())) == {"base", "amd"}
    assert set(by_queue(config, largest=(("nvidia.com/gpu", 8),))) == {"amd"}
    assert by_queue(config, largest=(("amd.com/gpu", 1), ("nvidia.com/gpu", 8))) == {}


def test_what_a_conditional_template_asks_for_and_no_node_has() -> None:
    big = ConditionalTemplate(when={"type": "x"}, template={"resources": {"limits": {"amd.com/gpu": 1}}}, place="p")
    queues = {"a": QueueConfig(name="a"), "b": QueueConfig(name="b", conditional_templates=(big,))}
    assert set(by_queue(make_config(queues=queues), largest=())) == {"b"}

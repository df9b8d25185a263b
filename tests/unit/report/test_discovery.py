"""Counting GPUs and CPUs of nodes: each rule with its number."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from clearml_k8s.config.dashboard import CpuDiscovery, DashboardConfig, GpuDiscovery
from clearml_k8s.kube.node import NodeRecord
from clearml_k8s.kube.watch import Gone, Listed, Upsert
from clearml_k8s.report.discovery import Discovery, Summary
from clearml_k8s.report.nodes import Nodes

GPU = {"kubernetes.io/os": "linux", "nvidia.com/gpu.present": "true", "nvidia.com/gpu.count": "8"}


def node(name: str, labels: dict[str, str] | None = None, **changes: Any) -> NodeRecord:
    found = {"ready": True, "cordoned": False, "cpus_milli": 4000, "extended": (), **changes}
    return NodeRecord(name=name, labels=tuple((GPU if labels is None else labels).items()), **found)


def discovery(*nodes: NodeRecord, cpu: CpuDiscovery | None = None, **gpu: Any) -> tuple[Nodes, Discovery]:
    store = Nodes()
    config = DashboardConfig(
        gpu_discovery=GpuDiscovery(**{"enabled": True, **gpu}), cpu_discovery=cpu or CpuDiscovery()
    )
    found = Discovery(config=config, nodes=store)
    assert not found.known
    store.apply(Listed(items=nodes))
    assert found.known
    return store, found


def summary(*nodes: NodeRecord, **settings: Any) -> Summary:
    return discovery(*nodes, **settings)[1].summary


def test_nodes_of_several_kinds() -> None:
    found = summary(
        node("a"),
        node("b", {**GPU, "nvidia.com/gpu.count": "4"}),
        node("no-gpu", {"kubernetes.io/os": "linux"}),
        node("windows", {**GPU, "kubernetes.io/os": "windows"}),
    )
    assert (found.nodes, found.gpu_nodes, found.gpus) == (4, 2, 12)
    assert found.text == "4 nodes; 12 GPUs on 2 nodes; pods may ask for none of them"


def test_both_selectors_must_match() -> None:
    a100, h100 = {**GPU, "nodepool": "gpu-a100"}, {**GPU, "nodepool": "gpu-h100"}
    nodes = (node("a", a100), node("b", h100), node("c"), node("d", {"nodepool": "gpu-a100"}))
    assert summary(*nodes, node_selector="nodepool=gpu-a100").gpus == 8
    assert summary(*nodes, node_selector="nodepool in (gpu-a100,gpu-h100)").gpus == 16
    assert summary(*nodes, node_selector="!nodepool").gpus == 8


def test_all_nodes_count_and_the_difference_is_told() -> None:
    found = summary(
        node("a", extended=(("nvidia.com/gpu", 8),)),
        node("down", ready=False, extended=(("nvidia.com/gpu", 8),)),
        node("cordoned", {**GPU, "nvidia.com/gpu.count": "2"}, cordoned=True),
    )
    assert (found.gpu_nodes, found.gpus, found.gpus_usable) == (3, 18, 8)
    assert found.offered == (("nvidia.com/gpu", 8),)
    assert found.text == "3 nodes; 18 GPUs on 3 nodes, 10 of them on nodes that are not ready or are cordoned"


def test_what_pods_may_ask_for_is_told_where_it_is_not_the_number_of_gpus() -> None:
    slices = node("a", extended=(("nvidia.com/gpu", 6), ("nvidia.com/mig-1g.5gb", 14)))
    assert (
        summary(slices).text
        == "1 nodes; 8 GPUs on 1 nodes; pods may ask for 6 nvidia.com/gpu, 14 nvidia.com/mig-1g.5gb"
    )
    assert summary(node("a")).text == "1 nodes; 8 GPUs on 1 nodes; pods may ask for none of them"


def test_the_first_label_that_is_there_counts() -> None:
    both = {**GPU, "example.com/gpus": "3"}
    only_second = {"kubernetes.io/os": "linux", "nvidia.com/gpu.present": "true", "example.com/gpus": "3"}
    nodes = (node("a", both), node("b", only_second))
    assert summary(*nodes, count_labels="nvidia.com/gpu.count,example.com/gpus").gpus == 11
    assert summary(*nodes, count_labels="example.com/gpus,nvidia.com/gpu.count").gpus == 6
    found = summary(*nodes)
    assert (found.gpus, found.gpu_nodes, found.unlabelled) == (8, 1, ("b",))
    assert found.text.endswith("no label that counts GPUs on b")


def test_zero_is_there_too() -> None:
    labels = {**GPU, "nvidia.com/gpu.count": "0", "nvidia.com/mig-1g.5gb.count": "7"}
    found = summary(node("a", labels), count_labels="nvidia.com/gpu.count,nvidia.com/mig-1g.5gb.count")
    assert (found.gpus, found.gpu_nodes, found.unlabelled) == (0, 1, ())


def test_shared_gpus_are_counted_as_what_they_are() -> None:
    """NVIDIA's discovery labels a node of 2 GPUs shared by 4 each so; pods see 8."""
    labels = {**GPU, "nvidia.com/gpu.count": "2", "nvidia.com/gpu.replicas": "4"}
    found = summary(node("a", labels, extended=(("nvidia.com/gpu", 8),)))
    assert found.gpus == 2
    assert found.offered == (("nvidia.com/gpu", 8),)


def test_mig_devices_are_counted_where_their_label_is_named() -> None:
    """One strategy for all: gpu.count is that of the devices. Mixed: each kind has a label of its own."""
    single = node("a", {**GPU, "nvidia.com/gpu.count": "56"}, extended=(("nvidia.com/gpu", 56),))
    labels = {**GPU, "nvidia.com/gpu.count": "8", "nvidia.com/mig-1g.5gb.count": "14"}
    mixed = node("b", labels, extended=(("nvidia.com/gpu", 6), ("nvidia.com/mig-1g.5gb", 14)))
    assert summary(single, mixed).gpus == 64
    assert summary(single, mixed, count_labels="nvidia.com/mig-1g.5gb.count,nvidia.com/gpu.count").gpus == 70
    assert summary(single, mixed).offered == (("nvidia.com/gpu", 62), ("nvidia.com/mig-1g.5gb", 14))


@pytest.mark.parametrize("value", ["eight", "8.0", "-1", "", "0x8", "1" * 30])
def test_a_label_that_is_no_number_is_told_once_with_its_node(value: str, caplog: pytest.LogCaptureFixture) -> None:
    store, found = discovery(node("a"), node("odd", {**GPU, "nvidia.com/gpu.count": value}))
    assert (found.summary.gpus, found.summary.gpu_nodes) == (8, 1)
    assert found.summary.unreadable == (("odd", "nvidia.com/gpu.count", value),)
    store.apply(Upsert(item=node("b")))
    assert found.summary.gpus == 16
    (record,) = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert "node odd: label nvidia.com/gpu.count: found" in record.getMessage()
    assert "its GPUs are not counted" in record.getMessage()
    assert "a label that is no number on odd" in found.summary.text


def test_many_such_nodes_are_few_lines(caplog: pytest.LogCaptureFixture) -> None:
    found = summary(*(node(f"n{i:03}", {**GPU, "nvidia.com/gpu.count": "x"}) for i in range(40)))
    assert len(found.unreadable) == 40
    assert len(caplog.records) == 6
    assert "35 more nodes" in caplog.records[-1].getMessage()
    assert found.text.endswith("n004 and 35 more")


def test_changes_are_followed() -> None:
    store, found = discovery(node("a"), node("b"))
    assert found.summary.gpus == 16
    store.apply(Upsert(item=node("c", {**GPU, "nvidia.com/gpu.count": "1"})))
    assert found.summary.gpus == 17
    store.apply(Upsert(item=node("a", {**GPU, "nvidia.com/gpu.present": "false"})))
    assert found.summary.gpus == 9
    store.apply(Gone(item=node("b")))
    assert found.summary.gpus == 1
    store.apply(Listed(items=()))
    assert found.summary == Summary()


def test_nothing_is_counted_again_without_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    store, found = discovery(node("a"))
    first = found.summary
    store.apply(Upsert(item=node("a")))
    assert found.summary is first


def test_cpus() -> None:
    nodes = (
        node("a", cpus_milli=64500),
        node("b", {"pool": "cpu"}, cpus_milli=3500),
        node("down", {"pool": "cpu"}, cpus_milli=8000, ready=False),
    )
    found = summary(*nodes, enabled=False, cpu=CpuDiscovery(enabled=True))
    assert (found.cpus_milli, found.cpus_milli_usable, found.cpu_nodes) == (76000, 68000, 3)
    assert (found.gpus, found.gpu_nodes) == (0, 0)
    assert found.text == "3 nodes; 76 CPUs on 3 nodes, 8 of them on nodes that are not ready or are cordoned"
    assert summary(*nodes, cpu=CpuDiscovery(enabled=True, node_selector="pool=cpu")).cpus_milli == 11500


def test_the_largest_of_any_node_is_known_without_discovery() -> None:
    nodes = (
        node("a", {}, extended=(("nvidia.com/gpu", 8), ("rdma/hca", 1))),
        node("b", {}, extended=(("nvidia.com/gpu", 4),), ready=False),
    )
    assert summary(*nodes, enabled=False).largest == (("nvidia.com/gpu", 8), ("rdma/hca", 1))

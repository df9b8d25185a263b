"""Node records: what is kept, and that thousands of them are small."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
from clearml_k8s.errors import KubeUnanswered
from clearml_k8s.kube.node import NodeRecord, NodeSlimmer, extended
from clearml_k8s.kube.watch import Listed, Upsert
from clearml_k8s.report.nodes import Nodes

KEYS = ("kubernetes.io/os", "nvidia.com/gpu.present", "nvidia.com/gpu.count", "nodepool")


def node(name: str = "n1", *, heartbeat: str = "10:00:00", **labels: str) -> dict[str, Any]:
    """As a kubelet fills it in."""
    return {
        "metadata": {
            "name": name,
            "uid": f"uid-{name}",
            "resourceVersion": heartbeat,
            "labels": {
                "kubernetes.io/os": "linux",
                "nvidia.com/gpu.present": "true",
                "nvidia.com/gpu.count": "8",
                "kubernetes.io/hostname": name,
                "unasked": "x" * 60,
                **labels,
            },
            "annotations": {"volumes": "y" * 500},
        },
        "spec": {"podCIDR": "10.1.0.0/24"},
        "status": {
            "capacity": {"cpu": "128", "memory": "2Ti", "nvidia.com/gpu": "8"},
            "allocatable": {
                "cpu": "127500m",
                "memory": "2000Gi",
                "hugepages-2Mi": "0",
                "nvidia.com/gpu": "8",
                "nvidia.com/mig-1g.5gb": "0",
                "attachable-volumes-aws/ebs": "25",
            },
            "conditions": [
                {"type": "MemoryPressure", "status": "False", "lastHeartbeatTime": heartbeat},
                {"type": "Ready", "status": "True", "lastHeartbeatTime": heartbeat},
            ],
            "images": [{"names": [f"registry.example.com/{name}/{i}@sha256:{'a' * 64}"]} for i in range(50)],
        },
    }


def test_what_is_kept() -> None:
    assert NodeSlimmer(KEYS)(node()) == NodeRecord(
        name="n1",
        labels=(("kubernetes.io/os", "linux"), ("nvidia.com/gpu.count", "8"), ("nvidia.com/gpu.present", "true")),
        ready=True,
        cordoned=False,
        cpus_milli=128000,
        extended=(("nvidia.com/gpu", 8),),
    )


def test_ready_and_cordoned() -> None:
    slim = NodeSlimmer(KEYS)
    found = node()
    found["spec"]["unschedulable"] = True
    assert slim(found).cordoned
    assert not slim(found).usable
    found = node()
    found["status"]["conditions"][1]["status"] = "Unknown"
    assert not slim(found).ready
    assert not slim({"metadata": {"name": "new"}}).ready


def test_what_is_no_node() -> None:
    for wrong in ({}, {"metadata": None}, {"metadata": {"name": ""}}, {"metadata": {"name": 3}}):
        with pytest.raises(KubeUnanswered, match="metadata.name"):
            NodeSlimmer(KEYS)(wrong)
    odd = {"metadata": {"name": "a", "labels": []}, "spec": 1, "status": {"capacity": {"cpu": []}, "conditions": {}}}
    assert NodeSlimmer(KEYS)(odd) == NodeRecord(
        name="a", labels=(), ready=False, cordoned=False, cpus_milli=0, extended=()
    )


def test_five_thousand_nodes_are_small() -> None:
    slim, nodes = NodeSlimmer(KEYS), Nodes()
    tracemalloc.start()
    try:
        nodes.apply(Listed(items=tuple(slim(node(f"ip-10-1-{n}.eu.compute.internal")) for n in range(5000))))
        size, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(nodes) == 5000
    assert peak < 30 * 2**20, f"{peak / 2**20:.1f} MiB at most, {size / 2**20:.1f} MiB stay"
    assert size < 5 * 2**20
    first, second, *_ = nodes
    assert first.labels is second.labels
    assert first.extended is second.extended


def test_a_heartbeat_is_no_change() -> None:
    slim, nodes = NodeSlimmer(KEYS), Nodes()
    nodes.apply(Listed(items=(slim(node()),)))
    before = nodes.changes
    nodes.apply(Upsert(item=slim(node(heartbeat="10:05:00"))))
    nodes.apply(Listed(items=(slim(node(heartbeat="10:10:00")),)))
    assert nodes.changes == before
    nodes.apply(Upsert(item=slim(node(nodepool="a"))))
    assert nodes.changes == before + 1


def test_extended_resources() -> None:
    amounts = {"amd.com/gpu": "2", "nvidia.com/mig-3g.20gb": 4, "cpu": 1, "x/y": "0", "kubernetes.io/z": 1, "a/b": "?"}
    assert extended(amounts) == (("amd.com/gpu", 2), ("nvidia.com/mig-3g.20gb", 4))

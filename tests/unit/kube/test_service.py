"""What is read of a Service, whatever it holds."""

from __future__ import annotations

from typing import Any

import pytest
from clearml_k8s.errors import KubeUnanswered
from clearml_k8s.kube.service import ServiceRecord, slim_service

NOTHING = ServiceRecord(name="s", kind="ClusterIP", owner=None, port=None, node_port=None, ingress=None)


def test_what_counts_is_read() -> None:
    found = slim_service(
        {
            "metadata": {"name": "s", "ownerReferences": [{"kind": "Job", "uid": "j"}]},
            "spec": {"type": "LoadBalancer", "ports": [{"port": 22, "nodePort": 30001}]},
            "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}},
        }
    )
    assert found == ServiceRecord(
        name="s", kind="LoadBalancer", owner="j", port=22, node_port=30001, ingress="192.0.2.1"
    )


@pytest.mark.parametrize("strange", [None, [], {}, "x", 7, [None], ["x"], {"x": 1}])
def test_what_is_strange_is_nothing(strange: Any) -> None:
    meta = {"name": "s", "ownerReferences": strange}
    assert slim_service({"metadata": meta, "spec": strange, "status": strange}) == NOTHING
    spec, status = {"ports": strange, "type": None}, {"loadBalancer": strange}
    assert slim_service({"metadata": meta, "spec": spec, "status": status}) == NOTHING
    spec, status = {"ports": [{"port": True, "nodePort": strange}]}, {"loadBalancer": {"ingress": strange}}
    if not isinstance(strange, int):
        assert slim_service({"metadata": meta, "spec": spec, "status": status}) == NOTHING


@pytest.mark.parametrize("thing", [{}, {"metadata": None}, {"metadata": {"name": 3}}, {"metadata": {"name": ""}}, "x"])
def test_one_without_a_name_is_none(thing: Any) -> None:
    with pytest.raises(KubeUnanswered):
        slim_service(thing)

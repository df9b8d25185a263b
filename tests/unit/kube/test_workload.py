"""What is kept of a Workload, and in which version of Kueue's API it is asked for."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from clearml_k8s.errors import KubeNotFound, KubeUnanswered
from clearml_k8s.kube.slim import Condition
from clearml_k8s.kube.watch import Listed, Upsert
from clearml_k8s.kube.workload import WorkloadWatch, served, slim_workload
from flow_parts import kube_client
from manual_clock import ManualClock
from scripted_kube import Cluster, Fault, status

TASK = "5e6f0a1b2c3d4e5f60718293a4b5c6d7"
WORKLOAD: dict[str, Any] = {
    "metadata": {
        "uid": "u",
        "name": "job-clearml-id-x",
        "resourceVersion": "7",
        "ownerReferences": [{"kind": "Other", "uid": "o"}, {"kind": "Job", "uid": "j"}],
    },
    "spec": {
        "active": True,
        "queueName": "team",
        "podSets": [{"name": "main", "template": {"metadata": {"labels": {"clearml-task-id": TASK}}, "spec": {}}}],
    },
    "status": {"conditions": [{"type": "QuotaReserved", "status": "False", "reason": "Pending", "message": "full"}]},
}


def test_what_is_kept() -> None:
    found = slim_workload(WORKLOAD)
    assert (found.uid, found.name, found.resource_version) == ("u", "job-clearml-id-x", "7")
    assert (found.task, found.job, found.active) == (TASK, "j", True)
    assert found.condition("QuotaReserved") == Condition(
        type="QuotaReserved", status="False", reason="Pending", message="full"
    )
    assert found.condition("Evicted") is None


@pytest.mark.parametrize("spec", [None, {}, {"podSets": None}, {"podSets": [{}]}, {"podSets": [7]}, {"active": False}])
def test_what_is_missing_is_left_out(spec: Any) -> None:
    found = slim_workload({"metadata": {"uid": "u", "name": "n"}, "spec": spec})
    assert (found.task, found.job, found.conditions) == (None, None, ())
    assert found.active is (not spec or "active" not in spec)


@pytest.mark.parametrize("thing", [None, {}, {"metadata": {"uid": "u"}}, {"metadata": {"uid": 1, "name": "n"}}])
def test_one_that_is_not_known_is_refused(thing: Any) -> None:
    with pytest.raises(KubeUnanswered):
        slim_workload(thing)


async def test_the_newest_version_that_is_served(cluster: Cluster) -> None:
    client = kube_client(cluster.url, ManualClock(auto=True))
    for versions, expected in ((("v1beta1",), "v1beta1"), (("v1beta1", "v1beta2"), "v1beta2")):
        cluster.groups["kueue.x-k8s.io"] = versions
        assert (await served(client)).version == expected
    del cluster.groups["kueue.x-k8s.io"]
    with pytest.raises(KubeNotFound, match="Kueue is not installed"):
        await served(client)
    cluster.groups.clear()
    with pytest.raises(KubeUnanswered, match="no list of API groups"):
        await served(client)
    await client.close()


async def test_kueue_may_be_upgraded(cluster: Cluster) -> None:
    """The old version is not served any more: what stands is listed anew, in the new one."""
    clock = ManualClock(auto=True)
    client = kube_client(cluster.url, clock)
    cluster.groups["kueue.x-k8s.io"] = ("v1beta1",)
    cluster.put("workloads", "w", **{key: WORKLOAD[key] for key in ("spec", "status")})
    events = WorkloadWatch(client=client, namespace="ns").events()
    async with asyncio.timeout(20):
        first = await anext(events)
        assert isinstance(first, Listed)
        cluster.groups["kueue.x-k8s.io"] = ("v1beta2",)
        cluster.watch_faults.append(Fault(code=404, status=status(404, "NotFound", "the server could not find it")))
        again = await anext(events)
        assert isinstance(again, Listed)
        assert [one.task for one in again.items] == [TASK]
        more = asyncio.ensure_future(anext(events))
        await cluster.watching(2)
        cluster.put("workloads", "w", spec={"active": False})
        assert isinstance(await more, Upsert)
    assert {seen.path.split("/")[3] for seen in cluster.of("GET", "/workloads")} == {"v1beta1", "v1beta2"}
    await events.aclose()
    await client.close()

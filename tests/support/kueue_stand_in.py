"""A stand-in for Kueue's manager: on objects of Kueue's own types it does what Kueue does to a Job of one pod.

It counts Jobs, one place each, in place of resources; the texts are Kueue's. The same tests run with Kueue itself
(`make test-long`), which says whether it plays it well.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import real_kueue
from chaos_kube import MERGE_PATCH, Kube, KubeError
from real_kueue import GROUP

QUEUE, PRIORITY = "kueue.x-k8s.io/queue-name", "kueue.x-k8s.io/priority-class"
FULL = "couldn't assign flavors to pod set main: insufficient unused quota for cpu in flavor default, 1 more needed"
PREEMPTED = "Preempted to accommodate a workload (UID: {uid}) due to prioritization in the ClusterQueue"


@dataclass(kw_only=True)
class _Known:
    """A Job and its Workload."""

    job: dict[str, Any]
    workload: dict[str, Any]
    priority: int

    def condition(self, kind: str) -> dict[str, Any] | None:
        found = self.workload.get("status", {}).get("conditions") or ()
        return next((one for one in found if one["type"] == kind), None)

    def true(self, kind: str) -> bool:
        found = self.condition(kind)
        return found is not None and found["status"] == "True"

    @property
    def finished(self) -> bool:
        found = self.job.get("status", {}).get("conditions") or ()
        return any(one["type"] in ("Complete", "Failed") and one["status"] == "True" for one in found)


@asynccontextmanager
async def stand_in(*, kube: Kube, namespace: str) -> AsyncIterator[None]:
    """It runs, for one namespace."""
    await real_kueue.install(kube)
    playing = asyncio.create_task(_play(kube, namespace))
    try:
        yield
        assert not playing.done(), playing
    finally:
        playing.cancel()
        await asyncio.gather(playing, return_exceptions=True)


async def _play(kube: Kube, namespace: str) -> None:
    while True:
        try:
            await _round(kube, namespace)
        except (KubeError, aiohttp.ClientError, TimeoutError) as error:
            print(f"stand-in for Kueue: {error}")  # somebody was faster
        await asyncio.sleep(0.2)


async def _round(kube: Kube, namespace: str) -> None:
    jobs = (await kube.request("GET", f"/apis/batch/v1/namespaces/{namespace}/jobs?labelSelector={QUEUE}"))["items"]
    workloads = (await kube.request("GET", f"{GROUP}/namespaces/{namespace}/workloads"))["items"]
    classes = (await kube.request("GET", f"{GROUP}/workloadpriorityclasses"))["items"]
    values = {one["metadata"]["name"]: int(one["value"]) for one in classes}
    by_job = {one["metadata"]["ownerReferences"][0]["uid"]: one for one in workloads}
    known = []
    for job in jobs:
        if job["metadata"].get("deletionTimestamp"):
            continue
        workload = by_job.get(job["metadata"]["uid"]) or await _workload(kube, job)
        known.append(
            _Known(job=job, workload=workload, priority=values.get(job["metadata"]["labels"].get(PRIORITY, ""), 0))
        )
    queues = (await kube.request("GET", f"{GROUP}/namespaces/{namespace}/localqueues"))["items"]
    there = {one["metadata"]["name"]: one["spec"]["clusterQueue"] for one in queues}
    # The first come first, but for a higher priority.
    known.sort(key=lambda one: (-one.priority, one.job["metadata"]["creationTimestamp"], one.job["metadata"]["name"]))
    for one in known:
        if one.finished:
            if not one.true("Finished"):
                await _set(kube, one, Finished=("True", "Failed", "the Job has ended"))
        elif one.true("Evicted"):
            await _evicted(kube, one)
        elif one.job["metadata"]["labels"][QUEUE] not in there:
            said = f"LocalQueue {one.job['metadata']['labels'][QUEUE]} doesn't exist"
            await _set(kube, one, QuotaReserved=("False", "Inadmissible", said))
        elif not one.true("QuotaReserved"):
            await _admit(kube, one, known, cluster_queue=there[one.job["metadata"]["labels"][QUEUE]])


async def _workload(kube: Kube, job: dict[str, Any]) -> dict[str, Any]:
    meta = job["metadata"]
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": meta["name"], "uid": meta["uid"], "controller": True}
    template = {key: job["spec"]["template"][key] for key in ("metadata", "spec")}
    template["metadata"] = {key: template["metadata"][key] for key in ("labels", "annotations")}
    body = {
        "apiVersion": "kueue.x-k8s.io/v1beta2",
        "kind": "Workload",
        "metadata": {"name": f"job-{meta['name']}-{meta['uid'][:5]}", "ownerReferences": [owner]},
        "spec": {
            "queueName": meta["labels"][QUEUE],
            "podSets": [{"name": "main", "count": 1, "template": template}],
        },
    }
    made: dict[str, Any] = await kube.request("POST", f"{GROUP}/namespaces/{meta['namespace']}/workloads", body=body)
    return made


async def _admit(kube: Kube, one: _Known, known: list[_Known], *, cluster_queue: str) -> None:
    """There is room, or will be once one that matters less is gone."""
    found = await kube.request("GET", f"{GROUP}/clusterqueues/{cluster_queue}")
    most = int(found["spec"]["resourceGroups"][0]["flavors"][0]["resources"][0]["nominalQuota"])
    placed = [other for other in known if other.true("QuotaReserved") and not other.finished]
    if len(placed) < most:
        again = {}
        for kind in ("Evicted", "Preempted"):
            before = one.condition(kind)
            if before is not None and before["status"] == "True":
                again[kind] = ("False", "QuotaReserved", f"Previously: {before['message']}")
        told = (("True", "QuotaReserved", "Quota reserved"), ("True", "Admitted", "The workload is admitted"))
        await _set(kube, one, QuotaReserved=told[0], Admitted=told[1], **again)
        await _suspend(kube, one, False)
        return
    less = [other for other in placed if other.priority < one.priority and not other.true("Evicted")]
    if less and not any(other.true("Evicted") for other in placed):
        said = PREEMPTED.format(uid=one.workload["metadata"]["uid"])
        await _set(kube, less[-1], Evicted=("True", "Preempted", said), Preempted=("True", "InClusterQueue", said))
    if one.condition("QuotaReserved") is None:
        await _set(kube, one, QuotaReserved=("False", "Pending", FULL))


async def _evicted(kube: Kube, one: _Known) -> None:
    """Suspended first; its place is free when the Job controller counts no pod of it, which may still end."""
    if not one.job["spec"].get("suspend"):
        await _suspend(kube, one, True)
    elif one.true("QuotaReserved") and not one.job.get("status", {}).get("active"):
        why = one.condition("Evicted") or {"message": ""}
        pending = ("False", "Pending", why["message"])
        await _set(kube, one, QuotaReserved=pending, Admitted=("False", "NoReservation", "The workload has none"))
    elif not one.true("QuotaReserved"):
        why = one.condition("Evicted") or {"message": ""}
        before = ("False", "Requeued", f"Previously: {why['message']}")
        await _set(kube, one, Evicted=before)


async def _suspend(kube: Kube, one: _Known, suspend: bool) -> None:
    meta = one.job["metadata"]
    path = f"/apis/batch/v1/namespaces/{meta['namespace']}/jobs/{meta['name']}"
    await kube.request(
        "PATCH", path, body={"metadata": {"uid": meta["uid"]}, "spec": {"suspend": suspend}}, kind=MERGE_PATCH
    )


async def _set(kube: Kube, one: _Known, **conditions: tuple[str, str, str]) -> None:
    """Conditions of the Workload: status, reason and message by type."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    kept = [c for c in one.workload.get("status", {}).get("conditions") or () if c["type"] not in conditions]
    told = [
        {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": now}
        for kind, (status, reason, message) in conditions.items()
    ]
    meta = one.workload["metadata"]
    path = f"{GROUP}/namespaces/{meta['namespace']}/workloads/{meta['name']}/status"
    body = {"status": {"conditions": [*kept, *told]}}
    one.workload = await kube.request("PATCH", path, body=body, kind=MERGE_PATCH)

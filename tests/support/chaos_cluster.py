"""What a chaos test does to the local cluster's own programs, and to its nodes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from typing import Any

from chaos_kube import MERGE_PATCH, STRATEGIC_PATCH, Kube

from ci.cluster.kwok import ANNOTATION
from ci.cluster.local import LocalCluster
from ci.cluster.network import inside

ETCD = "http://127.0.0.1:2379/v3/kv"
_CALL = """
import sys, urllib.request as r
q = r.Request(sys.argv[1], sys.argv[2].encode(), {"Content-Type": "application/json"})
print(r.build_opener(r.ProxyHandler({})).open(q, timeout=20).read().decode())
"""


def apiserver(cluster: LocalCluster) -> int:
    """Its process id."""
    pid = next(health.pid for health in cluster.status() if health.name == "kube-apiserver")
    assert pid is not None
    return pid


async def kill_apiserver(cluster: LocalCluster) -> None:
    """Connections break, and are refused until `LocalCluster.up`."""
    os.kill(await asyncio.to_thread(apiserver, cluster), signal.SIGKILL)


async def compact(cluster: LocalCluster) -> int:
    """Have etcd forget its history; the revision before which it now knows nothing."""
    revision = int((await _etcd(cluster, "range", key="AA=="))["header"]["revision"])
    await _etcd(cluster, "compaction", revision=str(revision), physical=True)
    return revision


async def out_of_service(kube: Kube, node: str) -> None:
    """A simulated node ceases to answer, and an administrator says that it is shut down."""
    path = f"/api/v1/nodes/{node}"
    await kube.request("PATCH", path, body={"metadata": {"annotations": {ANNOTATION: None}}}, kind=MERGE_PATCH)
    silent = {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"}
    await kube.request("PATCH", f"{path}/status", body={"status": {"conditions": [silent]}}, kind=STRATEGIC_PATCH)
    taint = {"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"}
    # The controller manager adds taints of its own meanwhile.
    added = [{"op": "add", "path": "/spec/taints/-", "value": taint}]
    await kube.request("PATCH", path, body=added, kind="application/json-patch+json")


async def _etcd(cluster: LocalCluster, what: str, **body: Any) -> dict[str, Any]:
    """One call to etcd itself, which listens within the cluster's network only."""
    command = inside(cluster.existing(), "python3", "-c", _CALL, f"{ETCD}/{what}", json.dumps(body))
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert process.returncode == 0, f"etcd {what}"
    answer: dict[str, Any] = json.loads(out)
    return answer

"""Kueue's own manager as a process of a test's own, built of its Go module, on the local cluster.

Without its webhooks: what they would do to the objects here (a finalizer on a ClusterQueue, `suspend` on a Job) is of
no account, or is the controller's own doing, which is what is tested.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from chaos_controller import free_port
from chaos_counts import until
from chaos_kube import Kube, KubeError

from ci.tools import build

GROUP = "/apis/kueue.x-k8s.io/v1beta2"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"

# It looks for the certificate of its metrics there, whether it serves any or not.
_START = """
mount -t tmpfs tmpfs /etc && mkdir -p /etc/kueue/metrics && ln -s "$1" /etc/kueue/metrics/certs || exit 1
shift
exec "$@"
"""


async def install(kube: Kube) -> None:
    """Kueue's types, as its module has them; they stay."""
    names = []
    for file in sorted((build.source("kueue") / "config/components/crd/bases").glob("*.yaml")):
        thing = yaml.safe_load(file.read_text())
        names.append(thing["metadata"]["name"])
        await ensure(kube, CRDS, thing)

    async def established() -> bool:
        found = [await kube.request("GET", f"{CRDS}/{name}") for name in names]
        return all(
            any(
                c["type"] == "Established" and c["status"] == "True"
                for c in (one.get("status", {}).get("conditions") or ())
            )
            for one in found
        )

    await until(established, lambda: "Kueue's types are served", limit=180)


async def ensure(kube: Kube, collection: str, thing: dict[str, Any]) -> None:
    """Made, unless it is there. Kueue's types are large: on a busy machine the answer may not come in time."""

    async def made() -> bool:
        try:
            await kube.request("POST", collection, body=thing)
        except TimeoutError:
            return False
        except KubeError as error:
            if error.code != 409:
                raise
        return True

    await until(made, lambda: f"{thing['metadata']['name']} is made", limit=180)


@asynccontextmanager
async def kueue(*, kube: Kube, kubeconfig: Path, folder: Path) -> AsyncIterator[None]:
    """It runs, and has read what there is; its log is in ``folder``."""
    await install(kube)
    await ensure(kube, "/api/v1/namespaces", {"metadata": {"name": "kueue-system"}})
    certificates, health = folder / "kueue-certificates", free_port()
    certificates.mkdir()
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "2", "-subj", "/CN=kueue", "-keyout", certificates / "tls.key"),
            *("-out", certificates / "tls.crt"),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    config = {
        "apiVersion": "config.kueue.x-k8s.io/v1beta2",
        "kind": "Configuration",
        "namespace": "kueue-system",
        "health": {"healthProbeBindAddress": f"127.0.0.1:{health}"},
        "metrics": {"bindAddress": "0"},
        "webhook": {"port": free_port(), "certDir": str(certificates)},
        "leaderElection": {"leaderElect": False},
        "internalCertManagement": {"enable": False},
        "integrations": {"frameworks": ["batch/job"]},
        "featureGates": {"VisibilityOnDemand": False, "MultiKueue": False},
    }
    (folder / "kueue.yaml").write_text(yaml.safe_dump(config))
    program = build.ensure(["kueue"])["kueue"]
    with (folder / "kueue.log").open("ab") as sink:
        process = await asyncio.create_subprocess_exec(
            *("unshare", "--mount", "sh", "-c", _START, "sh", str(certificates)),
            *(str(program), f"--config={folder / 'kueue.yaml'}", "--zap-log-level=2"),
            env={**os.environ, "KUBECONFIG": str(kubeconfig)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
        )
    try:
        async with aiohttp.ClientSession() as http:

            async def ready() -> bool:
                assert process.returncode is None, (folder / "kueue.log").read_text()[-3000:]
                try:
                    async with http.get(f"http://127.0.0.1:{health}/readyz") as reply:
                        return reply.status == 200
                except aiohttp.ClientError:
                    return False

            await until(ready, lambda: "Kueue is ready", limit=120)
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def cluster_queue(kube: Kube, name: str, *, cpus: int) -> None:
    """A ClusterQueue of so many CPUs, in which a higher priority preempts a lower one; for all namespaces."""
    flavor = {"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "ResourceFlavor", "metadata": {"name": "default"}}
    await ensure(kube, f"{GROUP}/resourceflavors", flavor)
    resources = [{"name": "cpu", "nominalQuota": cpus}]
    spec = {
        "namespaceSelector": {},
        "preemption": {"withinClusterQueue": "LowerPriority"},
        "resourceGroups": [{"coveredResources": ["cpu"], "flavors": [{"name": "default", "resources": resources}]}],
    }
    body = {"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "ClusterQueue", "metadata": {"name": name}, "spec": spec}
    await kube.request("POST", f"{GROUP}/clusterqueues", body=body)


async def local_queue(kube: Kube, name: str, *, namespace: str, cluster_queue: str) -> None:
    body = {
        "apiVersion": "kueue.x-k8s.io/v1beta2",
        "kind": "LocalQueue",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"clusterQueue": cluster_queue},
    }
    await kube.request("POST", f"{GROUP}/namespaces/{namespace}/localqueues", body=body)


async def priority(kube: Kube, name: str, *, value: int) -> None:
    """A WorkloadPriorityClass."""
    body = {
        "apiVersion": "kueue.x-k8s.io/v1beta2",
        "kind": "WorkloadPriorityClass",
        "metadata": {"name": name},
        "value": value,
    }
    await ensure(kube, f"{GROUP}/workloadpriorityclasses", body)

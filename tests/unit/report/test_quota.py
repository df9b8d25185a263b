"""The quota of a namespace, as it is read."""

from __future__ import annotations

from random import Random

from clearml_k8s.kube.client import KubeClient
from clearml_k8s.report.quota import CpuQuota
from kubernetes.aio.client.configuration import Configuration
from manual_clock import ManualClock
from scripted_kube import Cluster, Fault, status


async def test_read(cluster: Cluster, clock: ManualClock) -> None:
    configuration = Configuration(host=cluster.url)
    async with KubeClient(configuration=configuration, clock=clock, random=Random(7)) as client:
        quota = CpuQuota(client=client, namespace="other")
        assert quota.problem == "the namespace's quota was not read yet"
        await quota.read()
        assert (quota.cpus, quota.problem) == (None, "")
        cluster.put("resourcequotas", "a", spec={"hard": {"limits.cpu": "40"}})
        await quota.read()
        assert (quota.cpus, quota.problem) == (40, "")
        assert cluster.of("GET")[-1].path == "/api/v1/namespaces/other/resourcequotas"
        cluster.fault("GET", Fault(code=403, status=status(403, "Forbidden", "no")))
        await quota.read()
        assert "may not list resourcequotas in namespace other" in quota.problem
        assert "cpu.reportNamespaced" in quota.problem
        cluster.fault("GET", *[Fault(code=503)] * 50)
        await quota.read()
        assert "the quota of namespace other cannot be read" in quota.problem
        cluster.faults.clear()
        await quota.read()
        assert (quota.cpus, quota.problem) == (40, "")

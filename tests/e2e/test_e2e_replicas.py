"""Two replicas and rolling upgrades, with real pods: there is always one that is Ready, and the work goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from clearml_server.process import DevServer
from e2e_programs import Helm, Kubectl, all_ready, controller_pods, restarts, until, values_for

LIMIT = 150.0


@pytest.fixture
def kubectl(namespaces: Any) -> Kubectl:
    made: Kubectl = namespaces()
    return made


def leader(kubectl: Kubectl, helm: Helm) -> str:
    """The pod that leads, "" none."""
    lease = kubectl.get("lease", f"{helm.fullname}-leader")
    return "" if lease is None else str(lease["spec"].get("holderIdentity") or "").rpartition("_")[0]


def another_leads(kubectl: Kubectl, helm: Helm, former: str) -> str:
    return until("another pod leads", lambda: (now := leader(kubectl, helm)) != former and now, limit=LIMIT)


def named(kubectl: Kubectl, helm: Helm) -> set[str]:
    return {pod["metadata"]["name"] for pod in controller_pods(kubectl, helm)}


def launched(kubectl: Kubectl, server: DevServer, task: str) -> None:
    until("the task has its Job", lambda: kubectl.job_of(task), limit=60)
    assert server.entries(server.queue_id("default")) == []


def test_upgrade_and_deletion_hand_over(kubectl: Kubectl, server: DevServer, folder: Path) -> None:
    """Tasks have no node to run on: their Jobs are what the controllers make of them."""

    def values(*, replicas: int, limit: int) -> dict[str, Any]:
        return values_for(
            url=server.url,
            access_key=server.access_key,
            secret_key=server.secret_key,
            queues={"default": {}},
            base={"nodeSelector": {"no-such": "node"}},
            replicaCount=replicas,
            maxPods=limit,
        )

    helm = Helm("two", kubectl.namespace)
    helm.upgrade(values(replicas=1, limit=100), folder)
    try:
        first = until("the one pod leads", lambda: leader(kubectl, helm), limit=LIMIT)
        assert named(kubectl, helm) == {first}
        launched(kubectl, server, server.create_task(queue="default"))

        # The new pod is Ready, as standby, before the old one is told to end.
        helm.upgrade(values(replicas=1, limit=99), folder)
        second = another_leads(kubectl, helm, first)
        launched(kubectl, server, server.create_task(queue="default"))
        until("the old pod has gone", lambda: named(kubectl, helm) == {second}, limit=LIMIT)

        helm.upgrade(values(replicas=2, limit=99), folder)
        pods = until("two are Ready", lambda: all_ready(controller_pods(kubectl, helm), 2), limit=LIMIT)
        assert leader(kubectl, helm) == second, "the one that works is left alone"
        (standby,) = {pod["metadata"]["name"] for pod in pods} - {second}
        path = f"/api/v1/namespaces/{kubectl.namespace}/pods/{standby}:8080/proxy"
        assert f"controller: standby: {second}_" in kubectl("get", "--raw", f"{path}/readyz")
        assert "clearml_k8s_leader 0.0" in kubectl("get", "--raw", f"{path}/metrics")

        kubectl("delete", "pod", second, "--wait=false")
        assert another_leads(kubectl, helm, second) == standby
        launched(kubectl, server, server.create_task(queue="default"))

        helm.upgrade(values(replicas=2, limit=98), folder)
        another_leads(kubectl, helm, standby)
        until("both pods are new", lambda: standby not in named(kubectl, helm), limit=LIMIT)
        launched(kubectl, server, server.create_task(queue="default"))
        pods = until("two are Ready", lambda: all_ready(controller_pods(kubectl, helm), 2), limit=LIMIT)
        assert [restarts(pod) for pod in pods] == [0, 0]
    finally:
        helm("uninstall", helm.name, "--ignore-not-found", "--wait", "--timeout", "90s")
        kubectl("delete", "jobs", "--selector", helm.task_selector, "--wait=false")

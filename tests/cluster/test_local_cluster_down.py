"""`make cluster-down` leaves nothing behind, whatever was killed before, and touches no cluster but its own."""

from __future__ import annotations

import os
import signal
import subprocess
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster_parts import COMPONENTS, Kubectl, pid_of, pod, traces, until, well
from rest_is_long import rest_is_long

from ci.cluster import containers, files
from ci.cluster.choice import current_chosen
from ci.cluster.layout import Layout
from ci.cluster.local import LocalCluster
from ci.images import build as images
from ci.paths import checkout_name

pytestmark = pytest.mark.skipif(current_chosen(), reason="CLUSTER=current: there is no local cluster to test")


def new_cluster(name: str) -> Iterator[LocalCluster]:
    """Not the one of the other tests: they delete Nodes in it, while these run beside them."""
    cluster = LocalCluster(name=f"{checkout_name()[:25]}-{name}")
    cluster.down()
    cluster.up()
    try:
        yield cluster
    finally:
        cluster.down()


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    yield from new_cluster("first")


@pytest.fixture
def second() -> Iterator[LocalCluster]:
    yield from new_cluster("second")


def run_a_pod_with_mounts(layout: Layout) -> None:
    """A pod with a token, and a volume in memory: both are mounts of the kubelet's."""
    kubectl = Kubectl(layout.kubeconfig)
    mounted = pod("mounted")
    spec = mounted["spec"]
    spec["volumes"] = [{"name": "memory", "emptyDir": {"medium": "Memory"}}]
    container = {"name": "main", "image": files.PAUSE_IMAGE, "imagePullPolicy": "Never"}
    spec["containers"] = [container | {"volumeMounts": [{"name": "memory", "mountPath": "/memory"}]}]
    kubectl("apply", "-f", "-", given=mounted)
    kubectl("wait", "--for=condition=Ready", "pod/mounted", "--timeout=60s")


@pytest.mark.parametrize("component", rest_is_long(COMPONENTS, but=("containerd",)))
def test_nothing_is_left_after_a_component_was_killed(second: LocalCluster, component: str) -> None:
    layout = second.existing()
    run_a_pod_with_mounts(layout)
    before = traces(layout)
    assert all(before.values()), before
    assert any("memory" in line for line in before["mounts"]), before["mounts"]
    pid = pid_of(second, component)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{pid}/exe").exists(), f"{component} has ended")
    second.down()
    assert not any(traces(layout).values()), traces(layout)
    second.down()  # a second time is no error


def page(kubectl: Kubectl, name: str) -> str:
    """The first line of what the pod serves, fetched by this machine."""
    address = kubectl("get", "pod", name, "-o", "jsonpath={.status.podIP}")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://{address}:8000/name", timeout=10) as answer:
        return str(answer.read().decode().strip())


def serve(layout: Layout, namespace: str, text: str) -> Kubectl:
    """A pod in a namespace of its own that serves the text."""
    containers.load(layout, images.ensure("task"))
    kubectl = Kubectl(layout.kubeconfig)
    kubectl("create", "namespace", namespace)
    command = f"mkdir /www && echo {text} >/www/name && exec python3 -m http.server --directory /www 8000"
    served = Kubectl(layout.kubeconfig, namespace=namespace)
    served("apply", "-f", "-", given=pod("serves", "sh", "-c", command))
    served("wait", "--for=condition=Ready", "pod/serves", "--timeout=60s")
    until(lambda: page_or_none(served) is not None, f"the pod serves {text}")
    return served


def page_or_none(kubectl: Kubectl) -> str | None:
    try:
        return page(kubectl, "serves")
    except OSError:  # it does not listen yet
        return None


@pytest.mark.long
def test_two_clusters_run_at_one_time_and_the_end_of_one_is_not_seen_by_the_other(
    cluster: LocalCluster, second: LocalCluster
) -> None:
    first_layout, second_layout = cluster.existing(), second.existing()
    namespace = f"beside-{uuid.uuid4().hex[:8]}"
    of_first = serve(first_layout, namespace, "first")
    bystander = subprocess.Popen(["sleep", "600"])
    try:
        of_second = serve(second_layout, namespace, "second")
        assert (page(of_first, "serves"), page(of_second, "serves")) == ("first", "second")
        assert all(well(cluster).values())
        assert all(well(second).values())
        pids = {name: pid_of(cluster, name) for name in COMPONENTS}
        status = of_first("get", "pod", "serves", "-o", "jsonpath={.status.containerStatuses}")
        before = traces(first_layout)

        second.down()

        assert not any(traces(second_layout).values()), traces(second_layout)
        assert page(of_first, "serves") == "first"
        assert of_first("get", "pod", "serves", "-o", "jsonpath={.status.containerStatuses}") == status
        assert {name: pid_of(cluster, name) for name in COMPONENTS} == pids
        assert all(well(cluster).values())
        for kind in ("mounts", "devices", "routes", "rules", "cgroups"):
            assert traces(first_layout)[kind] == before[kind], kind
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()
        Kubectl(first_layout.kubeconfig)("delete", "namespace", namespace, "--wait=false")

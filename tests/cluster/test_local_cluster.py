"""The local cluster itself: it works as a cluster does, mends what was killed, and leaves nothing behind.

It runs a cluster of its own beside the one of the other tests, which also shows that two do not collide.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ci.cluster import cgroups, containers, processes
from ci.cluster.choice import current_chosen
from ci.cluster.layout import Layout
from ci.cluster.local import LocalCluster
from ci.images import build as images
from ci.paths import checkout_name
from ci.tools import build as tools

COMPONENTS = (
    "etcd",
    "containerd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "coredns",
)
CALL_API = """
import ssl, urllib.request
folder = "/var/run/secrets/kubernetes.io/serviceaccount"
request = urllib.request.Request("https://kubernetes.default.svc/version")
request.add_header("Authorization", "Bearer " + open(folder + "/token").read())
answer = urllib.request.urlopen(request, context=ssl.create_default_context(cafile=folder + "/ca.crt"), timeout=10)
print("api", answer.status)
print("web", urllib.request.urlopen("http://web.default.svc.cluster.local/", timeout=10).status)
"""

pytestmark = pytest.mark.skipif(current_chosen(), reason="CLUSTER=current: there is no local cluster to test")


def until(condition: Callable[[], bool], what: str, limit: float = 60) -> None:
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, f"not within {limit:.0f} s: {what}"
        time.sleep(0.1)


class Kubectl:
    def __init__(self, kubeconfig: Path) -> None:
        self._command = [str(tools.ensure(["kubectl"])["kubectl"]), f"--kubeconfig={kubeconfig}"]

    def __call__(self, *words: str, given: object = None) -> str:
        text = None if given is None else json.dumps(given)
        done = subprocess.run(
            [*self._command, *words], input=text, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, f"kubectl {' '.join(words)}: {done.stderr}"
        return done.stdout

    def phase(self, pod: str) -> str:
        return self("get", "pod", pod, "-o", "jsonpath={.status.phase}")


def pod(name: str, *command: str, restart: str = "Never", labels: dict[str, str] | None = None) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels or {}},
        "spec": {
            "restartPolicy": restart,
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "main", "image": images.reference("task"), "command": list(command)}],
        },
    }


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    cluster = LocalCluster(name=f"{checkout_name()[:26]}-self")
    cluster.down()
    cluster.up()
    try:
        yield cluster
    finally:
        cluster.down()


@pytest.fixture(scope="module")
def layout(cluster: LocalCluster) -> Layout:
    return cluster.existing()


@pytest.fixture(scope="module")
def kubectl(layout: Layout) -> Kubectl:
    return Kubectl(layout.kubeconfig)


@pytest.fixture(scope="module")
def web(layout: Layout, kubectl: Kubectl) -> str:
    """A pod that serves HTTP behind the Service `web`."""
    containers.load(layout, images.ensure("task"))
    kubectl("apply", "-f", "-", given=pod("web", "python3", "-m", "http.server", "8000", labels={"app": "web"}))
    service = {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8000}]}
    kubectl("apply", "-f", "-", given={"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
                                       "spec": service})  # fmt: skip
    kubectl("wait", "--for=condition=Ready", "pod/web", "--timeout=60s")
    return "web"


def well(cluster: LocalCluster) -> dict[str, bool]:
    return {health.name: health.problem is None for health in cluster.status()}


def pid_of(cluster: LocalCluster, component: str) -> int | None:
    return next(health.pid for health in cluster.status() if health.name == component)


def test_pod_reaches_the_api_server_and_a_service_by_name(kubectl: Kubectl, web: str) -> None:
    kubectl("apply", "-f", "-", given=pod("caller", "python3", "-c", CALL_API))
    until(lambda: kubectl.phase("caller") in ("Succeeded", "Failed"), "the pod ends")
    assert kubectl("logs", "caller").split("\n")[:2] == ["api 200", "web 200"]


def test_pod_reaches_a_server_on_the_machine(layout: Layout, kubectl: Kubectl, web: str, tmp_path: Path) -> None:
    (tmp_path / "hello").write_text("from the machine\n")
    command = ["python3", "-m", "http.server", "--bind", layout.host_ip, "--directory", str(tmp_path), "0"]
    with subprocess.Popen(["env", "PYTHONUNBUFFERED=1", *command], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            port = server.stdout.readline().split("port ")[1].split()[0]  # "Serving HTTP on ADDRESS port N (...)"
            url = f"http://{layout.host_ip}:{port}/hello"
            fetch = f"import urllib.request as u; print(u.urlopen('{url}').read().decode())"
            assert kubectl("exec", "web", "--", "python3", "-c", fetch).startswith("from the machine")
        finally:
            server.kill()


def test_audit_log_tells_who_made_a_job(layout: Layout, kubectl: Kubectl) -> None:
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "none"}]}}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "audited"},
           "spec": {"suspend": True, "template": template}}  # fmt: skip
    kubectl("create", "-f", "-", given=job)
    kubectl("delete", "job", "audited", "--wait=false")
    events = [json.loads(line) for line in layout.audit_log.read_text().splitlines()]
    mine = [e for e in events if e["objectRef"]["resource"] == "jobs" and e["objectRef"].get("name") == "audited"]
    verbs = {event["verb"]: event for event in mine}
    assert {"create", "delete"} <= set(verbs)
    assert verbs["create"]["responseObject"]["metadata"]["name"] == "audited"
    assert verbs["create"]["user"]["username"] == "clearml-k8s:admin"


def test_jobs_complete_on_simulated_nodes_and_other_pods_stay_off(cluster: LocalCluster, kubectl: Kubectl) -> None:
    cluster.kwok_up(nodes=3, complete_after_ms=100)
    template = {
        "spec": {
            "restartPolicy": "Never",
            "nodeSelector": {"type": "kwok"},
            "tolerations": [{"key": "kwok.x-k8s.io/node", "operator": "Exists"}],
            "containers": [{"name": "main", "image": "none"}],
        }
    }
    failing = template | {"metadata": {"annotations": {"kwok.clearml-k8s.io/exit-code": "3"}}}
    for name, body in (("good", template), ("bad", failing)):
        spec = {"backoffLimit": 0, "template": body}
        kubectl("create", "-f", "-", given={"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
                                            "spec": spec})  # fmt: skip
    kubectl("wait", "--for=condition=complete", "job/good", "--timeout=60s")
    kubectl("wait", "--for=condition=failed", "job/bad", "--timeout=60s")
    assert "kwok" in well(cluster)
    assert kubectl("get", "pods", "-l", "job-name=good", "-o", "jsonpath={.items[0].spec.nodeName}").startswith("kwok-")
    kubectl("delete", "job", "good", "bad")
    until(lambda: not kubectl("get", "pods", "-l", "job-name", "-o", "name"), "the simulated pods are deleted")
    cluster.kwok_down()
    assert kubectl("get", "nodes", "-o", "name").split() == ["node/node-1"]
    assert "kwok" not in well(cluster)


def test_up_on_a_running_cluster_starts_nothing(cluster: LocalCluster) -> None:
    before = {name: pid_of(cluster, name) for name in COMPONENTS}
    cluster.up()
    assert {name: pid_of(cluster, name) for name in COMPONENTS} == before


@pytest.mark.parametrize("component", COMPONENTS)
def test_up_mends_a_killed_component_and_pods_run_on(
    cluster: LocalCluster, kubectl: Kubectl, web: str, component: str
) -> None:
    pid = pid_of(cluster, component)
    assert pid is not None
    started = kubectl("get", "pod", web, "-o", "jsonpath={.status.containerStatuses[0].state.running.startedAt}")
    os.kill(pid, signal.SIGKILL)
    until(lambda: not well(cluster)[component], "status notices", 20)
    cluster.up()
    assert all(well(cluster).values())
    assert kubectl("exec", web, "--", "echo", "alive").strip() == "alive"
    again = kubectl("get", "pod", web, "-o", "jsonpath={.status.containerStatuses[0].state.running.startedAt}")
    assert again == started


def test_up_mends_a_cluster_of_which_everything_was_killed(cluster: LocalCluster, layout: Layout) -> None:
    killed = set(processes.in_network_namespace(layout.netns)) | cgroups.members(layout.full_name)
    assert len(killed) > len(COMPONENTS)
    assert not processes.kill_all(
        lambda: set(processes.in_network_namespace(layout.netns)) | cgroups.members(layout.full_name)
    )
    cluster.up()
    assert all(well(cluster).values())


def traces(layout: Layout) -> dict[str, list[str]]:
    """All on this machine that bears the cluster's name, device or networks."""
    words = (layout.full_name, f"/{layout.name}/", str(layout.run), str(layout.state))

    def lines(*command: str) -> list[str]:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()

    commands = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            commands.append(entry.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:  # ended meanwhile
            continue
    links = Path("/var/log/containers")
    return {
        "processes": [line for line in commands if any(word in line for word in words)],
        "mounts": [line for line in Path("/proc/self/mountinfo").read_text().splitlines()
                   if any(word in line for word in words)],
        "devices": [line for line in lines("ip", "-o", "link") if f"{layout.host_device}:" in line.replace("@", ":")],
        "routes": [line for line in lines("ip", "route", "show", "table", "all") if f"{layout.prefix}." in line],
        "rules": [line for line in lines("iptables-save") if layout.full_name in line or f"{layout.prefix}." in line],
        "cgroups": [str(p) for p in cgroups.MOUNT.glob(f"**/{layout.full_name}")],
        "files": [str(p) for p in (layout.run, layout.state) if p.exists()]
        + [str(p) for p in links.glob("*") if str(layout.state) in str(p.readlink())]
        + [str(p) for p in Path("/var/lib/cni/results").glob(f"{layout.full_name}-*")],
    }  # fmt: skip


def test_down_leaves_nothing_of_it_and_touches_nothing_else(cluster: LocalCluster, layout: Layout, web: str) -> None:
    bystander = subprocess.Popen(["sleep", "600"])
    try:
        before = traces(layout)
        assert all(before[kind] for kind in ("processes", "mounts", "devices", "routes", "rules", "cgroups", "files"))
        cluster.down()
        assert not any(traces(layout).values()), traces(layout)
        assert bystander.poll() is None
        cluster.down()  # a second time is no error
    finally:
        bystander.kill()
        bystander.wait()

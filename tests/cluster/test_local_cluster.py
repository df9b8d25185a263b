"""The local cluster itself: it works as a cluster does, and mends what was killed. It is one of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from chaos_controller import ControllerProcess, config
from clearml_server.process import DevServer
from cluster_parts import COMPONENTS, Kubectl, pid_of, pod, until, well
from e2e_tasks import WAITS_FOR_FILE, NewTask, enqueue

from ci.cluster import cgroups, containers, processes
from ci.cluster.choice import current_chosen
from ci.cluster.layout import Layout
from ci.cluster.local import LocalCluster
from ci.images import build as images
from ci.paths import checkout_name

CALL_API = """
import ssl, time, urllib.request
folder = "/var/run/secrets/kubernetes.io/serviceaccount"
request = urllib.request.Request("https://kubernetes.default.svc/version")
request.add_header("Authorization", "Bearer " + open(folder + "/token").read())
answer = urllib.request.urlopen(request, context=ssl.create_default_context(cafile=folder + "/ca.crt"), timeout=10)
print("api", answer.status)
# The rules of a Service that is new are there a moment after its pod is ready.
end = time.monotonic() + 60
while True:
    try:
        print("web", urllib.request.urlopen("http://web.default.svc.cluster.local/", timeout=10).status)
        break
    except OSError:
        if time.monotonic() > end:
            raise
        time.sleep(0.2)
"""

pytestmark = pytest.mark.skipif(current_chosen(), reason="CLUSTER=current: there is no local cluster to test")


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


async def test_a_task_outlives_the_kubelet_of_its_node(
    cluster: LocalCluster, layout: Layout, kubectl: Kubectl, web: str, tmp_path: Path
) -> None:
    """A real agent in a real pod: one Job, one attempt, and nobody fails or stops the task meanwhile."""
    del web  # the image is loaded
    with DevServer(host=layout.host_ip, log=tmp_path / "server.log") as server:
        known = config(release="lost", namespace="default", api_server=server.url, queues={"default": None}, max_pods=1)
        env = ("CLEARML_AGENT_SKIP_PYTHON_ENV_INSTALL", "CLEARML_AGENT_QUEUE_POLL_FREQ_SEC")
        own = {
            "defaultContainerImage": images.reference("task"),
            "basePodTemplate": {"env": [{"name": name, "value": "1"} for name in env]},
        }
        keys = {"agentk8sglue_key": server.access_key, "agentk8sglue_secret": server.secret_key}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "clearml"}, "stringData": keys}
        kubectl("apply", "-f", "-", given=secret)
        begun = layout.audit_log.stat().st_size
        (task,) = enqueue(server.environment(), NewTask(name="outlives", queue="default", script=WAITS_FOR_FILE))
        async with ControllerProcess(
            document={**known, **own},
            folder=tmp_path,
            kubeconfig=layout.kubeconfig,
            access_key=server.access_key,
            secret_key=server.secret_key,
        ):
            until(lambda: "it runs" in server.console(task), "the script runs", 120)
            name = kubectl("get", "pods", "-l", f"clearml-task-id={task}", "-o", "name").strip()
            pid = pid_of(cluster, "kubelet")
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            until(lambda: not well(cluster)["kubelet"], "the kubelet is dead", 20)
            cluster.up()
            assert pid_of(cluster, "kubelet") not in (pid, None)
            assert kubectl("get", "pods", "-l", f"clearml-task-id={task}", "-o", "name").strip() == name
            kubectl("exec", name, "--", "touch", "/tmp/go")
            assert server.wait_for_status(task, "completed", "failed", "stopped", timeout=60)["status"] == "completed"
            until(lambda: not kubectl("get", "jobs", "-o", "name"), "its Job is deleted")
        assert server.console(task).count("it went on to its end") == 1
        assert server.calls(endpoint=r"^tasks\.(failed|stop|stopped)$") == []
    with layout.audit_log.open() as log:
        log.seek(begun)
        events = [json.loads(line) for line in log if f'"clearml-id-{task}"' in line]
    made = [event for event in events if event["verb"] == "create" and event["objectRef"]["resource"] == "jobs"]
    assert len(made) == 1


@pytest.mark.parametrize("component", ["kubelet", "coredns"])
def test_up_after_an_up_that_died_before_it_noted_what_it_had_started(
    cluster: LocalCluster, layout: Layout, component: str
) -> None:
    pid = pid_of(cluster, component)
    assert pid is not None
    command = Path(f"/proc/{pid}/cmdline").read_bytes()
    cluster.state(layout).put_process(component, None)
    cluster.up()
    assert all(well(cluster).values())
    running = [
        found
        for found in processes.in_network_namespace(layout.netns)
        if Path(f"/proc/{found}/cmdline").read_bytes() == command
    ]
    assert running == [pid_of(cluster, component)]
    assert pid not in running


def test_up_mends_a_cluster_of_which_everything_was_killed(cluster: LocalCluster, layout: Layout) -> None:
    killed = set(processes.in_network_namespace(layout.netns)) | cgroups.members(layout.full_name)
    assert len(killed) > len(COMPONENTS)
    assert not processes.kill_all(
        lambda: set(processes.in_network_namespace(layout.netns)) | cgroups.members(layout.full_name)
    )
    cluster.up()
    assert all(well(cluster).values())

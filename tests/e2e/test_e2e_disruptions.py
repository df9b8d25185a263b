"""What the cluster, or somebody with kubectl, does to a task (real scheduler, kubelet, agent), and what comes of it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clearml_server.process import DevServer
from e2e_programs import Helm, Kubectl, until, values_for
from e2e_tasks import WAITS_FOR_FILE, NewTask, enqueue

LIMIT = 150.0
LONG = "import time\nprint('it runs', flush=True)\ntime.sleep(600)\n"
ROOM = "disruptions.example.com/seat"
"""A resource of which the node has one: whoever takes it with a higher priority preempts."""


@pytest.fixture(scope="module")
def node() -> Iterator[str]:
    """The node that runs containers; it has one seat."""
    kubectl = Kubectl("default")
    (name,) = [n["metadata"]["name"] for n in kubectl.items("nodes") if n["metadata"]["labels"].get("type") != "kwok"]
    seat = ROOM.replace("/", "~1")
    patch = [{"op": "add", "path": f"/status/capacity/{seat}", "value": "1"}]
    kubectl("patch", "node", name, "--subresource=status", "--type=json", f"--patch={patch!r}".replace("'", '"'))
    until("the node has a seat", lambda: ROOM in (kubectl.get("node", name) or {})["status"]["allocatable"])
    yield name
    kubectl("patch", "node", name, "--subresource=status", "--type=json",
            f'--patch=[{{"op": "remove", "path": "/status/capacity/{seat}"}}]')  # fmt: skip


@pytest.fixture(scope="module")
def priority(kubectl: Kubectl) -> Iterator[str]:
    name = f"{kubectl.namespace}-first"
    kind = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass"}
    kubectl.apply({**kind, "metadata": {"name": name}, "value": 9})
    yield name
    kubectl("delete", "priorityclass", name)


@pytest.fixture(scope="module")
def helm(kubectl: Kubectl, node: str, server: DevServer, folder: Path) -> Iterator[Helm]:
    release = Helm("disrupted", kubectl.namespace)
    seat = {"resources": {"requests": {ROOM: 1}, "limits": {ROOM: 1}}}
    values = values_for(
        url=server.url,
        access_key=server.access_key,
        secret_key=server.secret_key,
        queues={
            "spot": {"templateOverrides": seat, "queueSettings": {"maxRequeues": {"preempted": 1}}},
            "drained": {},
            "unready": {
                "templateOverrides": {
                    "podSpec": {"containers": [{"name": "task", "readinessProbe": {"exec": {"command": ["false"]}}}]}
                }
            },
            "brief": {"templateOverrides": {"terminationGracePeriodSeconds": 2}},
            "short": {"queueSettings": {"maxRunMinutes": 0.1}},
        },
        base={
            "env": [
                {"name": "CLEARML_AGENT_SKIP_PYTHON_ENV_INSTALL", "value": "1"},
                {"name": "CLEARML_AGENT_QUEUE_POLL_FREQ_SEC", "value": "1"},
            ],
            "terminationGracePeriodSeconds": 10,
        },
        maxRequeues={"evicted": 2},
        failedPodDeletionDelayMinutes=30,
    )
    release.upgrade(values, folder)
    yield release
    release.uninstall()


def running(server: DevServer, kubectl: Kubectl, task: str, *, after: str = "") -> dict[str, Any]:
    """The task's pod, another one than ``after`` (a name), in which its script runs."""

    def found() -> dict[str, Any] | None:
        pods = [pod for pod in kubectl.pods_of(task) if pod["metadata"]["name"] != after]
        return next((pod for pod in pods if pod["status"].get("phase") == "Running"), None)

    pod = until(f"a pod of task {task} runs", found, limit=LIMIT)
    log = f"the script runs in {pod['metadata']['name']}"
    until(log, lambda: "it runs" in kubectl("logs", pod["metadata"]["name"], check=False), limit=LIMIT)
    return pod


def seat_for(kubectl: Kubectl, name: str, priority: str) -> None:
    """A pod of somebody else's that takes the seat, whoever has it."""
    kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {
                "priorityClassName": priority,
                "terminationGracePeriodSeconds": 0,
                "containers": [
                    {
                        "name": "main",
                        "image": "none.example.com/none",
                        "resources": {"requests": {ROOM: 1}, "limits": {ROOM: 1}},
                    }
                ],
            },
        }
    )


def test_a_preempted_task_is_put_back_once_and_then_fails(
    helm: Helm, kubectl: Kubectl, server: DevServer, priority: str
) -> None:
    (task,) = enqueue(server.environment(), NewTask(name="preempted", queue="spot", script=LONG))
    first = running(server, kubectl, task)["metadata"]["name"]
    seat_for(kubectl, "urgent", priority)
    until("it waits again", lambda: server.task(task)["status"] == "queued", limit=LIMIT)
    kubectl("delete", "pod", "urgent")
    second = running(server, kubectl, task, after=first)["metadata"]["name"]
    assert second != first
    seat_for(kubectl, "urgent", priority)
    found = server.wait_for_status(task, "failed", timeout=LIMIT)
    assert found["status_reason"] == "Kubernetes: preempted"
    kubectl("delete", "pod", "urgent")
    until("both are told", lambda: server.console(task).count("The pod was preempted: ") == 2, limit=30)
    assert server.console(task).count("Put back to the front of its queue, time 1 of 1") == 1
    assert found["hyperparams"]["properties"]["k8s-requeues"]["value"].startswith("1: ")


def drained_it_completes(kubectl: Kubectl, server: DevServer, task: str, *, node: str, first: str) -> None:
    """`kubectl drain` of the pods of this task alone: the node has those of other tests, too. ``first``: its pod."""
    kubectl("drain", node, f"--pod-selector=clearml-task-id={task}", "--ignore-daemonsets", "--force", "--timeout=60s")
    try:
        until("it waits again", lambda: server.task(task)["status"] == "queued", limit=LIMIT)
    finally:
        kubectl("uncordon", node)
    pod = running(server, kubectl, task, after=first)
    kubectl.let_go(pod)
    found = server.wait_for_status(task, "completed", "failed", "stopped", timeout=LIMIT)
    assert found["status"] == "completed"
    until("the eviction is told", lambda: "The pod was evicted: " in server.console(task), limit=30)


def test_a_drained_task_is_put_back_and_completes(helm: Helm, kubectl: Kubectl, server: DevServer, node: str) -> None:
    (task,) = enqueue(server.environment(), NewTask(name="drained", queue="drained", script=WAITS_FOR_FILE))
    first = running(server, kubectl, task)["metadata"]["name"]
    drained_it_completes(kubectl, server, task, node=node, first=first)


@pytest.fixture(scope="module")
def budget(helm: Helm, folder: Path) -> None:
    """One of the release, for all its tasks."""
    helm.upgrade({}, folder, "--reset-then-reuse-values", "--set", "podDisruptionBudget.tasks.enabled=true")


def test_a_drain_waits_for_each_task_with_a_budget(
    helm: Helm, budget: None, kubectl: Kubectl, server: DevServer, node: str, tmp_path: Path
) -> None:
    """`podDisruptionBudget.tasks`: one and the same drain is refused each of two tasks, and goes on when both ended."""
    tasks = enqueue(
        server.environment(),
        *(NewTask(name=f"protected {number}", queue="drained", script=WAITS_FOR_FILE) for number in range(2)),
    )
    pods = {task: running(server, kubectl, task) for task in tasks}
    log = tmp_path / "drain.log"
    words = ("kubectl", "--namespace", kubectl.namespace, "drain", node, "--ignore-daemonsets", "--force")
    words = (*words, f"--pod-selector=clearml-task-id in ({', '.join(tasks)})", "--timeout=180s")

    def refused(pod: dict[str, Any]) -> bool:
        told = [line for line in log.read_text().splitlines() if "violate the pod's disruption budget" in line]
        return any(pod["metadata"]["name"] in line for line in told)

    with log.open("w") as sink, subprocess.Popen(words, stdout=sink, stderr=sink) as drain:
        try:
            for task in tasks:
                until(f"the drain is refused task {task}", lambda task=task: refused(pods[task]), limit=60)
            for task in tasks:
                assert drain.poll() is None, log.read_text()
                assert [pod["metadata"]["uid"] for pod in kubectl.pods_of(task)] == [pods[task]["metadata"]["uid"]]
                kubectl.let_go(pods[task])
                found = server.wait_for_status(task, "completed", "failed", "stopped", timeout=LIMIT)
                assert found["status"] == "completed"
            assert drain.wait(LIMIT) == 0, log.read_text()
        finally:
            drain.kill()
            kubectl("uncordon", node)
    for task in tasks:
        assert "The pod was evicted" not in server.console(task)


def test_a_drain_does_not_wait_for_a_pod_that_is_not_ready(
    helm: Helm, budget: None, kubectl: Kubectl, server: DevServer, node: str
) -> None:
    """`unhealthyPodEvictionPolicy: AlwaysAllow`, while the budget leaves nothing; the eviction is told as any other."""
    (task,) = enqueue(server.environment(), NewTask(name="unready", queue="unready", script=WAITS_FOR_FILE))
    first = running(server, kubectl, task)["metadata"]["name"]
    (budget_now,) = [b for b in kubectl.items("poddisruptionbudgets") if b["metadata"]["name"].endswith("-task")]
    assert budget_now["status"]["disruptionsAllowed"] == 0
    drained_it_completes(kubectl, server, task, node=node, first=first)


def test_a_job_that_is_deleted_with_kubectl(helm: Helm, kubectl: Kubectl, server: DevServer) -> None:
    """The agent reports a user's abort; the task says that it was none."""
    (task,) = enqueue(server.environment(), NewTask(name="deleted", queue="drained", script=WAITS_FOR_FILE))
    running(server, kubectl, task)
    kubectl("delete", "job", f"clearml-id-{task}", "--wait=false")
    said = "The Job was deleted, by somebody or something in the cluster"
    until("it is told", lambda: server.task(task)["status_message"] == f"Kubernetes: {said}", limit=LIMIT)
    assert (server.task(task)["status"], server.task(task)["status_reason"]) == ("stopped", "user abort")
    until("the console says so", lambda: f"Not aborted by its user: {said}" in server.console(task), limit=30)
    kubectl.gone(task)


def test_a_job_that_is_deleted_while_its_agent_cannot_report(helm: Helm, kubectl: Kubectl, server: DevServer) -> None:
    """Nobody but the controller can end the task."""
    (task,) = enqueue(server.environment(), NewTask(name="unheard", queue="brief", script=WAITS_FOR_FILE))
    running(server, kubectl, task)
    server.down()
    try:
        kubectl("delete", "job", f"clearml-id-{task}", "--wait=false")
        kubectl.gone(task)
    finally:
        server.up()
    found = server.wait_for_status(task, "failed", "stopped", "completed", timeout=LIMIT)
    assert (found["status"], found["status_reason"]) == ("failed", "Kubernetes: deleted")
    assert "The Job was deleted, by somebody or something in the cluster" in found["status_message"]


@pytest.mark.parametrize(
    ("do", "undo", "said"),
    [
        (
            ("cordon", "{}"),
            ("uncordon", "{}"),
            ("were unschedulable", "Nodes are cordoned, or are being drained: it waits until one is uncordoned"),
        ),
        (
            ("taint", "node", "{}", "hand.example.com/reserved=yes:NoSchedule"),
            ("taint", "node", "{}", "hand.example.com/reserved:NoSchedule-"),
            ("untolerated taint", "The nodes have taints (kubectl describe nodes): set tolerations in the queue's"),
        ),
    ],
    ids=["cordon", "taint"],
)
def test_a_node_that_takes_no_pods(
    do: tuple[str, ...],
    undo: tuple[str, ...],
    said: tuple[str, ...],
    helm: Helm,
    kubectl: Kubectl,
    server: DevServer,
    node: str,
) -> None:
    """The task says so, and runs when the node takes pods again. Pods of other tests wait as long."""
    # Made before the node is touched, so that this is short.
    server.create_queue(f"before the {do[0]}")
    (task,) = enqueue(server.environment(), NewTask(name=do[0], queue=f"before the {do[0]}", script="print('ran')\n"))
    kubectl(*(word.format(node) for word in do))
    try:
        server.call("tasks.enqueue", task=task, queue_name="drained")
        for words in said:
            until(f"it says {words!r}", lambda words=words: words in server.task(task)["status_message"], limit=LIMIT)
        assert server.task(task)["status"] == "queued"
    finally:
        kubectl(*(word.format(node) for word in undo))
    found = server.wait_for_status(task, "completed", "failed", "stopped", timeout=LIMIT)
    assert found["status"] == "completed"


def test_a_task_that_runs_too_long_fails_and_its_agent_ends_by_itself(
    helm: Helm, kubectl: Kubectl, server: DevServer
) -> None:
    (task,) = enqueue(server.environment(), NewTask(name="too long", queue="short", script=LONG))
    found = server.wait_for_status(task, "failed", "completed", "stopped", timeout=LIMIT)
    assert (found["status"], found["status_reason"]) == ("failed", "Kubernetes: deadline")

    def ended() -> bool:
        return all(pod["status"].get("phase") in ("Succeeded", "Failed") for pod in kubectl.pods_of(task))

    until("the agent ends by itself", ended, limit=LIMIT)
    assert server.task(task)["status"] == "failed"
    # Failed Jobs are kept for half an hour here, with their logs.
    assert kubectl.job_of(task) is not None
    assert len(kubectl.pods_of(task)) == 1

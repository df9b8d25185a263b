"""A task in several real pods: rank 1 talks to rank 0 over MASTER_ADDR; they begin, count and end together."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clearml_server.process import DevServer
from e2e_programs import Helm, Kubectl, until, values_for
from e2e_tasks import NewTask, enqueue

LIMIT = 240.0
GPU = "example.com/gpu"
GPUS = 2
"""Of the cluster's node, as long as these tests run; it takes our word for it."""

QUICK = [
    {"name": "CLEARML_AGENT_SKIP_PYTHON_ENV_INSTALL", "value": "1"},
    {"name": "CLEARML_AGENT_QUEUE_POLL_FREQ_SEC", "value": "1"},
]
ANYWHERE = {"multi_node_type": "logical"}
"""There is one node alone."""

TALKS = """\
import os, socket, time
{sdk}
names = ("NODE_RANK", "WORLD_SIZE", "CLEARML_MULTI_NODE_SINGLE_TASK")
print("I am", *(os.environ[name] for name in names), flush=True)
address = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
if os.environ["NODE_RANK"] == "0":
    with socket.create_server(("", address[1])) as server:
        connection, _ = server.accept()
        print("rank 0 heard", connection.recv(100).decode(), flush=True)
        connection.sendall(b"hello from rank 0")
        connection.close()
else:
    while True:
        try:
            connection = socket.create_connection(address, timeout=60)
            break
        except OSError as error:
            print("not yet:", error, flush=True)
            time.sleep(0.5)
    connection.sendall(b"hello from rank 1")
    print("rank 1 heard", connection.recv(100).decode(), flush=True)
"""
SDK = 'from clearml import Task\ntask = Task.init("end to end", "two nodes")'
RANK_1_FAILS = """\
import os, sys, time
if os.environ["NODE_RANK"] == "1":
    print("rank 1 has enough", flush=True)
    sys.exit(3)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def gpus(kubectl: Kubectl) -> Iterator[None]:
    (node,) = kubectl("get", "nodes", "-o", "name").split()

    def patch(operation: dict[str, Any]) -> None:
        kubectl("patch", node, "--subresource=status", "--type=json", "-p", json.dumps([operation]))

    where = "/status/capacity/" + GPU.replace("/", "~1")
    patch({"op": "add", "path": where, "value": str(GPUS)})
    until(
        "the node offers them",
        lambda: json.loads(kubectl("get", node, "-o", "json"))["status"]["allocatable"].get(GPU) == str(GPUS),
        limit=LIMIT,
    )
    yield
    patch({"op": "remove", "path": where})


@pytest.fixture(scope="module")
def helm(kubectl: Kubectl, server: DevServer, folder: Path, gpus: None) -> Iterator[Helm]:
    release = Helm("nodes", kubectl.namespace)
    with_gpu = {"resources": {"limits": {GPU: 1}}}
    values = values_for(
        url=server.url,
        access_key=server.access_key,
        secret_key=server.secret_key,
        queues={
            "cpu": {},
            "gpus": {"templateOverrides": with_gpu, "queueSettings": {"multiNode": [1, 1]}},
            "too-many": {"templateOverrides": with_gpu, "queueSettings": {"multiNode": [1, 1, 1]}},
            "narrow": {"queueSettings": {"maxPods": 2}},
        },
        base={"env": QUICK, "terminationGracePeriodSeconds": 10},
    )
    values["agentk8sglue"]["multiNode"] = {"enabled": True, "startTimeoutMinutes": 0.1, "maxGiveBacks": 1}
    release.upgrade(values, folder)
    yield release
    release.uninstall()


def pods(kubectl: Kubectl, task: str) -> list[dict[str, Any]]:
    found = json.loads(kubectl("get", "pods", "-l", f"clearml-task-id={task}", "-o", "json"))["items"]
    return sorted(found, key=lambda pod: pod["metadata"]["name"])


def service(kubectl: Kubectl, task: str) -> dict[str, Any] | None:
    selector = f"app.kubernetes.io/component=nodes,clearml-task-id={task}"
    found = json.loads(kubectl("get", "services", "-l", selector, "-o", "json"))["items"]
    return found[0] if found else None


def one(server: DevServer, *, queue: str, script: str, **properties: str) -> str:
    (task,) = enqueue(
        server.environment(), NewTask(name="several nodes", queue=queue, script=script, properties=properties)
    )
    return task


def said(server: DevServer, task: str, text: str) -> None:
    """A line may be told a moment after the state."""
    until(f"the console says {text!r}", lambda: text in server.console(task), limit=60)


@pytest.mark.usefixtures("helm")
@pytest.mark.parametrize(
    ("queue", "properties", "sdk"),
    [
        pytest.param("cpu", {"multi_node_request": "[0, 2]", **ANYWHERE}, "", id="of the task"),
        pytest.param("gpus", ANYWHERE, SDK, id="of the queue, with the SDK", marks=pytest.mark.long),
    ],
)
def test_two_ranks_talk_over_master_addr(
    kubectl: Kubectl, server: DevServer, queue: str, properties: dict[str, str], sdk: str
) -> None:
    task = one(server, queue=queue, script=TALKS.replace("{sdk}", sdk), **properties)
    made = until("its Service is there", lambda: service(kubectl, task), limit=LIMIT)
    assert made["spec"]["clusterIP"] == "None"
    assert made["spec"]["publishNotReadyAddresses"] is True
    assert len(until("both pods are there", lambda: len(found := pods(kubectl, task)) == 2 and found, limit=LIMIT)) == 2
    found = server.wait_for_status(task, "completed", "failed", "stopped", timeout=LIMIT)
    assert found["status"] == "completed", server.console(task)
    for text in ("rank 0 heard hello from rank 1", "rank 1 heard hello from rank 0", "I am 0 2 1", "I am 1 2 1"):
        said(server, task, text)
    kubectl.gone(task)
    until("the Service goes with its Job", lambda: service(kubectl, task) is None, limit=60)
    assert server.task(task)["status"] == "completed"


@pytest.mark.usefixtures("helm")
def test_one_rank_lost_ends_all_and_the_task_says_which_and_why(kubectl: Kubectl, server: DevServer) -> None:
    task = one(server, queue="cpu", script=RANK_1_FAILS, multi_node_request="[0, 2]", **ANYWHERE)
    found = server.wait_for_status(task, "completed", "failed", timeout=LIMIT)
    assert found["status"] == "failed", server.console(task)
    assert found["status_reason"] == "Kubernetes: crashed"
    assert found["status_message"].startswith("Rank 1 of 2: Container task ended with exit code 3"), found
    said(server, task, "rank 1 has enough")
    kubectl.gone(task)
    assert server.task(task)["status"] == "failed"


@pytest.mark.usefixtures("helm")
def test_pods_that_do_not_all_get_a_node_are_given_back_and_then_fail(kubectl: Kubectl, server: DevServer) -> None:
    task = one(server, queue="too-many", script="print('never')", **ANYWHERE)
    found = server.wait_for_status(task, "completed", "failed", timeout=LIMIT)
    assert found["status"] == "failed", server.console(task)
    late = "Not all of its pods had a node after 0.1 minutes. 2 of 3 pods have a node."
    assert found["status_message"].startswith(late), found
    said(server, task, f"Insufficient {GPU}")
    said(server, task, "Put back to the front of its queue, time 1 of 1")
    assert server.console(task).count("Put back to the front") == 1
    kubectl.gone(task)
    assert "it runs" not in server.console(task)


@pytest.mark.long
@pytest.mark.usefixtures("helm")
def test_more_pods_than_a_limit_has_are_passed_over_and_told(kubectl: Kubectl, server: DevServer) -> None:
    large = one(server, queue="narrow", script="print('never')", multi_node_request="[0, 3]", **ANYWHERE)
    small = one(server, queue="narrow", script="print('it runs')", multi_node_request="[0, 2]", **ANYWHERE)
    found = server.wait_for_status(small, "completed", "failed", timeout=LIMIT)
    assert found["status"] == "completed", server.console(small)
    said(server, large, "Waiting, and passed over: a task needs 3 pods, and the limit is 2")
    assert server.task(large)["status"] == "queued"
    assert pods(kubectl, large) == []

"""A session is reached from outside of the cluster, at a port of its node; its Service goes with its Job."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clearml_server.process import DevServer
from e2e_programs import Helm, Kubectl, until, values_for
from e2e_tasks import WAITS_FOR_FILE, NewTask, enqueue

LIMIT = 150.0
QUICK = [
    {"name": "CLEARML_AGENT_SKIP_PYTHON_ENV_INSTALL", "value": "1"},
    {"name": "CLEARML_AGENT_QUEUE_POLL_FREQ_SEC", "value": "1"},
]
ANSWERS = f"""\
import socketserver, threading

class Answer(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.sendall(b"SSH-2.0-session\\n")

server = socketserver.ThreadingTCPServer(("", 10022), Answer)
threading.Thread(target=server.serve_forever, daemon=True).start()
{WAITS_FOR_FILE}"""


@pytest.fixture(scope="module")
def helm(kubectl: Kubectl, server: DevServer, folder: Path) -> Iterator[Helm]:
    release = Helm("sessions", kubectl.namespace)
    values = values_for(
        url=server.url,
        access_key=server.access_key,
        secret_key=server.secret_key,
        queues={"sessions": {}},
        base={"env": QUICK, "terminationGracePeriodSeconds": 10},
    )
    values["sessions"] = {"portModeEnabled": True, "startingPort": 31700, "maxServices": 5}
    release.upgrade(values, folder)
    yield release
    release.uninstall()


def way(server: DevServer, task: str) -> tuple[str, int] | None:
    """Where the client would go."""
    found = server.task(task).get("hyperparams", {}).get("properties", {})
    address, port = (found.get(key, {}).get("value") for key in ("k8s-gateway-address", "k8s-pod-port"))
    return (address, int(port)) if address and port else None


def said(address: tuple[str, int]) -> bytes | None:
    """What the session answers; None while nothing does."""
    try:
        with socket.create_connection(address, timeout=5) as connection:
            return connection.recv(100) or None
    except OSError:
        return None


def services(kubectl: Kubectl) -> list[dict[str, Any]]:
    selector = "app.kubernetes.io/component=session,app.kubernetes.io/instance=sessions"
    found: list[dict[str, Any]] = json.loads(kubectl("get", "services", "-l", selector, "-o", "json"))["items"]
    return found


@pytest.mark.usefixtures("helm")
def test_a_session_answers_at_its_node(kubectl: Kubectl, server: DevServer) -> None:
    kubectl("create", "service", "nodeport", "held", "--tcp=10022", "--node-port=31701")
    new = [
        NewTask(name=f"session {number}", queue="sessions", script=ANSWERS, system_tags=["interactive"])
        for number in range(2)
    ]
    tasks = enqueue(server.environment(), *new)
    ways = [until("the way is on the task", lambda task=task: way(server, task), limit=LIMIT) for task in tasks]
    assert len(set(ways)) == 2
    assert sorted(port for _, port in ways) == [31702, 31703], "the lowest that are nobody's"
    for task, address in zip(tasks, ways, strict=True):
        until("the session answers", lambda address=address: said(address) == b"SSH-2.0-session\n", limit=LIMIT)
        line = f"This session is reached at {address[0]}, port {address[1]}"
        until("the console says so", lambda task=task, line=line: line in server.console(task), limit=30)
    assert {service["metadata"]["name"] for service in services(kubectl)} == {f"session-{task}" for task in tasks}
    for task in tasks:
        kubectl.let_go(kubectl.running_pod(task))
        found = server.wait_for_status(task, "completed", "failed", "stopped", timeout=LIMIT)
        assert found["status"] == "completed", server.console(task)
        kubectl.gone(task)
    until("the Services go with their Jobs", lambda: not services(kubectl), limit=60)

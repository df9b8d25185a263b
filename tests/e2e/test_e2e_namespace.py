"""A namespace that is deleted with all that is in it: tasks that wait stay in their queue (real cluster and agent)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from clearml_server.process import DevServer
from e2e_programs import Helm, Kubectl, until, values_for
from e2e_tasks import WAITS_FOR_FILE, NewTask, enqueue

LIMIT = 120.0


@pytest.mark.long
def test_it_loses_no_task_that_waits(namespaces: Any, server: DevServer, folder: Path) -> None:
    """The task that runs is stopped, as its pod is; those behind it stay, for whoever serves the queue."""
    kubectl: Kubectl = namespaces()
    helm = Helm("doomed", kubectl.namespace)
    values = values_for(
        url=server.url,
        access_key=server.access_key,
        secret_key=server.secret_key,
        queues={"doomed": {}},
        base={
            "env": [
                {"name": "CLEARML_AGENT_SKIP_PYTHON_ENV_INSTALL", "value": "1"},
                {"name": "CLEARML_AGENT_QUEUE_POLL_FREQ_SEC", "value": "1"},
            ]
        },
        maxPods=1,
    )
    helm.upgrade(values, folder)
    first, *others = enqueue(
        server.environment(),
        NewTask(name="runs", queue="doomed", script=WAITS_FOR_FILE),
        *(NewTask(name=f"waits {number}", queue="doomed", script="print('ran')\n") for number in range(3)),
    )
    until("it runs", lambda: "it runs" in server.console(first), limit=LIMIT)
    queue = server.queue_id("doomed")
    assert server.entries(queue) == others
    kubectl("delete", "namespace", kubectl.namespace)
    assert [server.task(task)["status"] for task in others] == ["queued"] * 3
    assert server.entries(queue) == others
    assert server.task(first)["status"] == "stopped"

    kubectl("create", "namespace", kubectl.namespace)
    helm.upgrade(values, folder)
    for task in others:
        found = server.wait_for_status(task, "completed", "failed", "stopped", timeout=LIMIT)
        assert found["status"] == "completed", server.console(task)
        assert len(server.calls(endpoint="^tasks.completed$", task=task)) == 1
    assert server.task(first)["status"] == "stopped"
    helm.uninstall()

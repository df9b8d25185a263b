"""A task's next attempt beside what is left of the last one, and pods that cannot ask whether to start: real agents."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clearml_server.process import DevServer
from e2e_programs import Helm, Kubectl, until, values_for
from e2e_tasks import WAITS_FOR_FILE, NewTask, enqueue

LIMIT = 150.0
QUICK = {"name": "CLEARML_AGENT_SKIP_PYTHON_ENV_INSTALL", "value": "1"}
POLLS = "CLEARML_AGENT_QUEUE_POLL_FREQ_SEC"
CHECKS = "CLEARML_K8S_START_CHECK_SECONDS"
SCRIPT = "print('it', 'ran')\n"
"""What it prints does not stand in it: the agent may show the script."""

NOBODY = "http://127.0.0.1:9"
"""A proxy that does not answer: only the pod cannot reach the server."""


@pytest.fixture(scope="module")
def helm(kubectl: Kubectl, server: DevServer, folder: Path) -> Iterator[Helm]:
    release = Helm("attempts", kubectl.namespace)
    queues = {
        # Its agents look at their task's status less often than the controller does.
        "slow": {"templateOverrides": {"env": [QUICK, {"name": POLLS, "value": "9"}]}},
        "quick": {"templateOverrides": {"env": [QUICK, {"name": POLLS, "value": "1"}]}},
        "cut-off": {
            "templateOverrides": {
                "env": [QUICK, {"name": "http_proxy", "value": NOBODY}, {"name": CHECKS, "value": "3"}]
            }
        },
    }
    values = values_for(
        url=server.url,
        access_key=server.access_key,
        secret_key=server.secret_key,
        queues=queues,
        base={"terminationGracePeriodSeconds": 10},
        failedPodDeletionDelayMinutes=30,
    )
    release.upgrade(values, folder)
    yield release
    release.uninstall()


def attempt_of(workload: dict[str, Any]) -> str:
    found: str = workload["metadata"]["annotations"]["clearml-k8s.io/attempt"]
    return found


def started(server: DevServer, task: str) -> bool:
    """An agent took it out of the queue to run it."""
    taken = server.calls(endpoint=r"^tasks\.dequeue$", task=task)
    return any((call["summary"] or {}).get("updated") == 1 for call in taken)


def completed(server: DevServer, task: str) -> int:
    """How many agents reported that it ran to its end."""
    return sum(call["code"] == 200 for call in server.calls(endpoint=r"^tasks\.completed$", task=task))


@pytest.mark.parametrize(
    ("queue", "end"),
    [
        ("slow", "tasks.reset"),
        pytest.param("quick", "tasks.reset", marks=pytest.mark.long),
        pytest.param("quick", "tasks.stopped", marks=pytest.mark.long),
    ],
)
def test_a_running_task_that_is_ended_and_enqueued_again_runs_anew(
    helm: Helm, kubectl: Kubectl, server: DevServer, queue: str, end: str
) -> None:
    """The agent of the old attempt, told to end, would report an abort of the new one."""
    (task,) = enqueue(server.environment(), NewTask(name="again", queue=queue, script=WAITS_FOR_FILE))
    old = kubectl.running_pod(task)
    until("the script runs", lambda: "it runs" in kubectl("logs", old["metadata"]["name"], check=False), limit=LIMIT)
    server.call(end, task=task, force=True)
    server.call("tasks.enqueue", task=task, queue=server.queue_id(queue))

    def new() -> dict[str, Any] | None:
        pods = [pod for pod in kubectl.pods_of(task) if attempt_of(pod) != attempt_of(old)]
        return next((pod for pod in pods if pod["status"].get("phase") == "Running"), None)

    pod = until("the new attempt runs", new, limit=LIMIT)
    until("its script runs", lambda: "it runs" in kubectl("logs", pod["metadata"]["name"], check=False), limit=LIMIT)
    assert server.task(task)["status"] == "in_progress"
    kubectl.let_go(pod)
    found = server.wait_for_status(task, "completed", "failed", "stopped", timeout=LIMIT)
    assert found["status"] == "completed", server.console(task)
    kubectl.gone(task)
    assert completed(server, task) == 1
    assert server.entries(server.queue_id(queue)) == []


def test_a_pod_that_cannot_ask_the_server_starts_nothing_and_fails_the_task(
    helm: Helm, kubectl: Kubectl, server: DevServer
) -> None:
    """Its user is told why, with the pod's own words, and can run it elsewhere."""
    (task,) = enqueue(server.environment(), NewTask(name="cut off", queue="cut-off", script=SCRIPT))
    found = server.wait_for_status(task, "completed", "failed", "stopped", timeout=LIMIT)
    assert (found["status"], found["status_reason"]) == ("failed", "Kubernetes: not-started")
    assert found["status_message"].startswith("The pod could not ask the ClearML server whether to start the task")
    until("the pod's words are told", lambda: "could not be reached for " in server.console(task), limit=60)
    assert not started(server, task)
    (pod,) = kubectl.pods_of(task)
    (status,) = pod["status"]["containerStatuses"]
    assert status["state"]["terminated"]["exitCode"] == 75
    server.call("tasks.reset", task=task, force=True)
    server.call("tasks.enqueue", task=task, queue=server.queue_id("quick"))
    found = server.wait_for_status(task, "completed", "failed", "stopped", timeout=LIMIT)
    assert found["status"] == "completed", server.console(task)
    assert server.console(task).count("it ran") == 1
    assert completed(server, task) == 1
    kubectl.gone(task)


def test_a_pod_waits_for_a_server_that_comes_back_and_starts_its_task_once(
    helm: Helm, kubectl: Kubectl, server: DevServer
) -> None:
    (task,) = enqueue(server.environment(), NewTask(name="waits", queue="quick", script=SCRIPT))
    fault = server.add_fault(kind="error_before", endpoint=r"^auth\.login$")
    pod = kubectl.running_pod(task)["metadata"]["name"]
    said = "the ClearML server cannot be reached (OSError: auth.login: HTTP 500)"
    until("the pod says that it waits", lambda: said in kubectl("logs", pod), limit=LIMIT)
    assert server.task(task)["status"] == "queued"
    assert not started(server, task)
    server.clear_faults(fault)
    found = server.wait_for_status(task, "completed", "failed", "stopped", timeout=LIMIT)
    assert found["status"] == "completed", server.console(task)
    assert server.console(task).count("it ran") == 1
    assert completed(server, task) == 1
    kubectl.gone(task)

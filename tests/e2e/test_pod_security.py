"""In a namespace where Kubernetes enforces the Pod Security Standard "restricted"."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from clearml_server.process import DevServer
from e2e_programs import CHART, Helm, Kubectl, controller_pod, ready, until, values_for
from e2e_tasks import NewTask, enqueue

LIMIT = 150.0
QUICK = [
    {"name": "CLEARML_AGENT_SKIP_PYTHON_ENV_INSTALL", "value": "1"},
    {"name": "CLEARML_AGENT_QUEUE_POLL_FREQ_SEC", "value": "1"},
]
WHO = """\
import os, pathlib
pathlib.Path.home().joinpath("mine").write_text("written")
print("uid", os.getuid(), "home", pathlib.Path.home())
"""


@pytest.fixture(scope="module")
def kubectl(namespaces: Any) -> Kubectl:
    made: Kubectl = namespaces()
    made("label", "namespace", made.namespace, "pod-security.kubernetes.io/enforce=restricted")
    return made


@pytest.fixture(scope="module")
def helm(kubectl: Kubectl, server: DevServer, folder: Path) -> Iterator[Helm]:
    """One queue with the preset, one without."""
    preset = yaml.safe_load((CHART / "ci/restricted-values.yaml").read_text())["agentk8sglue"]["basePodTemplate"]
    release = Helm("safe", kubectl.namespace)
    values = values_for(
        url=server.url,
        access_key=server.access_key,
        secret_key=server.secret_key,
        queues={"strict": {"templateOverrides": {**preset, "env": [*preset["env"], *QUICK]}}, "loose": {}},
    )
    release.upgrade(values, folder)
    yield release
    release.uninstall()


def test_controller_and_helm_test_are_admitted(helm: Helm, kubectl: Kubectl) -> None:
    assert ready(controller_pod(kubectl, helm))
    assert "all well" in helm("test", helm.name, "--logs", "--timeout", "90s").text


def test_task_pods_are_admitted_with_the_preset(helm: Helm, kubectl: Kubectl, server: DevServer) -> None:
    (task,) = enqueue(server.environment(), NewTask(name="strict", queue="strict", script=WHO))
    found = server.wait_for_status(task, "completed", "failed", "stopped", timeout=LIMIT)
    assert found["status"] == "completed", server.console(task)
    assert "uid 1000 home /home/clearml" in server.console(task)
    kubectl.gone(task)


def test_without_it_the_refusal_is_told_to_the_tasks_user(helm: Helm, kubectl: Kubectl, server: DevServer) -> None:
    (task,) = enqueue(server.environment(), NewTask(name="loose", queue="loose", script="print('never')\n"))
    until("the console says it", lambda: "violates PodSecurity" in server.console(task), limit=LIMIT)
    assert "runAsNonRoot != true" in server.console(task)
    until("the status says it", lambda: "violates PodSecurity" in server.task(task)["status_message"], limit=60)
    assert server.task(task)["status"] == "queued"
    assert kubectl.pods_of(task) == []
    events = kubectl("get", "events", "--field-selector", f"reason=FailedCreate,involvedObject.name=clearml-id-{task}")
    assert "violates PodSecurity" in events
    server.call("tasks.dequeue", task=task)
    kubectl.gone(task)

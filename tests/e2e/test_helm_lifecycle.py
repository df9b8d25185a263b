"""Install, upgrade, test, uninstall and wrong values, by real helm on a real API server."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import e2e_index
import pytest
import yaml
from clearml_server.process import DevServer
from e2e_programs import (
    CHART,
    Helm,
    Kubectl,
    controller_log,
    controller_pod,
    ready,
    restarts,
    run,
    until,
    values_for,
)
from e2e_tasks import WAITS_FOR_FILE, NewTask, enqueue

LIMIT = 150.0
QUICK = [
    {"name": "CLEARML_AGENT_SKIP_PYTHON_ENV_INSTALL", "value": "1"},
    {"name": "CLEARML_AGENT_QUEUE_POLL_FREQ_SEC", "value": "1"},
]
CHECK = ("clearml-k8s", "check", "--config", "/etc/clearml-k8s/config.yaml")


@pytest.fixture
def values(server: DevServer) -> Callable[..., dict[str, Any]]:
    """Makes values for the server; keyword arguments are keys of agentk8sglue, or replace the address and keys."""

    def make(**keys: Any) -> dict[str, Any]:
        given = {
            "url": server.url,
            "access_key": server.access_key,
            "secret_key": server.secret_key,
            "queues": {"default": {}},
            "base": {"env": QUICK, "terminationGracePeriodSeconds": 10},
        }
        return values_for(**(given | keys))

    return make


@contextmanager
def installed(kubectl: Kubectl, values: dict[str, Any], folder: Path, *, name: str = "e2e") -> Iterator[Helm]:
    helm = Helm(name, kubectl.namespace)
    helm.upgrade(values, folder)
    try:
        yield helm
    finally:
        helm("uninstall", name, "--ignore-not-found", "--wait", "--timeout", "90s")


def check(kubectl: Kubectl, helm: Helm) -> str:
    """What `clearml-k8s check` says in the controller's pod."""
    return kubectl("exec", helm.deployment, "--", *CHECK, check=False)


def readyz(kubectl: Kubectl, helm: Helm) -> str:
    name = controller_pod(kubectl, helm)["metadata"]["name"]
    return kubectl("get", "--raw", f"/api/v1/namespaces/{kubectl.namespace}/pods/{name}:8080/proxy/readyz")


def assert_undisturbed(kubectl: Kubectl, helm: Helm) -> None:
    """The controller lives, is ready, and never restarted."""
    pod = controller_pod(kubectl, helm)
    assert ready(pod), pod["status"]
    assert restarts(pod) == 0


def renew_mounts(kubectl: Kubectl, helm: Helm) -> None:
    """Have the kubelet renew the mounted files now: it looks when its pod changes, else once in a minute."""
    pod = controller_pod(kubectl, helm)["metadata"]["name"]
    kubectl("annotate", "pod", pod, f"test/looked={uuid.uuid4()}", "--overwrite")


def logged(kubectl: Kubectl, helm: Helm, *words: str, limit: float = 60.0) -> str:
    """The controller's log, once one line of it holds all the words."""

    def found() -> str | None:
        log = controller_log(kubectl, helm)
        return log if any(all(word in line for word in words) for line in log.splitlines()) else None

    try:
        return until(f"a line of the log holds {words}", found, limit=limit)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{controller_log(kubectl, helm)}") from None


@pytest.mark.parametrize("program", ["helm4", "helm3"])
def test_lint(program: str, values: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(values()))
    assert "1 chart(s) linted, 0 chart(s) failed" in run(program, "lint", "--strict", CHART, "--values", file).text


@pytest.mark.parametrize("program", ["helm4", "helm3"])
def test_life_of_a_release_without_any_server(
    program: str, namespaces: Any, host: str, values: Callable[..., dict[str, Any]], folder: Path
) -> None:
    """Nothing listens at the server's address; the release is installed, upgraded and taken away all the same."""
    kubectl = namespaces()
    helm = Helm("alone", kubectl.namespace, program)
    nowhere = {"url": f"http://{host}:9"}
    helm.upgrade(values(**nowhere), folder)
    first = controller_pod(kubectl, helm)
    assert_undisturbed(kubectl, helm)
    log = logged(kubectl, helm, "ERROR", "unreachable", f"{host}:9", "agentk8sglue.apiServerUrlReference")
    assert log.count("agentk8sglue.apiServerUrlReference") == 1, log
    assert "clearml: unreachable" in readyz(kubectl, helm)
    status = kubectl("exec", helm.deployment, "--", "clearml-k8s", "status", check=False)
    assert f"ClearML     http://{host}:9 unreachable: " in status
    said = check(kubectl, helm)
    assert f"FAIL  ClearML API at http://{host}:9 cannot be reached" in said
    assert "agentk8sglue.apiServerUrlReference" in said
    assert "ok    template of queue default" in said
    assert "1 problem(s) found" in said

    helm.upgrade(values(**nowhere), folder)
    assert controller_pod(kubectl, helm)["metadata"]["uid"] == first["metadata"]["uid"]

    helm.upgrade({**values(**nowhere), "test": {"checkServer": False}}, folder)
    assert controller_pod(kubectl, helm)["metadata"]["uid"] == first["metadata"]["uid"]
    if program == "helm4":
        tested = helm("test", helm.name, "--logs", "--timeout", "90s")
        assert "ClearML server: not asked" in tested.text
        assert "all well" in tested.text

    helm.upgrade({**values(**nowhere, maxPods=3), "test": {"checkServer": True}}, folder)
    second = controller_pod(kubectl, helm)
    assert second["metadata"]["uid"] != first["metadata"]["uid"]
    assert_undisturbed(kubectl, helm)
    if program == "helm4":
        tested = helm("test", helm.name, "--timeout", "90s", check=False)
        assert tested.code != 0
        assert "agentk8sglue.apiServerUrlReference" in kubectl("logs", f"{helm.fullname}-test")

    helm.uninstall()
    for kind in ("deployments", "secrets", "roles", "rolebindings"):
        assert kubectl.items(kind, f"app.kubernetes.io/instance={helm.name}") == []
    until("the pod is gone", lambda: not kubectl.items("pods", helm.controller_selector))


def test_uninstall_loses_no_task(
    namespaces: Any, server: DevServer, values: Callable[..., dict[str, Any]], folder: Path
) -> None:
    """Jobs are not Helm's: running tasks go on, what waits is kept, and the next installation takes all of it up."""
    kubectl = namespaces()
    given = values(
        queues={
            "one-at-a-time": {"queueSettings": {"maxPods": 1}},
            "nowhere": {"templateOverrides": {"nodeSelector": {"no-such": "node"}}},
        }
    )
    with installed(kubectl, given, folder, name="stays") as helm:
        tested = helm("test", helm.name, "--logs", "--timeout", "90s")
        assert "all well" in tested.text
        assert f"ok    ClearML server {server.url}" in tested.text
        running, parked = enqueue(
            server.environment(),
            NewTask(name="running", queue="one-at-a-time", script=WAITS_FOR_FILE),
            NewTask(name="parked", queue="nowhere", script="print('parked')\n"),
        )
        pod = kubectl.running_pod(running)
        (waiting,) = enqueue(
            server.environment(), NewTask(name="waiting", queue="one-at-a-time", script="print('waited')\n")
        )
        until("the script runs", lambda: "it runs" in server.console(running), limit=LIMIT)
        parked_job = until("the other has its Job", lambda: kubectl.job_of(parked), limit=60)
        until("its user is told why it waits", lambda: "No node takes the pod" in server.console(parked), limit=60)
        helm.uninstall()
        until("the controller is gone", lambda: not kubectl.items("pods", helm.controller_selector))

        assert kubectl.job_of(running) is not None
        assert kubectl.get("configmap", f"{helm.fullname}-claims") is not None
        assert server.entries(server.queue_id("one-at-a-time")) == [waiting]
        kubectl.let_go(pod)
        found = server.wait_for_status(running, "completed", "failed", "stopped", timeout=60)
        assert found["status"] == "completed", server.console(running)
        assert "it went on to its end" in server.console(running)
        assert kubectl.job_of(running) is not None
        assert (server.task(waiting)["status"], server.task(parked)["status"]) == ("queued", "queued")

        helm.upgrade(given, folder)
        found = server.wait_for_status(waiting, "completed", "failed", "stopped", timeout=LIMIT)
        assert found["status"] == "completed", server.console(waiting)
        kubectl.gone(running)
        kubectl.gone(waiting)
        job = kubectl.job_of(parked)
        assert job is not None
        assert job["metadata"]["uid"] == parked_job["metadata"]["uid"]
        assert server.task(parked)["status"] == "queued"
        server.call("tasks.dequeue", task=parked)
        kubectl.gone(parked)
        started = [call for call in server.calls(endpoint=r"^tasks\.completed$") if call["code"] == 200]
        assert len({call["task"] for call in started}) == 2


def test_address_of_something_else(
    namespaces: Any, index: e2e_index.PackageIndex, values: Callable[..., dict[str, Any]], folder: Path
) -> None:
    """A web server that is no ClearML API server, as when the web application's address is given."""
    kubectl = namespaces()
    address = index.url.removesuffix("/simple/")
    with installed(kubectl, values(url=address), folder) as helm:
        logged(kubectl, helm, "ERROR", "not as a ClearML API server", "agentk8sglue.apiServerUrlReference")
        said = check(kubectl, helm)
        assert f"FAIL  ClearML server {address}: " in said
        assert "agentk8sglue.apiServerUrlReference" in said
        assert "clearml: unreachable" in readyz(kubectl, helm)
        assert_undisturbed(kubectl, helm)


def test_wrong_credentials(
    namespaces: Any, server: DevServer, values: Callable[..., dict[str, Any]], folder: Path
) -> None:
    kubectl = namespaces()
    wrong = values(access_key="WRONGACCESSKEY", secret_key="a-secret-that-is-not-the-right-one")
    with installed(kubectl, wrong, folder) as helm:
        log = logged(kubectl, helm, "ERROR", "unauthorized", "clearml.agentk8sglueKey and clearml.agentk8sglueSecret")
        said = check(kubectl, helm)
        assert "refuses the credentials" in said
        assert "clearml.agentk8sglueKey and clearml.agentk8sglueSecret" in said
        for text in (log, said):
            assert "a-secret-that-is-not-the-right-one" not in text
        assert "clearml: unauthorized" in readyz(kubectl, helm)
        assert_undisturbed(kubectl, helm)
        before = controller_pod(kubectl, helm)["metadata"]["uid"]

        helm.upgrade(values(), folder)
        renew_mounts(kubectl, helm)
        until("the queue is served", lambda: "queue default: served" in readyz(kubectl, helm), limit=60)
        assert controller_pod(kubectl, helm)["metadata"]["uid"] == before
        assert_undisturbed(kubectl, helm)


def test_credentials_are_rotated_without_a_restart(
    namespaces: Any, server: DevServer, values: Callable[..., dict[str, Any]], folder: Path
) -> None:
    """The old pair is revoked first, which is the worse order."""
    kubectl = namespaces()
    first, second = server.add_credentials(), server.add_credentials()
    with installed(kubectl, values(access_key=first[0], secret_key=first[1]), folder) as helm:
        until("the queue is served", lambda: "queue default: served" in readyz(kubectl, helm), limit=60)
        before = controller_pod(kubectl, helm)["metadata"]["uid"]
        server.revoke_credentials(first[0])
        server.revoke_tokens()
        until("it is locked out", lambda: "clearml: unauthorized" in readyz(kubectl, helm), limit=60)
        (task,) = enqueue(server.environment(), NewTask(name="rotated", queue="default", script="print('works')\n"))

        helm.upgrade(values(access_key=second[0], secret_key=second[1]), folder)
        renew_mounts(kubectl, helm)
        log = logged(kubectl, helm, "INFO", "ClearML credentials have changed")
        found = server.wait_for_status(task, "completed", "failed", "stopped", timeout=LIMIT)
        assert found["status"] == "completed", server.console(task)
        assert controller_pod(kubectl, helm)["metadata"]["uid"] == before
        assert_undisturbed(kubectl, helm)
        for key in (*first, *second):
            assert key not in log


BAD_QUEUES: dict[str, tuple[dict[str, Any], str]] = {
    "host": ({"podSpec": {"hostname": "not_a_host_name"}}, "hostname"),
    "resources": ({"resources": {"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}}}, "memory"),
    "mount": ({"volumeMounts": [{"name": "nothing", "mountPath": "/data"}]}, "volumeMounts"),
}


def test_one_wrong_queue_leaves_the_others_alone(
    namespaces: Any, server: DevServer, values: Callable[..., dict[str, Any]], folder: Path
) -> None:
    """A queue that does not exist, and pod templates that only Kubernetes can refuse."""
    kubectl = namespaces()
    for name in ("good", *BAD_QUEUES):
        server.create_queue(name)
    queues: dict[str, Any] = {name: {"templateOverrides": override} for name, (override, _) in BAD_QUEUES.items()}
    with installed(kubectl, values(queues={**queues, "good": {}, "unknown": {}}, createQueues=False), folder) as helm:
        for name, (_, word) in BAD_QUEUES.items():
            logged(kubectl, helm, "ERROR", f"nothing is taken from queue '{name}'", word, f"queues.{name}.")
        logged(kubectl, helm, "ERROR", "nothing is taken from queue 'unknown'", "agentk8sglue.createQueues: true")
        said = check(kubectl, helm).splitlines()
        for name, (_, word) in BAD_QUEUES.items():
            line = next(line for line in said if line.startswith(f"FAIL  template of queue {name}: "))
            assert f"agentk8sglue.queues.{name}.templateOverrides" in line
            assert word in line
        unknown = next(line for line in said if line.startswith("FAIL  queue unknown: "))
        assert "agentk8sglue.createQueues: true" in unknown
        assert any(line.startswith("ok    template of queue good: ") for line in said)
        assert f"{len(BAD_QUEUES) + 1} problem(s) found" in said

        good, bad = enqueue(
            server.environment(),
            NewTask(name="good", queue="good", script="print('works')\n"),
            NewTask(name="bad", queue="resources", script="print('never')\n"),
        )
        found = server.wait_for_status(good, "completed", "failed", "stopped", timeout=LIMIT)
        assert found["status"] == "completed", server.console(good)
        assert server.task(bad)["status"] == "queued"
        assert server.entries(server.queue_id("resources")) == [bad]
        assert kubectl.job_of(bad) is None
        assert_undisturbed(kubectl, helm)

        # Corrected, the queue is served, and the task that waited there runs.
        queues["resources"] = {"templateOverrides": {"resources": {"requests": {"memory": "64Mi"}}}}
        helm.upgrade(values(queues={"resources": queues["resources"], "good": {}}), folder)
        found = server.wait_for_status(bad, "completed", "failed", "stopped", timeout=LIMIT)
        assert found["status"] == "completed", server.console(bad)

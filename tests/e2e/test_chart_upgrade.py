"""Upgrade and rollback by real helm: from a stand-in for ClearML's own chart, and from an older version of this one."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from clearml_server.process import DevServer
from e2e_programs import (
    CHART,
    TASK_IMAGE,
    Helm,
    Kubectl,
    controller_pod,
    ready,
    until,
    values_for,
)
from e2e_tasks import WAITS_FOR_FILE, NewTask, enqueue
from old_glue import OldGlue

OLD_CHART = Path(__file__).parent / "charts/oss-5.3.2"
LIMIT = 150.0
QUICK = [
    {"name": "CLEARML_AGENT_SKIP_PYTHON_ENV_INSTALL", "value": "1"},
    {"name": "CLEARML_AGENT_QUEUE_POLL_FREQ_SEC", "value": "1"},
]
CLIENT_SIDE = pytest.param("helm3", "helm3", (), id="client-side")
TO_SERVER_SIDE = pytest.param("helm3", "helm4", ("--server-side=true",), id="client-side-then-server-side")
SERVER_SIDE = pytest.param("helm4", "helm4", (), id="server-side")
"""Which helm installs, which upgrades, with which words."""


def long(way: Any) -> Any:
    return pytest.param(*way.values, id=way.id, marks=pytest.mark.long)


OLD_OBJECTS = [
    ("Deployment", ""),
    ("ConfigMap", "-pt"),
    ("Secret", "-ac"),
    ("Secret", "-ark"),
    ("Secret", "-afm"),
    ("ServiceAccount", "-sa"),
    ("Role", "-kpa"),
    ("RoleBinding", "-kpa"),
]
OBJECTS = [
    ("Deployment", "-controller"),
    ("ConfigMap", "-controller"),
    ("Secret", "-ac"),
    ("Secret", "-ark"),
    ("Secret", "-conf"),
    ("ServiceAccount", "-controller"),
    ("ServiceAccount", "-task"),
    ("Role", "-controller"),
    ("RoleBinding", "-controller"),
]


def named(helm: Helm, objects: list[tuple[str, str]]) -> set[tuple[str, str]]:
    return {(kind, helm.fullname + suffix) for kind, suffix in objects}


def left(kubectl: Kubectl) -> set[str]:
    """What is in the namespace, but for what Kubernetes puts into each."""
    kinds = "deployments,configmaps,leases,secrets,serviceaccounts,roles,rolebindings,services,jobs"
    found = {f"{item['kind']}/{item['metadata']['name']}" for item in kubectl.items(kinds)}
    return found - {"ConfigMap/kube-root-ca.crt", "ServiceAccount/default"}


def completed(server: DevServer, task: str) -> None:
    found = server.wait_for_status(task, "completed", "failed", "stopped", timeout=LIMIT)
    assert found["status"] == "completed", server.console(task)


def overrides(server: DevServer, *, queue: str) -> dict[str, Any]:
    """The file of somebody who comes from the old chart, after what docs/migration.md tells to change."""
    values = values_for(url=server.url, access_key=server.access_key, secret_key=server.secret_key, queues={},
                        base={"env": QUICK}, queue=queue, createQueueIfNotExists=True, maxPods=3)  # fmt: skip
    for key in ("queues", "createQueues"):
        del values["agentk8sglue"][key]
    values["clearml"]["clearmlConfig"] = "sdk {\n}"
    values["imageCredentials"] = {
        "enabled": True, "registry": "registry.example.com", "username": "robot", "password": 'pass"word'
    }  # fmt: skip
    return values


def of_the_old_chart(values: dict[str, Any]) -> dict[str, Any]:
    """The file before: the old agent's image (here: one at hand), and keys that only the old chart takes."""
    repository, _, tag = TASK_IMAGE.rpartition(":")
    ours = ("queuePollFrequencySeconds", "maxPods")
    glue = {key: value for key, value in values["agentk8sglue"].items() if key not in ours}
    glue |= {
        "image": {"repository": repository, "tag": tag},
        "replicaCount": 1,
        "fileMounts": [{"name": "hook.py", "folderPath": "/root/hooks", "fileContent": "pass"}],
    }
    return {**values, "agentk8sglue": glue, "sessions": {"portModeEnabled": True, "maxServices": 2}}


@pytest.mark.parametrize(("installer", "upgrader", "words"), [TO_SERVER_SIDE, long(CLIENT_SIDE), long(SERVER_SIDE)])
def test_from_the_open_source_chart(
    installer: str, upgrader: str, words: tuple[str, ...], namespaces: Any, server: DevServer, folder: Path
) -> None:
    kubectl = namespaces()
    queue = f"old-{kubectl.namespace}"
    server.create_queue(queue)
    values = overrides(server, queue=queue)
    old, new = (Helm("moves", kubectl.namespace, program) for program in (installer, upgrader))
    old.upgrade(of_the_old_chart(values), folder, chart=OLD_CHART)
    sessions = {("Service", f"clearml-session-{number}") for number in (1, 2)}
    assert old.owned() == named(old, OLD_OBJECTS) | sessions
    running, waiting, deleted = enqueue(
        server.environment(),
        NewTask(name="old, runs", queue=queue, script=WAITS_FOR_FILE),
        NewTask(name="old, waits", queue=queue, script="print('it started after all')\n"),
        NewTask(name="old, deleted", queue=queue, script=WAITS_FOR_FILE),
    )
    glue = OldGlue(kubectl=kubectl, server=server, fullname=old.fullname)
    pods = [glue.launch(running), glue.launch(waiting, held_back=True), glue.launch(deleted)]
    for task in (running, deleted):
        until("the old task runs", lambda task=task: "it runs" in server.console(task), limit=LIMIT)
    # Somebody uses a session, and keeps its Service as docs/migration.md says.
    kubectl("annotate", "service", "clearml-session-1", "helm.sh/resource-policy=keep")

    reused = new("upgrade", new.name, CHART, "--reuse-values", check=False)
    assert reused.code != 0
    assert "customCertificates" in reused.text, "keys that the old chart does not have are missing"

    new.upgrade(values, folder, *words)
    account = ("ServiceAccount", f"{new.fullname}-sa")
    assert new.owned() == named(new, OBJECTS) | {account, ("Service", "clearml-session-1")}
    secret = kubectl.get("secret", f"{new.fullname}-ac")
    assert secret is not None
    assert set(secret["data"]) == {"agentk8sglue_key", "agentk8sglue_secret"}
    assert may(kubectl, account[1], "get", "secrets") == "no"
    first = controller_pod(kubectl, new)
    assert ready(first), first["status"]

    # The pods of the old agent start and end, and are known: why one waits, that they take all places.
    assert may(kubectl, f"{new.fullname}-controller", "delete", "pods") == "yes"
    until(
        "why it waits is told", lambda: server.task(waiting)["status_message"].startswith("Kubernetes: "), limit=LIMIT
    )
    (next_one,) = enqueue(server.environment(), NewTask(name="next", queue=queue, script="print('next')\n"))
    glue.let_in(pods[1])
    completed(server, waiting)
    assert "it started after all" in server.console(waiting)
    completed(server, next_one)
    assert server.task(next_one)["started"] > server.task(waiting)["completed"]
    # Its agent is the child of a shell that hands no signal on, and reports nothing.
    kubectl("delete", "pod", pods[2])
    found = server.wait_for_status(deleted, "completed", "failed", "stopped", timeout=LIMIT)
    assert (found["status"], found["status_reason"]) == ("failed", "Kubernetes: deleted")
    kubectl("exec", pods[0], "--", "touch", "/tmp/go")
    completed(server, running)
    until("all old pods are gone", lambda: not kubectl.items("pods", "CLEARML"), limit=LIMIT)
    kubectl.gone(next_one)
    assert not kubectl.items("jobs"), "the new controller made a Job of a task that is not its own"

    # Nothing uses the old account any more; the controller is not restarted for that.
    new.upgrade(values, folder)
    assert new.owned() == named(new, OBJECTS) | {("Service", "clearml-session-1")}
    assert controller_pod(kubectl, new)["metadata"]["uid"] == first["metadata"]["uid"]
    assert may(kubectl, f"{new.fullname}-controller", "delete", "pods") == "no"
    kubectl("delete", "service", "clearml-session-1")

    new.rollback(1)
    assert new.owned() == named(old, OLD_OBJECTS) | sessions
    until("the controller is gone", lambda: not kubectl.items("pods", new.controller_selector), limit=LIMIT)
    new.rollback(3)
    assert new.owned() == named(new, OBJECTS)
    (task,) = enqueue(server.environment(), NewTask(name="new", queue=queue, script="print('new')\n"))
    completed(server, task)
    kubectl.gone(task)

    new.uninstall()
    assert left(kubectl) == {f"ConfigMap/{new.fullname}-claims", f"Lease/{new.fullname}-leader"}


def may(kubectl: Kubectl, account: str, verb: str, resource: str) -> str:
    who = f"system:serviceaccount:{kubectl.namespace}:{account}"
    return kubectl("auth", "can-i", verb, resource, "--as", who, check=False).strip()


@pytest.fixture(scope="session")
def older_chart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This chart under an older version number, which stands in labels."""
    chart = tmp_path_factory.mktemp("older") / "clearml-agent"
    shutil.copytree(CHART, chart)
    file = chart / "Chart.yaml"
    text, count = re.subn(r"(?m)^(version|appVersion): .*$", r"\1: 5.99.0", file.read_text())
    assert count == 2
    file.write_text(text)
    return chart


@pytest.mark.parametrize(("installer", "upgrader", "words"), [CLIENT_SIDE, long(TO_SERVER_SIDE), long(SERVER_SIDE)])
def test_from_an_older_version_of_this_chart(
    installer: str,
    upgrader: str,
    words: tuple[str, ...],
    namespaces: Any,
    server: DevServer,
    folder: Path,
    older_chart: Path,
) -> None:
    """With all values changed that end in fields which Kubernetes lets nobody change, or that Helm merges."""
    kubectl = namespaces()
    queue = f"own-{kubectl.namespace}"
    # The user's own, though its name is that of the old chart's: it is left alone.
    mine = "own-clearml-agent-sa"
    kubectl("create", "serviceaccount", mine)
    before = values_for(url=server.url, access_key=server.access_key, secret_key=server.secret_key,
                        queues={queue: {"queueSettings": {"maxPods": 1}}, f"{queue}-2": {}}, base={"env": QUICK},
                        labels={"team": "a"}, annotations={"note": "a"}, nodeSelector={"kubernetes.io/os": "linux"},
                        extraEnvs=[{"name": "A", "value": "a"}, {"name": "B", "value": "b"}])  # fmt: skip
    before["imageCredentials"] = {"password": "one"}
    before["clearml"]["clearmlConfig"] = "sdk {}"
    after = values_for(url=server.url, access_key=server.access_key, secret_key=server.secret_key,
                       queues={queue: {}}, base={"env": QUICK}, labels={"unit": "b"}, workerIdOverride="by-hand",
                       extraEnvs=[{"name": "B", "value": "c"}], serviceExistingAccountName=mine,
                       volumes=[{"name": "more", "emptyDir": {}}])  # fmt: skip
    old, new = (Helm("own", kubectl.namespace, program) for program in (installer, upgrader))
    old.upgrade(before, folder, chart=older_chart)
    assert old.owned() == named(old, OBJECTS)
    (running,) = enqueue(server.environment(), NewTask(name="runs on", queue=queue, script=WAITS_FOR_FILE))
    pod = kubectl.running_pod(running)
    until("the script runs", lambda: "it runs" in server.console(running), limit=LIMIT)

    new.upgrade(after, folder, *words)
    gone = [("Secret", "-ark"), ("Secret", "-conf"), ("ServiceAccount", "-controller")]
    kept = named(new, [item for item in OBJECTS if item not in gone])
    assert new.owned() == kept
    new.upgrade(after, folder)
    assert new.owned() == kept
    found = controller_pod(kubectl, new)
    assert ready(found)
    spec, labels = found["spec"], found["metadata"]["labels"]
    assert spec["serviceAccountName"] == mine
    assert [(e["name"], e["value"]) for e in spec["containers"][0]["env"] if len(e["name"]) == 1] == [("B", "c")]
    assert "nodeSelector" not in spec
    assert "imagePullSecrets" not in spec
    assert (labels.get("unit"), labels.get("team")) == ("b", None)
    deployment = kubectl.get("deployment", f"{new.fullname}-controller")
    assert deployment is not None
    assert deployment["metadata"]["labels"]["helm.sh/chart"] != "clearml-agent-5.99.0"
    assert "note" not in deployment["spec"]["template"]["metadata"]["annotations"]
    config = kubectl.get("configmap", f"{new.fullname}-controller")
    assert config is not None
    assert f"{queue}-2" not in config["data"]["config.yaml"]

    # One at a time was the old limit: the new controller knows the running Job, and takes another.
    (another,) = enqueue(server.environment(), NewTask(name="another", queue=queue, script="print('beside')\n"))
    completed(server, another)
    (same,) = kubectl.pods_of(running)
    assert same["metadata"]["uid"] == pod["metadata"]["uid"]
    new.rollback(1)
    assert new.owned() == named(new, OBJECTS)
    assert ready(controller_pod(kubectl, new))
    assert controller_pod(kubectl, new)["metadata"]["labels"].get("team") == "a"
    kubectl.let_go(pod)
    completed(server, running)
    kubectl.gone(running)
    kubectl.gone(another)
    new.uninstall()
    assert left(kubectl) == {
        f"ConfigMap/{new.fullname}-claims", f"Lease/{new.fullname}-leader", f"ServiceAccount/{mine}"
    }  # fmt: skip

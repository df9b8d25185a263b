"""What the chart makes beside the controller, on a real API server: every value at once, and files in real pods."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from clearml_server.process import DevServer
from e2e_programs import (
    CHART,
    CONTROLLER_IMAGE,
    Helm,
    all_ready,
    controller_pod,
    controller_pods,
    run,
    until,
    values_for,
)
from e2e_tasks import NewTask, enqueue

EVERYTHING: dict[str, Any] = yaml.safe_load((CHART / "ci" / "everything-values.yaml").read_text(encoding="utf-8"))
FULLNAME = EVERYTHING["fullnameOverride"]
QUICK = [{"name": "CLEARML_AGENT_SKIP_PYTHON_ENV_INSTALL", "value": "1"}]
COMPILED = """\
import importlib.util, pathlib, sys
for source in pathlib.Path(sys.prefix).rglob("*.py"):
    compiled = pathlib.Path(importlib.util.cache_from_source(source))
    if not compiled.exists() or compiled.read_bytes()[4] != 1:
        print(source)
"""
"""Names what Python compiles at every start: that is not compiled, or goes by times, which layers of images round."""

READS_FILES = """\
import pathlib
for path in ("/etc/clearml-ci/all.txt", "/etc/clearml-ci/queue.txt"):
    found = pathlib.Path(path)
    print(path, repr(found.read_text()) if found.exists() else "is not there")
print("beside it:", pathlib.Path("/etc/passwd").exists())
"""


def test_every_value_at_once(namespaces: Any, folder: Path) -> None:
    """Installed, ready, accepted by `helm test`, which asks the API server for each template; taken away whole."""
    kubectl = namespaces()
    helm = Helm("everything", kubectl.namespace)
    repository, _, tag = CONTROLLER_IMAGE.rpartition(":")
    image = {"image": {"repository": repository, "tag": tag}}
    helm.upgrade({**EVERYTHING, "agentk8sglue": {**EVERYTHING["agentk8sglue"], **image}}, folder)
    try:
        pods = until("both pods are Ready", lambda: all_ready(controller_pods(kubectl, helm), 2))
        pod = pods[0]
        name = pod["metadata"]["name"]
        for file in EVERYTHING["agentk8sglue"]["fileMounts"]:
            path = f"{file['folderPath']}/{file['name']}"
            assert kubectl("exec", name, "--", "cat", path) == file["fileContent"]
        assert kubectl("exec", name, "--", "python3", "-c", COMPILED) == ""

        account = f"system:serviceaccount:{kubectl.namespace}:{FULLNAME}-controller"
        assert kubectl("auth", "can-i", "list", "pvc", "--as", account).strip() == "yes"
        assert kubectl("auth", "can-i", "list", "secrets", "--as", account, check=False).strip() == "no"

        tested = helm("test", helm.name, "--logs", "--timeout", "90s").text
        for queue in EVERYTHING["agentk8sglue"]["queues"]:
            assert f"ok    template of queue {queue}" in tested
        assert "all well" in tested

        eviction = f'{{"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {{"name": "{name}"}}}}'
        url = f"/api/v1/namespaces/{kubectl.namespace}/pods/{name}/eviction"
        refused = run("kubectl", "create", "--raw", url, "--filename", "-", stdin=eviction, check=False)
        assert refused.code != 0
        assert "disruption budget" in refused.text
    finally:
        helm("uninstall", helm.name, "--ignore-not-found", "--wait", "--timeout", "90s")
    selector = f"app.kubernetes.io/instance={helm.name}"
    for kind in ("networkpolicies", "poddisruptionbudgets", "secrets", "rolebindings", "clusterrolebindings"):
        assert kubectl.items(kind, selector) == []
    assert kubectl.get("priorityclass", "clearml-agent-ci") is None


def test_files_in_task_pods(namespaces: Any, server: DevServer, folder: Path) -> None:
    """Each queue's tasks find its own files, or those of all; changed contents reach the next task."""
    kubectl = namespaces()
    helm = Helm("files", kubectl.namespace)

    def values(content: str) -> dict[str, Any]:
        def files(name: str, text: str) -> dict[str, Any]:
            return {"fileMounts": [{"name": name, "folderPath": "/etc/clearml-ci", "fileContent": text}]}

        return values_for(
            url=server.url,
            access_key=server.access_key,
            secret_key=server.secret_key,
            queues={"files of all": {}, "files-of-its-own": {"templateOverrides": files("queue.txt", content)}},
            base={
                **files("all.txt", "for all"),
                "env": [{"name": "CLEARML_AGENT_SKIP_PYTHON_ENV_INSTALL", "value": "1"}],
            },
        )

    def read(*queues: str) -> list[str]:
        """The consoles of one task from each queue, once it is completed."""
        tasks = enqueue(server.environment(), *(NewTask(name=q, queue=q, script=READS_FILES) for q in queues))
        for task in tasks:
            ended = server.wait_for_status(task, "completed", "failed", "stopped", timeout=150)
            assert ended["status"] == "completed", server.console(task)
        return [
            until("the console is whole", lambda t=task: c if "beside it:" in (c := server.console(t)) else None)
            for task in tasks
        ]

    helm.upgrade(values("one"), folder)
    try:
        controller = controller_pod(kubectl, helm)["metadata"]["uid"]
        for_all, own = read("files of all", "files-of-its-own")
        assert "/etc/clearml-ci/all.txt 'for all'" in for_all
        assert "/etc/clearml-ci/queue.txt is not there" in for_all
        assert "/etc/clearml-ci/queue.txt 'one'" in own
        assert "/etc/clearml-ci/all.txt is not there" in own
        assert "beside it: True" in own
        helm.upgrade(values("two"), folder)
        assert "/etc/clearml-ci/queue.txt 'two'" in read("files-of-its-own")[0]
        assert controller_pod(kubectl, helm)["metadata"]["uid"] == controller
    finally:
        helm("uninstall", helm.name, "--ignore-not-found", "--wait", "--timeout", "90s")

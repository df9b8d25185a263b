"""`clearml-k8s run` outside the cluster: with a kubeconfig and a pod template file, as ClearML's glue script is run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from clearml_server.process import DevServer
from e2e_programs import TASK_IMAGE, run, until
from e2e_tasks import WAITS_FOR_FILE, NewTask, enqueue, environment

TEMPLATE = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"labels": {"made-by": "template"}},
    "spec": {
        "containers": [
            {
                "image": TASK_IMAGE,
                "resources": {"requests": {"cpu": "50m"}},
                "env": [
                    {"name": "CLEARML_AGENT_SKIP_PYTHON_ENV_INSTALL", "value": "1"},
                    {"name": "CLEARML_AGENT_QUEUE_POLL_FREQ_SEC", "value": "1"},
                ],
            }
        ]
    },
}


def test_a_task_completes(namespaces: Any, server: DevServer, tmp_path: Path) -> None:
    kubectl = namespaces()
    template = tmp_path / "template.yaml"
    template.write_text(yaml.safe_dump(TEMPLATE))
    secret = {"agentk8sglue_key": server.access_key, "agentk8sglue_secret": server.secret_key}
    kubectl.apply(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "task-credentials"}, "stringData": secret}
    )
    flags = ["--queue", "glue", "--namespace", kubectl.namespace, "--template-yaml", str(template), "--max-pods", "2"]
    flags += ["--create-queue", "--credentials-secret", "task-credentials", "--kubeconfig", os.environ["KUBECONFIG"]]
    command = [sys.executable, "-m", "clearml_k8s.cli"]
    env = {**environment(server.environment(), tmp_path), "CLEARML_K8S_PORT": "0"}

    checked = run(*command, "check", *flags, env=env)
    assert "all well" in checked.out
    assert "queue glue: does not exist yet, will be created" in checked.out

    log = tmp_path / "controller.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [*command, "run", *flags], env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
        )
    try:
        until("the queue is served", lambda: "queue is served" in log.read_text(), limit=60)
        (task,) = enqueue(server.environment(), NewTask(name="glue", queue="glue", script=WAITS_FOR_FILE))
        pod = kubectl.running_pod(task)
        assert pod["metadata"]["labels"]["made-by"] == "template"
        assert pod["spec"]["containers"][0]["resources"]["requests"] == {"cpu": "50m"}
        kubectl.let_go(pod)
        found = server.wait_for_status(task, "completed", "failed", "stopped", timeout=150)
        assert found["status"] == "completed", server.console(task)
        assert "it went on to its end" in server.console(task)
        kubectl.gone(task)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(10)
    text = log.read_text()
    assert server.secret_key not in text
    assert server.access_key not in text
    assert "Traceback" not in text

"""Scripts of an administrator's own in real pods: in place of ours, of clearml.conf, of the image; and commands around.

The commands run in the controller's pod, with what the chart gives its account.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clearml_server.process import DevServer
from e2e_programs import Helm, Kubectl, controller_log, until, values_for
from e2e_tasks import WAITS_FOR_FILE, NewTask, enqueue

LIMIT = 150.0
QUICK = [
    {"name": "CLEARML_AGENT_SKIP_PYTHON_ENV_INSTALL", "value": "1"},
    {"name": "CLEARML_AGENT_QUEUE_POLL_FREQ_SEC", "value": "1"},
]
TELLS = """\
import os
print("extra", os.environ.get("OF_CONF"), "own", os.environ.get("OF_OWN"), "setup", os.environ.get("OF_TASK"))
print("prepared", os.environ.get("PREPARED"))
"""
CONF = 'agent.extra_docker_shell_script: ["export OF_CONF=from-conf", "echo the script of clearml.conf runs"]'
OWN = """\
{extra_bash_init_cmd}
echo "my own script runs task {task_id}"
{extra_docker_bash_script}
export OF_OWN="${{OF_CONF}}-and-own"
"$LOCAL_PYTHON" -m clearml_agent execute {default_execution_agent_args} --id {task_id}
"""
CONFIG_MAPS = '''\
"""Makes or removes a ConfigMap, as often as one likes, with the account of the pod."""
import json, ssl, sys, urllib.error, urllib.request
what, namespace, name = sys.argv[1:]
account = "/var/run/secrets/kubernetes.io/serviceaccount/"
url = f"https://kubernetes.default.svc/api/v1/namespaces/{namespace}/configmaps"
body = None
if what == "make":
    body = json.dumps({"metadata": {"name": name}, "data": {"who": "a command before " + name}}).encode()
else:
    url += "/" + name
request = urllib.request.Request(
    url, data=body, method="POST" if body else "DELETE",
    headers={"Authorization": "Bearer " + open(account + "token").read(), "Content-Type": "application/json"},
)
try:
    urllib.request.urlopen(request, timeout=10, context=ssl.create_default_context(cafile=account + "ca.crt"))
except urllib.error.HTTPError as error:
    if error.code != (409 if body else 404):
        sys.exit(f"{what} {name}: {error.code} {error.read().decode()}")
print(what, name)
'''
ROLE = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "Role",
    "metadata": {"name": "config-maps-of-tasks"},
    "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create", "delete"]}],
}


@pytest.fixture(scope="module")
def values(server: DevServer) -> dict[str, Any]:
    queues = {
        "script": {},
        "image": {"queueSettings": {"useImageEntrypoint": True}},
        "commands": {
            "templateOverrides": {
                "extraVolumes": [{"name": "made", "configMap": {"name": "clearml-id-${CLEARML_TASK.id}"}}],
                "extraVolumeMounts": [{"name": "made", "mountPath": "/made"}],
            },
        },
    }
    found = values_for(
        url=server.url,
        access_key=server.access_key,
        secret_key=server.secret_key,
        queues=queues,
        base={"env": QUICK, "terminationGracePeriodSeconds": 10},
    )
    found["clearml"]["clearmlConfig"] = CONF
    found["agentk8sglue"]["customBashScript"] = "export PREPARED=first"
    found["extraObjects"] = [ROLE]
    found["agentk8sglue"]["additionalRoleBindings"] = ["config-maps-of-tasks"]
    found["agentk8sglue"]["fileMounts"] = [
        {"name": "config_maps.py", "folderPath": "/mnt/commands", "fileContent": CONFIG_MAPS}
    ]
    command = "[[ {queue_name} == commands ]] || exit 0; python3 /mnt/commands/config_maps.py %s {namespace} {pod_name}"
    found["agentk8sglue"]["podCommands"] = {"preApply": command % "make", "postDelete": command % "remove"}
    return found


@pytest.fixture(scope="module")
def helm(kubectl: Kubectl, values: dict[str, Any], folder: Path) -> Iterator[Helm]:
    release = Helm("scripts", kubectl.namespace)
    own = {**values, "agentk8sglue": {**values["agentk8sglue"], "containerCustomBashScript": OWN}}
    release.upgrade(own, folder)
    yield release
    release.uninstall()


def completed(server: DevServer, queue: str, script: str = TELLS, **fields: Any) -> tuple[str, str]:
    """A task of the queue, which has to end well, and its console."""
    (task,) = enqueue(server.environment(), NewTask(name=queue, queue=queue, script=script, **fields))
    found = server.wait_for_status(task, "completed", "failed", "stopped", timeout=LIMIT)
    assert found["status"] == "completed", (found, server.console(task))
    return task, server.console(task)


@pytest.mark.usefixtures("helm")
def test_an_own_start_script_runs_the_task(kubectl: Kubectl, server: DevServer) -> None:
    """With the script of clearml.conf, and the task's own, where it says so."""
    task, console = completed(server, "script", setup_script="export OF_TASK=from-task")
    assert "extra from-conf own from-conf-and-own setup from-task" in console
    assert "prepared first" in console
    kubectl.gone(task)


@pytest.mark.usefixtures("helm")
def test_the_entrypoint_of_the_image_runs_the_task(kubectl: Kubectl, server: DevServer) -> None:
    """No script of anybody's but the image's."""
    (task,) = enqueue(server.environment(), NewTask(name="image", queue="image", script=WAITS_FOR_FILE))
    pod = kubectl.running_pod(task)
    (container,) = pod["spec"]["containers"]
    assert "command" not in container
    assert "args" not in container
    log = until("the image says so", lambda: kubectl("logs", pod["metadata"]["name"]), limit=60)
    assert f"the image starts task {task}" in log
    kubectl.let_go(pod)
    found = server.wait_for_status(task, "completed", "failed", "stopped", timeout=LIMIT)
    assert found["status"] == "completed", (found, server.console(task))
    _, console = completed(server, "image")
    assert "extra None own None setup None" in console
    assert "prepared None" in console


def test_commands_around_a_pod_run_in_the_controllers(helm: Helm, kubectl: Kubectl, server: DevServer) -> None:
    """What the first has made is mounted into the pod; what the last has removed is gone after it."""
    script = "print('mounted:', open('/made/who').read())\n" + WAITS_FOR_FILE
    (task,) = enqueue(server.environment(), NewTask(name="commands", queue="commands", script=script))
    pod = kubectl.running_pod(task)
    assert kubectl.get("configmap", f"clearml-id-{task}") is not None
    kubectl.let_go(pod)
    found = server.wait_for_status(task, "completed", "failed", "stopped", timeout=LIMIT)
    assert found["status"] == "completed", (found, server.console(task))
    assert f"mounted: a command before clearml-id-{task}" in server.console(task)
    kubectl.gone(task)
    until("it is removed", lambda: kubectl.get("configmap", f"clearml-id-{task}") is None, limit=60)
    assert f'output="make clearml-id-{task}"' in controller_log(kubectl, helm)


def test_a_command_without_a_right_fails_its_task_with_the_reason(
    helm: Helm, kubectl: Kubectl, server: DevServer, values: dict[str, Any], folder: Path
) -> None:
    """To make ConfigMaps the controller has a right of its own, for its record; to remove them it has not."""
    glue = {**values["agentk8sglue"], "additionalRoleBindings": []}
    glue["podCommands"] = {"preApply": values["agentk8sglue"]["podCommands"]["postDelete"]}
    helm.upgrade({**values, "agentk8sglue": glue}, folder)
    (task,) = enqueue(server.environment(), NewTask(name="commands", queue="commands", script=TELLS))
    found = server.wait_for_status(task, "completed", "failed", "stopped", timeout=LIMIT)
    assert found["status"] == "failed", (found, server.console(task))
    assert found["status_message"].startswith("the command before its Job failed: exit code 1: remove clearml-id-")
    assert "forbidden" in found["status_message"]
    assert kubectl.job_of(task) is None


def test_the_script_of_clearml_conf_runs_under_our_start_script(
    helm: Helm, server: DevServer, values: dict[str, Any], folder: Path
) -> None:
    """The release has no own script any more."""
    helm.upgrade(values, folder)
    _, console = completed(server, "script", setup_script="export OF_TASK=$OF_CONF")
    assert "extra from-conf own None setup from-conf" in console
    assert "prepared first" in console

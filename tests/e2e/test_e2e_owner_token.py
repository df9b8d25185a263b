"""A task runs as its owner: the real agent in a real pod has that user's token, and none of the controller's keys."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from clearml_server.process import DevServer
from e2e_programs import Helm, Kubectl, controller_log, until, values_for
from e2e_tasks import WAITS_FOR_FILE, NewTask, enqueue
from hostile import written

LIMIT = 300.0
OWNER = "ada"
CHECK = ("clearml-k8s", "check", "--config", "/etc/clearml-k8s/config.yaml")
QUICK = [
    {"name": "CLEARML_AGENT_SKIP_PYTHON_ENV_INSTALL", "value": "1"},
    {"name": "CLEARML_AGENT_QUEUE_POLL_FREQ_SEC", "value": "1"},
]
TELLS = f"""\
import json, os, urllib.request

def whose(name):
    headers = {{"Authorization": "Bearer " + os.environ[name], "Content-Type": "application/json"}}
    url = os.environ["CLEARML_API_HOST"] + "/users.get_current_user"
    request = urllib.request.Request(url, data=b"{{}}", headers=headers, method="POST")
    with urllib.request.build_opener(urllib.request.ProxyHandler({{}})).open(request) as answer:
        return json.load(answer)["data"]["user"]["id"]

print("RUNS AS", whose("CLEARML_AUTH_TOKEN"), flush=True)
print("FROM THE VAULT", os.environ.get("FROM_VAULT"), flush=True)
# Of the container, and of the task's own process.
all_names = {{line.partition("=")[0] for line in open("/proc/1/environ").read().split(chr(0))}} | os.environ.keys()
print("HAS", sorted(n for n in all_names if n.endswith(("_ACCESS_KEY", "_SECRET_KEY", "_AUTH_TOKEN"))), flush=True)
{WAITS_FOR_FILE}"""


@pytest.fixture(scope="module")
def server(host: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevServer]:
    """The server that has owner tokens; the controller's keys are an administrator's."""
    log = tmp_path_factory.mktemp("server") / "server.log"
    with DevServer(host=host, log=log, edition="enterprise", role="admin") as started:
        yield started


@pytest.fixture(scope="module")
def owner(server: DevServer) -> dict[str, str]:
    """What the owner's SDK needs."""
    access_key, secret_key = server.add_credentials(user=OWNER)
    server.set_vaults(OWNER, 'environment { FROM_VAULT: "of ada" }')
    keys = {"CLEARML_API_ACCESS_KEY": access_key, "CLEARML_API_SECRET_KEY": secret_key}
    return {**server.environment(), **keys}


@pytest.fixture(scope="module")
def helm(kubectl: Kubectl, server: DevServer, folder: Path) -> Iterator[Helm]:
    release = Helm("owners", kubectl.namespace)
    values = values_for(
        url=server.url,
        access_key=server.access_key,
        secret_key=server.secret_key,
        queues={"owned": {}},
        base={"env": QUICK, "terminationGracePeriodSeconds": 10},
    )
    values["agentk8sglue"]["useOwnerToken"] = True
    release.upgrade(values, folder)
    yield release
    release.uninstall()


def tokens(kubectl: Kubectl, task: str) -> list[str]:
    """What stands in the Secrets that were made for the task."""
    selector = f"app.kubernetes.io/component=owner-token,clearml-task-id={task}"
    return [base64.b64decode(item["data"]["token"]).decode() for item in kubectl.items("secrets", selector)]


def test_a_task_runs_with_its_owners_token_alone(
    helm: Helm, kubectl: Kubectl, server: DevServer, owner: dict[str, str]
) -> None:
    (task,) = enqueue(owner, NewTask(name="owned", queue="owned", script=TELLS))
    pod = kubectl.running_pod(task)
    until("it says what it has", lambda: "HAS " in server.console(task), limit=LIMIT)
    console = server.console(task)
    assert f"RUNS AS {OWNER}" in console
    assert "FROM THE VAULT of ada" in console
    # The second is the agent's own, under the name of its forerunner.
    assert "HAS ['CLEARML_AUTH_TOKEN', 'TRAINS_AUTH_TOKEN']" in console
    (token,) = tokens(kubectl, task)
    shown = {
        "objects": kubectl("get", "jobs,pods,configmaps,events", "-o", "json"),
        "controller's log": controller_log(kubectl, helm),
        "pod's log": kubectl("logs", pod["metadata"]["name"], "--all-containers"),
        "console": console,
        "task": json.dumps(server.task(task)),
    }
    for secret in (token, server.secret_key, server.access_key):
        for where, text in shown.items():
            assert not [way for way in written(secret) if way in text], where
    kubectl.let_go(pod)
    found = server.wait_for_status(task, "completed", "failed", "stopped", timeout=LIMIT)
    assert found["status"] == "completed", server.console(task)
    users = {call["endpoint"]: call["user"] for call in server.calls(task=task)}
    assert users["tasks.started"] == users["tasks.completed"] == OWNER
    kubectl.gone(task)
    until("the Secret goes with its Job", lambda: not tokens(kubectl, task), limit=60)


def test_a_pod_waits_for_its_secret_and_starts_when_it_may_be_made(
    helm: Helm, kubectl: Kubectl, server: DevServer, owner: dict[str, str]
) -> None:
    """The namespace has no room for Secrets; its user reads why, the task stays."""
    kubectl("create", "quota", "no-secrets", "--hard=count/secrets=0")
    until("it counts", lambda: (kubectl.get("quota", "no-secrets") or {}).get("status", {}).get("used"), limit=60)
    (task,) = enqueue(owner, NewTask(name="waits", queue="owned", script="print('it ran')\n"))
    told = "Waiting for its owner's token: Kubernetes does not take the Secret with it: "
    until("its user reads why", lambda: told in server.console(task), limit=LIMIT)
    assert "exceeded quota: no-secrets" in server.console(task)

    def config_error() -> bool:
        states = [s["state"] for pod in kubectl.pods_of(task) for s in pod["status"].get("containerStatuses", [])]
        return any(state.get("waiting", {}).get("reason") == "CreateContainerConfigError" for state in states)

    until("its node says that it is missing", config_error, limit=LIMIT)
    status = "Kubernetes: The Secret with the token of the task's owner is not there yet"
    until("the status says it", lambda: server.task(task)["status_message"].startswith(status), limit=60)
    assert server.task(task)["status"] == "queued"
    kubectl("delete", "quota", "no-secrets")
    found = server.wait_for_status(task, "completed", "failed", "stopped", timeout=LIMIT)
    assert found["status"] == "completed", server.console(task)
    kubectl.gone(task)


def test_check_says_that_it_works(helm: Helm, kubectl: Kubectl) -> None:
    said = kubectl("exec", helm.deployment, "--", *CHECK)
    assert "ok    owner tokens: the server gives them to these credentials" in said
    assert "all well" in said

"""Real SDK -> queue -> controller in the cluster -> Job -> real clearml-agent in a pod."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import e2e_index
import pytest
from clearml_server.process import DevServer
from e2e_programs import TASK_IMAGE, Helm, Kubectl, controller_log, until, values_for
from e2e_tasks import WAITS_FOR_FILE, NewTask, enqueue
from hostile import written

LIMIT = 150.0
QUICK = [
    {"name": "CLEARML_AGENT_SKIP_PYTHON_ENV_INSTALL", "value": "1"},
    {"name": "CLEARML_AGENT_QUEUE_POLL_FREQ_SEC", "value": "1"},
]
CHECK = ("clearml-k8s", "check", "--config", "/etc/clearml-k8s/config.yaml")
CANARIES = {"clearml.conf": "c4n4ry+$(A)é=1", "registry": "c4n4ry+$(A)é=2", "own Secret": "c4n4ry+$(A)é=3"}
"""Secrets of the values, and of a Secret that they name."""

OF_THE_SCRIPT = "c4n4ry+$(A)é=5"
CRASH = f"""\
export API_KEY='{OF_THE_SCRIPT}'
for number in $(seq 200); do printf 'line %s %01000d\\n' "$number" 0; done
env
python3 -c 'import os; print(os.environ)'
echo 'the last line'
exit 3
"""
"""A setup script that tells all it knows, the last of it in more than 32 KiB."""

LONG = "import time\nprint('it runs', flush=True)\ntime.sleep(600)\n"


@pytest.fixture(scope="module")
def task_credentials(server: DevServer) -> tuple[str, str]:
    """Task pods are another user than the controller."""
    return server.add_credentials(user="task-runner")


@pytest.fixture(scope="module")
def helm(
    kubectl: Kubectl,
    server: DevServer,
    task_credentials: tuple[str, str],
    index: e2e_index.PackageIndex,
    folder: Path,
) -> Iterator[Helm]:
    """One release with several queues, for all tests of this file."""
    release = Helm("e2e", kubectl.namespace)
    queues = {
        "bare": {},
        "packages": {
            "templateOverrides": {
                "env": [*index.environment(), QUICK[1]],
            },
        },
        "small": {
            "templateOverrides": {
                "env": [*QUICK, {"name": "SIZE", "value": "small"}],
                "resources": {"requests": {"cpu": "50m"}, "limits": {"memory": "500Mi"}},
                "labels": {"team": "a"},
            },
        },
        "large": {
            "templateOverrides": {
                "env": [*QUICK, {"name": "SIZE", "value": "large"}],
                "resources": {"requests": {"cpu": "100m"}, "limits": {"memory": "900Mi"}},
                "labels": {"team": "b"},
                "annotations": {"cost-centre": "42"},
            },
        },
        "asks": {
            "templateOverrides": {
                "env": [*QUICK, {"name": "HOME", "value": "/tmp"}],
                "labels": {"named": "${CLEARML_TASK.name|lower}", "none": "${CLEARML_TASK.hyperparams.none:nothing}"},
            },
            "queueSettings": {"taskPolicy": {"user": "nonRoot", "labels": ["team"]}},
        },
        "never-pull": {"templateOverrides": {"imagePullPolicy": "Never"}},
        "passed-through": {
            "templateOverrides": {
                "podSpec": {
                    "hostname": "by-pass-through",
                    "containers": [{"name": "task", "envFrom": [{"configMapRef": {"name": "more"}}]}],
                },
            },
        },
        "with-helper": {
            "templateOverrides": {
                "initContainers": [
                    {
                        "name": "helper",
                        "image": TASK_IMAGE,
                        "restartPolicy": "Always",
                        "command": ["sh", "-c", "echo the helper is here; exec sleep 600"],
                    }
                ],
            },
        },
        "unknown-field": {"templateOverrides": {"podSpec": {"hostNmae": "x"}}},
    }
    values = values_for(
        url=server.url,
        access_key=server.access_key,
        secret_key=server.secret_key,
        queues=queues,
        base={"env": QUICK, "terminationGracePeriodSeconds": 10},
    )
    access_key, secret_key = task_credentials
    values["clearml"]["taskCredentials"] = {"accessKey": access_key, "secretKey": secret_key}
    values["clearml"]["clearmlConfig"] = 'agent.git_pass: "' + CANARIES["clearml.conf"] + '"'
    values["agentk8sglue"]["customBashScript"] = "export PREPARED=first"
    values["imageCredentials"] = {"username": "robot", "password": CANARIES["registry"]}
    values["agentk8sglue"]["extraEnvs"] = [
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "mine", "key": "token"}}},
        {"name": "CLEARML_K8S_GLUE_TEMPLATE_MODULE", "value": "custom_code:update_template"},
    ]
    # Where ClearML's documentation puts it: in the home of a user that the controller is not.
    values["agentk8sglue"]["fileMounts"] = [
        {"name": "custom_code.py", "folderPath": "/root", "fileContent": TEMPLATE_MODULE}
    ]
    kubectl("create", "secret", "generic", "mine", f"--from-literal=token={CANARIES['own Secret']}")
    release.upgrade(values, folder)
    yield release
    release.uninstall()


TEMPLATE_MODULE = """
def update_template(queue_name, template, task_data, **kwargs):
    print("template module: queue", queue_name)
    if task_data.name == "Unwanted":
        raise ValueError("no team may run this")
    if queue_name == "asks":
        template["spec"]["containers"][0]["env"].append({"name": "FROM_MODULE", "value": task_data.name})
    return {"template": template}
"""


def task_env(workload: dict[str, Any]) -> dict[str, str]:
    """Literal variables of the first container of a Job or pod."""
    spec = workload["spec"]
    spec = spec.get("template", {}).get("spec", spec)
    return {item["name"]: item["value"] for item in spec["containers"][0]["env"] if "value" in item}


def test_a_task_that_needs_a_package_completes(
    helm: Helm, kubectl: Kubectl, server: DevServer, index: e2e_index.PackageIndex
) -> None:
    """The agent makes an environment in the pod and installs from the index what the image lacks."""
    script = f"import {e2e_index.PACKAGE}\nprint('in words:', {e2e_index.PACKAGE}.intword(10**9))\n"
    (task,) = enqueue(
        server.environment(), NewTask(name="packages", queue="packages", script=script, packages=[e2e_index.PACKAGE])
    )
    pod = kubectl.running_pod(task)
    assert pod["spec"]["containers"][0]["image"] == TASK_IMAGE
    found = server.wait_for_status(task, "completed", "failed", "stopped", timeout=LIMIT)
    console = server.console(task)
    assert found["status"] == "completed", console
    assert "in words: 1.0 billion" in console
    assert f"Kubernetes Job clearml-id-{task} created" in console
    assert any(path.startswith(f"/wheels/{e2e_index.PACKAGE}-") for path in index.requests)
    assert found["last_worker"].endswith(f":{task}")
    kubectl.gone(task)
    assert server.entries(server.queue_id("k8s_scheduler")) == []
    assert server.entries(server.queue_id("packages")) == []
    until("the last line tells", lambda: "Durations: " in server.console(task), limit=30)
    (line,) = [line for line in server.console(task).splitlines() if "Durations: " in line]
    length = r"[\d.]+ (s|min \d+ s)"
    phases = ("in the queue", "until the Job was made", "until a node was found")
    phases += ("volumes, image and start", "until the agent began", "environment and run")
    assert re.search("Durations: " + ", ".join(f"{phase} {length}" for phase in phases) + f"; in all {length}$", line)


def test_a_task_that_raises_fails_with_its_traceback(helm: Helm, kubectl: Kubectl, server: DevServer) -> None:
    script = "def load():\n    raise RuntimeError('no data there')\n\nload()\n"
    (task,) = enqueue(server.environment(), NewTask(name="raises", queue="bare", script=script))
    found = server.wait_for_status(task, "completed", "failed", "stopped", timeout=LIMIT)
    assert found["status"] == "failed"
    console = server.console(task)
    assert "Traceback (most recent call last)" in console
    assert "RuntimeError: no data there" in console
    kubectl.gone(task)


def test_a_task_that_needs_more_memory_than_its_limit_is_told_so(
    helm: Helm, kubectl: Kubectl, server: DevServer
) -> None:
    """Where the kernel kills the script alone the agent reports exit code -9, else nobody reports anything."""
    script = "held = [bytes([1]) * (50 << 20) for _ in range(40)]\n"
    (task,) = enqueue(server.environment(), NewTask(name="memory", queue="small", script=script))
    found = server.wait_for_status(task, "completed", "failed", "stopped", timeout=LIMIT)
    assert found["status"] == "failed"
    said = "Container task was killed: it used more memory than its limit. Give it more memory"
    until("that is told", lambda: said in server.task(task)["status_message"], limit=60)
    until("the console says so", lambda: said in server.console(task), limit=30)
    kubectl.gone(task)
    assert server.console(task).count(said) == 1


def test_a_setup_script_that_ends_the_pod_without_an_error_fails_the_task(
    helm: Helm, kubectl: Kubectl, server: DevServer
) -> None:
    (task,) = enqueue(
        server.environment(),
        NewTask(name="setup", queue="bare", script="print(1)\n", setup_script="echo ready\nexit 0\n"),
    )
    found = server.wait_for_status(task, "completed", "failed", "stopped", timeout=LIMIT)
    assert (found["status"], found["status_reason"]) == ("failed", "Kubernetes: clean-exit")
    said = "ended with exit code 0 while running the task's setup script"
    until("the reason is in the console", lambda: said in server.console(task), limit=30)
    kubectl.gone(task)


def test_of_a_crash_the_end_of_each_log_is_shown_and_no_secret(
    helm: Helm, kubectl: Kubectl, server: DevServer, task_credentials: tuple[str, str]
) -> None:
    """What stands last in the log of the pod and of its helper; not what the task, or a Secret, keeps secret."""
    canary = "c4n4ry+$(A)é=4"
    new = NewTask(
        name="crash",
        queue="with-helper",
        script="print(1)\n",
        docker_args=f"-e MY_TOKEN='{canary}' -e PLAIN=ordinary",
        setup_script=CRASH,
    )
    (task,) = enqueue(server.environment(), new)
    found = server.wait_for_status(task, "completed", "failed", "stopped", timeout=LIMIT)
    assert (found["status"], found["status_reason"]) == ("failed", "Kubernetes: crashed")
    until("the log is shown", lambda: "the last line" in server.console(task), limit=30)
    until("that of the helper, too", lambda: "the helper is here" in server.console(task), limit=30)
    console = server.console(task)
    assert "Last lines of container helper:\nthe helper is here" in console
    assert "line 200 " in console
    assert "line 1 " not in console
    assert "PLAIN=ordinary" in console
    assert "MY_TOKEN=****" in console
    kubectl.gone(task)
    shown = {"console": console, "status": found["status_message"], "controller's log": controller_log(kubectl, helm)}
    for secret in (canary, OF_THE_SCRIPT, task_credentials[1]):
        for where, text in shown.items():
            assert not [way for way in written(secret) if way in text], where


def test_a_task_gets_what_it_asks_for_within_the_policy(helm: Helm, kubectl: Kubectl, server: DevServer) -> None:
    asked = [
        "-e 'GREETING=hello you' --shm-size 64m --add-host=db.example.com:10.1.2.3",
        "-u 1000:1000 --label team=vision --workdir /tmp --privileged -v /etc:/host",
    ]
    shows = "os.getuid(), os.environ['GREETING'], os.environ['FROM_MODULE']"
    script = f"import os\nprint('user', {shows}, flush=True)\n{WAITS_FOR_FILE}"
    new = NewTask(
        name="Asks",
        queue="asks",
        script=script,
        docker_args=" ".join(asked),
        setup_script='echo "prepared $PREPARED"; df -k /dev/shm | tail -n 1; getent hosts db.example.com; pwd\n',
    )
    (task,) = enqueue(server.environment(), new)
    pod = kubectl.running_pod(task)
    labels = pod["metadata"]["labels"]
    assert {key: labels[key] for key in ("team", "named", "none")} == {
        "team": "vision",
        "named": "asks",
        "none": "nothing",
    }
    until("the agent is there", lambda: "it runs" in server.console(task), limit=LIMIT)
    log = kubectl("logs", pod["metadata"]["name"])
    assert "prepared first" in log
    assert re.search(r"^\S+ +65536 .*/dev/shm$", log, re.MULTILINE), log
    assert re.search(r"^10\.1\.2\.3 +db\.example\.com", log, re.MULTILINE), log
    assert "\n/tmp\n" in log
    kubectl.let_go(pod)
    found = server.wait_for_status(task, "completed", "failed", "stopped", timeout=LIMIT)
    console = server.console(task)
    assert found["status"] == "completed", console
    assert "user 1000 hello you Asks" in console
    for key in ("--privileged: ignored; ", "taskPolicy.privileged", "-v: ignored; ", "taskPolicy.hostPaths"):
        assert key in console


def test_a_template_module_that_raises_fails_its_task(helm: Helm, kubectl: Kubectl, server: DevServer) -> None:
    (task,) = enqueue(server.environment(), NewTask(name="Unwanted", queue="bare", script="print('runs')"))
    found = server.wait_for_status(task, "completed", "failed", "stopped", timeout=LIMIT)
    assert found["status"] == "failed"
    said = "the template module custom_code:update_template: it raised ValueError: no team may run this"
    assert said in found["status_message"]
    until("the console says so, too", lambda: said in server.console(task), limit=LIMIT)
    assert "template module: queue bare" in controller_log(kubectl, helm)
    assert kubectl.job_of(task) is None


def test_two_queues_give_different_pods(helm: Helm, kubectl: Kubectl, server: DevServer) -> None:
    script = f"import os\nprint('size', os.environ['SIZE'], flush=True)\n{WAITS_FOR_FILE}"
    small, large = enqueue(
        server.environment(),
        *(NewTask(name=queue, queue=queue, script=script, docker_args="-e EXTRA=1") for queue in ("small", "large")),
    )
    expected: dict[str, tuple[str, dict[str, Any], str]] = {
        small: ("small", {"requests": {"cpu": "50m", "memory": "500Mi"}, "limits": {"memory": "500Mi"}}, "a"),
        large: ("large", {"requests": {"cpu": "100m", "memory": "900Mi"}, "limits": {"memory": "900Mi"}}, "b"),
    }
    for task, (size, resources, team) in expected.items():
        pod = kubectl.running_pod(task)
        job = kubectl.job_of(task)
        assert job is not None
        for workload in (job, pod):
            assert task_env(workload)["SIZE"] == size
            assert task_env(workload)["EXTRA"] == "1"
            labels = workload["metadata"]["labels"]
            assert labels["team"] == team
            assert labels["clearml-task-id"] == task
            assert labels["clearml-agent-queue-name"] == size
            assert workload["metadata"]["annotations"].get("cost-centre") == ("42" if size == "large" else None)
        assert pod["spec"]["containers"][0]["resources"] == resources
        assert not pod["spec"].get("automountServiceAccountToken")
        assert pod["spec"]["serviceAccountName"] == f"{helm.fullname}-task"
        kubectl.let_go(pod)
    for task, (size, _, _) in expected.items():
        found = server.wait_for_status(task, "completed", "failed", "stopped", timeout=LIMIT)
        assert found["status"] == "completed", server.console(task)
        assert f"size {size}" in server.console(task)
        kubectl.gone(task)


def test_a_field_without_a_key_of_its_own_reaches_the_pod(helm: Helm, kubectl: Kubectl, server: DevServer) -> None:
    kubectl.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "more"}, "data": {"MORE": "of it"}})
    script = "import os, socket\nprint(socket.gethostname(), 'sees more', os.environ['MORE'], flush=True)\n"
    (task,) = enqueue(server.environment(), NewTask(name="passed", queue="passed-through", script=script))
    found = server.wait_for_status(task, "completed", "failed", "stopped", timeout=LIMIT)
    assert found["status"] == "completed", server.console(task)
    assert "by-pass-through sees more of it" in server.console(task)
    kubectl.gone(task)


def test_a_field_that_kubernetes_does_not_know_stops_its_queue_only(
    helm: Helm, kubectl: Kubectl, server: DevServer
) -> None:
    """Nothing is taken from it, and the reason is told; every other test of this file uses the other queues."""
    (task,) = enqueue(server.environment(), NewTask(name="waits", queue="unknown-field", script="print(1)\n"))
    said = kubectl("exec", helm.deployment, "--", *CHECK, check=False)
    (problem,) = [line for line in said.splitlines() if line.startswith("FAIL")]
    for text in (controller_log(kubectl, helm), problem):
        assert 'unknown field "spec.template.spec.hostNmae"' in text
        assert "agentk8sglue.queues.unknown-field.templateOverrides" in text
    assert server.entries(server.queue_id("unknown-field")) == [task]
    assert kubectl.job_of(task) is None
    server.call("tasks.dequeue", task=task)


def test_a_task_aborted_while_it_runs_ends_its_pod(helm: Helm, kubectl: Kubectl, server: DevServer) -> None:
    (task,) = enqueue(server.environment(), NewTask(name="long", queue="bare", script=LONG))
    kubectl.running_pod(task)
    until("the script runs", lambda: "it runs" in server.console(task), limit=LIMIT)
    server.call("tasks.stop", task=task)
    found = server.wait_for_status(task, "stopped", "failed", "completed", timeout=60)
    assert found["status"] == "stopped"
    kubectl.gone(task)
    assert server.task(task)["status"] == "stopped"
    assert "Not aborted by its user" not in server.console(task)


def test_a_task_that_is_stopped_from_outside_was_aborted(helm: Helm, kubectl: Kubectl, server: DevServer) -> None:
    """The controller deletes the Job, and the agent may report the SIGTERM of that."""
    (task,) = enqueue(server.environment(), NewTask(name="stopped", queue="bare", script=LONG))
    kubectl.running_pod(task)
    until("the script runs", lambda: "it runs" in server.console(task), limit=LIMIT)
    server.call("tasks.stopped", task=task)
    kubectl.gone(task)
    found = server.task(task)
    assert found["status"] == "stopped"
    assert not found["status_message"].startswith("Kubernetes: ")
    assert "Not aborted by its user" not in server.console(task)


@pytest.mark.parametrize(
    ("how", "status", "reason", "words"),
    [
        ("evict", "failed", "Kubernetes: evicted", "The pod was evicted: "),
        ("delete", "stopped", "user abort", "The pod was deleted"),
        ("deadline", "failed", "Kubernetes: deadline", "The pod ran longer than its activeDeadlineSeconds"),
    ],
)
def test_a_pod_that_is_told_to_end_is_no_abort(
    helm: Helm, kubectl: Kubectl, server: DevServer, how: str, status: str, reason: str, words: str
) -> None:
    """Its agent reports each of these as a user's abort; the controller corrects that and says what it was."""
    (task,) = enqueue(server.environment(), NewTask(name=how, queue="bare", script=LONG))
    name = kubectl.running_pod(task)["metadata"]["name"]
    until("the script runs", lambda: "it runs" in server.console(task), limit=LIMIT)
    if how == "evict":  # as a drain does it
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
        path = f"/api/v1/namespaces/{kubectl.namespace}/pods/{name}/eviction"
        kubectl("create", "--raw", path, "--filename", "-", stdin=json.dumps(eviction))
    elif how == "delete":
        kubectl("delete", "pod", name, "--wait=false")
    else:
        kubectl("patch", "pod", name, "--patch", json.dumps({"spec": {"activeDeadlineSeconds": 1}}))
    kubectl.gone(task)
    found = server.task(task)
    assert (found["status"], found["status_reason"]) == (status, reason)
    assert words in found["status_message"]
    until("the console says so", lambda: words in server.console(task), limit=30)
    assert server.console(task).count(words) == 1


def test_a_task_dequeued_before_it_starts_leaves_no_job(helm: Helm, kubectl: Kubectl, server: DevServer) -> None:
    """Its pod waits for an image that is nowhere; the user sees why, and takes the task back."""
    new = NewTask(name="no such image", queue="bare", script="print(1)\n", docker="localhost/clearml-k8s/nothing:dev")
    (task,) = enqueue(server.environment(), new)
    until("the console says why", lambda: "Waiting: Container task: " in server.console(task), limit=LIMIT)
    assert server.task(task)["status"] == "queued"
    assert "Kubernetes: Container task: " in server.task(task)["status_message"]
    server.call("tasks.dequeue", task=task)
    kubectl.gone(task)
    assert server.task(task)["status"] == "created"


@pytest.mark.parametrize(
    ("queue", "image", "reason", "said"),
    [
        ("bare", "https://Registry/Image", "cannot be launched", "expected an image reference"),
        ("never-pull", "localhost/clearml-k8s/nothing:dev", "Kubernetes: image-name", "ErrImageNeverPull"),
    ],
    ids=["not a name", "not on the node"],
)
def test_a_wrong_image_fails_the_task_with_the_reason(
    helm: Helm, kubectl: Kubectl, server: DevServer, queue: str, image: str, reason: str, said: str
) -> None:
    (task,) = enqueue(server.environment(), NewTask(name="image", queue=queue, script="print(1)\n", docker=image))
    found = server.wait_for_status(task, "completed", "failed", "stopped", timeout=LIMIT)
    assert (found["status"], found["status_reason"]) == ("failed", reason)
    assert said in found["status_message"]
    until("the reason is in the console", lambda: said in server.console(task), limit=30)
    kubectl.gone(task)
    pending = server.queue_id("k8s_scheduler")
    until("it is in no queue", lambda: not server.entries(pending) and not server.entries(server.queue_id(queue)))


def everything_shown(helm: Helm, kubectl: Kubectl) -> dict[str, str]:
    """What somebody may see who may not read Secrets."""
    kinds = kubectl("api-resources", "--namespaced", "--verbs=list", "--output=name").split()
    shown = {kind: json.dumps(kubectl.items(kind), ensure_ascii=False) for kind in kinds if kind != "secrets"}
    documents = helm("get", "manifest", helm.name).out.split("\n---\n")
    shown["helm get manifest"] = "\n".join(text for text in documents if "\nkind: Secret\n" not in text)
    assert "kind: Deployment" in shown["helm get manifest"]
    shown["helm get notes"] = helm("get", "notes", helm.name).out
    (pod,) = kubectl.items("pods", helm.controller_selector)
    path = f"/api/v1/namespaces/{kubectl.namespace}/pods/{pod['metadata']['name']}:8080/proxy"
    for page in ("/metrics", "/readyz", "/healthz", "/status"):
        shown[page] = kubectl("get", "--raw", path + page)
    shown["controller's log"] = controller_log(kubectl, helm)
    return shown


def test_credentials_stay_in_secrets(
    helm: Helm, kubectl: Kubectl, server: DevServer, task_credentials: tuple[str, str]
) -> None:
    """Nowhere but in the Secrets; the agent itself prints the access key in the pod's log, never the secret.

    The pod has its own credentials; the controller's are not in it.
    """
    (task,) = enqueue(server.environment(), NewTask(name="secrets", queue="bare", script=LONG))
    pod = kubectl.running_pod(task)
    until("the script runs", lambda: "it runs" in server.console(task), limit=LIMIT)
    log = kubectl("logs", pod["metadata"]["name"])
    shown = everything_shown(helm, kubectl)
    server.call("tasks.stop", task=task)
    assert "starting clearml-agent" in log
    assert task_credentials[0] in log
    for secret in (server.access_key, server.secret_key, task_credentials[1]):
        assert secret not in log
        assert secret not in server.console(task)
    env = {item["name"]: item for item in pod["spec"]["containers"][0]["env"]}
    for name in ("CLEARML_API_ACCESS_KEY", "CLEARML_API_SECRET_KEY"):
        assert env[name]["valueFrom"]["secretKeyRef"]["name"] == f"{helm.fullname}-task-ac"
    assert task in shown["jobs.batch"]
    assert task in shown["controller's log"]
    assert "clearml_k8s_api_requests_total" in shown["/metrics"]
    shown |= {"pod's log": log, "console": server.console(task)}
    canaries = {**CANARIES, "controller's access key": server.access_key, "its secret key": server.secret_key,
                "tasks' access key": task_credentials[0], "their secret key": task_credentials[1]}  # fmt: skip
    for whose, secret in canaries.items():
        # The agent itself prints its access key.
        places = [where for where in shown if not (where in ("pod's log", "console") and "tasks' access" in whose)]
        told = [where for where in places for way in written(secret) if way in shown[where]]
        assert not told, f"{whose} of the values"
    kubectl.gone(task)


def test_the_controller_was_never_restarted_and_told_no_trouble(helm: Helm, kubectl: Kubectl) -> None:
    """After all tests of this file."""
    (pod,) = kubectl.items("pods", helm.controller_selector)
    assert [status["restartCount"] for status in pod["status"]["containerStatuses"]] == [0]
    log = controller_log(kubectl, helm)
    own = "\n".join(line for line in log.splitlines() if "template module: " not in line)
    assert not re.search(r"Traceback|internal error|ended unexpectedly", own), own
    assert kubectl.items("jobs", helm.task_selector) == []

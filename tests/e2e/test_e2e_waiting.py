"""Why a task's pod waits, said by a real API server, scheduler and kubelet, whatever other nodes there are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clearml_server.process import DevServer
from e2e_programs import Helm, Kubectl, until, values_for
from e2e_tasks import NewTask, enqueue

LIMIT = 120.0
FAILS_AFTER = {"limitRange": 3, "podSecurity": 3, "containerConfig": 1800, "imagePull": 3, "admission": 3}
NO_RUNTIME = "no-such-runtime"
"""A handler of a RuntimeClass that no containerd has."""

WAITING: dict[str, tuple[dict[str, Any], str]] = {
    "quota": (
        {"resources": {"requests": {"example.com/gpu": 1}, "limits": {"example.com/gpu": 1}}},
        "Kubernetes does not take the pod: exceeded quota: no-gpus, requested: requests.example.com/gpu=1",
    ),
    "volume": (
        {"volumes": [{"name": "v", "secret": {"secretName": "nowhere"}}],
         "volumeMounts": [{"name": "v", "mountPath": "/v"}]},
        'A volume is not there: MountVolume.SetUp failed for volume "v" : secret "nowhere" not found',
    ),
    "claim": (
        {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "nowhere"}}],
         "volumeMounts": [{"name": "v", "mountPath": "/v"}]},
        'persistentvolumeclaim "nowhere" not found',
    ),
    "selector": ({"nodeSelector": {"pool": "nowhere"}}, "Compare nodeSelector, affinity and t"),
    "room": ({"resources": {"requests": {"cpu": 9000}}}, "It waits until a node has room"),
    "sandbox": (
        {},
        "The node cannot make the pod's sandbox: Failed to create pod sandbox: rpc error: code = Unknown desc = "
        f'failed to get sandbox runtime: no runtime for "{NO_RUNTIME}" is configured. Ask the cluster\'s administrator',
    ),
    "config": (
        {"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "nowhere", "key": "a"}}}]},
        'Container task: CreateContainerConfigError: configmap "nowhere" not found',
    ),
}  # fmt: skip
FAILING: dict[str, tuple[dict[str, Any], str, str]] = {
    "limit": ({"resources": {"limits": {"memory": "8Gi"}}},
              "limit-range", "maximum memory usage per Container is 4Gi, but limit is 8Gi"),
    "security": ({"hostNetwork": True}, "pod-security", 'violates PodSecurity "baseline:latest": host namespaces'),
    "webhook": ({"labels": {"not": "wanted"}}, "admission", "denied request: pods with this label are not wanted"),
    "image": ({}, "image-pull", "connection refused"),
}  # fmt: skip

IMAGES = {"image": "127.0.0.1:9/nothing:1"}
"""By queue; port 9 answers nobody."""


@pytest.fixture(scope="module")
def kubectl(namespaces: Any) -> Kubectl:
    made: Kubectl = namespaces()
    made("label", "namespace", made.namespace, "pod-security.kubernetes.io/enforce=baseline")
    made.apply(
        {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "no-gpus"},
            "spec": {"hard": {"requests.example.com/gpu": "0"}},
        },
        {
            "apiVersion": "v1",
            "kind": "LimitRange",
            "metadata": {"name": "memory"},
            "spec": {
                "limits": [
                    {
                        "type": "Container",
                        "max": {"memory": "4Gi"},
                        "default": {"memory": "1Gi"},
                        "defaultRequest": {"memory": "64Mi"},
                    }
                ]
            },
        },
    )
    return made


@pytest.fixture(scope="module")
def runtime(kubectl: Kubectl) -> Iterator[str]:
    """A class of pods of which the node can make none."""
    name = f"{NO_RUNTIME}-{kubectl.namespace}"
    kind = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass"}
    kubectl.apply({**kind, "metadata": {"name": name}, "handler": NO_RUNTIME})
    yield name
    kubectl("delete", "runtimeclass", name)


@pytest.fixture(scope="module")
def policy(kubectl: Kubectl) -> Iterator[None]:
    """Something of the administrator's that refuses pods of this namespace."""
    name = f"not-wanted-{kubectl.namespace}"
    api = "admissionregistration.k8s.io/v1"
    here = {"matchLabels": {"kubernetes.io/metadata.name": kubectl.namespace}}
    rules = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]
    allowed = "!has(object.metadata.labels) || !('not' in object.metadata.labels)"
    kubectl.apply(
        {
            "apiVersion": api,
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": name},
            "spec": {
                "matchConstraints": {"resourceRules": rules},
                "validations": [{"expression": allowed, "message": "pods with this label are not wanted"}],
            },
        },
        {
            "apiVersion": api,
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": name},
            "spec": {
                "policyName": name,
                "validationActions": ["Deny"],
                "matchResources": {"namespaceSelector": here},
            },
        },
    )
    yield
    kubectl("delete", "validatingadmissionpolicybindings,validatingadmissionpolicies", name)


@pytest.fixture(scope="module")
def helm(kubectl: Kubectl, server: DevServer, folder: Path, policy: None, runtime: str) -> Iterator[Helm]:
    del policy
    release = Helm("waits", kubectl.namespace)
    templates = {name: case[0] for name, case in (*WAITING.items(), *FAILING.items())}
    templates["sandbox"] = {"runtimeClassName": runtime}
    values = values_for(
        url=server.url,
        access_key=server.access_key,
        secret_key=server.secret_key,
        queues={name: {"templateOverrides": template} for name, template in templates.items()},
        patienceSeconds=FAILS_AFTER,
        # Else nothing is taken from the queue whose pods the quota would refuse.
        respectResourceQuotas=False,
    )
    release.upgrade(values, folder)
    yield release
    release.uninstall()


@pytest.fixture(scope="module")
def tasks(helm: Helm, server: DevServer) -> dict[str, str]:
    """One task in each queue, all enqueued before the first is looked at; by queue."""
    queues = (*WAITING, *FAILING)
    new = (NewTask(name=name, queue=name, script="print(1)\n", docker=IMAGES.get(name)) for name in queues)
    made = enqueue(server.environment(), *new)
    return dict(zip(queues, made, strict=True))


@pytest.mark.parametrize("queue", WAITING)
def test_a_task_that_waits_says_why(queue: str, tasks: dict[str, str], server: DevServer) -> None:
    task, said = tasks[queue], WAITING[queue][1]
    message = f"Kubernetes says {said!r}"
    until(message, lambda: said in server.task(task)["status_message"], limit=LIMIT)
    assert server.task(task)["status"] == "queued"
    until("the console says so", lambda: f"Waiting: {said}" in server.console(task) or said in server.console(task))
    assert server.console(task).count(said) == 1


def test_the_status_names_each_task_that_waits(
    tasks: dict[str, str], server: DevServer, kubectl: Kubectl, helm: Helm
) -> None:
    for queue, (_, said) in WAITING.items():
        until(f"{queue} is told", lambda q=queue, s=said: s in server.task(tasks[q])["status_message"], limit=LIMIT)
    page = kubectl("exec", helm.deployment, "--", "clearml-k8s", "status")
    waiting = page.partition("Waiting for the cluster:\n")[2].splitlines()
    for queue, (_, said) in WAITING.items():
        (line,) = [line for line in waiting if tasks[queue] in line]
        assert line.startswith(f"  {tasks[queue]} ({queue}, ")
        assert said in line
    found = json.loads(kubectl("exec", helm.deployment, "--", "clearml-k8s", "status", "--json"))
    pending = {queue["name"]: queue["pending"] for queue in found["queues"]}
    assert {queue: pending[queue] for queue in WAITING} == dict.fromkeys(WAITING, 1)


@pytest.mark.parametrize("queue", FAILING)
def test_a_task_whose_patience_is_over_fails_with_the_reason(
    queue: str, tasks: dict[str, str], server: DevServer, kubectl: Kubectl
) -> None:
    task = tasks[queue]
    _, reason, said = FAILING[queue]
    found = server.wait_for_status(task, "failed", "completed", "stopped", timeout=LIMIT)
    assert (found["status"], found["status_reason"]) == ("failed", f"Kubernetes: {reason}")
    assert said in found["status_message"]
    kubectl.gone(task)


def test_a_task_runs_when_what_it_waited_for_comes(tasks: dict[str, str], server: DevServer, kubectl: Kubectl) -> None:
    """No restart, no new attempt: the quota is lifted, the pod is made."""
    kubectl("delete", "resourcequota", "no-gpus")
    task = tasks["quota"]
    until(
        "the next reason is told",
        lambda: "Insufficient example.com/gpu" in server.task(task)["status_message"],
        limit=LIMIT,
    )
    assert len(kubectl.pods_of(task)) == 1


def test_a_job_that_somebody_suspends_is_told(tasks: dict[str, str], server: DevServer, kubectl: Kubectl) -> None:
    task = tasks["selector"]
    until("it has a pod", lambda: kubectl.pods_of(task), limit=LIMIT)
    suspended = '{"spec": {"suspend": %s}}'
    kubectl("patch", "job", f"clearml-id-{task}", "--patch", suspended % "true")
    until("that is told", lambda: "The Job is suspended" in server.task(task)["status_message"], limit=LIMIT)
    assert server.task(task)["status"] == "queued"
    kubectl("patch", "job", f"clearml-id-{task}", "--patch", suspended % "false")
    said = WAITING["selector"][1]
    until("it waits for a node again", lambda: said in server.task(task)["status_message"], limit=LIMIT)


def test_a_job_of_somebody_else_in_the_place_of_ours(
    tasks: dict[str, str], server: DevServer, kubectl: Kubectl
) -> None:
    """Its user is told what to do, and the task runs when it is gone."""
    task = server.create_task()
    container = {"name": "c", "image": "x"}
    spec = {"suspend": True, "template": {"spec": {"restartPolicy": "Never", "containers": [container]}}}
    name = f"clearml-id-{task}"
    kubectl.apply({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec})
    server.call("tasks.enqueue", task=task, queue=server.queue_id("room"))
    said = f"Job {name}"
    until("its user is told", lambda: said in server.console(task), limit=LIMIT)
    assert f"kubectl -n {kubectl.namespace} delete job {name}" in server.console(task)
    assert server.task(task)["status"] == "queued"
    (mine,) = [job for job in kubectl.items("jobs") if job["metadata"]["name"] == name]
    assert mine["spec"]["template"]["spec"]["containers"][0]["image"] == "x"
    kubectl("delete", "job", name)
    until("ours is there", lambda: kubectl.pods_of(task), limit=LIMIT)
    assert server.console(task).count("delete job") == 1

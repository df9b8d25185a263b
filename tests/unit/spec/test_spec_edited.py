"""A pod template on its way through a template module: what it gets, and what of its answer the Job has."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from clearml_k8s import errors
from clearml_k8s.clearml.tasks import Container, TaskView
from clearml_k8s.config import Config, QueueConfig, QueueSettings, ResolvedQueue
from clearml_k8s.config.policy import TaskPolicy
from clearml_k8s.spec.job import BuiltJob, build_job, pod_template
from spec_support import ATTEMPT, CONTROLLER, TASK_ID, WORKER_ID, environment, pod_spec, task_container

BASE = {
    "labels": {"team": "a", "queue": "${CLEARML_QUEUE_NAME}"},
    "env": [{"name": "A", "value": "base"}],
    "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "PLACEHOLDER"}}],
    "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    "resources": {"limits": {"nvidia.com/gpu": 1}},
}
POLICY = TaskPolicy(max_gpus=4)


def arguments(config: Config, **container: str) -> dict[str, Any]:
    queue = QueueConfig(
        name="gpu", template_overrides=BASE, settings=QueueSettings(default_image="python:3.12", task_policy=POLICY)
    )
    task = TaskView(id=TASK_ID, name="train", status="queued", status_changed=ATTEMPT, container=Container(**container))
    return {
        "config": config,
        "queue": ResolvedQueue(config=queue, id="q1", name="gpu"),
        "task": task,
        "worker_id": WORKER_ID,
    }


def template(config: Config, **container: str) -> dict[str, Any]:
    return pod_template(**arguments(config, **container))


def build(config: Config, edited: dict[str, Any], **container: str) -> BuiltJob:
    return build_job(**arguments(config, **container), attempt=ATTEMPT, controller_id=CONTROLLER, edited=edited)


def test_it_is_a_pod_of_the_queues_template(config: Config) -> None:
    found = template(config)
    assert (found["apiVersion"], found["kind"], found["metadata"]["namespace"]) == ("v1", "Pod", config.namespace)
    assert found["metadata"]["labels"] == {"team": "a", "queue": "gpu"}
    container = found["spec"]["containers"][0]
    assert (container["name"], container["image"]) == ("task", "python:3.12")
    assert container["env"] == BASE["env"]
    assert found["spec"]["volumes"] == BASE["volumes"]
    assert "command" not in container
    assert template(config, image="mine:1")["spec"]["containers"][0]["image"] == "mine:1"


def test_unchanged_it_changes_nothing(config: Config) -> None:
    plain = build_job(**arguments(config), attempt=ATTEMPT, controller_id=CONTROLLER)
    assert build(config, template(config)) == plain


def test_what_it_changes_stands_in_the_job(config: Config) -> None:
    edited = template(config)
    edited["metadata"]["labels"]["team"] = "b"
    edited["metadata"]["annotations"]["x"] = "y"
    edited["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"] = f"clearml-id-{TASK_ID}"
    edited["spec"]["containers"][0]["env"].append({"name": "B", "value": "module"})
    edited["spec"]["containers"][0]["image"] = "registry.example.com/mirror/python:3.12"
    edited["spec"]["containers"].append({"name": "beside", "image": "busybox:1"})
    edited["spec"]["nodeSelector"] = {"pool": "a"}
    job = build(config, edited, arguments="-e A=task --gpus 2")
    spec, container = pod_spec(job), task_container(job)
    assert job.manifest["metadata"]["labels"]["team"] == "b"
    assert job.manifest["metadata"]["annotations"]["x"] == "y"
    assert spec["volumes"][0]["persistentVolumeClaim"]["claimName"] == f"clearml-id-{TASK_ID}"
    assert (environment(job)["A"], environment(job)["B"]) == ("task", "module")
    assert container["image"] == "registry.example.com/mirror/python:3.12"
    assert container["resources"]["limits"] == {"nvidia.com/gpu": 2}
    assert [one["name"] for one in spec["containers"]] == ["task", "beside"]
    assert spec["nodeSelector"] == {"pool": "a"}


def test_what_the_controller_decides_stays(config: Config) -> None:
    edited = template(config)
    edited["spec"] |= {"restartPolicy": "Always", "automountServiceAccountToken": True}
    edited["spec"]["containers"][0] |= {"name": "mine", "command": ["sleep"], "args": ["1"]}
    edited["spec"]["containers"][0]["env"] = [
        {"name": "CLEARML_TASK_ID", "value": "x"},
        {"name": "CLEARML_WORKER_ID", "value": "x"},
    ]
    edited["metadata"]["labels"]["clearml-task-id"] = "x"
    job = build(config, edited)
    spec, container = pod_spec(job), task_container(job)
    assert (spec["restartPolicy"], spec["automountServiceAccountToken"]) == ("Never", False)
    assert (container["name"], container["command"][:2]) == ("task", ["/bin/sh", "-c"])
    assert environment(job)["CLEARML_WORKER_ID"] != "x"
    assert job.manifest["metadata"]["labels"]["clearml-task-id"] == TASK_ID
    told = [one.argument for one in job.ignored]
    assert {
        "spec.restartPolicy",
        "spec.containers[0].command",
        "env CLEARML_WORKER_ID",
        "label clearml-task-id",
    } <= set(told)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"spec": {}}, "spec.containers: expected the task's container"),
        ({"spec": {"containers": []}}, "spec.containers: expected the task's container"),
        ({"spec": []}, "spec: expected a mapping"),
        ({"spec": {"containers": [1]}}, "spec.containers[0]: expected a mapping"),
        ({"metadata": {"labels": {"a": 1}}}, "metadata.labels.a: expected text"),
        ({"metadata": {"namespace": "other"}}, "metadata.namespace: pods of tasks are in "),
        ({"kind": "Job"}, "kind: found Job; expected Pod"),
        ({"status": {}}, "status: unknown key"),
    ],
)
def test_what_is_no_pod_fails_the_task(config: Config, change: dict[str, Any], said: str) -> None:
    with pytest.raises(errors.SpecError) as caught:
        build(config, {**template(config), **change})
    assert str(caught.value).startswith(f"the template module returned no pod template: {said}")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"resources": "many"}, "resources: expected a mapping"),
        ({"resources": {"limits": [1]}}, "resources.limits: expected a mapping"),
        ({"securityContext": [1]}, "securityContext: expected a mapping"),
        ({"securityContext": {"capabilities": "ALL"}}, "securityContext.capabilities: expected a mapping"),
        ({"securityContext": {"capabilities": {"add": [1]}}}, "securityContext.capabilities.add: expected a list"),
    ],
)
def test_a_container_that_is_none_is_the_modules_fault_not_ours(
    config: Config, change: dict[str, Any], said: str
) -> None:
    edited = template(config)
    edited["spec"]["containers"][0] |= change
    with pytest.raises(errors.SpecError) as caught:
        build(config, edited, arguments="--gpus 2 --cap-add SYS_PTRACE")
    assert str(caught.value).startswith(f"the template module returned no pod template: spec.containers[0].{said}")


def test_aliases_that_are_none_are_the_modules_fault(config: Config) -> None:
    edited = template(config)
    edited["spec"]["hostAliases"] = 1
    with pytest.raises(errors.SpecError, match="no pod template: spec.hostAliases: expected a list"):
        build(config, edited, arguments="--add-host a:1.2.3.4")


def test_null_is_not_set(config: Config) -> None:
    """As Kubernetes takes it."""
    edited = template(config)
    edited["spec"] |= {"volumes": None, "hostAliases": None, "initContainers": None}
    edited["spec"]["containers"][0] |= {"volumeMounts": None, "resources": None, "env": None}
    job = build(config, edited, arguments="--gpus 2 --shm-size 1g --add-host a:1.2.3.4 -e A=1")
    assert task_container(job)["resources"]["limits"] == {"nvidia.com/gpu": 2}


def test_an_image_that_is_none_fails_the_task(config: Config) -> None:
    edited = template(config)
    edited["spec"]["containers"][0]["image"] = "Not An Image"
    with pytest.raises(errors.SpecError, match="the template module's image: found 'Not An Image'"):
        build(dataclasses.replace(config), edited)

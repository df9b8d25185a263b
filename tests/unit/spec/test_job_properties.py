"""Any task with any template: a Job that Kubernetes takes, or a refusal with the reason."""

import json
import re

import pytest
from clearml_k8s.clearml import tasks as task_reads
from clearml_k8s.clearml.tasks import Container, TaskView
from clearml_k8s.config import ResolvedQueue
from clearml_k8s.config.policy import TaskPolicy
from clearml_k8s.errors import SpecError
from clearml_k8s.spec.asks import lay_over
from clearml_k8s.spec.container import MAX_ENV_BYTES, MAX_TEXT, check_image, docker_words
from clearml_k8s.spec.environment import RESERVED_ENV
from clearml_k8s.spec.job import MAX_MANIFEST_BYTES, build_job
from clearml_k8s.spec.script import ENV_SETUP_SCRIPT, start_command
from clearml_k8s.spec.template import PodParts
from hostile import BOUNDED, texts
from hostile_tasks import ATTEMPT, TASK_ID, arguments, config, queues, tasks
from hypothesis import example, given, settings
from spec_support import kubernetes_expansion

LABEL = re.compile(r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
ENV_NAME = re.compile(r"(?!\.$|\.\.)[-._a-zA-Z][-._a-zA-Z0-9]*")
CONFIG = config()
PARTS = PodParts(labels={}, annotations={}, spec={}, container={}, sidecars=[], ignored=())
EVERYTHING = TaskPolicy(
    host_ipc=True,
    host_network=True,
    host_paths=("/",),
    volume_claims=("a",),
    privileged=True,
    capabilities=("ALL",),
    user="any",
    labels=("*",),
)
QUEUE = ResolvedQueue(config=CONFIG.queues["default"], id="q", name="default")


def built(task, queue):
    return build_job(
        config=CONFIG, queue=queue, task=task, attempt=task.status_changed, worker_id="w", controller_id="73428caf09"
    )


@settings(BOUNDED, max_examples=100)
@given(task=tasks(), queue=queues())
def test_any_task_becomes_a_valid_job_or_is_refused_with_a_reason(task, queue):
    try:
        job = built(task, queue).manifest
    except SpecError as error:
        assert 10 < len(str(error)) < 600
        return
    assert len(json.dumps(job, ensure_ascii=False).encode()) <= MAX_MANIFEST_BYTES
    pod = job["spec"]["template"]
    for meta in (job["metadata"], pod["metadata"]):
        assert all(LABEL.fullmatch(value) for value in meta["labels"].values())
        assert sum(len(k.encode()) + len(v.encode()) for k, v in meta["annotations"].items()) < 256 * 1024
    container = pod["spec"]["containers"][0]
    assert container["command"] == list(start_command()) and "args" not in container

    env = container["env"]
    names = [entry["name"] for entry in env]
    assert len(names) == len(set(names)) and all(ENV_NAME.fullmatch(name) for name in names)
    values = {entry["name"]: entry.get("value") for entry in env}
    assert values["CLEARML_API_SECRET_KEY"] is None and values["CLEARML_K8S_TASK_ID"] == task.id
    assert "CLEARML_AUTH_TOKEN" not in values and values["CLEARML_WORKER_ID"] == f"w:{task.id}"
    assert all("\0" not in (value or "") for value in values.values())
    if task.container.setup_shell_script.strip():
        # As the kubelet hands it over, whatever is in it.
        variables = dict.fromkeys(names, "expanded")
        assert kubernetes_expansion(values[ENV_SETUP_SCRIPT], variables) == task.container.setup_shell_script


@BOUNDED
@given(text=arguments())
@example(text="-e ..=x -e .=y -e ..a=b")
@example(text="-vSECRET:/path --SECRET -%SECRET -uroot:SECRET")
def test_docker_arguments_give_names_that_kubernetes_takes_and_tell_no_values(text):
    try:
        found = lay_over(PARTS, docker_words(text), policy=EVERYTHING, reserved_env=RESERVED_ENV, reserved_paths=())
    except SpecError:
        return
    assert all(ENV_NAME.fullmatch(name) and name not in RESERVED_ENV for name in found.env)
    for ignored in found.ignored:
        assert "SECRET" not in ignored.argument.replace("CLEARML_API_SECRET_KEY", "")
        assert len(str(ignored)) < 10_000 and "\n" not in ignored.argument


@BOUNDED
@given(image=texts())
@example(image="a" * 10_000_000)
@example(image="a-" * 1_000_000)
@example(image="https://user:SECRET@registry.example.com/a")
def test_an_image_is_taken_or_named(image):
    try:
        found = check_image(image, setting="the image")
    except SpecError as error:
        assert str(error).startswith("the image") and len(str(error)) < 1500 and "SECRET" not in str(error)
    else:
        assert len(found) < 700 and found.isascii() and found.isprintable()


@pytest.mark.parametrize(
    ("container", "why"),
    [
        (Container(setup_shell_script="x" * 10_000_000), "the task's setup script: 100000.. bytes; at most"),
        (Container(arguments="-e A=" + "x" * MAX_ENV_BYTES), "environment variable A: .* bytes; at most"),
        (Container(arguments="-e A=B " * MAX_TEXT), "container arguments: .* characters; at most"),
        (Container(image="a/" * MAX_TEXT), "container image: .* characters; at most"),
    ],
)
def test_what_is_too_large_is_refused_and_named(container, why):
    task = TaskView(id=TASK_ID, status="queued", status_changed=ATTEMPT, container=container)
    with pytest.raises(SpecError, match=why):
        built(task, QUEUE)


def test_the_tasks_own_code_is_never_read():
    """Its script and uncommitted changes may be of any size; the agent in the pod reads them."""
    assert not [field for field in task_reads.FIELDS if field in ("script", "script.diff", "script.requirements")]

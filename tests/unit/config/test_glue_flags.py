from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from clearml_k8s.config import SecretKey, TaskCredentials
from clearml_k8s.config.file import ConfigProblems
from clearml_k8s.config.glue_flags import REFUSED, GlueFlags, Server, config_from_flags

SERVER = Server(api_server="http://clearml:8008/", web_server="http://clearml:8080")

# As in ClearML's own examples of the glue.
TEMPLATE = """
apiVersion: v1
metadata:
  namespace: ml
  labels: {team: a}
  annotations: {x: "1"}
spec:
  serviceAccountName: trainer
  containers:
  - resources:
      limits: {cpu: 4}
    env:
    - {name: A, value: "1"}
    image: ubuntu:22.04
  restartPolicy: Never
"""


def flags(**changes: Any) -> GlueFlags:
    return GlueFlags(**{"queues": ("gpu", "cpu, small"), "credentials_secret": "creds", **changes})


def problems(**changes: Any) -> tuple[str, ...]:
    with pytest.raises(ConfigProblems) as caught:
        config_from_flags(flags(**changes), server=SERVER)
    return caught.value.problems


@pytest.fixture
def template(tmp_path: Path) -> Path:
    file = tmp_path / "pod.yaml"
    file.write_text(TEMPLATE, encoding="utf-8")
    return file


def test_the_glues_flags_give_a_config(template: Path) -> None:
    config = config_from_flags(
        flags(template_yaml=template, max_pods=3, create_queue=True, clearml_conf_secret="conf"), server=SERVER
    )
    assert list(config.queues) == ["gpu", "cpu", "small"]
    assert config.namespace == "ml"
    assert (config.release_name, config.fullname) == ("clearml-k8s", "clearml-k8s")
    assert (config.max_pods, config.create_queues) == (3, True)
    assert config.clearml.api_server == "http://clearml:8008"
    assert (config.clearml.web_server, config.clearml.file_server) == ("http://clearml:8080", None)
    assert config.clearml.task_credentials == TaskCredentials(secret_name="creds")
    assert config.clearml.config_secret == SecretKey(name="conf", key="clearml.conf")
    assert config.default_container_image == "ubuntu:22.04"
    assert config.task.service_account_name == "trainer"
    assert config.base_pod_template == {"labels": {"team": "a"}, "annotations": {"x": "1"}}
    assert config.base_pod_spec is not None
    assert config.base_pod_spec["containers"][0]["resources"] == {"limits": {"cpu": 4}}


def test_without_a_template_the_defaults_count() -> None:
    config = config_from_flags(flags(), server=SERVER)
    assert config.namespace == "clearml"
    assert config.task.service_account_name == "default"
    assert config.default_container_image is None


def test_the_default_image_of_the_environment_comes_first(template: Path) -> None:
    config = config_from_flags(flags(template_yaml=template, default_image="nvidia/cuda:12"), server=SERVER)
    assert config.default_container_image == "nvidia/cuda:12"


def test_missing_credentials_are_told_with_the_command_that_makes_them() -> None:
    (problem,) = problems(credentials_secret=None, namespace="ml", credentials_keys=("key", "secret"))
    assert problem.startswith("--credentials-secret: missing;")
    assert "kubectl --namespace ml create secret generic clearml-task-credentials --from-env-file=" in problem
    assert "key=<access key>" in problem
    assert "secret=<secret key>" in problem


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(ConfigProblems) as caught:
        config_from_flags(GlueFlags(queues=(" , ",)), server=Server(api_server=None))
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "--queue",
        "the ClearML server is not known",
        "--credentials-secret",
    ]


@pytest.mark.parametrize(
    ("host", "named"),
    [
        ("api_server", "CLEARML_API_HOST (or api.api_server in clearml.conf)"),
        ("web_server", "CLEARML_WEB_HOST (or api.web_server in clearml.conf)"),
        ("file_server", "CLEARML_FILES_HOST (or api.files_server in clearml.conf)"),
    ],
)
def test_an_address_with_a_password_is_refused_where_it_was_given(host: str, named: str) -> None:
    with pytest.raises(ConfigProblems) as caught:
        config_from_flags(flags(), server=dataclasses.replace(SERVER, **{host: "https://user:s3cret@host"}))
    (problem,) = caught.value.problems
    assert problem.startswith(f"{named}: found a URL with a user name or password in it")
    assert "s3cret" not in problem


def test_two_different_namespaces_are_a_mistake(template: Path) -> None:
    (problem,) = problems(template_yaml=template, namespace="other")
    assert problem.startswith(f"--namespace is other, but metadata.namespace in {template} is ml")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"max_pods": 0}, "--max-pods: found 0; expected at least 1"),
        ({"name": "x" * 60}, f"--name: found '{'x' * 60}'; expected lower-case letters"),
        ({"name": "My Agent"}, "--name: found 'My Agent'; expected lower-case letters"),
        ({"name": "agent-"}, "--name: found 'agent-'; expected lower-case letters"),
    ],
)
def test_values_are_checked_as_those_of_a_file(changes: dict[str, Any], expected: str) -> None:
    (problem,) = problems(**changes)
    assert problem.startswith(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- a\n", "expected a Pod manifest"),
        ("kind: Job\nspec: {}\n", "kind: found Job; expected Pod"),
        ("apiVersion: v2\n", "apiVersion: found v2; expected v1"),
        ("spec: []\n", "spec: expected a mapping"),
        ("Spec: {}\n", "Spec: unknown key"),
        ("metadata: {finalizers: []}\n", "metadata.finalizers: not taken"),
        ("metadata: {namespace: 1}\n", "metadata.namespace: expected text"),
        ("metadata: {labels: {a: 1}}\n", "metadata.labels.a: expected text; write it in quotes"),
        ("spec: {containers: {}}\n", "spec.containers: expected a list"),
        ("spec: {containers: [1]}\n", "spec.containers[0]: expected a mapping"),
        ("spec: {containers: [{env: [{value: s3cret}]}]}\n", "spec.containers[0].env[0]: expected a name"),
        ("spec: {containers: [{}, {image: a}]}\n", "spec.containers[1]: expected a name"),
        ("spec: {volumes: [{emptyDir: {}}]}\n", "spec.volumes[0]: expected a name"),
        ("spec: {initContainers: [{image: a}]}\n", "spec.initContainers[0]: expected a name"),
        ("spec: {initContainers: [5]}\n", "spec.initContainers[0]: expected a mapping"),
        ("spec: {imagePullSecrets: [a]}\n", "spec.imagePullSecrets[0]: expected a mapping"),
        ("a: 1\na: 2\n", "line 2, column 1: not valid YAML"),
        ("metadata: {labels: {a: '${CLEARML_USER.name}'}}\n", "metadata.labels.a: found ${CLEARML_USER...}"),
        ("spec: {nodeName: '${CLEARML_QUEUE_NAME|upper}'}\n", "spec.nodeName: found the operation 'upper'"),
    ],
)
def test_a_template_that_is_no_pod_is_told_with_its_path(tmp_path: Path, text: str, expected: str) -> None:
    file = tmp_path / "pod.yaml"
    file.write_text(text, encoding="utf-8")
    (problem,) = problems(template_yaml=file)
    assert expected in problem
    assert problem.startswith(str(file))
    assert "s3cret" not in problem


def test_a_template_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (problem,) = problems(template_yaml=tmp_path / "missing.yaml")
    assert problem.startswith(f"--template-yaml: {tmp_path}/missing.yaml cannot be read")


def test_every_refused_flag_has_advice() -> None:
    assert all(flag.startswith("--") and advice for flag, advice in REFUSED.items())

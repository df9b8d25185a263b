"""Whatever stands in the config file: a config, or every problem with its place, and never a secret."""

import pytest
import yaml
from clearml_k8s.config import Config
from clearml_k8s.config.address import API, FILES, address_problem
from clearml_k8s.config.file import ConfigProblems, config_from_document, parse_config, parse_yaml
from clearml_k8s.config.pod_template import PodTemplate, read_pod_template
from hostile import BOUNDED, spoilt, texts
from hypothesis import example, given
from hypothesis import strategies as st

DOCUMENT = {
    "workerId": None,
    "releaseName": "gpu",
    "fullname": "gpu-clearml-agent",
    "namespace": "clearml",
    "clearml": {
        "apiServer": "https://api.clear.ml",
        "webServer": None,
        "fileServer": "s3://bucket",
        "verifyCertificate": True,
        "taskCredentials": {"secretName": "ac", "accessKeyKey": "a", "secretKeyKey": "b"},
        "configSecret": {"name": "conf", "key": "clearml.conf"},
    },
    "queuePollFrequencySeconds": 5,
    "maxPods": 3,
    "completedPodDeletionDelayMinutes": 0,
    "patienceSeconds": {"imagePull": 300},
    "task": {"serviceAccountName": "x", "imagePullSecrets": ["y"]},
    "basePodTemplate": {"env": [{"name": "A", "value": "CANARY-7d1f"}], "labels": {"a": "b"}},
    "queues": {"default": {"templateOverrides": {}, "queueSettings": {"maxPods": 1}}},
}
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"namespace": "ns", "labels": {"a": "b"}, "annotations": {"c": "d"}},
    "spec": {
        "containers": [{"name": "x", "image": "y", "env": [{"name": "A", "value": "B"}], "volumeMounts": []}],
        "volumes": [{"name": "v"}],
        "imagePullSecrets": [{"name": "s"}],
    },
}


@BOUNDED
@given(document=spoilt(DOCUMENT, most=2))
@example(document={**DOCUMENT, "completedPodDeletionDelayMinutes": float("inf")})
@example(document={**DOCUMENT, "queues": {"\ud800": {}}})
def test_a_document_is_a_config_or_its_problems(document):
    try:
        config = config_from_document(document, source="config")
    except ConfigProblems as error:
        assert error.problems and all(problem.startswith("config: ") for problem in error.problems)
        assert "CANARY-7d1f" not in str(error)
    else:
        assert isinstance(config, Config) and config.queues
        assert config.completed_pod_deletion_delay_minutes < 10**9


@BOUNDED
@given(text=st.text(max_size=40) | st.text("[]{}:,&*!|>'\"-? \n#%@`x0_a", max_size=40))
@example(text="a: !!int x")
@example(text="a: !!float x")
@example(text="a: !!bool maybe")
@example(text="a: !!timestamp x")
@example(text="a: !!map [b]")
@example(text="a: 0x_")
@example(text="a: " + "9" * 5000)
@example(text="a: !!binary é")
def test_any_yaml_is_read_or_its_place_is_told(text):
    try:
        parse_yaml(text, source="file")
    except ConfigProblems as error:
        assert str(error).startswith("file")


@pytest.mark.parametrize("text", ["", "[]", "x", "queues: {}", "&a [*a]", "&a {a: *a}", "a: &b {c: *b}"])
def test_a_file_that_is_no_config_is_told(text):
    with pytest.raises(ConfigProblems, match="config"):
        parse_config(text)


@BOUNDED
@given(document=spoilt(POD, most=2))
def test_a_pod_manifest_is_read_or_its_problems(document, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "pod.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8", errors="replace")
    try:
        template = read_pod_template(path)
    except ConfigProblems as error:
        assert all(problem.startswith(str(path)) for problem in error.problems)
    else:
        assert isinstance(template, PodTemplate)


@BOUNDED
@given(text=texts() | st.builds("http://{}".format, texts()) | st.builds("https://user:{}@host".format, texts()))
def test_an_address_is_whole_or_told_without_its_password(text):
    for kind in (API, FILES):
        problem = address_problem(text, kind=kind)
        assert problem == "" or problem.startswith("found ")
        assert "user:" not in problem

"""Commands around a pod: what is filled in where, and what is refused."""

from __future__ import annotations

import pytest
from clearml_k8s.config.file import ConfigProblems, parse_config
from clearml_k8s.config.pod_commands import PodCommandsConfig, filled, read, variables

GIVEN = {"pod_name": "clearml-id-1", "namespace": "ns", "pod_number": 3}
QUEUE = "${CLEARML_K8S_QUEUE_NAME}"


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("kubectl -n {namespace} delete pvc {pod_name}", "kubectl -n ns delete pvc clearml-id-1"),
        (r"sed 's/\$PVC_NAME/{pod_name}/g' a", r"sed 's/\$PVC_NAME/clearml-id-1/g' a"),
        ("svc-{pod_number}", "svc-3"),
        ("[[ {queue_name} == 'a' ]]", f"[[ \"{QUEUE}\" == 'a' ]]"),
        ('echo "in {queue_name}"', f'echo "in {QUEUE}"'),
        ("echo 'in {queue_name}'", f"echo 'in '\"{QUEUE}\"''"),
        (r"echo \'{queue_name}", rf"echo \'\"{QUEUE}\"".replace('\\"', '"')),
        (r'echo "\"{queue_name}"', rf'echo "\"{QUEUE}"'),
        ("echo '\\' {queue_name}", f"echo '\\' \"{QUEUE}\""),
        ("echo ${namespace} ${pod_name}", "echo ${namespace} ${pod_name}"),
        ("awk '{print $1}' {a,b} {}", "awk '{print $1}' {a,b} {}"),
        ("{pod_name}{namespace}", "clearml-id-1ns"),
    ],
)
def test_what_is_filled_in(command: str, expected: str) -> None:
    assert filled(command, **GIVEN) == expected


def test_any_text_can_be_the_variables_value() -> None:
    assert variables(queue_name="a\0b\udc80") == {"CLEARML_K8S_QUEUE_NAME": "ab?"}


def test_of_a_document() -> None:
    found = read({"preApply": " a\n", "postDelete": "b", "postApply": None, "timeoutSeconds": 5})
    assert found == PodCommandsConfig(pre_apply="a", post_delete="b", timeout_seconds=5.0)
    assert (bool(found), found.after) == (True, True)
    assert not read(None)
    assert not read({"preApply": "", "timeoutSeconds": 30})
    assert not read({"preApply": "a"}).after


DOCUMENT = """
releaseName: gpu
fullname: gpu
namespace: ns
clearml: {apiServer: "https://a.example.com", taskCredentials: {secretName: a}}
queues: {default: {}}
podCommands: {preApply: "echo {pod_number}", postApply: "echo {pod_number}"}
"""


def test_a_pod_has_no_number_before_it_is_made() -> None:
    with pytest.raises(ConfigProblems) as caught:
        parse_config(DOCUMENT)
    (problem,) = caught.value.problems
    assert "podCommands.preApply: found {pod_number}" in problem
    assert "name things by {pod_name}" in problem
    assert parse_config(DOCUMENT.replace("preApply", "postDelete")).pod_commands.post_delete == "echo {pod_number}"

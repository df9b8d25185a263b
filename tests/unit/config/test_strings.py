"""String templates: each variable, path, default and operation, and what is refused."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from clearml_k8s.config.strings import SAMPLE, Missing, filled, problems, uses
from clearml_k8s.spec.expansion import joined
from hypothesis import given
from hypothesis import strategies as st

TASK: dict[str, Any] = {
    "name": "Train\nmy model",
    "tags": ["a", "b"],
    "user": "u1",
    "progress": 5,
    "empty": "",
    "nothing": None,
    "untagged": [],
    "lines": "\n\n",
    "blank": "  ",
    "models": [{"name": "s3cret"}],
    "hyperparams": {"properties": {"team": {"value": "vision"}}},
}
VALUES = {
    "QUEUE_NAME": "gpu",
    "QUEUE_ID": "q1",
    "WORKER_ID": "w:1",
    "PROJECT_NAME": "a/b",
    "PROJECT_ID": "p1",
    "TASK": TASK,
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${CLEARML_QUEUE_NAME}", "gpu"),
        ("x-${CLEARML_QUEUE_ID}-${CLEARML_PROJECT_ID}", "x-q1-p1"),
        ("${CLEARML_WORKER_ID}", "w:1"),
        ("${CLEARML_PROJECT_NAME}", "a/b"),
        ("${CLEARML_TASK.hyperparams.properties.team.value}", "vision"),
        ("${CLEARML_TASK.hyperparams.properties.none.value:all}", "all"),
        ("${CLEARML_TASK.empty:}", ""),
        ("${CLEARML_TASK.empty}", ""),
        ("${CLEARML_TASK.lines}", ""),
        ("${CLEARML_TASK.untagged|label}", ""),
        ("${CLEARML_TASK.empty:none|capitalize}", "None"),
        ("${CLEARML_TASK.tags}", "a,b"),
        ("${CLEARML_TASK.progress}", "5"),
        ("${CLEARML_TASK.name}", "Trainmy model"),
        ("${CLEARML_TASK.name|raw}", "Train\nmy model"),
        ("${CLEARML_TASK.name|lower}", "trainmy model"),
        ("${CLEARML_TASK.name|lower|capitalize}", "Trainmy model"),
        ("${CLEARML_TASK.name|strip(Tl)}", "rainmy mode"),
        ("${CLEARML_TASK.user|strip}", "u1"),
        ("${CLEARML_TASK.lines:none}", "none"),
        ("${CLEARML_TASK.blank:none|strip}", "none"),
        ("${CLEARML_PROJECT_NAME|label}", "a-b"),
        ("${CLEARML_TASK.name|label}", "trainmy-model"),
        (
            "echo ${CLEARML_API_HOST} ${CLEARML_TASK_ID} $(A) ${HOME}",
            "echo ${CLEARML_API_HOST} ${CLEARML_TASK_ID} $(A) ${HOME}",
        ),
    ],
)
def test_what_is_filled_in(text: str, expected: str) -> None:
    assert list(problems({"a": text}, place="x")) == []
    assert filled({"a": [text]}, VALUES) == {"a": [expected]}


def test_what_is_filled_in_is_text_and_not_looked_at_again() -> None:
    values = {**VALUES, "QUEUE_NAME": "${CLEARML_QUEUE_ID}: {a: b}"}
    assert filled({"${CLEARML_QUEUE_NAME}": "${CLEARML_QUEUE_NAME}"}, values) == {
        "${CLEARML_QUEUE_NAME}": "${CLEARML_QUEUE_ID}: {a: b}"
    }


def test_what_kubernetes_would_expand_is_escaped_there_alone() -> None:
    thing = {
        "env": [{"name": "A", "value": "$(B) ${CLEARML_QUEUE_NAME}"}],
        "command": ["${CLEARML_QUEUE_NAME}"],
        "image": "${CLEARML_QUEUE_NAME}",
    }
    found = filled(thing, {**VALUES, "QUEUE_NAME": "$(SECRET)"}, join=joined)
    assert found == {
        "env": [{"name": "A", "value": "$(B) $$(SECRET)"}],
        "command": ["$$(SECRET)"],
        "image": "$(SECRET)",
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("${CLEARML_TASK.none}", "${CLEARML_TASK.none}: there is no such value; give a default"),
        ("${CLEARML_TASK.name.first}", "there is no such value"),
        ("${CLEARML_TASK.nothing}", "there is no such value"),
        ("${CLEARML_TASK.tags.first}", "there is no such value"),
        ("${CLEARML_TASK.models}", "${CLEARML_TASK.models}: that is a list of objects, which has no text"),
        ("${CLEARML_TASK.name|upper}", "found the operation 'upper'; there are capitalize, label, "),
        ("${CLEARML_TASK.hyperparams.properties}", "that is an object; name one of its members: team"),
    ],
)
def test_what_is_not_there_is_named(text: str, said: str) -> None:
    with pytest.raises(Missing) as caught:
        filled(text, VALUES)
    assert said in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("key", ["subPath", "subPathExpr"])
@pytest.mark.parametrize("value", ["a/b", "..", ".", "/etc", ""])
def test_a_task_keeps_to_its_own_folder_of_a_volume(key: str, value: str) -> None:
    with pytest.raises(Missing, match=rf"in a {key}: found (nothing|'{value}'); expected the name of one folder"):
        filled({"m": [{key: "x/${CLEARML_PROJECT_NAME:}"}]}, {**VALUES, "PROJECT_NAME": value})
    good = {"m": [{key: "x/${CLEARML_PROJECT_NAME|label}"}]}
    assert filled(good, VALUES) == {"m": [{key: "x/a-b"}]}


def test_a_variable_in_a_sub_path_is_the_templates_own() -> None:
    values = {**VALUES, "PROJECT_NAME": "$(OTHER)"}
    found = filled({"subPathExpr": "$(A)-${CLEARML_PROJECT_NAME}"}, values, join=joined)
    assert found == {"subPathExpr": "$(A)-$$(OTHER)"}


def test_a_sample_stands_for_all_of_a_task() -> None:
    assert filled("${CLEARML_TASK.name}-${CLEARML_TASK.a.b:c|capitalize}", {"TASK": SAMPLE}) == "sample-Sample"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("${CLEARML_USER.name}", "${CLEARML_USER...}, which nothing fills in here; there are QUEUE_NAME, "),
        ("${CLEARML_PROVIDERS_INFO}", "which nothing fills in here"),
        ("${CLEARML_TASK}", "expected a path in the task, as in ${CLEARML_TASK.name}"),
        ("${CLEARML_QUEUE_NAME.first}", "QUEUE_NAME is a text and has no .first"),
        ("${CLEARML_QUEUE_NAME|upper}", "found the operation 'upper'; there are capitalize, label, lower, "),
        ("${CLEARML_QUEUE_NAME", "expected a string template such as"),
        ("${CLEARML_TASK.a b}", "expected a string template such as"),
        ("${CLEARML_TASK${CLEARML_TASK.name}", "expected a string template such as"),
    ],
)
def test_what_is_refused(text: str, said: str) -> None:
    (problem,) = problems({"labels": {"a": f"x {text}"}}, place="basePodTemplate")
    assert problem.startswith("basePodTemplate.labels.a: found ")
    assert said in problem


def test_which_variables_are_named() -> None:
    thing = {"a": [{"b": "x${CLEARML_TASK.name}"}], "c": 1, "d": "${CLEARML_TASK_ID}"}
    assert uses(thing, "TASK") and not uses(thing, "QUEUE_NAME") and not uses(thing["d"], "TASK")


@given(st.text(alphabet="${}CLEARML_TASK.:|ab()", max_size=40).map(lambda text: "${CLEARML_TASK." + text))
def test_whatever_it_is_it_is_filled_refused_or_named(text: str) -> None:
    if not list(problems(text, place="x")):
        with contextlib.suppress(Missing):
            assert isinstance(filled(text, VALUES), str)

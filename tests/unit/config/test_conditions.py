"""Conditions of pod templates, and the one of ClearML's glue in a variable."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from clearml_k8s.config.conditions import ConditionalTemplate, holds
from clearml_k8s.config.file import ConfigProblems, config_from_document
from clearml_k8s.config.glue_condition import CONDITIONAL_TEMPLATE, read
from hypothesis import example, given
from hypothesis import strategies as st

TASK: dict[str, Any] = {
    "type": "inference",
    "tags": ["spot", "team a", 3],
    "script": {"repository": None, "version_num": 7, "diff": ""},
    "hyperparams": {"properties": {"team": {"value": "vision"}}},
    "models": {"input": [{"name": "a"}]},
    "published": True,
}


@pytest.mark.parametrize(
    ("when", "found"),
    [
        ({"type": "inference"}, True),
        ({"type": "training"}, False),
        ({"type": "Inference"}, False),
        ({"hyperparams.properties.team.value": "vision"}, True),
        ({"type": "inference", "hyperparams.properties.team.value": "vision"}, True),
        ({"type": "inference", "hyperparams.properties.team.value": "audio"}, False),
        ({"tags": "spot"}, True),
        ({"tags": "spo"}, False),
        ({"tags": "3"}, True),
        ({"tags": "spot,team a"}, False),
        ({"script.version_num": "7"}, True),
        ({"published": "true"}, True),
        ({"script.repository": ""}, True),
        ({"script.diff": ""}, True),
        ({"script.repository": "None"}, False),
        ({"nothing.there": ""}, True),
        ({"nothing.there": "x"}, False),
        ({"type.inference": "inference"}, False),
        ({"script": ""}, False),
        ({"models.input": "a"}, False),
    ],
)
def test_a_condition(when: dict[str, str], found: bool) -> None:
    assert holds(when, TASK) is found


def document(**more: Any) -> dict[str, Any]:
    return {
        "releaseName": "gpu",
        "fullname": "gpu",
        "namespace": "ns",
        "clearml": {"apiServer": "https://api.clear.ml", "taskCredentials": {"secretName": "ac"}},
        "queues": {"default": {}},
        **more,
    }


def test_those_of_the_config_file() -> None:
    entry = {"when": {"type": "a"}, "template": {"nodeName": "n"}}
    config = config_from_document(
        document(conditionalTemplates=[entry], queues={"gpu": {"conditionalTemplates": [entry, entry]}}), source="c"
    )
    (general,) = config.conditional_templates
    assert general == ConditionalTemplate(
        when={"type": "a"}, template={"nodeName": "n"}, place="agentk8sglue.conditionalTemplates[0]"
    )
    assert [found.place for found in config.queues["gpu"].conditional_templates] == [
        "agentk8sglue.queues.gpu.conditionalTemplates[0]",
        "agentk8sglue.queues.gpu.conditionalTemplates[1]",
    ]


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"when": {"a": "a"}, "template": {"nodename": "n"}}, "conditionalTemplates[0].template.nodename: unknown key"),
        ({"when": {"type": 3}, "template": {}}, "conditionalTemplates[0].when.type: found 3; expected text"),
        ({"when": {"a..b": "x"}, "template": {}}, "conditionalTemplates[0]"),
        ({"when": {}, "template": {}}, "conditionalTemplates[0].when"),
        ({"template": {}}, "conditionalTemplates[0].when: missing"),
        (
            {"when": {"type": "a"}, "template": {"labels": {"b": "${CLEARML_USER.name}"}}},
            "conditionalTemplates[0].template.labels.b: found ${CLEARML_USER",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_in_the_config_file_is_told_with_its_place(entry: dict[str, Any], problem: str) -> None:
    for queues in ({"default": {}}, {"default": {"conditionalTemplates": [entry]}}):
        more = {"conditionalTemplates": [entry]} if queues == {"default": {}} else {}
        with pytest.raises(ConfigProblems) as caught:
            config_from_document(document(queues=queues, **more), source="config")
        prefix = "config: " if more else "config: queues.default."
        assert caught.value.problems[0].startswith(prefix + problem)


AI_DEV = {"annotations": {"clearml-app-category": "AI dev"}, "serviceAccountName": "my-service-account"}


@pytest.mark.parametrize(
    ("text", "when", "template"),
    [
        # ClearML's own example, as it is meant and as its documentation writes it.
        (
            'run_by_app.category="AI dev"|{metadata.annotations:{"clearml-app-category":"AI dev"},'
            'spec.serviceAccountName:"my-service-account"}',
            {"run_by_app.category": "AI dev"},
            AI_DEV,
        ),
        (
            r"run_by_app.category=\"AI dev\"|{metadata.annotations:{\"clearml-app-category\":\"AI dev\"},"
            r"spec.serviceAccountName:\"my-service-account\"}",
            {"run_by_app.category": "AI dev"},
            AI_DEV,
        ),
        (
            ' type = "a|b" | {spec {nodeSelector: {"x.y/z": "1"}, securityContext.fsGroup: 5, preemptionPolicy: No}}',
            {"type": "a|b"},
            {
                "nodeSelector": {"x.y/z": "1"},
                "podSecurityContext": {"fsGroup": 5},
                "podSpec": {"preemptionPolicy": "No"},
            },
        ),
        (
            'type=""|{spec.tolerations: [{key: a, operator: Exists}], metadata.labels.n: "${CLEARML_TASK.name:none}"}',
            {"type": ""},
            {"tolerations": [{"key": "a", "operator": "Exists"}], "labels": {"n": "${CLEARML_TASK.name:none}"}},
        ),
    ],
)
def test_the_glues_variable(text: str, when: dict[str, str], template: dict[str, Any]) -> None:
    assert read(text) == ConditionalTemplate(when=when, template=template, place=CONDITIONAL_TEMPLATE)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("type=inference", 'expected <task field>="<value>"|{<pod template>}'),
        ('{spec: {}}', 'expected <task field>="<value>"'),
        ('type="a"|{spec: [', "is not valid HOCON"),
        ('type="a"|{specs: {}}', "specs: expected metadata.labels, metadata.annotations and spec"),
        ('type="a"|{spec: x}', "spec: expected an object"),
        ('type="a"|{metadata.name: x}', "metadata.name: expected labels and annotations"),
        ('type="a"|{spec.containers: [{image: a}]}', "spec.containers: not possible in this form"),
        ('type="a"|{spec.nodeSelector.pool: 3}', ".nodeSelector.pool: found 3; expected text; write it in quotes"),
        ('type="a"|{spec.restartPolicy: Always}', ".podSpec.restartPolicy: "),
        ('a..b="a"|{spec.nodeName: x}', "a..b"),
        ('type="a"|{metadata.labels.x: "${CLEARML_USER.name}"}', ".labels.x: found ${CLEARML_USER...}"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_the_variable_is_told(text: str, problem: str) -> None:
    with pytest.raises(ConfigProblems) as caught:
        read(text)
    assert all(CONDITIONAL_TEMPLATE in line for line in caught.value.problems)
    assert any(problem in line for line in caught.value.problems)


def test_what_cannot_be_read_is_not_shown() -> None:
    with pytest.raises(ConfigProblems) as caught:
        read('type="a"|{metadata.annotations: {password: CANARY-4711 [}')
    assert "CANARY" not in str(caught.value)


@given(st.text(), st.text())
@example("", '{spec.a: "${?HOME}"}')
@example("", "{a: 5 m}")
def test_any_text_is_a_template_or_its_problems(condition: str, template: str) -> None:
    for text in (condition, f'type="{condition}"|{template}'):
        with contextlib.suppress(ConfigProblems):
            assert read(text).when

"""Which layer has set each field of a Job."""

from __future__ import annotations

import dataclasses
from typing import Any

from clearml_k8s.clearml.tasks import Container, TaskView
from clearml_k8s.config import Config, QueueConfig, QueueSettings, ResolvedQueue
from clearml_k8s.config.conditions import ConditionalTemplate
from clearml_k8s.spec.explain import Layer, explain
from spec_support import ATTEMPT, CONTROLLER, TASK_ID, WORKER_ID

POD = "spec.template.spec"
TASK = f"{POD}.containers[task]"


def layers(
    config: Config,
    *,
    base: dict[str, Any],
    override: dict[str, Any],
    settings: QueueSettings | None = None,
    conditional: tuple[ConditionalTemplate, ...] = (),
    document: dict[str, Any] | None = None,
    **task: str,
) -> dict[str, tuple[str, Any]]:
    queue = QueueConfig(
        name="default",
        template_overrides=override,
        settings=settings or QueueSettings(),
        conditional_templates=conditional,
    )
    fields = explain(
        config=dataclasses.replace(config, base_pod_template=base),
        queue=ResolvedQueue(config=queue, id="q", name="default"),
        task=TaskView(
            id=TASK_ID,
            name="train",
            status="queued",
            status_changed=ATTEMPT,
            container=Container(**task),
            document=document,
        ),
        attempt=ATTEMPT,
        worker_id=WORKER_ID,
        controller_id=CONTROLLER,
    )
    assert len({field.path for field in fields}) == len(fields)
    return {field.path: (field.layer.value, field.value) for field in fields}


def test_every_layer(config: Config) -> None:
    found = layers(
        config,
        base={
            "nodeSelector": {"pool": "a", "example.com/zone": "1"},
            "priorityClassName": "low",
            "env": [{"name": "A", "value": "base"}, {"name": "B", "value": "base"}],
            "extraVolumes": [{"name": "data", "emptyDir": {}}],
        },
        override={"priorityClassName": "high", "resources": {"limits": {"nvidia.com/gpu": 1}}},
        image="python:3.12",
        arguments="-e B=task --shm-size 1g",
    )
    assert found[f"{POD}.nodeSelector.pool"] == ("basePodTemplate", "a")
    assert found[f"{POD}.nodeSelector[example.com/zone]"] == ("basePodTemplate", "1")
    assert found[f"{POD}.priorityClassName"] == ("templateOverrides", "high")
    assert found[f"{TASK}.resources.limits[nvidia.com/gpu]"] == ("templateOverrides", 1)
    assert found[f"{TASK}.image"] == ("task", "python:3.12")
    assert found[f"{TASK}.env[A].value"] == ("basePodTemplate", "base")
    assert found[f"{TASK}.env[B].value"] == ("task", "task")
    assert found[f"{TASK}.env[CLEARML_API_HOST].value"][0] == "controller"
    assert found[f"{TASK}.volumeMounts[/dev/shm].name"][0] == "task"
    assert found[f"{POD}.volumes[data].emptyDir"] == ("basePodTemplate", {})
    assert found[f"{POD}.restartPolicy"] == ("controller", "Never")


def test_what_two_layers_say_alike_is_the_first_ones(config: Config) -> None:
    same = {"schedulerName": "kueue"}
    assert layers(config, base=same, override=same)[f"{POD}.schedulerName"] == ("basePodTemplate", "kueue")


def test_what_a_later_layer_takes_back_is_its_own(config: Config) -> None:
    """Alike in the first and the last, and not in between."""
    found = layers(
        config,
        base={"env": [{"name": "PYTHONUNBUFFERED", "value": "0"}]},
        override={},
        arguments="-e PYTHONUNBUFFERED=1",
    )
    assert found[f"{TASK}.env[PYTHONUNBUFFERED].value"] == ("task", "1")


def test_settings_of_the_queue_are_the_controllers(config: Config) -> None:
    settings = QueueSettings(default_image="python:3.9")
    assert layers(config, base={}, override={}, settings=settings)[f"{TASK}.image"] == ("controller", "python:3.9")


def test_a_string_template_that_a_later_layer_replaces_needs_no_value(config: Config) -> None:
    found = layers(
        config,
        base={"priorityClassName": "${CLEARML_TASK.none}", "schedulerName": "a"},
        override={"priorityClassName": "high"},
        document={"id": TASK_ID},
    )
    assert found[f"{POD}.priorityClassName"] == ("templateOverrides", "high")
    assert found[f"{POD}.schedulerName"] == ("basePodTemplate", "a")


def test_the_layers_are_in_their_order() -> None:
    in_order = ["controller", "basePodTemplate", "templateOverrides", "conditional", "task"]
    assert [layer.value for layer in Layer] == in_order


def test_a_conditional_template_is_a_layer_of_its_own(config: Config) -> None:
    template = {"priorityClassName": "high", "nodeSelector": {"pool": "c"}}
    found = layers(
        config,
        base={"priorityClassName": "low"},
        override={"nodeSelector": {"pool": "b"}, "schedulerName": "volcano"},
        conditional=(ConditionalTemplate(when={"type": "x"}, template=template, place="p"),),
        document={"type": "x"},
        image="python:3.12",
    )
    assert found[f"{POD}.priorityClassName"] == ("conditional", "high")
    assert found[f"{POD}.nodeSelector.pool"] == ("conditional", "c")
    assert found[f"{POD}.schedulerName"] == ("templateOverrides", "volcano")
    assert found[f"{TASK}.image"] == ("task", "python:3.12")
    assert "conditional" not in {
        layer
        for layer, _ in layers(
            config,
            base={},
            override={},
            conditional=(ConditionalTemplate(when={"type": "x"}, template=template, place="p"),),
            document={"type": "y"},
        ).values()
    }

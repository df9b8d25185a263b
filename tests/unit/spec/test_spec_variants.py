"""Conditional templates: which one counts for a task, and that the dry runs try what tasks will get."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from clearml_k8s import errors
from clearml_k8s.clearml.tasks import Container, TaskView
from clearml_k8s.config import Config, QueueConfig, ResolvedQueue
from clearml_k8s.config.conditions import ConditionalTemplate
from clearml_k8s.spec.fill import names_project, names_task
from clearml_k8s.spec.job import BuiltJob, build_job
from clearml_k8s.spec.variants import variants
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spec_support import ATTEMPT, CONTROLLER, TASK_ID, WORKER_ID, environment, pod_spec

BASE = {"priorityClassName": "base", "nodeSelector": {"pool": "base"}, "env": [{"name": "A", "value": "base"}]}
OVERRIDE = {"nodeSelector": {"pool": "queue"}, "extraVolumes": [{"name": "queue", "emptyDir": {}}]}


def conditional(place: str, when: dict[str, str], **template: Any) -> ConditionalTemplate:
    return ConditionalTemplate(when=when, template=template, place=place)


GENERAL = (
    conditional("general[0]", {"type": "inference"}, priorityClassName="inference"),
    conditional("general[1]", {"tags": "spot"}, priorityClassName="spot"),
)
OWN = (
    conditional(
        "own[0]",
        {"tags": "team", "type": "training"},
        nodeSelector={"pool": "team"},
        extraVolumes=[{"name": "team", "emptyDir": {}}],
        env=[{"name": "A", "value": "${CLEARML_TASK.name}"}, {"name": "B", "value": "team"}],
    ),
)


def built(config: Config, *, document: dict[str, Any] | None, arguments: str = "") -> BuiltJob:
    config = dataclasses.replace(config, base_pod_template=BASE, conditional_templates=GENERAL)
    queue = QueueConfig(name="gpu", template_overrides=OVERRIDE, conditional_templates=OWN)
    return build_job(
        config=config,
        queue=ResolvedQueue(config=queue, id="q", name="gpu"),
        task=TaskView(id=TASK_ID, name="n", document=document, container=Container(arguments=arguments)),
        attempt=ATTEMPT,
        worker_id=WORKER_ID,
        controller_id=CONTROLLER,
    )


@pytest.mark.parametrize(
    ("document", "priority", "pool"),
    [
        (None, "base", "queue"),
        ({"name": "n"}, "base", "queue"),
        ({"name": "n", "type": "inference"}, "inference", "queue"),
        ({"name": "n", "type": "inference", "tags": ["spot"]}, "inference", "queue"),
        ({"name": "n", "type": "training", "tags": ["spot"]}, "spot", "queue"),
        ({"name": "n", "type": "training", "tags": ["spot", "team"]}, "base", "team"),
    ],
)
def test_the_first_condition_that_holds_counts_alone_the_queues_own_before_the_others(
    config: Config, document: dict[str, Any] | None, priority: str, pool: str
) -> None:
    spec = pod_spec(built(config, document=document))
    assert (spec["priorityClassName"], spec["nodeSelector"]) == (priority, {"pool": pool})


def test_it_lies_between_the_queues_template_and_the_task(config: Config) -> None:
    document = {"name": "the-name", "type": "training", "tags": ["team"]}
    job = built(config, document=document, arguments="-e B=task")
    assert [volume["name"] for volume in pod_spec(job)["volumes"]] == ["queue", "team"]
    env = environment(job)
    assert (env["A"], env["B"]) == ("the-name", "task")


def test_a_task_is_read_as_a_whole_for_conditions(config: Config) -> None:
    plain = QueueConfig(name="gpu")
    for settings_of, queue, needed in (
        (config, plain, False),
        (config, dataclasses.replace(plain, conditional_templates=OWN), True),
        (dataclasses.replace(config, conditional_templates=GENERAL), plain, True),
    ):
        found = names_task(config=settings_of, queue=ResolvedQueue(config=queue, id="q", name="gpu"))
        assert found is needed


def test_a_projects_name_in_a_conditional_template_is_looked_up(config: Config) -> None:
    named = conditional("a", {"type": "x"}, labels={"p": "${CLEARML_PROJECT_NAME:none|label}"})
    queue = ResolvedQueue(config=QueueConfig(name="gpu", conditional_templates=(named,)), id="q", name="gpu")
    assert names_project(config=config, queue=queue)
    assert not names_project(config=config, queue=dataclasses.replace(queue, config=QueueConfig(name="gpu")))


def test_an_unknown_key_of_one_is_an_error_of_the_task_that_gets_it(config: Config) -> None:
    bad = (conditional("a", {"type": "x"}, nonsense=1),)
    queue = ResolvedQueue(config=QueueConfig(name="gpu", conditional_templates=bad), id="q", name="gpu")
    with pytest.raises(errors.SpecError, match="the key nonsense is not known"):
        build_job(
            config=config,
            queue=queue,
            task=TaskView(id=TASK_ID, document={"type": "x"}),
            attempt=ATTEMPT,
            worker_id=WORKER_ID,
            controller_id=CONTROLLER,
        )


PARTS = st.fixed_dictionaries(
    {},
    optional={
        "nodeSelector": st.sampled_from([{}, {"a": "b"}, {"c": "d"}]),
        "hostNetwork": st.booleans(),
        "env": st.sampled_from([[], [{"name": "A", "value": "1"}], [{"name": "B", "value": "2"}]]),
        "extraVolumes": st.sampled_from([[], [{"name": "v", "emptyDir": {}}], [{"name": "w", "emptyDir": {}}]]),
        "podSpec": st.fixed_dictionaries(
            {},
            optional={
                "preemptionPolicy": st.sampled_from(["", "Never"]),
                "containers": st.lists(
                    st.fixed_dictionaries(
                        {"name": st.sampled_from(["task", "side"])},
                        optional={"image": st.sampled_from(["", "a"]), "tty": st.booleans()},
                    ),
                    max_size=2,
                    unique_by=lambda entry: entry["name"],
                ),
            },
        ),
    },
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(base=PARTS, override=PARTS, template=PARTS)
def test_what_is_tried_is_what_a_task_gets(
    config: Config, base: dict[str, Any], override: dict[str, Any], template: dict[str, Any]
) -> None:
    config = dataclasses.replace(config, base_pod_template=base)
    found = (conditional("place", {"type": "x"}, **template),)
    queue = QueueConfig(name="gpu", template_overrides=override, conditional_templates=found)

    def job(config: Config, queue: QueueConfig, document: dict[str, Any] | None) -> Any:
        return build_job(
            config=config,
            queue=ResolvedQueue(config=queue, id="q", name="gpu"),
            task=TaskView(id=TASK_ID, document=document),
            attempt=ATTEMPT,
            worker_id=WORKER_ID,
            controller_id=CONTROLLER,
        ).manifest

    plain, conditioned = variants(config=config, queue=queue)
    assert (plain.condition, conditioned.condition) == ("", "place")
    assert job(plain.config, plain.queue, None) == job(config, queue, {"type": "y"})
    assert job(conditioned.config, conditioned.queue, None) == job(config, queue, {"type": "x"})

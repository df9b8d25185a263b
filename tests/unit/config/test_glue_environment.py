"""What the variables of ClearML's own glue change, and what is said of those that cannot."""

from __future__ import annotations

import dataclasses

import pytest
from clearml_k8s.config import (
    ClearMLConfig,
    Config,
    QueueConfig,
    QueueSettings,
    TaskCredentials,
    TaskPodConfig,
    TemplateModuleConfig,
)
from clearml_k8s.config.conditions import ConditionalTemplate
from clearml_k8s.config.file import ConfigProblems
from clearml_k8s.config.glue_environment import with_environment
from clearml_k8s.config.pod_commands import PodCommandsConfig

CONFIG = Config(
    release_name="gpu",
    fullname="gpu",
    namespace="clearml",
    clearml=ClearMLConfig(
        api_server="https://api.example.com", task_credentials=TaskCredentials(secret_name="credentials")
    ),
    queues={"default": QueueConfig(name="default"), "gpu": QueueConfig(name="gpu")},
)


def problems(config: Config, **environ: str) -> tuple[str, ...]:
    with pytest.raises(ConfigProblems) as caught:
        with_environment(config, environ)
    return caught.value.problems


def test_an_empty_environment_changes_nothing() -> None:
    assert with_environment(CONFIG, {"PATH": "/bin"}) == CONFIG


@pytest.mark.parametrize(
    ("text", "found"), [("true", True), (" 1 ", True), ("Yes", True), ("false", False), ("0", False), ("", False)]
)
def test_the_entrypoint_of_the_image_for_all_queues(text: str, found: bool) -> None:
    assert with_environment(CONFIG, {"K8S_GLUE_POD_USE_IMAGE_ENTRYPOINT": text}).use_image_entrypoint is found


def test_neither_true_nor_false_is_told() -> None:
    (problem,) = problems(CONFIG, K8S_GLUE_POD_USE_IMAGE_ENTRYPOINT="maybe")
    assert problem == 'K8S_GLUE_POD_USE_IMAGE_ENTRYPOINT: found "maybe"; expected true or false'


def test_scripts_that_no_pod_would_run_are_told() -> None:
    scripts = TaskPodConfig(preparation_script="export A=1", start_script="clearml_agent execute")
    config = dataclasses.replace(CONFIG, task=scripts)
    found = problems(config, K8S_GLUE_POD_USE_IMAGE_ENTRYPOINT="true")
    assert [problem.split(":")[0] for problem in found] == ["task.preparationScript", "task.startScript"]
    one = QueueConfig(name="gpu", settings=QueueSettings(use_image_entrypoint=False))
    config = dataclasses.replace(config, queues={**CONFIG.queues, "gpu": one})
    assert with_environment(config, {"K8S_GLUE_POD_USE_IMAGE_ENTRYPOINT": "true"}).use_image_entrypoint


def test_a_conditional_template_comes_after_those_of_the_values() -> None:
    one = ConditionalTemplate(when={"type": "a"}, template={}, place="agentk8sglue.conditionalTemplates[0]")
    config = dataclasses.replace(CONFIG, conditional_templates=(one,))
    text = 'type="b"|{spec.priorityClassName: high}'
    changed = with_environment(config, {"CLEARML_K8S_GLUE_COND_CUST_TEMPLATE": text})
    assert [found.when for found in changed.conditional_templates] == [{"type": "a"}, {"type": "b"}]
    assert with_environment(config, {"CLEARML_K8S_GLUE_COND_CUST_TEMPLATE": " "}) == config


def test_all_problems_of_the_environment_are_told_at_once() -> None:
    found = problems(
        CONFIG,
        K8S_GLUE_POD_USE_IMAGE_ENTRYPOINT="maybe",
        CLEARML_K8S_GLUE_COND_CUST_TEMPLATE='a="b"|{nodeName: c, d: e}',
    )
    assert len(found) == 3


def test_a_template_module_where_the_values_name_none() -> None:
    given = {"CLEARML_K8S_GLUE_TEMPLATE_MODULE": "custom_code:update"}
    assert with_environment(CONFIG, given).template_module == TemplateModuleConfig(function="custom_code:update")
    own = dataclasses.replace(CONFIG, template_module=TemplateModuleConfig(function="a:b", path=("/root",)))
    assert with_environment(own, given).template_module == own.template_module


def test_variables_of_the_glue() -> None:
    given = {
        "CLEARML_K8S_GLUE_POD_PRE_APPLY_CMD": "one",
        "CLEARML_K8S_GLUE_POD_POST_APPLY_CMD": " ",
        "CLEARML_K8S_GLUE_POD_POST_DELETE_CMD": "three",
    }
    assert with_environment(CONFIG, given).pod_commands == PodCommandsConfig(pre_apply="one", post_delete="three")
    own = PodCommandsConfig(pre_apply="own", timeout_seconds=5)
    found = with_environment(dataclasses.replace(CONFIG, pod_commands=own), given).pod_commands
    assert found == dataclasses.replace(own, post_delete="three"), "what the values say wins"
    (problem,) = problems(CONFIG, CLEARML_K8S_GLUE_POD_PRE_APPLY_CMD="echo {pod_number}")
    assert problem.startswith("CLEARML_K8S_GLUE_POD_PRE_APPLY_CMD: found {pod_number}")

"""Variables of ClearML's own glue that count here, too: the environment laid over a `Config`.

In a cluster they come from `agentk8sglue.extraEnvs`; without Helm from the shell. What the values say of a queue wins.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Final

from clearml_k8s.config import Config, TemplateModuleConfig, glue_condition, pod_commands
from clearml_k8s.config.file import ConfigProblems
from clearml_k8s.config.glue_condition import CONDITIONAL_TEMPLATE
from clearml_k8s.config.glue_variables import GLUE_PREFIXES, VARIABLES, State
from clearml_k8s.config.problems import show

TEMPLATE_MODULE: Final = "CLEARML_K8S_GLUE_TEMPLATE_MODULE"
USE_IMAGE_ENTRYPOINT: Final = "K8S_GLUE_POD_USE_IMAGE_ENTRYPOINT"

_TRUE: Final = ("1", "true", "yes", "on", "y", "t")
_FALSE: Final = ("0", "false", "no", "off", "n", "f", "")


def with_environment(config: Config, environ: Mapping[str, str]) -> Config:
    """The configuration with what the environment says. Raises `ConfigProblems` that name the variables."""
    found = environ.get(USE_IMAGE_ENTRYPOINT, "").strip().lower()
    problems = [
        f"{name} is not taken: {variable.text}"
        for name, variable in VARIABLES.items()
        if variable.state is State.REFUSED and name.startswith(GLUE_PREFIXES) and environ.get(name, "").strip()
    ]
    if found not in (*_TRUE, *_FALSE):
        problems.append(f"{USE_IMAGE_ENTRYPOINT}: found {show(found, path=())}; expected true or false")
    changed = dataclasses.replace(config, use_image_entrypoint=config.use_image_entrypoint or found in _TRUE)
    if condition := environ.get(CONDITIONAL_TEMPLATE, "").strip():
        try:
            last = glue_condition.read(condition)
        except ConfigProblems as error:
            problems += error.problems
        else:
            changed = dataclasses.replace(changed, conditional_templates=(*config.conditional_templates, last))
    module = environ.get(TEMPLATE_MODULE, "").strip()
    if module and config.template_module is None:
        changed = dataclasses.replace(changed, template_module=TemplateModuleConfig(function=module))
    commands = changed.pod_commands
    for name, field in pod_commands.VARIABLES.items():
        command = environ.get(name, "").strip()
        if command and not getattr(commands, field):
            problems += [f"{name}: {problem}" for problem in pod_commands.problems(command, field=field)]
            changes: dict[str, Any] = {field: command}
            commands = dataclasses.replace(commands, **changes)
    changed = dataclasses.replace(changed, pod_commands=commands)
    problems += _unused_scripts(changed)
    if problems:
        raise ConfigProblems(problems)
    return changed


def _unused_scripts(config: Config) -> Iterator[str]:
    """Scripts of the administrator that no task's pod would run."""
    if not all(config.runs_entrypoint(queue) for queue in config.queues.values()):
        return
    for key, script in (
        ("preparationScript", config.task.preparation_script),
        ("startScript", config.task.start_script),
    ):
        if script.strip():
            yield (
                f"task.{key}: found a script that no task's pod runs, as every queue uses the image's entrypoint: "
                "leave it out, or give a queue useImageEntrypoint: false"
            )

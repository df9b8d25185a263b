"""The conditional template of ClearML's Enterprise glue: `<task field>="<value>"|{<pod in HOCON>}` in one variable."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from clearml_k8s import hocon
from clearml_k8s.config import strings
from clearml_k8s.config.conditions import ConditionalTemplate
from clearml_k8s.config.file import ConfigProblems, package_schema
from clearml_k8s.config.problems import find_problems
from clearml_k8s.errors import ConfigError

CONDITIONAL_TEMPLATE: Final = "CLEARML_K8S_GLUE_COND_CUST_TEMPLATE"

_FORM = re.compile(r'\s*(?P<field>[^\s=|"]+)\s*={1,2}\s*"(?P<value>[^"]*)"\s*\|(?P<template>.*)', re.DOTALL)
_ESCAPED = re.compile(r'[^"|]*=\s*\\"')
_KEY: Final = "conditionalTemplates"
_OTHER_NAMES: Final[Mapping[str, str]] = {"securityContext": "podSecurityContext"}
"""Fields of a PodSpec -> keys of a template, where these have another name."""


def read(text: str) -> ConditionalTemplate:
    """Raises `ConfigProblems`: each problem names the variable, and the field below it."""
    if _ESCAPED.match(text):
        # As ClearML's documentation writes it between single quotes, where YAML keeps the backslashes.
        text = text.replace('\\"', '"')
    found = _FORM.fullmatch(text)
    if found is None:
        raise ConfigProblems(
            [f'{CONDITIONAL_TEMPLATE}: expected <task field>="<value>"|{{<pod template>}}, as in type="inference"|'
             '{spec.priorityClassName: "high"}']
        )  # fmt: skip
    try:
        pod = hocon.parse(found["template"], source=CONDITIONAL_TEMPLATE)
    except ConfigError as error:
        raise ConfigProblems([str(error)]) from None
    template, problems = _template(pod)
    entry = {"when": {found["field"]: found["value"]}, "template": template}
    if not problems:
        schema = package_schema()
        whole = {"properties": {_KEY: schema["properties"][_KEY]}, "definitions": schema["definitions"]}
        problems = [_placed(problem) for problem in find_problems({_KEY: [entry]}, schema=whole)]
        problems += strings.problems(template, place=CONDITIONAL_TEMPLATE)
    if problems:
        raise ConfigProblems(problems)
    return ConditionalTemplate(when=entry["when"], template=template, place=CONDITIONAL_TEMPLATE)


def _template(pod: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """A pod in Kubernetes' shape as one of our templates, and what cannot be one."""
    problems = [
        f"{CONDITIONAL_TEMPLATE}: {key}: expected metadata.labels, metadata.annotations and spec"
        for key in pod
        if key not in ("metadata", "spec")
    ]
    metadata, spec = pod.get("metadata") or {}, pod.get("spec") or {}
    for key, part in (("metadata", metadata), ("spec", spec)):
        if not isinstance(part, Mapping):
            problems.append(f"{CONDITIONAL_TEMPLATE}: {key}: expected an object")
    if problems:
        return {}, problems
    problems += [
        f"{CONDITIONAL_TEMPLATE}: metadata.{key}: expected labels and annotations"
        for key in metadata
        if key not in ("labels", "annotations")
    ]
    if "containers" in spec:
        problems.append(
            f"{CONDITIONAL_TEMPLATE}: spec.containers: not possible in this form, as with ClearML's own: write "
            "agentk8sglue.conditionalTemplates, whose template has env, resources and the like"
        )
    named = package_schema()["definitions"]["podTemplate"]["properties"]
    template: dict[str, Any] = dict(metadata)
    for field, value in spec.items():
        key = _OTHER_NAMES.get(field, field)
        if key in named and key not in ("labels", "annotations", "env", "files"):
            template[key] = value
        else:
            template.setdefault("podSpec", {})[field] = value
    return template, problems


def _placed(problem: str) -> str:
    """With the variable in place of the path in the config file."""
    return re.sub(rf"^{_KEY}\[0\]\.(when|template)(?=[.:\[])", CONDITIONAL_TEMPLATE, problem)

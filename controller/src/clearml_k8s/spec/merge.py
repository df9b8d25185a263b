"""Merge rules of pod templates.

- A key that the queue's `templateOverrides` sets replaces the key of `basePodTemplate` as a whole: lists and maps are
  not merged. Null and an empty text, list or map mean "not set", as in ClearML's charts; 0 and false are values.
- `extraVolumes` and `extraVolumeMounts` of both are appended, the base's first.
- Init containers are merged by name: each field of one that the override sets replaces that field, and others stay.
- `podSpec` stands for further keys: each of its fields that the override sets replaces that field of the base, but
  containers are merged by name, too.
- Environment variables are merged by name; the later list wins, in the place of the first occurrence.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from clearml_k8s.config import RawTemplate

APPENDED = ("extraVolumes", "extraVolumeMounts")
BY_NAME = "initContainers"
POD_SPEC = "podSpec"

EnvVar = Mapping[str, Any]


def merge_templates(*, base: RawTemplate, override: RawTemplate) -> dict[str, Any]:
    """The template that counts for one queue; a new structure that shares nothing with its arguments."""
    merged = {key: value for key, value in base.items() if is_set(value)}
    for key, value in override.items():
        if not is_set(value):
            continue
        if key in APPENDED:
            merged[key] = [*merged.get(key, []), *value]
        elif key == BY_NAME and key in merged:
            merged[key] = merge_containers(merged[key], value)
        elif key == POD_SPEC:
            merged[key] = _merge_pod_specs(merged.get(key, {}), value)
        else:
            merged[key] = value
    return copy.deepcopy(merged)


def _merge_pod_specs(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**base, **{field: part for field, part in override.items() if is_set(part)}}
    if base.get("containers") and override.get("containers"):
        merged["containers"] = merge_containers(base["containers"], override["containers"])
    return merged


def merge_containers(base: Iterable[Mapping[str, Any]], override: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The base's, each with the fields that the override's of that name sets, and then the override's others."""
    by_name: dict[str, dict[str, Any]] = {entry["name"]: dict(entry) for entry in base}
    for entry in override:
        given = {field: part for field, part in entry.items() if is_set(part)}
        by_name[entry["name"]] = {**by_name.get(entry["name"], {}), **given}
    return list(by_name.values())


def is_set(value: Any) -> bool:
    """False for null and for an empty text, list or map."""
    return value is not None and value not in ("", [], {})


def merge_env(*lists: Iterable[EnvVar]) -> list[dict[str, Any]]:
    """The variables of all lists, each name once; the last definition of a name wins and keeps the first one's place.

    The place matters because `$(NAME)` in a value refers to variables that stand before it.
    """
    by_name: dict[str, dict[str, Any]] = {}
    for variables in lists:
        for variable in variables:
            by_name[variable["name"]] = copy.deepcopy(dict(variable))
    return list(by_name.values())


def merge_named(*lists: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Objects with a `name` (pull secrets, for example), each name once, in the order of their first occurrence."""
    by_name: dict[str, dict[str, Any]] = {}
    for items in lists:
        for item in items:
            by_name.setdefault(item["name"], copy.deepcopy(dict(item)))
    return list(by_name.values())

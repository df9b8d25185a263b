"""Reads the Pod manifest of `--template-yaml`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clearml_k8s.config.file import ConfigProblems, parse_yaml
from clearml_k8s.config.problems import path_text


@dataclass(frozen=True, kw_only=True)
class PodTemplate:
    """The parts of a Pod manifest that task pods are made from."""

    namespace: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    spec: Mapping[str, Any] = field(default_factory=dict)

    @property
    def image(self) -> str | None:
        """The first container's image: that of tasks without one."""
        containers = self.spec.get("containers")
        return containers[0].get("image") if containers else None


def read_pod_template(path: Path) -> PodTemplate:
    """The Pod manifest in `path`. Raises `ConfigProblems`."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:  # a path that cannot be one, or no UTF-8
        raise ConfigProblems([f"--template-yaml: {path} cannot be read: {error}"]) from None
    document = parse_yaml(text, source=str(path))
    problems = shape_problems(document)
    if problems:
        raise ConfigProblems([f"{path}: {problem}" for problem in problems])
    metadata = document.get("metadata") or {}
    return PodTemplate(
        namespace=metadata.get("namespace") or None,
        labels=metadata.get("labels") or {},
        annotations=metadata.get("annotations") or {},
        spec=document.get("spec") or {},
    )


def shape_problems(document: Any) -> list[str]:
    """What would make our own code fail; the rest of a Pod is the API server's to check (`clearml-k8s check`)."""
    if not isinstance(document, dict):
        return ["expected a Pod manifest: a mapping with metadata and spec"]
    problems = []
    if document.get("kind", "Pod") != "Pod":
        problems.append(
            f"kind: found {document['kind']}; expected Pod (of a Job, give what stands under spec.template)"
        )
    elif document.get("apiVersion", "v1") != "v1":
        problems.append(f"apiVersion: found {document['apiVersion']}; expected v1")
    problems += [
        f"{key}: unknown key; expected apiVersion, kind, metadata and spec"
        for key in document
        if key not in ("apiVersion", "kind", "metadata", "spec")
    ]
    problems += _mapping_problems(document, "metadata") + _mapping_problems(document, "spec")
    if problems:
        return problems
    metadata, spec = document.get("metadata") or {}, document.get("spec") or {}
    problems += [
        f"metadata.{key}: not taken; expected name, namespace, labels and annotations"
        for key in metadata
        if key not in ("name", "generateName", "namespace", "labels", "annotations")
    ]
    if not isinstance(metadata.get("namespace", ""), str | None):
        problems.append("metadata.namespace: expected text; write it in quotes")
    for key in ("labels", "annotations"):
        problems += _mapping_problems(metadata, key, "metadata")
        entries = metadata.get(key) if isinstance(metadata.get(key), dict) else {}
        problems += [
            f"{path_text(['metadata', key, name])}: expected text; write it in quotes"
            for name, value in (entries or {}).items()
            if not isinstance(value, str)
        ]
    return problems + _list_problems(spec)


def _list_problems(spec: Mapping[str, Any]) -> list[str]:
    problems = []
    for key, need_name in (
        ("containers", False),
        ("initContainers", True),
        ("volumes", True),
        ("imagePullSecrets", True),
        ("hostAliases", False),
    ):
        problems += _named_list_problems(spec.get(key), path=["spec", key], need_name=need_name)
    containers = spec.get("containers")
    if isinstance(containers, list) and not problems:
        for index, container in enumerate(containers):
            path: list[str | int] = ["spec", "containers", index]
            problems += _named_list_problems(container.get("env"), path=[*path, "env"], need_name=True)
            problems += _named_list_problems(
                container.get("volumeMounts"), path=[*path, "volumeMounts"], need_name=True
            )
            problems += _container_problems(container, path=path)
            if index > 0 and not isinstance(container.get("name"), str):
                problems.append(f"{path_text(path)}: expected a name")
    return problems


_IN_CONTAINER = (("resources", "limits"), ("resources", "requests"), ("securityContext", "capabilities"))
"""What is read of a container: mappings in mappings."""


def _container_problems(container: Mapping[str, Any], *, path: Sequence[str | int]) -> list[str]:
    problems: dict[str, None] = {}
    for outer, inner in _IN_CONTAINER:
        found = _mapping_problems(container, outer, *path)
        found = found or _mapping_problems(container.get(outer) or {}, inner, *path, outer)
        problems.update(dict.fromkeys(found))
    if not problems:
        capabilities = (container.get("securityContext") or {}).get("capabilities") or {}
        for key in ("add", "drop"):
            names = capabilities.get(key)
            if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
                where = path_text([*path, "securityContext", "capabilities", key])
                problems[f"{where}: expected a list of names"] = None
    return list(problems)


def _named_list_problems(items: Any, *, path: Sequence[str | int], need_name: bool) -> list[str]:
    if items is None:
        return []
    if not isinstance(items, list):
        return [f"{path_text(path)}: expected a list"]
    problems = []
    for index, item in enumerate(items):
        if not isinstance(item, dict):
            problems.append(f"{path_text([*path, index])}: expected a mapping")
        elif need_name and not isinstance(item.get("name"), str):
            problems.append(f"{path_text([*path, index])}: expected a name")
    return problems


def _mapping_problems(parent: Mapping[str, Any], key: str, *where: str | int) -> list[str]:
    value = parent.get(key)
    return [] if value is None or isinstance(value, dict) else [f"{path_text([*where, key])}: expected a mapping"]

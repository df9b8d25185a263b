"""Strict Kubernetes types, made small enough for a values schema.

Source: the package kubernetes-validate, offline, `_definitions.json` of its `-local-strict` folder (closed objects,
null allowed wherever a field is optional). The newest version is taken: an older one would refuse new fields, and a
field that a cluster does not know yet is named by its API server.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from importlib import metadata, resources
from typing import Any

from refusals import hinted
from schema_sources import Schema

PACKAGE_VERSION = "1.37.0"
KUBERNETES_VERSION = "v1.37.0"
PREFIXES = ("io.k8s.api.core.v1.", "io.k8s.apimachinery.pkg.apis.meta.v1.", "io.k8s.api.networking.v1.")

#: A number, plain or with an exponent or a unit (k8s.io/apimachinery/pkg/api/resource).
QUANTITY = r"^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]+)?$"

#: Published as `oneOf` of two nullable types, which null matches twice and so is refused.
MENDED: dict[str, Schema] = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {
        "type": ["string", "number", "null"],
        "if": {"type": "string", "not": {"pattern": QUANTITY}},
        "then": {"const": "write a number, with a unit right behind it where it has one: 500m, 16Gi, 2G"},
    },
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {"type": ["string", "integer", "null"]},
}

#: Texts that people write without quotation marks (`value: true`), by type and field.
OFTEN_UNQUOTED = (("EnvVar", "value"), ("Toleration", "value"))
IN_QUOTES: Schema = {
    "when": {"type": ["number", "boolean"]},
    "advice": "write it in quotation marks (on the command line: --set-string)",
}
#: Names of resources that Kubernetes does not have, and what people mean by them.
NO_RESOURCES = {
    **dict.fromkeys(("gpu", "gpus", "nvidia.com/gpus"), "write nvidia.com/gpu, or your device plugin's own name"),
    **dict.fromkeys(("mem", "ram"), "write memory"),
}


def load() -> Schema:
    """All definitions by their full name. A package of another version is an error: the built schemas would differ."""
    found = metadata.version("kubernetes-validate")
    if found != PACKAGE_VERSION:
        raise SystemExit(
            f"kubernetes-validate: found {found}, install {PACKAGE_VERSION} (or build anew and review the diff)"
        )
    folder = resources.files("kubernetes_validate") / "kubernetes-json-schema" / f"{KUBERNETES_VERSION}-local-strict"
    definitions: Schema = json.loads((folder / "_definitions.json").read_text(encoding="utf-8"))["$defs"]
    return definitions


def short(name: str) -> str:
    """`io.k8s.api.core.v1.Toleration` -> `Toleration`."""
    return name.rsplit(".", 1)[-1]


def full(*, name: str, definitions: Schema) -> str:
    """`Toleration` -> `io.k8s.api.core.v1.Toleration`."""
    for prefix in PREFIXES:
        if prefix + name in definitions:
            return prefix + name
    raise ValueError(f"kubernetes: {name} is no core, meta or networking v1 type in Kubernetes {KUBERNETES_VERSION}")


def references(node: Any) -> Iterator[str]:
    """Full names of all types that a definition refers to."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref" and isinstance(value, str):
                yield value.rsplit("/", 1)[-1]
            else:
                yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def stripped(node: Any) -> Any:
    """A copy without notes, formats and `x-kubernetes-*`; a field that happens to be called `description` stays."""
    if isinstance(node, list):
        return [stripped(value) for value in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return {"$ref": "#/definitions/" + short(node["$ref"].rsplit("/", 1)[-1])}
    result: Schema = {}
    for key, value in node.items():
        if key in ("description", "format", "default") or key.startswith("x-kubernetes-"):
            continue
        result[key] = (
            {name: stripped(child) for name, child in value.items()} if key == "properties" else stripped(value)
        )
    return result


def closure(*, names: Iterable[str], definitions: Schema) -> Schema:
    """The named types and all that they refer to, stripped, by short name."""
    found: Schema = {}
    waiting = [full(name=name, definitions=definitions) for name in names]
    origin: dict[str, str] = {}
    while waiting:
        name = waiting.pop()
        key = short(name)
        if key in origin:
            if origin[key] != name:
                raise ValueError(f"two Kubernetes types are called {key}: {origin[key]} and {name}")
            continue
        origin[key] = name
        definition = MENDED.get(name, definitions[name])
        found[key] = stripped(definition)
        waiting.extend(references(definition))
    return found


def add_hints(types: Schema) -> None:
    """Adds advice to the fields of these types that people often write wrongly."""
    for name, field in OFTEN_UNQUOTED:
        if name in types:
            fields = types[name]["properties"]
            fields[field] = hinted(fields[field], hints=[IN_QUOTES])
    for field in ("limits", "requests"):
        if "ResourceRequirements" in types:
            types["ResourceRequirements"]["properties"][field]["properties"] = {
                name: {"const": advice} for name, advice in NO_RESOURCES.items()
            }

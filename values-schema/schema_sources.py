"""Reads the YAML sources and walks the values tree that they describe."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

Schema = dict[str, Any]

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
CHART = ROOT / "charts" / "clearml-agent"
VALUES_SOURCE = HERE / "values.schema.yaml"
CONFIG_SOURCE = HERE / "config.schema.yaml"
STATUS_SOURCE = HERE / "values-status.yaml"

#: Keywords of the sources that are not part of a built schema: they inform people, or the build.
NOTES = ("description", "default", "example", "only")
#: Keywords of the sources that stand for a reference.
SHORTHANDS = ("definition", "kubernetes", "value")


def load(path: Path) -> Schema:
    """One YAML source as a dict."""
    with path.open(encoding="utf-8") as stream:
        loaded = yaml.safe_load(stream)
    if not isinstance(loaded, dict):
        raise TypeError(f"{path}: found {type(loaded).__name__}, a mapping is needed")
    return loaded


def resolve(*, schema: Schema, definitions: Schema) -> Schema:
    """The schema that a `definition: <name>` stands for, with the notes beside it kept; else the schema itself."""
    if "definition" not in schema:
        return schema
    name = schema["definition"]
    if name not in definitions:
        raise ValueError(f"definition: {name} is not among the definitions of the source")
    return {**definitions[name], **{key: value for key, value in schema.items() if key != "definition"}}


def children(*, schema: Schema, definitions: Schema) -> dict[str, Schema]:
    """The values of a section by name; empty for a leaf. A node with its own default is a leaf."""
    if "default" in schema:
        return {}
    properties: dict[str, Schema] = resolve(schema=schema, definitions=definitions).get("properties", {})
    return {name: child for name, child in properties.items() if child.get("only") != "controller"}


def leaves(
    *, schema: Schema, definitions: Schema, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Schema]]:
    """Every (path, schema) of the tree that has no properties of its own to walk into."""
    below = children(schema=schema, definitions=definitions)
    if not below:
        yield path, resolve(schema=schema, definitions=definitions)
        return
    for name, child in below.items():
        yield from leaves(schema=child, definitions=definitions, path=(*path, name))


def dotted(path: tuple[str, ...]) -> str:
    return ".".join(path)

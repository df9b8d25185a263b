#!/usr/bin/env python3
"""Builds the chart's values.schema.json and values.yaml, the controller's config.schema.json and docs/values-status.md.

    python3 values-schema/build.py            write them
    python3 values-schema/build.py --check    write nothing; print the difference and end with 1 if there is one

Each schema is draft-07 in one file without a single outside reference, and nothing stands beside a `$ref`: Helm up to
3.17 ignores what stands there. Needs pyyaml, jsonschema and kubernetes-validate.
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_types
from refusals import RULES, conflicts, hinted, never, refused
from schema_sources import CHART, CONFIG_SOURCE, NOTES, ROOT, SHORTHANDS, STATUS_SOURCE, VALUES_SOURCE, Schema, load
from sharing import share
from status import with_refusals
from status_page import status_page
from values_yaml import values_yaml

VALUES_TARGET = CHART / "values.schema.json"
DEFAULTS_TARGET = CHART / "values.yaml"
CONFIG_TARGET = ROOT / "controller" / "src" / "clearml_k8s" / "config.schema.json"
STATUS_TARGET = ROOT / "docs" / "values-status.md"
PLAIN_TYPES = {"string", "boolean", "number", "integer"}


class Builder:
    """Expands one source; remembers which definitions and Kubernetes types it met.

    `target` is whose schema it is, chart or controller: keys that are `only` the other's are left out, and the
    controller needs no hints, as it words wrong types itself. `keep` names the notes that stay, outside the
    definitions: Helm has no use for any, the controller's loader reads the defaults.
    """

    def __init__(self, *, values: Schema, target: str, keep: frozenset[str] = frozenset()) -> None:
        self.values = values
        self.target = target
        self.dropped = frozenset(NOTES) - keep
        self.definitions: set[str] = set()
        self.types: set[str] = set()

    def expand(self, node: Any) -> Any:
        """A schema of the source as plain draft-07: notes gone, shorthands resolved, objects closed."""
        if isinstance(node, list):
            return [self.expand(item) for item in node]
        if not isinstance(node, dict):
            return node
        for shorthand in SHORTHANDS:
            if shorthand in node:
                return self.reference(shorthand=shorthand, node=node)
        if "refused" in node:
            return refused(node)
        result: Schema = {}
        rules: list[Schema] = [*never(node.get("never", [])), *conflicts(node)]
        for key, value in node.items():
            if key in self.dropped or key in RULES:
                continue
            if key == "properties":
                result[key] = {
                    name: self.expand(child)
                    for name, child in value.items()
                    if child.get("only", self.target) == self.target
                }
            elif key in ("items", "additionalProperties", "propertyNames", "allOf", "anyOf", "oneOf", "not"):
                result[key] = self.expand(value)
            else:
                result[key] = value
        if "properties" in result:
            result.setdefault("additionalProperties", False)
        if rules:
            result["allOf"] = [*result.get("allOf", []), *rules]
        if "hints" in node and self.target == "chart":
            result = hinted(result, hints=node["hints"])
        return result

    def reference(self, *, shorthand: str, node: Schema) -> Schema:
        beside = set(node) - {shorthand, *NOTES}
        if beside:
            raise ValueError(f"{shorthand}: {node[shorthand]} has {sorted(beside)} beside it; write allOf")
        name = node[shorthand]
        if shorthand == "value":
            found: Any = self.values
            for part in name.split("."):
                found = found["properties"][part]
            return dict(self.expand(found))
        if shorthand == "kubernetes":
            self.types.add(name)
        elif name not in self.definitions:
            if name not in self.values["definitions"]:
                raise ValueError(f"definition: {name} is not among the definitions of {VALUES_SOURCE.name}")
            self.definitions.add(name)
        return {"$ref": f"#/definitions/{name}"}

    def build(self, source: Schema) -> Schema:
        """The whole document, with the definitions it needs."""
        result: Schema = self.expand({key: value for key, value in source.items() if key != "definitions"})
        self.dropped = frozenset(NOTES)
        own: Schema = {}
        while missing := sorted(self.definitions - set(own)):
            for name in missing:
                own[name] = self.expand(self.values["definitions"][name])
        types = kubernetes_types.closure(names=sorted(self.types), definitions=kubernetes_types.load())
        if self.target == "chart":
            kubernetes_types.add_hints(types)
        if clash := set(own) & set(types):
            raise ValueError(f"definitions with the name of a Kubernetes type: {sorted(clash)}")
        result["definitions"] = dict(sorted({**own, **types}.items()))
        elements_are_no_null(result)
        jsonschema.Draft7Validator.check_schema(result)
        return result


def elements_are_no_null(schema: Schema) -> None:
    """Takes null from each object type that is used as an element of arrays only: there it makes no sense."""
    elements: set[str] = set()
    others: set[str] = set()
    for place, name in referred(schema):
        (elements if place == "items" else others).add(name)
    for name in elements - others:
        if schema["definitions"][name].get("type") == ["object", "null"]:
            schema["definitions"][name]["type"] = "object"


def referred(node: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """(keyword or property above it, name of the definition) of every reference."""
    if isinstance(node, dict):
        if "$ref" in node:
            yield place, node["$ref"].rsplit("/", 1)[-1]
        for key, value in node.items():
            if key == "properties":
                for child in value.values():
                    yield from referred(child)
            else:
                yield from referred(value, key)
    elif isinstance(node, list):
        for value in node:
            yield from referred(value, place)


def require_defaulted(schema: Schema, *, source: Schema) -> None:
    """Marks plain keys and sections of the source as required: `key: null` deletes a default that templates rely on."""
    properties, known = schema.get("properties", {}), source.get("properties", {})
    required = [name for name in properties if name in known and has_to_stay(known[name])]
    if required:
        schema["required"] = required
    for name, child in properties.items():
        require_defaulted(child, source=known.get(name, {}))


def has_to_stay(schema: Schema) -> bool:
    if "properties" in schema or "const" in schema or ("enum" in schema and None not in schema["enum"]):
        return True
    kind = schema.get("type")
    return isinstance(kind, str) and kind in PLAIN_TYPES


def text(schema: Schema) -> str:
    """JSON with one line for each top-level property and definition, so that a diff can be read."""
    lines = []
    for key, value in schema.items():
        if key in ("properties", "definitions"):
            inner = ",\n".join(f"{json.dumps(name)}:{compact(child)}" for name, child in value.items())
            lines.append(f"{json.dumps(key)}:{{\n{inner}\n}}")
        else:
            lines.append(f"{json.dumps(key)}:{compact(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def outputs() -> dict[Path, str]:
    """Path and text of the built files."""
    values, config, table = load(VALUES_SOURCE), load(CONFIG_SOURCE), load(STATUS_SOURCE)
    contract = with_refusals(values=values, table=table)
    built_values = Builder(values=contract, target="chart").build(contract)
    require_defaulted(built_values, source=values)
    share(built_values)
    built_values["definitions"] = dict(sorted(built_values["definitions"].items()))
    return {
        VALUES_TARGET: text(built_values),
        DEFAULTS_TARGET: values_yaml(values),
        CONFIG_TARGET: text(
            Builder(values=values, target="controller", keep=frozenset({"description", "default"})).build(config)
        ),
        STATUS_TARGET: status_page(table),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing, print the difference")
    check = parser.parse_args().check
    differs = False
    for path, wanted in outputs().items():
        found = path.read_text(encoding="utf-8") if path.exists() else ""
        name = str(path.relative_to(ROOT))
        if check:
            diff = "\n".join(
                difflib.unified_diff(found.splitlines(), wanted.splitlines(), name, "built", lineterm="", n=0)
            )
            if diff:
                differs = True
                print(diff)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted, encoding="utf-8")
            print(f"{name}: {len(wanted)} bytes")
    if differs:
        print("Built files are not those of values-schema/*.yaml; run python3 values-schema/build.py", file=sys.stderr)
    return 1 if differs else 0


if __name__ == "__main__":
    sys.exit(main())

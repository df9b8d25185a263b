#!/usr/bin/env python3
"""Checks the values contract: its source, what was built of it, and that templates use all of it.

    python3 values-schema/lint.py

Prints one line for each finding and ends with 1 if there is any. Every exception listed here must be needed: one that
is not is a finding, too.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from typing import Any

import jsonschema
import yaml
from refusals import listed, wrong_types
from schema_sources import CHART, STATUS_SOURCE, VALUES_SOURCE, Schema, children, dotted, leaves, load, resolve
from sharing import unshared
from status import ORIGINS, find, rows

#: Objects that take any key, by JSON path in the built schema, with the reason.
OPEN_OBJECTS = {
    "properties.global": "shared with parent and sibling charts, which put keys of their own there",
    "properties.extraObjects.items": "objects of any kind; the API server knows their types",
    "definitions.FieldsV1": "bookkeeping of the API server, any shape",
    "definitions.podSpec": "any field of Kubernetes' PodSpec; the API server checks it",
    "definitions.podSpec.properties.containers.items": "any field of Kubernetes' Container; the API server checks it",
}
#: Keys that templates hand over as a whole, so that no template names the keys below.
PASSED_WHOLE = {
    ("agentk8sglue", "basePodTemplate"): "goes to the controller as it is",
    ("agentk8sglue", "kueue"): "goes to the controller as it is",
    ("agentk8sglue", "maxRequeues"): "goes to the controller as it is",
    ("agentk8sglue", "monitoredResources"): "goes to the controller as it is",
    ("agentk8sglue", "multiNode"): "goes to the controller as it is",
    ("agentk8sglue", "orchestrationDashboard"): "goes to the controller in the newest of its names",
    ("agentk8sglue", "patienceSeconds"): "goes to the controller as it is",
    ("agentk8sglue", "podCommands"): "goes to the controller as it is",
    ("agentk8sglue", "taskPolicy"): "goes to the controller as it is",
    ("agentk8sglue", "templateModule"): "goes to the controller, with the folders of fileMounts",
    ("sessions",): "goes to the controller as it is, without keys of old versions",
}
#: Values that ci/everything-values.yaml leaves at their defaults, with the reason.
NOT_IN_EVERYTHING = {
    ("imageCredentials", "existingSecret"): "stands against imageCredentials.password",
    ("clearml", "existingAgentk8sglueSecret"): "stands against clearml.agentk8sglueKey and agentk8sglueSecret",
    ("clearml", "taskCredentials", "existingSecret"): "stands against accessKey and secretKey",
    ("agentk8sglue", "useOwnerToken"): "stands against clearml.taskCredentials",
    ("clearml", "existingClearmlConfigSecret"): "stands against clearml.clearmlConfig",
    ("customCertificates", "overrideCaCertificatesCrt"): "stands against extraCerts",
    ("agentk8sglue", "image", "registry"): "stands against global.imageRegistry, and a repository that names one",
    ("agentk8sglue", "image", "digest"): "stands against image.tag",
    ("agentk8sglue", "extraInitContainers"): "there is no image that every cluster has",
    ("agentk8sglue", "serviceExistingAccountName"): "stands against serviceAccountAnnotations",
    ("metrics", "serviceMonitor", "enabled"): "not every cluster has the types of Prometheus' operator",
    ("metrics", "podMonitor", "enabled"): "the same",
    ("metrics", "prometheusRule", "enabled"): "the same",
    ("agentk8sglue", "kueue", "queueName"): "not every cluster has Kueue",
    ("agentk8sglue", "kueue", "priorityClass"): "the same",
    ("agentk8sglue", "queue"): "stands against queues",
    ("agentk8sglue", "createQueueIfNotExists"): "is another name of createQueues",
    ("agentk8sglue", "orchestrationDashboard", "reportMaxGpu"): "is another name of gpu.reportMax",
    ("agentk8sglue", "orchestrationDashboard", "discovery"): "is another name of gpu.discovery",
    ("agentk8sglue", "dashboardReportMaxGpu"): "is another name of orchestrationDashboard.gpu.reportMax",
}


def described(*, schema: Schema, definitions: Schema, path: tuple[str, ...]) -> Iterator[str]:
    """Every key has a description; every leaf has a default, no section has one."""
    resolved = resolve(schema=schema, definitions=definitions)
    if path and not schema.get("description"):
        yield f"{dotted(path)}: no description"
    below = children(schema=schema, definitions=definitions)
    if path and not below and "default" not in resolved:
        yield f"{dotted(path)}: no default"
    for name, child in below.items():
        yield from described(schema=child, definitions=definitions, path=(*path, name))


def valid_notes(*, source: Schema, built: Schema) -> Iterator[str]:
    """Defaults and examples are valid in the place they are for."""
    for path, schema in leaves(schema=source, definitions=source["definitions"]):
        for note in ("default", "example"):
            if note in schema:
                place = {**at(path=path, built=built), "definitions": built["definitions"]}
                for error in jsonschema.Draft7Validator(place).iter_errors(schema[note]):
                    yield f"{dotted(path)}: {note} is not valid: {error.message}"


def at(*, path: tuple[str, ...], built: Schema) -> Schema:
    """The built schema of one key, with references followed."""
    schema = built
    for name in path:
        schema = schema["properties"][name]
        if "$ref" in schema:
            schema = built["definitions"][schema["$ref"].rsplit("/", 1)[-1]]
    return schema


def loose(node: Any, *, path: str) -> Iterator[str]:
    """Paths of objects that take unknown keys and of arrays that take anything."""
    if isinstance(node, list):
        for index, item in enumerate(node):
            yield from loose(item, path=f"{path}[{index}]")
        return
    if not isinstance(node, dict):
        return
    kinds = node.get("type", [])
    kinds = set(listed(kinds)) - wrong_types(node)
    extra = node.get("additionalProperties")
    if "object" in kinds and extra is not False and not isinstance(extra, dict):
        yield path
    if "array" in kinds and "items" not in node:
        yield path
    for key, value in node.items():
        if key in ("properties", "definitions"):
            for name, child in value.items():
                yield from loose(child, path=f"{path}.{key}.{name}".lstrip("."))
        elif isinstance(value, dict | list) and key not in ("enum", "required", "type", "if"):
            yield from loose(value, path=f"{path}.{key}".lstrip("."))


def references(node: Any, *, path: str = "") -> Iterator[tuple[str, str, list[str]]]:
    """(path, reference, other keywords beside it) of every `$ref`."""
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield path, node["$ref"], sorted(set(node) - {"$ref"})
        for key, value in node.items():
            yield from references(value, path=f"{path}.{key}".lstrip("."))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from references(value, path=f"{path}[{index}]")


def sound_references(built: Schema) -> Iterator[str]:
    used = set()
    for path, reference, beside in references(built):
        name = reference.removeprefix("#/definitions/")
        used.add(name)
        if name not in built["definitions"]:
            yield f"{path}: $ref {reference} leads nowhere inside the file"
        if beside:
            yield f"{path}: {beside} beside $ref is ignored by Helm up to 3.17"
    for name in sorted(set(built["definitions"]) - used):
        yield f"definitions.{name}: referred to by nothing"


def used_by_templates(source: Schema) -> Iterator[str]:
    """Every key is read by a template, by its whole path; no template reads a key that does not exist."""
    read: set[tuple[str, ...]] = set()
    for file in sorted((CHART / "templates").rglob("*")):
        if file.suffix in (".yaml", ".tpl", ".txt"):
            for match in re.finditer(r"\.Values((?:\.[A-Za-z0-9]+)+)", file.read_text(encoding="utf-8")):
                read.add(tuple(match.group(1).split(".")[1:]))
    known = {path for path, _ in leaves(schema=source, definitions=source["definitions"])}
    whole = set(PASSED_WHOLE)
    for path in sorted(known):
        passed = [prefix for prefix in whole if path[: len(prefix)] == prefix]
        if path not in read and not any(prefix in read for prefix in passed):
            yield f"{dotted(path)}: no template reads it"
    sections = {path[:length] for path in known for length in range(1, len(path))}
    for path in sorted(read):
        if path not in known and path not in sections and not any(path[: len(leaf)] == leaf for leaf in known):
            yield f"{dotted(path)}: a template reads it, but the source does not have it"
    for prefix in sorted(whole - sections):
        yield f"{dotted(prefix)}: listed as passed whole, but no such section exists"


def sound_table(*, source: Schema, table: Schema) -> Iterator[str]:
    """Every key that the table says works is in the source; no key stands in it twice."""
    seen: set[tuple[str, ...]] = set()
    for row in rows(table):
        if row.path in seen:
            yield f"{row.key}: twice in {STATUS_SOURCE.name}"
        seen.add(row.path)
        if row.origin not in ORIGINS:
            yield f"{row.key}: from {row.origin!r}; write one of {', '.join(ORIGINS)}"
        if row.advice is None and find(path=row.path, values=source) is None:
            yield f"{row.key}: {STATUS_SOURCE.name} says that it works, but the source does not have it"


def plain_advice(*, source: Schema, table: Schema) -> Iterator[str]:
    """No advice has a sign that Helm 3.14 shows as an escape."""
    for text in sorted({*advice(source), *(row.advice for row in rows(table) if row.advice)}):
        if re.search("[<>&]", text):
            yield f"advice {text!r}: Helm 3.14 shows angle brackets and ampersands as escapes; leave them out"


def advice(node: Any) -> Iterator[str]:
    """The text of every refusal in the source."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("advice", "refused") and isinstance(value, str):
                yield value
            elif key == "refuse":
                yield from value.values()
            else:
                yield from advice(value)
    elif isinstance(node, list):
        for value in node:
            yield from advice(value)


def same_defaults(source: Schema) -> Iterator[str]:
    """values.yaml holds the defaults of the source, all of them and nothing else."""
    wanted: dict[str, Any] = {}
    for path, schema in leaves(schema=source, definitions=source["definitions"]):
        place = wanted
        for name in path[:-1]:
            place = place.setdefault(name, {})
        place[path[-1]] = schema.get("default")
    found = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    yield from _differences(wanted=wanted, found=found, path=())


def _differences(*, wanted: Any, found: Any, path: tuple[str, ...]) -> Iterator[str]:
    if isinstance(wanted, dict) and isinstance(found, dict):
        for name in sorted(set(wanted) | set(found)):
            if name not in wanted or name not in found:
                yield f"{dotted((*path, name))}: only in {'the source' if name in wanted else 'values.yaml'}"
            else:
                yield from _differences(wanted=wanted[name], found=found[name], path=(*path, name))
    elif wanted != found:
        yield f"{dotted(path)}: values.yaml has {found!r}, the source {wanted!r}"


def set_in_everything(source: Schema) -> Iterator[str]:
    """ci/everything-values.yaml sets every value to another than its default, and every key of a queue in one queue."""
    name = "ci/everything-values.yaml"
    given = yaml.safe_load((CHART / name).read_text(encoding="utf-8"))
    definitions = source["definitions"]
    for path, schema in leaves(schema=source, definitions=definitions):
        found = _value(given, path)
        differs = found is not None and found != schema.get("default")
        if not differs and path not in NOT_IN_EVERYTHING:
            yield f"{dotted(path)}: {name} does not set it to another value than its default"
        elif differs and path in NOT_IN_EVERYTHING:
            yield f"{dotted(path)}: listed in NOT_IN_EVERYTHING, but {name} sets it; take it off the list"
    known = {path for path, _ in leaves(schema=source, definitions=definitions)}
    for path in sorted(set(NOT_IN_EVERYTHING) - known):
        yield f"{dotted(path)}: listed in NOT_IN_EVERYTHING, but no such value exists; take it off the list"
    queue = definitions["queues"]["additionalProperties"]
    queues = _value(given, ("agentk8sglue", "queues")) or {}
    for path, schema in leaves(schema=queue, definitions=definitions):
        if all(_value(one, path) in (None, schema.get("default")) for one in queues.values()):
            yield f"agentk8sglue.queues.<name>.{dotted(path)}: {name} sets it in no queue"


def _value(values: Any, path: tuple[str, ...]) -> Any:
    """The value at the path, None where there is none."""
    for name in path:
        values = values.get(name) if isinstance(values, dict) else None
    return values


def findings() -> Iterator[str]:
    source, table = load(VALUES_SOURCE), load(STATUS_SOURCE)
    built: Schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    yield from described(schema=source, definitions=source["definitions"], path=())
    yield from valid_notes(source=source, built=built)
    found_loose = set(loose(unshared(built), path=""))
    for path in sorted(found_loose - set(OPEN_OBJECTS)):
        yield f"{path}: takes anything; close it, or list it in OPEN_OBJECTS with the reason"
    for path in sorted(set(OPEN_OBJECTS) - found_loose):
        yield f"{path}: listed in OPEN_OBJECTS, but is closed or gone; take it off the list"
    yield from sound_references(built)
    yield from used_by_templates(source)
    yield from same_defaults(source)
    yield from sound_table(source=source, table=table)
    yield from plain_advice(source=source, table=table)
    yield from set_in_everything(source)


def main() -> int:
    count = 0
    for finding in findings():
        count += 1
        print(finding)
    print(f"values contract: {count} findings", file=sys.stderr)
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())

"""Refusals that say what to write instead, in draft-07.

A validator names the rule that was broken and nothing else, so the advice is put where it names it: as the one value
that would be valid (`const`), behind an `if` for what is valid all the same. (Of an `enum` with maps or lists Helm
since 3.18 shows nothing.) Keywords of the sources:

    refused: ADVICE       the key is not taken; `accept: [...]` beside it lists values that change nothing and are
    never:                the value's own schema stands; [{when: SCHEMA, advice: ADVICE}] refuses what matches SCHEMA
    hints:                as `never`, for what the type or another keyword refuses already; only in the chart's schema,
                          as the controller has words of its own
    conflicts:            of an object: [{when: {KEY: SCHEMA}, refuse: {KEY: ADVICE}}] refuses the second keys (any
                          value but null and empty text) while all of the first match

No validator shows what was found under these rules, so they are safe for secrets; `pattern` is not.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from schema_sources import Schema

RULES = ("never", "hints", "conflicts")
UNSET = (None, "")


def refused(node: Schema) -> Schema:
    """The schema of a key that is not taken."""
    if beside := set(node) - {"refused", "accept", "description"}:
        raise ValueError(f"refused: {node['refused']!r} has {sorted(beside)} beside it")
    return but(node["refused"], accepted=node.get("accept", []))


def but(advice: str, *, accepted: Iterable[Any]) -> Schema:
    """Refuses all but the accepted values."""
    taken = list(accepted)
    return {"if": {"not": {"enum": taken}}, "then": {"const": advice}} if taken else {"const": advice}


def never(rules: list[Schema]) -> list[Schema]:
    """The rules of `never` and `hints`, one `if`/`then` for each."""
    return [{"if": rule["when"], "then": {"const": rule["advice"]}} for rule in rules]


def hinted(schema: Schema, *, hints: list[Schema]) -> Schema:
    """A copy with the rules of `hints`. A type with a hint passes: Helm 3.14 looks no further than to a wrong one."""
    known = listed(schema["type"]) if "type" in schema else []
    passed = [name for rule in hints if set(rule["when"]) == {"type"} for name in listed(rule["when"]["type"])]
    result = {**schema, "allOf": [*schema.get("allOf", []), *never(hints)]}
    if known:
        result["type"] = [*known, *(name for name in passed if name not in known)]
    return result


def wrong_types(schema: Schema) -> set[str]:
    """The types that `hinted` let pass, to be refused with advice."""
    types = [
        rule["if"]["type"]
        for rule in schema.get("allOf", [])
        if "const" in rule.get("then", {}) and set(rule["if"]) == {"type"}
    ]
    return {name for found in types for name in listed(found)}


def listed(types: str | list[str]) -> list[str]:
    return [types] if isinstance(types, str) else types


def conflicts(node: Schema) -> list[Schema]:
    """The rules of `conflicts`, one `if`/`then` for each."""
    return [
        {
            # Helm 4 leaves keys out whose default is null: where null matches, a missing key does.
            "if": {
                "properties": rule["when"],
                "required": [key for key, schema in rule["when"].items() if None not in schema.get("enum", [])],
            },
            "then": {"properties": {key: but(advice, accepted=UNSET) for key, advice in rule["refuse"].items()}},
        }
        for rule in node.get("conflicts", [])
    ]

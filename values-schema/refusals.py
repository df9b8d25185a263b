"""Refusals that say what to write instead, in draft-07.

A validator names the rule that was broken and nothing else, so the advice is put where it names it: as the one value
that would be valid (`const`, `enum`). Keywords of the sources:

    refused: ADVICE       the key is not taken; `accept: [...]` beside it lists values that change nothing and are
    never:                the value's own schema stands; [{when: SCHEMA, advice: ADVICE}] refuses what matches SCHEMA
    conflicts:            of an object: [{when: {KEY: SCHEMA}, refuse: {KEY: ADVICE}}] refuses the second keys (any
                          value but null and empty text) while all of the first match

No validator shows what was found under these rules, so they are safe for secrets; `pattern` is not.
"""

from __future__ import annotations

from schema_sources import Schema

RULES = ("never", "conflicts")
UNSET = (None, "")


def refused(node: Schema) -> Schema:
    """The schema of a key that is not taken."""
    if beside := set(node) - {"refused", "accept", "description"}:
        raise ValueError(f"refused: {node['refused']!r} has {sorted(beside)} beside it")
    accepted = node.get("accept", [])
    return {"enum": [*accepted, node["refused"]]} if accepted else {"const": node["refused"]}


def never(node: Schema) -> list[Schema]:
    """The rules of `never`, one `if`/`then` for each."""
    return [{"if": rule["when"], "then": {"const": rule["advice"]}} for rule in node.get("never", [])]


def conflicts(node: Schema) -> list[Schema]:
    """The rules of `conflicts`, one `if`/`then` for each."""
    return [
        {
            "if": {"properties": rule["when"], "required": list(rule["when"])},
            "then": {"properties": {key: {"enum": [*UNSET, advice]} for key, advice in rule["refuse"].items()}},
        }
        for rule in node.get("conflicts", [])
    ]

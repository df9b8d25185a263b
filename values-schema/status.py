"""The table of all keys that ClearML's charts know (values-status.yaml), and the refusals that it puts into the schema.

A row: the key's path below its section, with `*` for any queue's name, and

    from:    where the key is known from: OSS, DOCS, HIST, CODE or INF (how sure, in this order), or `mistake`
    works:   what to know of it here, or nothing                       (one of `works` and `refused`)
    refused: what to write instead; Helm prints it
    later:   true when a later version will take it
    accept:  values that are taken all the same, because they ask for what happens anyway
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from schema_sources import Schema, resolve

ORIGINS = ("OSS", "DOCS", "HIST", "CODE", "INF", "mistake")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One key of the table; `advice` is None when it works."""

    section: str
    path: tuple[str, ...]
    origin: str
    note: str
    advice: str | None
    later: bool = False
    accept: list[Any] = field(default_factory=list)

    @property
    def key(self) -> str:
        return ".".join(self.path)


def rows(table: Schema) -> Iterator[Row]:
    """All rows in the order of the table. Raises ValueError for one that says neither or both."""
    for section, keys in table.items():
        for key, cell in keys.items():
            row = {**cell}
            path = tuple(key.replace("\\.", "\0").split("."))
            advice, note = row.pop("refused", None), row.pop("works", None)
            if (advice is None) == ("works" not in cell):
                raise ValueError(f"{key}: say either works or refused")
            yield Row(
                section=section,
                path=tuple(part.replace("\0", ".") for part in path),
                origin=row.pop("from"),
                note=note or "",
                advice=advice,
                later=row.pop("later", False),
                accept=row.pop("accept", []),
            )
            if row:
                raise ValueError(f"{key}: unknown {sorted(row)}")


def find(*, path: tuple[str, ...], values: Schema) -> Schema | None:
    """The source's schema of a key, with definitions followed; None if there is no such key."""
    node = values
    for part in path:
        node = resolve(schema=node, definitions=values["definitions"])
        if part == "*":
            node = node.get("additionalProperties", {})
        elif part in node.get("properties", {}):
            node = node["properties"][part]
        else:
            return None
    return resolve(schema=node, definitions=values["definitions"])


def with_refusals(*, values: Schema, table: Schema) -> Schema:
    """A copy of the source with every refused key of the table in its place; sections that are missing are made."""
    result = copy.deepcopy(values)
    for row in rows(table):
        if row.advice is None:
            continue
        node = result
        for part in row.path[:-1]:
            node = _below(node=node, part=part, values=result)
        properties = _place(node=node, values=result).setdefault("properties", {})
        if row.path[-1] in properties:
            raise ValueError(f"{row.key}: refused in the table, but the source has it")
        properties[row.path[-1]] = {"refused": row.advice, **({"accept": row.accept} if row.accept else {})}
    return result


def _place(*, node: Schema, values: Schema) -> Schema:
    """The schema itself that a reference stands for, to be changed."""
    place: Schema = values["definitions"][node["definition"]] if "definition" in node else node
    return place


def _below(*, node: Schema, part: str, values: Schema) -> Schema:
    place = _place(node=node, values=values)
    if part == "*":
        below: Schema = place["additionalProperties"]
        return below
    made: Schema = place.setdefault("properties", {}).setdefault(part, {"type": ["object", "null"], "properties": {}})
    if "refused" in made:
        raise ValueError(f"{part}: is refused as a whole, and has rows below it")
    return made

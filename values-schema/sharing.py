"""Says once in a built schema what stands in it several times.

A definition is named by what it says, so that a change elsewhere leaves its name alone.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

Schema = dict[str, Any]

_BY_NAME: Final = ("properties", "definitions", "patternProperties")
_LISTS: Final = ("allOf", "anyOf", "oneOf")
_ONE: Final = ("items", "additionalProperties", "propertyNames", "not", "if", "then", "else")


def share(schema: Schema) -> None:
    """Moves each part that is worth it below `definitions`; what the schema accepts stays the same.

    The largest gain first, as parts hold each other.
    """
    while True:
        counts = Counter(_text(part) for part in _all_parts(schema))
        gain, text = max((_gain(text, count), text) for text, count in counts.items())
        if gain <= 0:
            return
        name = _name(text)
        _replace(schema, text=text, name=name)
        if name in schema["definitions"]:
            raise ValueError(f"two parts have the name {name}: make it longer")
        schema["definitions"][name] = json.loads(text)


def unshared(schema: Schema) -> Schema:
    """What `share` was given."""
    definitions = schema["definitions"]

    def whole(part: Any) -> Any:
        if isinstance(part, list):
            return [whole(item) for item in part]
        if not isinstance(part, dict):
            return part
        name = str(part.get("$ref", "")).removeprefix("#/definitions/")
        return whole(definitions[name]) if name.startswith("_") else {key: whole(value) for key, value in part.items()}

    found: Schema = whole(schema)
    found["definitions"] = {name: part for name, part in found["definitions"].items() if not name.startswith("_")}
    return found


def _gain(text: str, count: int) -> int:
    reference = len(_text(_reference(_name(text))))
    return count * (len(text) - reference) - (len(text) + len(_name(text)) + len('"":,'))


def _name(text: str) -> str:
    return "_" + hashlib.sha256(text.encode()).hexdigest()[:5]


def _reference(name: str) -> Schema:
    return {"$ref": f"#/definitions/{name}"}


def _text(part: Schema) -> str:
    return json.dumps(part, separators=(",", ":"), ensure_ascii=False)


def _all_parts(schema: Schema) -> Iterator[Schema]:
    for part in _parts(schema):
        yield part
        yield from _all_parts(part)


def _parts(schema: Schema) -> list[Schema]:
    """The schemas right below this one."""
    found = [part for key in _BY_NAME for part in schema.get(key, {}).values()]
    found += [part for key in _LISTS for part in schema.get(key, [])]
    found += [schema[key] for key in _ONE if key in schema]
    return [part for part in found if isinstance(part, dict)]


def _replace(schema: Schema, *, text: str, name: str) -> None:
    def changed(part: Any) -> Any:
        if not isinstance(part, dict):
            return part
        if _text(part) == text:
            return _reference(name)
        _replace(part, text=text, name=name)
        return part

    for key, value in schema.items():
        if key in _BY_NAME:
            schema[key] = {known: changed(part) for known, part in value.items()}
        elif key in _LISTS:
            schema[key] = [changed(part) for part in value]
        elif key in _ONE:
            schema[key] = changed(value)

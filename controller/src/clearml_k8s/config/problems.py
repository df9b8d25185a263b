"""JSON-schema violations in words: the path, what was found, what is expected."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from jsonschema.exceptions import ValidationError
from jsonschema.validators import validator_for

_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_URL_PASSWORD = re.compile(r"(://)[^/@\s]*@")
_NAMES = {
    "object": "a mapping",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
}
_BOUNDS = {
    "minimum": "at least {0}",
    "maximum": "at most {0}",
    "exclusiveMinimum": "more than {0}",
    "exclusiveMaximum": "less than {0}",
    "multipleOf": "a multiple of {0}",
    "minLength": "at least {0} characters",
    "maxLength": "at most {0} characters",
    "minItems": "at least {0} entries",
    "maxItems": "at most {0} entries",
    "minProperties": "at least {0} entries",
    "maxProperties": "at most {0} entries",
    "pattern": "text that matches {0}",
    "format": "a valid {0}",
    "const": "{0}",
}


def find_problems(document: Mapping[str, Any], *, schema: Mapping[str, Any]) -> list[str]:
    """Every violation of `schema` in `document` as `path: what was found; what is expected`, ordered by path."""
    validator = validator_for(schema)(schema)
    found = sorted(validator.iter_errors(document), key=lambda error: [str(part) for part in error.absolute_path])
    return list(dict.fromkeys(text for error in found for text in _texts(error)))


def path_text(parts: Iterable[str | int]) -> str:
    """`queues.default.env[0]`; keys that are not plain words stand in brackets and quotes."""
    text = ""
    for part in parts:
        if isinstance(part, int):
            text += f"[{part}]"
        elif _PLAIN_KEY.fullmatch(part):
            text += f".{part}" if text else part
        else:
            text += f"[{json.dumps(part, ensure_ascii=False)}]"
    return text or "(top level)"


def _texts(error: ValidationError) -> Iterator[str]:
    path = list(error.absolute_path)
    where = path_text(path)
    instance: Any = error.instance
    rule: Any = error.validator
    wanted: Any = error.validator_value
    if rule in ("anyOf", "oneOf") and error.context:
        yield from _alternatives(error, where=where, path=path)
    elif rule == "additionalProperties" and wanted is False and isinstance(instance, Mapping):
        yield from _unknown_keys(error, path=path)
    elif rule == "required" and isinstance(instance, Mapping):
        for key in wanted:
            if key not in instance:
                yield f"{path_text([*path, key])}: missing; expected a value"
    elif rule == "propertyNames" or (error.parent is None and "propertyNames" in error.absolute_schema_path):
        yield f"{where}: the key {show(instance, path=())} is not allowed here"
    elif rule == "enum":
        yield f"{where}: found {show(instance, path=path)}; expected {_list_of(show(item, path=()) for item in wanted)}"
    elif rule == "type":
        types = [wanted] if isinstance(wanted, str) else list(wanted)
        hint = "; write it in quotes" if "string" in types and _looks_unquoted(instance) else ""
        yield f"{where}: found {show(instance, path=path)}; expected {_list_of(_NAMES.get(t, t) for t in types)}{hint}"
    elif rule in _BOUNDS:
        expected = _BOUNDS[rule].format(wanted if rule == "pattern" else show(wanted, path=()))
        yield f"{where}: found {show(instance, path=path)}; expected {expected}"
    else:
        yield f"{where}: found {show(instance, path=path)}; not allowed here (rule {rule!r})"


def _alternatives(error: ValidationError, *, where: str, path: Sequence[str | int]) -> Iterator[str]:
    """Reports the alternative that the value was meant for: the one whose type fits, else the list of types."""
    branches: dict[Any, list[ValidationError]] = {}
    for child in error.context or ():
        branches.setdefault(child.schema_path[0], []).append(child)
    fitting = [
        branch
        for branch in branches.values()
        if not any(child.validator == "type" and list(child.absolute_path) == list(path) for child in branch)
    ]
    if fitting:
        best = min(fitting, key=len)
        yield from dict.fromkeys(text for child in best for text in _texts(child))
        return
    types: list[str] = []
    for branch in branches.values():
        for child in branch:
            if child.validator == "type":
                wanted: Any = child.validator_value
                types += [wanted] if isinstance(wanted, str) else list(wanted)
    expected = _list_of(_NAMES.get(name, name) for name in dict.fromkeys(types))
    yield f"{where}: found {show(error.instance, path=path)}; expected {expected}"


def _unknown_keys(error: ValidationError, *, path: Sequence[str | int]) -> Iterator[str]:
    schema = error.schema if isinstance(error.schema, Mapping) else {}
    known = list(schema.get("properties", {}))
    patterns = list(schema.get("patternProperties", {}))
    instance: Any = error.instance
    for key in instance:
        if key in known or any(re.search(pattern, key) for pattern in patterns):
            continue
        near = nearest(key, known)
        advice = f"did you mean {near}?" if near else f"known here: {', '.join(sorted(known)) or 'no key at all'}"
        yield f"{path_text([*path, key])}: unknown key; {advice}"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that is most like `word`, or None if none is near; case does not matter."""
    by_lower = {name.lower(): name for name in known}
    found = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[found[0]] if found else None


def show(value: Any, *, path: Sequence[str | int]) -> str:
    """A value as it may stand in a message: scalars short, no collections, nothing that may be secret."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "null"
    if path and path[-1] in ("value", "fileContent"):
        return "a value (not shown)"
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    text = _URL_PASSWORD.sub(r"\1***@", str(value))
    return json.dumps(text if len(text) <= 80 else text[:77] + "...", ensure_ascii=False)


def _looks_unquoted(value: Any) -> bool:
    return value is not None and not isinstance(value, str | Mapping | list)


def _list_of(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last

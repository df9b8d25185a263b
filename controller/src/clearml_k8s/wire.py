"""JSON as it comes from others: parsed without surprises, and named where it is not what was expected."""

from __future__ import annotations

import json
from typing import Any

NOTHING = object()
"""Stands for a member that is missing, as `got` takes it."""


def parse_json(text: bytes | str) -> Any:
    """Parse it; ValueError is all that is raised, also for what is nested too deeply or is no UTF-8."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def got(value: object, *, expected: str) -> str:
    """``found a list; expected text``: the kind of what was found and never the value, which may be secret."""
    return f"found {_kind(value)}; expected {expected}"


def _kind(value: object) -> str:
    if value is NOTHING:
        return "nothing"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "text" if value else "empty text"
    return "a list" if isinstance(value, list) else "an object"

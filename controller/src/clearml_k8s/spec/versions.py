"""Versions of Python packages as requirements name them: whether a task's can be what a rule wants.

As clearml-agent does it: what both name has to overlap, by the numbers of the versions alone; `~=` is that of PEP 440.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

Specs = tuple[tuple[str, str], ...]
"""Operator and version."""

_SPEC = re.compile(r"\s*(===|==|~=|!=|>=|<=|>|<)\s*v?([0-9][^\s,;]*)\s*")
_REQUIREMENT = re.compile(r"\s*(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*(?P<specs>[(<>=~!].*)?")
_NUMBER = re.compile(r"[0-9]+")

MAX_LINES: Final = 5000
"""Of a task's requirements; what follows is not looked at."""

_Number = tuple[int, ...]


def read_specs(text: str) -> Specs | None:
    """`>=1.6,<2`; of a version alone that one. None: that is none. An empty text: any version."""
    text = text.strip()
    if not text or text == "*":
        return ()
    if text[0].isdigit():
        text = f"=={text}"
    found = []
    for one in text.split(","):
        match = _SPEC.fullmatch(one)
        if match is None:
            return None
        found.append((match[1], match[2]))
    return tuple(found)


def requirements(given: Any) -> Iterator[tuple[str, Specs]]:
    """Name and versions of each line of a task's requirements, a text or a list of lines; others are passed over."""
    lines = given.splitlines() if isinstance(given, str) else given if isinstance(given, list) else []
    for line in lines[:MAX_LINES]:
        if not isinstance(line, str) or len(line) > 1000:
            continue
        match = _REQUIREMENT.fullmatch(re.split(r"\s#|;|\s@\s", line, maxsplit=1)[0].strip())
        if match is None:
            continue
        specs = read_specs((match["specs"] or "").strip().strip("()"))
        # Conda writes name=1.2=build.
        yield canonical(match["name"]), () if specs is None else specs


def canonical(name: str) -> str:
    """A package's name as the package index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def overlap(wanted: Specs, found: Specs) -> bool:
    """Whether some version is in both; one that excludes (`!=`) excludes nothing here."""
    low, low_in, high, high_in = _bounds([*wanted, *found])
    if low is None or high is None:
        return True
    return low < high or (low == high and low_in and high_in)


def _bounds(specs: Iterable[tuple[str, str]]) -> tuple[_Number | None, bool, _Number | None, bool]:
    low: tuple[_Number, bool] | None = None
    high: tuple[_Number, bool] | None = None
    for operator, text in specs:
        for side, version, inside in _sides(operator, text):
            if side == "low" and (low is None or (version, not inside) > (low[0], not low[1])):
                low = (version, inside)
            if side == "high" and (high is None or (version, inside) < (high[0], high[1])):
                high = (version, inside)
    return (low[0] if low else None), bool(low and low[1]), (high[0] if high else None), bool(high and high[1])


def _sides(operator: str, text: str) -> Iterator[tuple[str, _Number, bool]]:
    version = _numbers(text)
    if operator in ("==", "===") and text.endswith(".*"):
        yield "low", _padded(version), True
        yield "high", _padded(_next(version)), False
    elif operator in ("==", "==="):
        yield "low", _padded(version), True
        yield "high", _padded(version), True
    elif operator == "~=":
        yield "low", _padded(version), True
        yield "high", _padded(_next(version[:-1] or version)), False
    elif operator in (">", ">="):
        yield "low", _padded(version), operator == ">="
    elif operator in ("<", "<="):
        yield "high", _padded(version), operator == "<="


def _numbers(text: str) -> _Number:
    """The numbers of a release: of 2.1.0rc1+cu118 2, 1 and 0."""
    parts = []
    for part in text.split("+")[0].split("."):
        match = _NUMBER.match(part)
        if match is None:
            break
        parts.append(int(match[0][:12]))
        if match.end() != len(part):
            break
    return tuple(parts)


def _next(version: Sequence[int]) -> _Number:
    return (*version[:-1], version[-1] + 1)


def _padded(version: Sequence[int]) -> _Number:
    return (*version, *[0] * (8 - len(version)))[:8]

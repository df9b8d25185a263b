"""Hostile input: text and JSON of any kind, and good documents with something in them exchanged."""

from __future__ import annotations

import asyncio
import base64
import copy
import json
from collections.abc import Coroutine
from typing import Any, TypeVar
from urllib.parse import quote

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

T = TypeVar("T")

BOUNDED = settings(derandomize=True, deadline=None, database=None, max_examples=50)
"""The same examples in every run."""

NASTY = (
    "",
    " ",
    "\0",
    "\ud800",
    "\udcff",
    "\u202eevil",
    "Ünïcödé 任务 🚀",
    "İ",
    "a\nb",
    "a\r\nSet-Cookie: b",
    "$(CLEARML_API_SECRET_KEY)",
    "${HOME}",
    "$$(A)",
    "$" * 9,
    "'",
    '"',
    "\\",
    "`id`",
    "-1",
    "null",
    "../../etc/passwd",
    "%00%ff",
    "x" * 2_000,
    "9" * 5000,
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59.999999-12:00",
    "2026-01-15T06:22:11",
    "2026-01-15T06:22:11.065000+00:00",
    "2026-W03-4",
)

DEEP = b"[" * 100_000 + b"]" * 100_000
"""JSON that is nested deeper than any parser's stack."""

CHARACTERS = st.characters(exclude_categories=())
"""Any, also lone surrogates."""


def texts(*, max_size: int = 30) -> SearchStrategy[str]:
    return st.sampled_from(NASTY) | st.text(CHARACTERS, max_size=max_size)


def numbers() -> SearchStrategy[float]:
    return st.integers() | st.sampled_from([0, -1, 2**31, 2**63, 10**400]) | st.floats()


def values() -> SearchStrategy[Any]:
    """Any JSON value, with what Python's parser takes beyond: NaN, Infinity, lone surrogates."""
    leaves = st.none() | st.booleans() | numbers() | texts()
    return st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts(), inner, max_size=3), max_leaves=6
    )


@st.composite
def spoilt(draw: st.DrawFn, good: Any, *, most: int = 3) -> Any:
    """The good document with up to ``most`` of its parts taken out, or exchanged for any value; or another document."""
    document = copy.deepcopy(good)
    for _ in range(draw(st.integers(1, most))):
        path = draw(st.sampled_from(_paths(document)))
        if not path:
            return draw(values())
        parent = document
        for step in path[:-1]:
            parent = parent[step]
        if draw(st.booleans()):
            parent[path[-1]] = draw(values())
        else:
            del parent[path[-1]]
        if not isinstance(document, dict | list) or not document:
            break
    return document


def _paths(document: Any) -> list[tuple[Any, ...]]:
    """Of every part of the document; the whole last, as the least interesting."""
    found: list[tuple[Any, ...]] = []

    def walk(part: Any, path: tuple[Any, ...]) -> None:
        items = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
        for key, inner in items:
            found.append((*path, key))
            walk(inner, (*path, key))

    walk(document, ())
    return [*found, ()]


def written(secret: str) -> set[str]:
    """The secret as it may stand in a text: raw, in JSON, in a URL, and each of them in base64, wherever it begins."""
    plain = {secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], quote(secret, safe="")}
    coded = set()
    for raw in (text.encode() for text in plain):
        for before in range(3):
            text = base64.b64encode(b"\0" * before + raw).decode()
            # Without the characters that also hold bits of what stands before it or after it.
            coded.add(text[-(-8 * before // 6) : 8 * (before + len(raw)) // 6])
    return plain | coded


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """For tests that hypothesis calls often: a loop for each call."""
    return asyncio.run(coroutine)


class Answers:
    """In place of a session: every call is answered with ``data``."""

    def __init__(self, data: Any) -> None:
        self.data = data

    async def call(self, endpoint: str, body: Any = None, **options: Any) -> Any:
        return self.data

    async def send_lines(self, endpoint: str, lines: bytes, **options: Any) -> Any:
        return self.data

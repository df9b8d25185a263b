"""Label selectors: the whole grammar that `kubectl -l` takes, parsed and evaluated here.

    key   !key   key=value   key==value   key!=value   key in (a,b)   key notin (a,b)   key>3   key<3

Requirements are separated by commas, and all of them must hold. As in Kubernetes, ``!=`` and ``notin`` hold where the
label is missing, ``>`` and ``<`` compare whole numbers and hold nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from clearml_k8s.errors import ConfigError
from clearml_k8s.names import shown

_NAME: Final = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_PREFIX: Final = r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*"
_KEY = re.compile(rf"(?:(?=[^/]{{1,253}}/){_PREFIX}/)?{_NAME}")
_VALUE = re.compile(rf"(?:{_NAME})?")
_NUMBER = re.compile(r"[+-]?[0-9]{1,18}")
_WORD = re.compile(r"[^\s,()=!<>]+|==|!=|[,()=!<>]")
"""With blanks between them, words are all that a text consists of."""


class SelectorError(ConfigError):
    """The text is no label selector; says where, and what was expected."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Requirement:
    """One requirement; ``operator`` is one of exists, !, in, notin, > and <, and ``=`` is ``in`` with one value."""

    key: str
    operator: str
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        found = labels.get(self.key)
        if self.operator == "exists":
            return found is not None
        if self.operator == "!":
            return found is None
        if self.operator == "in":
            return found in self.values
        if self.operator == "notin":
            return found not in self.values
        if found is None or not _NUMBER.fullmatch(found):
            return False
        (limit,) = self.values
        return int(found) > int(limit) if self.operator == ">" else int(found) < int(limit)


@dataclass(frozen=True, kw_only=True, slots=True)
class Selector:
    """Requirements that must all hold; without any it matches everything."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(requirement.matches(labels) for requirement in self.requirements)

    @property
    def keys(self) -> frozenset[str]:
        """The labels that it looks at."""
        return frozenset(requirement.key for requirement in self.requirements)


def parse(*texts: str) -> Selector:
    """The selector that matches what all ``texts`` match; empty texts match everything. Raises SelectorError."""
    return Selector(requirements=tuple(one for text in texts if text.strip() for one in _requirements(text)))


def label_keys(text: str) -> tuple[str, ...]:
    """A comma list of label keys. Raises SelectorError."""
    keys = tuple(key.strip() for key in text.split(","))
    for key in keys:
        if not _KEY.fullmatch(key):
            raise SelectorError(f"found {shown(key)}; expected label keys separated by commas")
    return keys


class _Words:
    """The words of a selector, read one after the other."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._words = _WORD.findall(text)
        self._at = 0

    def peek(self) -> str | None:
        return self._words[self._at] if self._at < len(self._words) else None

    def next(self) -> str | None:
        word = self.peek()
        self._at += 1
        return word

    def wrong(self, word: str | None, expected: str) -> SelectorError:
        found = "its end" if word is None else shown(word)
        return SelectorError(f"found {shown(self._text)}; at {found} expected {expected}")


def _requirements(text: str) -> Iterator[Requirement]:
    words = _Words(text.strip())
    while True:
        yield _requirement(words)
        word = words.next()
        if word is None:
            return
        if word != ",":
            raise words.wrong(word, "a comma before the next requirement")


def _requirement(words: _Words) -> Requirement:
    absent = words.peek() == "!"
    if absent:
        words.next()
    key = words.next()
    if key is None or not _KEY.fullmatch(key):
        raise words.wrong(key, "a label's key")
    if absent:
        return Requirement(key=key, operator="!")
    operator = words.peek()
    if operator is None or operator == ",":
        return Requirement(key=key, operator="exists")
    words.next()
    if operator in ("=", "==", "!="):
        value = words.peek()
        value = "" if value is None or value == "," else words.next() or ""
        _check_value(words, value)
        return Requirement(key=key, operator="notin" if operator == "!=" else "in", values=frozenset({value}))
    if operator in ("in", "notin"):
        return Requirement(key=key, operator=operator, values=frozenset(_values(words)))
    if operator in ("<", ">"):
        number = words.next()
        if number is None or not _NUMBER.fullmatch(number):
            raise words.wrong(number, "a whole number")
        return Requirement(key=key, operator=operator, values=frozenset({number}))
    raise words.wrong(operator, "one of = == != in notin < > or a comma")


def _values(words: _Words) -> Iterator[str]:
    if (word := words.next()) != "(":
        raise words.wrong(word, "values in parentheses, as in (a,b)")
    if words.peek() == ")":
        raise words.wrong(")", "a value")
    while True:
        value = words.peek()
        value = "" if value in (",", ")") else words.next() or ""
        _check_value(words, value)
        yield value
        word = words.next()
        if word == ")":
            return
        if word != ",":
            raise words.wrong(word, "a comma or a closing parenthesis")


def _check_value(words: _Words, value: str) -> None:
    if not _VALUE.fullmatch(value):
        raise words.wrong(value, "a label's value: at most 63 letters, digits, -, _ and .")

"""What looks secret by its name: in text, `NAME=value` and the like; in an environment, the values to hide.

By names only, so it is no proof: a secret under an ordinary name, or without any, is not known.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

from clearml_k8s.logs import REDACTED, Redactor

LEAST: Final = 6
"""Characters: a shorter value is told by its name alone, as it would hide ordinary words everywhere."""

MOST: Final = 500
"""Secrets known of one environment; what is beyond them is blanked where its name stands before it."""

LEAST_LINE: Final = 12
"""Characters of a line of a longer value (a key file, a JSON document), for text that holds only a part of it."""

_WORDS = (
    r"secrets?|pass|passwd|passwords?|passphrase|pwd|token|credentials?|authorization|"
    r"(?:api|access|secret|private|account|storage|auth|encryption|signing)[-_.]?key(?:[-_.]?id)?"
)
# A word of the name, between its parts; and what ends a name that is written in one: GITHUBTOKEN, dbPassword.
# Of limited length, so that no text makes the search slow.
_NAME = (
    rf"(?:[\w.-]{{0,80}}[_.-])?(?:{_WORDS})(?:[_.-][\w.-]{{0,80}})?"
    r"|\w{1,80}(?:secret|passwd|password|passphrase|token|apikey)"
)
_SECRET = re.compile(_NAME, re.IGNORECASE | re.ASCII)
_ORDINARY = frozenset({"PWD", "OLDPWD"})
"""Every shell's."""

# What `env`, `export -p` and `set -x` print: the value goes on to the end of the line.
_LINE = re.compile(
    rf"^(?P<head>\+{{0,8}} {{0,8}}(?:(?:export|declare -\w+) )?(?P<name>{_NAME})=)(?P<value>.*)$",
    re.IGNORECASE | re.ASCII | re.MULTILINE,
)
# What stands alone in a line of YAML, or of headers; in a sentence ("no token: 401") it is no value.
_ENTRY = re.compile(
    rf"^(?P<head>[ -]{{0,40}}(?P<name>{_NAME}): ?)(?P<value>\S.*)$", re.IGNORECASE | re.ASCII | re.MULTILINE
)
# Anywhere: a command's argument, a dictionary, JSON.
_INLINE = re.compile(
    rf"(?<![\w.-])(?P<head>(?P<name>{_NAME})(?:[\"']? ?= ?|[\"'] ?: ?|: ?(?=[\"'])))"
    r"(?P<value>(?:\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'|[^\s\"',;&})\]])+)",
    re.IGNORECASE | re.ASCII,
)
# The password of a URL.
_LOGIN = re.compile(r"(?P<head>://[^/\s:@]{0,80}:)(?P<value>[^/\s@]{1,400})(?=@)")
_SHAPES = (_LINE, _ENTRY, _INLINE, _LOGIN)
_USUAL = frozenset({"default", "disabled", "enabled"})


def is_secret(name: str) -> bool:
    """Whether a variable of this name holds a secret, by its name."""
    return _SECRET.fullmatch(name) is not None and name not in _ORDINARY


def without_secrets(text: str) -> str:
    """The text with every value blanked that stands behind a name that looks secret, and with logins of URLs."""

    def blank(match: re.Match[str]) -> str:
        named = match.groupdict().get("name")
        return match[0] if named is not None and not is_secret(named) else match["head"] + REDACTED

    for pattern in _SHAPES:
        text = pattern.sub(blank, text)
    return text


def hiding(environment: Iterable[tuple[str, str]]) -> Redactor:
    """A redactor of what looks secret in these variables: their values, and what their texts set (a script's)."""
    found: dict[str, None] = {}
    for name, value in environment:
        for secret in _secrets(name, value):
            if len(secret) >= LEAST and secret.lower() not in _USUAL:
                lines = [line.strip() for line in secret.splitlines()] if "\n" in secret else []
                found.update(dict.fromkeys([secret, *(line for line in lines if len(line) >= LEAST_LINE)]))
    return Redactor(islice(found, MOST))


def _secrets(name: str, value: str) -> Iterator[str]:
    if is_secret(name):
        yield value
    for pattern in _SHAPES:
        for match in pattern.finditer(value):
            named = match.groupdict().get("name")
            if named is None or is_secret(named):
                yield match["value"]
                yield match["value"].strip("\"'")

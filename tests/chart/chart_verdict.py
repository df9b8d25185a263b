"""What Helm says of values, in one form for all versions of Helm."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from chart_render import CHART, NAMESPACE, RELEASE, helm

#: Helm since 3.18: `- at '/a/b/0': text`; before: `- a.b.0: text`; the chart: `- a.b[0]: text`.
_NEW = re.compile(r"^ *- at '(?P<at>[^']*)': (?P<text>.*)$")
_OLD = re.compile(r"^ *- (?P<at>[^:]+): (?P<text>.*)$")
_WRONG_TYPE = (
    re.compile(r"^got (?P<found>\w+), want (?P<wanted>.*)$"),
    re.compile(r"^Invalid type\. Expected: (?P<wanted>.*), given: (?P<found>\w+)$"),
)
_UNKNOWN = (
    re.compile(r"^additional properties (?P<keys>.*) not allowed$"),
    re.compile(r"^Additional property (?P<keys>.*) is not allowed$"),
)
_MISSING = (re.compile(r"^missing propert(?:y|ies):? (?P<keys>.*)$"), re.compile(r"^(?P<keys>\S+) is required$"))


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One line of a refusal: the key with dots (an index is a part of it), and the text without quotation marks."""

    key: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How one command of Helm ended; `output` is all that it printed."""

    passed: bool
    rendered: str
    output: str

    @property
    def problems(self) -> list[Problem]:
        return list(problems(self.output))


@functools.cache
def verdict(name: str, command: str, values: str) -> Verdict:
    """Runs `lint` or `template` of the chart with the values (JSON or YAML text)."""
    args = {
        "lint": ("lint", str(CHART), "--kube-version", "1.37.0"),
        "template": ("template", RELEASE, str(CHART), "--namespace", NAMESPACE, "--kube-version", "1.37.0"),
    }[command]
    done = helm(name, *args, values=values)
    return Verdict(passed=done.returncode == 0, rendered=done.stdout, output=done.stdout + done.stderr)


def problems(output: str) -> Iterator[Problem]:
    """All lines of a refusal that say something of a key."""
    for line in output.splitlines():
        # Lint puts its own words before the first line.
        line = re.sub(r"^\[ERROR\] [^ ]+: (?=- )", "", line)
        if found := _NEW.match(line):
            yield from _worded(_dotted(found["at"]), found["text"])
        elif found := _OLD.match(line):
            key = re.sub(r"\[(\d+)\]", r".\1", found["at"])
            yield from _worded("" if key == "(root)" else key, found["text"])


def _dotted(pointer: str) -> str:
    """`/a/b~1c/0` -> `a.b/c.0`."""
    return pointer.removeprefix("/").replace("/", ".").replace("~1", "/").replace("~0", "~")


def _worded(key: str, text: str) -> Iterator[Problem]:
    for pattern in _WRONG_TYPE:
        if found := pattern.match(text):
            wanted = " or ".join(sorted(re.findall(r"\w+", found["wanted"].replace(" or ", " "))))
            yield Problem(key=key, text=f"found {found['found']}, wants {wanted}")
            return
    for patterns, words in ((_UNKNOWN, "not allowed"), (_MISSING, "missing")):
        for pattern in patterns:
            if found := pattern.match(text):
                for name in found["keys"].replace("'", "").split(", "):
                    yield Problem(key=f"{key}.{name}".removeprefix("."), text=words)
                return
    yield Problem(key=key, text=bare(text))


def bare(text: str) -> str:
    """A text without the quotation marks and the escapes that versions of Helm write differently."""
    for escaped in ("\\u003c", "\\u003e", "\\u0026"):
        text = text.replace(escaped, json.loads(f'"{escaped}"'))
    return re.sub(r"[\\'\"]", "", text)

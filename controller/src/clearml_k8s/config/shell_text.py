"""Fills a shell's text in: plain texts anywhere, and a reference to a variable as the quotes around its place need it.

Not a parser: what it takes for something else than the shell does (a `case` within `$(...)`) gets a reference that the
shell splits or leaves as text. No text of a user's is ever in what the shell reads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_TOKEN: Final = re.compile(r"(?<!\$)\{([a-z_]+)\}")
_HERE: Final = re.compile(r"<<(?P<tabs>-?)[ \t]*(?P<quote>['\"\\]?)(?P<word>[A-Za-z_]\w*)['\"]?")
_OPENING: Final = {"$(": ")", "${": "}"}
_BEFORE_COMMENT: Final = " \t\n;&|()`"


def filled(text: str, *, plain: Mapping[str, str], name: str, variable: str) -> str:
    """``plain``: by the name in braces, of characters that mean nothing to a shell; ``name``: that of the reference.

    ``$`` before a brace leaves it alone, and so do comments.
    """
    return _Filling(text, plain=plain, name=name, variable=variable).all()


class _Filling:
    def __init__(self, text: str, *, plain: Mapping[str, str], name: str, variable: str) -> None:
        self._text = text
        self._plain = plain
        self._name = name
        self._references = {"": f'"${{{variable}}}"', '"': f"${{{variable}}}", "'": f"'\"${{{variable}}}\"'"}
        self._at = 0
        self._parts: list[str] = []
        self._open: list[str] = []  # what ends each quote or bracket that the place is in
        self._here: list[re.Match[str]] = []  # documents that begin with the next line

    def all(self) -> str:
        while self._at < len(self._text):
            self._next()
        return "".join(self._parts)

    def _next(self) -> None:
        here = self._text[self._at]
        quote, inner = self._quote(), self._open[-1] if self._open else ""
        if here == "\\" and quote != "'":
            self._copy(2)
        elif self._text[self._at : self._at + 2] in _OPENING and quote != "'":
            self._open.append(_OPENING[self._text[self._at : self._at + 2]])
            self._copy(2)
        elif (token := self._token(self._at)) is not None:
            self._parts.append(self._value(token[1], quote=quote))
            self._at = token.end()
        elif here == inner:
            self._open.pop()
            self._copy(1)
        elif quote == "'":
            self._copy(1)
        elif here in '"`' or (here == "'" and not quote):
            self._open.append(here)
            self._copy(1)
        elif not quote and inner != "}":
            self._bare(here, inner)
        else:
            self._copy(1)

    def _bare(self, here: str, inner: str) -> None:
        """Outside of all quotes."""
        if here == "#" and (self._at == 0 or self._text[self._at - 1] in _BEFORE_COMMENT):
            end = self._text.find("\n", self._at)
            self._copy((len(self._text) if end < 0 else end) - self._at)
        elif here == "<" and self._text.startswith("<<<", self._at):
            self._copy(3)
        elif here == "<" and (found := _HERE.match(self._text, self._at)) is not None:
            self._here.append(found)
            self._copy(found.end() - self._at)
        elif here == "\n":
            self._copy(1)
            while self._here:
                self._document(self._here.pop(0))
        else:
            if here == "(" and inner == ")":
                self._open.append(")")
            self._copy(1)

    def _document(self, begun: re.Match[str]) -> None:
        """The lines to the word, in which quotes are text; where it does not come, it was none (`1<<x`)."""
        tabs = r"\t*" if begun["tabs"] else ""
        end = re.compile(rf"^{tabs}{begun['word']}$", re.MULTILINE).search(self._text, self._at)
        while end is not None and self._at < end.start():
            token = self._token(self._at)
            if token is None:
                self._copy(1)
            elif token[1] == self._name and begun["quote"]:
                self._copy(token.end() - self._at)  # nothing is looked up in such a one
            else:
                self._parts.append(self._value(token[1], quote='"'))
                self._at = token.end()
        if end is not None:
            self._copy(end.end() - end.start())

    def _quote(self) -> str:
        """That around the place, or "" where a command stands."""
        return next((one if one in "'\"" else "" for one in reversed(self._open) if one != "}"), "")

    def _token(self, at: int) -> re.Match[str] | None:
        found = _TOKEN.match(self._text, at)
        return found if found is not None and (found[1] in self._plain or found[1] == self._name) else None

    def _value(self, name: str, *, quote: str) -> str:
        return self._plain[name] if name in self._plain else self._references[quote]

    def _copy(self, length: int) -> None:
        self._parts.append(self._text[self._at : self._at + length])
        self._at += length

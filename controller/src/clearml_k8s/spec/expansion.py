"""Kubernetes expands `$(NAME)` in `env[].value`, `command` and `args`; text that is meant literally must be escaped."""

from __future__ import annotations

import re
from collections.abc import Sequence

_SPECIAL = re.compile(r"\$(?=[$(])")


def literal(text: str) -> str:
    """`text` written so that Kubernetes hands it to the container unchanged.

    Only a `$` before `$` or `(` is special to Kubernetes and is doubled; `$HOME` stays as it is.
    """
    return _SPECIAL.sub("$$", text)


def joined(pieces: Sequence[str]) -> str:
    """The text of ``pieces``: by turns one that Kubernetes may expand, and one that is meant literally.

    A `$` at the end of one and a `(` at the beginning of the next make no variable.
    """
    found, following = "", ""
    for number, piece in reversed([*enumerate(pieces)]):
        if number % 2:
            escaped = literal(piece + following)
            text = escaped[: len(escaped) - len(following)]
        else:
            alone = (len(piece) - len(piece.rstrip("$"))) % 2 == 1
            text = f"{piece}$" if alone and following in ("$", "(") else piece
        found = text + found
        following = (piece + following)[:1]
    return found

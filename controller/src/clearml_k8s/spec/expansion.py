"""Kubernetes expands `$(NAME)` in `env[].value`, `command` and `args`; text that is meant literally must be escaped."""

from __future__ import annotations

import re

_SPECIAL = re.compile(r"\$(?=[$(])")


def literal(text: str) -> str:
    """`text` written so that Kubernetes hands it to the container unchanged.

    Only a `$` before `$` or `(` is special to Kubernetes and is doubled; `$HOME` stays as it is.
    """
    return _SPECIAL.sub("$$", text)

"""The addresses of the ClearML server: whole URLs, and no credentials in them, as they go into every task pod."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

_WEB: Final = ("http", "https")


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """One of the server's addresses: its key in the config file, where it comes from without one, what it may be."""

    key: str
    given: str
    schemes: tuple[str, ...]
    example: str


API: Final = Kind(
    key="apiServer",
    given="CLEARML_API_HOST (or api.api_server in clearml.conf)",
    schemes=_WEB,
    example="https://api.clear.ml",
)
WEB: Final = Kind(
    key="webServer",
    given="CLEARML_WEB_HOST (or api.web_server in clearml.conf)",
    schemes=_WEB,
    example="https://app.clear.ml",
)
FILES: Final = Kind(
    key="fileServer",
    given="CLEARML_FILES_HOST (or api.files_server in clearml.conf)",
    schemes=(*_WEB, "s3", "gs", "azure"),
    example="https://files.clear.ml or s3://bucket",
)
KINDS: Final = (API, WEB, FILES)


def address_problem(text: str, *, kind: Kind) -> str:
    """What was found and what is expected in place of it, or ""; whatever may be a password is not in it."""
    # A password may hold "/" or "@" itself, so any "@" counts, wherever it stands.
    if "@" in text:
        return (
            "found a URL with a user name or password in it; leave the part up to @ out, credentials go into a Secret"
        )
    try:
        parts = urlsplit(text)
        whole = parts.scheme in kind.schemes and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        whole = False
    if whole and not re.search(r"\s", text):
        return ""
    shown = json.dumps(text if len(text) <= 80 else text[:77] + "...", ensure_ascii=False)
    return f"found {shown}; expected a whole URL, such as {kind.example}"


def address_problems(given: Mapping[Kind, str | None], *, names: Mapping[Kind, str]) -> list[str]:
    """The problems of all addresses that are given, each after its name."""
    found = {kind: address_problem(text, kind=kind) for kind, text in given.items() if text}
    return [f"{names[kind]}: {problem}" for kind, problem in found.items() if problem]

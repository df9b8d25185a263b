"""Logging: one line per record, ``key=value`` extras or JSON, and no secret in it.

Use the standard library: ``log.info("job created", extra=kv(task=..., job=...))``.
"""

from __future__ import annotations

import base64
import json
import logging
import re
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal, TextIO
from urllib.parse import quote

from clearml_k8s.errors import ConfigError

Format = Literal["plain", "json"]

REDACTED: Final = "********"
_EXTRA: Final = "kv"
_PLAIN_VALUE = re.compile(r"[A-Za-z0-9_.:/@+-]+")


def kv(**fields: object) -> Mapping[str, object]:
    """The ``extra=`` argument of a log call: ``fields`` become ``key=value`` or JSON members; None is left out."""
    return {_EXTRA: {key: value for key, value in fields.items() if value is not None}}


class Redactor:
    """Replaces known secrets, also in base64, JSON and URLs, and whatever looks like a bearer token, by asterisks."""

    # A JSON web token, and the value of an Authorization header.
    _SHAPES = re.compile(r"eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*|(?<=Bearer )\S+|(?<=Basic )\S+", re.IGNORECASE)

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets: set[str] = set()  # each in all the ways in which it may be written
        for secret in secrets:
            self.add(secret)

    def add(self, secret: str) -> None:
        """Hide ``secret`` from now on; strings shorter than 4 characters would hide ordinary text and are ignored."""
        if len(secret) >= 4:
            raw = secret.encode(errors="replace")
            escaped = {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1]}
            encoded = {quote(raw, safe=""), base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode()}
            self._secrets |= {secret, *escaped, *encoded, *(text.rstrip("=") for text in encoded)}

    def __call__(self, text: str) -> str:
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, REDACTED)
        return self._SHAPES.sub(REDACTED, text)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    found = getattr(record, _EXTRA, None)
    return dict(found) if isinstance(found, Mapping) else {}


def _stamp(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class PlainFormatter(logging.Formatter):
    """``2026-01-02T03:04:05.678Z INFO clearml_k8s.flow.claim task taken task=ab12 queue="my queue"``."""

    def __init__(self, redact: Redactor) -> None:
        super().__init__()
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        parts = [_stamp(record), record.levelname, record.name, record.getMessage()]
        for key, value in _fields(record).items():
            # Redacted before it is quoted, so that a secret with quotes or backslashes in it is found as well.
            text = self._redact(str(value))
            parts.append(f"{key}={text if _PLAIN_VALUE.fullmatch(text) else json.dumps(text, ensure_ascii=False)}")
        line = " ".join(parts)
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return self._redact(line)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ``time``, ``level``, ``logger``, ``message``, the extras, and ``exception``."""

    def __init__(self, redact: Redactor) -> None:
        super().__init__()
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        members: dict[str, Any] = {
            "time": _stamp(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        for key, value in _fields(record).items():
            members.setdefault(key, value if isinstance(value, bool | int | float) else str(value))
        if record.exc_info:
            members["exception"] = self.formatException(record.exc_info)
        # Redacted before encoding, so that a secret with quotes or backslashes in it is found as well.
        return json.dumps(
            {key: self._redact(value) if isinstance(value, str) else value for key, value in members.items()},
            ensure_ascii=False,
        )


def setup(
    *, level: str = "INFO", form: Format = "plain", redact: Redactor | None = None, stream: TextIO | None = None
) -> Redactor:
    """Send all records of level ``level`` and above to ``stream`` (stderr); returns the redactor, to add secrets to.

    Raises ConfigError for an unknown level or form. Called once, by the process; libraries never call it.
    """
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ConfigError(f"log level {level!r} is unknown: use DEBUG, INFO, WARNING or ERROR")
    if form not in ("plain", "json"):
        raise ConfigError(f"log format {form!r} is unknown: use plain or json")
    hidden = redact or Redactor()
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter(hidden) if form == "json" else PlainFormatter(hidden))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(number)
    for noisy in ("aiohttp", "asyncio", "kubernetes", "urllib3"):
        logging.getLogger(noisy).setLevel(max(number, logging.WARNING))
    return hidden

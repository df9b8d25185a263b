"""From a Kubernetes answer that is no success to an error that says why without echoing objects."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from clearml_k8s import errors
from clearml_k8s.errors import Cause, KubeRefused, KubeUnanswered, trimmed
from clearml_k8s.wire import parse_json

MAX_CAUSES: Final = 8
RETRY_AFTER_MOST: Final = 60.0
"""Seconds; a longer wait is some proxy's mistake, and would stop everything for as long."""

_SHOWN_VALUE: Final = 64
# The API server quotes the bad value, which may be a whole pod template with its environment.
_VALUE = re.compile(r"(Invalid value|Unsupported value|Duplicate value): (.*)(: )", re.DOTALL)

_KINDS: Final[Mapping[int, type[KubeRefused]]] = {
    400: errors.KubeInvalid,
    401: errors.KubeUnauthorized,
    403: errors.KubeForbidden,
    404: errors.KubeNotFound,
    409: errors.KubeConflict,
    410: errors.KubeExpired,
    422: errors.KubeInvalid,
    429: errors.KubeThrottled,
}


def parse(body: bytes | str) -> Mapping[str, Any]:
    """The body as a ``Status`` object; an empty mapping for anything else, so that objects never reach a message."""
    try:
        found = parse_json(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) and found.get("kind") == "Status" else {}


def error(
    call: str, *, code: int, status: Mapping[str, Any], http_reason: str = "", retry_after: str | None = None
) -> KubeRefused | KubeUnanswered:
    """The error for HTTP ``code`` with this ``Status``: doubt for 408 and 5xx, refused for the rest.

    ``retry_after`` is the header of that name; the Status' own ``retryAfterSeconds`` counts when it is missing; neither
    is believed beyond `RETRY_AFTER_MOST`.
    """
    details = status.get("details")
    details = details if isinstance(details, Mapping) else {}
    wait = _seconds(retry_after)
    if wait is None:
        wait = _seconds(details.get("retryAfterSeconds"))
    wait = None if wait is None else min(wait, RETRY_AFTER_MOST)
    reason = trimmed(_text(status, "reason") or http_reason or str(code), limit=64)
    causes = _causes(details.get("causes"))
    message = _message(status, details, causes) or http_reason or "no message"
    if code >= 500 or code == 408:
        return KubeUnanswered(call, message, code=code, retry_after=wait)
    kind = _KINDS.get(code, KubeRefused)
    if code == 404 and not status:
        # No API server wrote this 404 (or it knows no such resource): it says nothing about the object.
        kind = KubeRefused
    if code == 409 and reason == "AlreadyExists":
        kind = errors.KubeAlreadyExists
    if code == 410 or reason == "Expired":
        kind = errors.KubeExpired
    return kind(call, code, reason, message, retry_after=wait, causes=causes)


def without_value(text: str) -> str:
    """``text`` with a long quoted value left out: "Invalid value: (long value): field is immutable"."""

    def shorten(match: re.Match[str]) -> str:
        value = match[2] if len(match[2]) <= _SHOWN_VALUE else "(long value)"
        return f"{match[1]}: {value}{match[3]}"

    return _VALUE.sub(shorten, text)


def _message(status: Mapping[str, Any], details: Mapping[str, Any], causes: tuple[Cause, ...]) -> str:
    if causes and status.get("reason") == "Invalid":
        # Built from the causes: the server's own text quotes every value.
        listed = "; ".join(f"{cause.field}: {cause.message}" for cause in causes)
        named = " ".join(word for word in (_text(details, "kind") or "object", _text(details, "name")) if word)
        return f"{named} is invalid: {listed}"
    return without_value(_text(status, "message"))


def _text(source: Mapping[str, Any], key: str) -> str:
    found = source.get(key)
    return found if isinstance(found, str) else ""


def _causes(found: object) -> tuple[Cause, ...]:
    if not isinstance(found, list):
        return ()
    return tuple(
        Cause(
            field=trimmed(_text(item, "field"), limit=128),
            reason=trimmed(_text(item, "reason"), limit=64),
            message=trimmed(without_value(_text(item, "message"))),
        )
        for item in found[:MAX_CAUSES]
        if isinstance(item, Mapping)
    )


def _seconds(value: object) -> float | None:
    if isinstance(value, bool) or value is None:
        return None
    try:
        seconds = float(str(value))
    except ValueError:
        # The other form of the header is a date; the API server does not send it.
        return None
    return max(0.0, seconds) if seconds == seconds else None

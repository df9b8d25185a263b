"""An answer of the ClearML API: its data, or the error that it is."""

from __future__ import annotations

from typing import Any, Final, TypeGuard

from clearml_k8s.errors import (
    ApiRefused,
    ApiUnanswered,
    AuthRefused,
    Forbidden,
    InvalidStatus,
    NotFound,
    NotSupported,
)
from clearml_k8s.wire import NOTHING, got, parse_json

_NOT_FOUND: Final = frozenset({(400, 101), (400, 131), (400, 701)})


def data_of(endpoint: str, *, status: int, kind: str, text: bytes, target: str, address: str) -> dict[str, Any]:
    """``data`` of an answer: HTTP ``status``, content type ``kind``, body ``text``, ``target`` of a redirection.

    Raises ApiRefused and its kinds, or ApiUnanswered; ``address`` is the server's, for the message.
    """
    try:
        answer = parse_json(text)
    except ValueError:
        answer = None
    meta = answer.get("meta") if isinstance(answer, dict) else None
    if isinstance(answer, dict) and isinstance(meta, dict):
        said = meta.get("result_code", NOTHING)
        if status < 300 and said is not NOTHING and not _is_number(said):
            raise ApiUnanswered(endpoint, f"meta.result_code: {got(said, expected='a whole number')}")
        code = _number(said, status) if status < 300 else status
        subcode = _number(meta.get("result_subcode"), 0)
        told = meta.get("result_msg")
        message = told if isinstance(told, str) and told else "no message"
        if code < 300:
            data = answer.get("data")
            if data is not None and not isinstance(data, dict):
                raise ApiUnanswered(endpoint, f"data: {got(data, expected='an object')}")
            return data or {}
        raise _error(endpoint, code, subcode, message)
    if status < 300:
        raise ApiUnanswered(
            endpoint, f"{address} answered {kind}, not as a ClearML API server: is it the web server's address?"
        )
    if status < 400:
        raise ApiRefused(endpoint, status, 0, f"{address} redirects to {target}: use that address")
    raise _error(endpoint, status, 0, f"{address} answered {kind}, not as a ClearML API server")


def _error(endpoint: str, code: int, subcode: int, message: str) -> ApiRefused | ApiUnanswered:
    if code >= 500 or code == 408:
        return ApiUnanswered(endpoint, message, code=code, subcode=subcode)
    kind: type[ApiRefused] = ApiRefused
    if code == 401:
        kind = AuthRefused
    elif code == 403:
        kind = Forbidden
    elif code == 404:
        kind = NotSupported
    elif (code, subcode) in _NOT_FOUND:
        kind = NotFound
    elif (code, subcode) == (400, 110):
        kind = InvalidStatus
    return kind(endpoint, code, subcode, message)


def _is_number(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: object, default: int) -> int:
    return value if _is_number(value) else default

"""The shape around every answer: ``{"meta": {...}, "data": {...}}``."""

from __future__ import annotations

import json
import uuid
from datetime import datetime
from typing import Any

from .errors import ApiError
from .registry import Version


def _default(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"cannot be sent as JSON: {type(value).__name__}")


_encoder = json.JSONEncoder(separators=(",", ":"), default=_default, ensure_ascii=False)


def to_json(value: Any) -> bytes:
    return _encoder.encode(value).encode()


def _version(version: Version | None) -> str | None:
    return None if version is None else f"{version[0]}.{version[1]}"


def envelope(
    *,
    endpoint: str,
    requested: Version | None,
    actual: Version | None,
    data: dict[str, Any] | None = None,
    error: ApiError | None = None,
) -> bytes:
    call_id = uuid.uuid4().hex
    return to_json(
        {
            "meta": {
                "id": call_id,
                "trx": call_id,
                "endpoint": {
                    "name": endpoint,
                    "requested_version": _version(requested),
                    "actual_version": _version(actual),
                },
                "result_code": error.code if error else 200,
                "result_subcode": error.subcode if error else 0,
                "result_msg": error.message if error else "OK",
                "error_stack": None,
                "error_data": error.data if error else {},
            },
            "data": data or {},
        }
    )

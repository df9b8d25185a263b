"""Session tokens: JSON Web Tokens signed with HS256, made with the standard library."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from typing import Any

from . import errors


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _sign(message: str, key: bytes) -> str:
    return _encode(hmac.new(key, message.encode(), hashlib.sha256).digest())


def encode(claims: dict[str, Any], key: bytes) -> str:
    header = _encode(b'{"alg":"HS256","typ":"JWT"}')
    body = _encode(json.dumps(claims, separators=(",", ":")).encode())
    return f"{header}.{body}.{_sign(f'{header}.{body}', key)}"


def decode(token: str, key: bytes) -> dict[str, Any]:
    """The claims of a well-signed token, expired or not; 401/30 for any other text."""
    head, _, signature = token.rpartition(".")
    if head.count(".") != 1:
        raise errors.invalid_token("Not enough segments")
    if not hmac.compare_digest(signature.encode(), _sign(head, key).encode()):
        raise errors.invalid_token("Signature verification failed")
    try:
        claims = json.loads(_decode(head.partition(".")[2]))
    except (ValueError, binascii.Error) as error:
        raise errors.invalid_token("Invalid payload") from error
    if not isinstance(claims, dict):
        raise errors.invalid_token("Invalid payload")
    return claims

"""The server's token: when to renew it, and what it says about the server."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from clearml_k8s.errors import ApiUnanswered
from clearml_k8s.wire import NOTHING, got, parse_json

# Renew when this part of the token's life is over, whatever its length.
_RENEW_AFTER: Final = 0.8
_UNKNOWN_LIFE: Final = 3600.0
_SHORTEST_LIFE: Final = 1.0
_LONGEST_LIFE: Final = 10 * 365 * 86400.0

LOGIN: Final = "auth.login"


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerInfo:
    """What the token's claims say; "" where they are silent."""

    feature_set: str = "basic"
    api_version: str = ""
    server_version: str = ""
    company: str = ""
    user: str = ""
    role: str = ""
    tenant: str = ""
    """The company that the token is for, where the server has several."""
    service_account_type: int = 0

    @property
    def basic(self) -> bool:
        """True for the open-source server, which has no orchestration dashboard, vaults and the like."""
        return self.feature_set in ("", "basic")


@dataclass(frozen=True, kw_only=True, slots=True)
class Token:
    """A bearer token; ``renew_at`` and ``expires_at`` are on the clock's monotonic scale, so clock skew is harmless."""

    value: str = field(repr=False)
    renew_at: float
    expires_at: float
    info: ServerInfo


def read_login(data: Mapping[str, Any], *, at: float, address: str) -> Token:
    """The token of a login's answer; ApiUnanswered when it holds none that can be sent back in a header."""
    value = data.get("token", NOTHING)
    if not isinstance(value, str) or not value:
        raise ApiUnanswered(LOGIN, f"the answer of {address} holds no token: {got(value, expected='text')}")
    if not (value.isascii() and value.isprintable()) or " " in value:
        raise ApiUnanswered(LOGIN, f"the answer of {address} holds no token: its text fits into no HTTP header")
    return read(value, at=at)


def read(value: str, *, at: float) -> Token:
    """Read the claims of a token received at monotonic time ``at``; a token that cannot be read lives one hour."""
    claims = _claims(value)
    issued, expires = claims.get("iat"), claims.get("exp")
    life = _UNKNOWN_LIFE
    if isinstance(issued, int | float) and isinstance(expires, int | float) and expires > issued:
        # Compared before it becomes a float: whole numbers of JSON know no limit.
        life = float(min(max(expires - issued, _SHORTEST_LIFE), _LONGEST_LIFE))
    identity = claims.get("identity")
    identity = identity if isinstance(identity, dict) else {}

    def text(source: dict[str, Any], key: str, default: str = "") -> str:
        found = source.get(key)
        return found if isinstance(found, str) else default

    def number(source: dict[str, Any], key: str) -> int:
        found = source.get(key)
        short = isinstance(found, int | str) and len(str(found)) <= 3 and str(found).isdecimal()
        return int(found) if short and found is not None else 0

    info = ServerInfo(
        feature_set=text(claims, "feature_set", "basic"),
        api_version=text(claims, "api_version"),
        server_version=text(claims, "server_version"),
        company=text(identity, "company"),
        user=text(identity, "user"),
        role=text(identity, "role"),
        tenant=text(claims, "tenant"),
        service_account_type=number(identity, "service_account_type"),
    )
    return Token(value=value, renew_at=at + life * _RENEW_AFTER, expires_at=at + life, info=info)


def _claims(value: str) -> dict[str, Any]:
    parts = value.split(".")
    if len(parts) != 3:
        return {}
    try:
        body = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
        claims = parse_json(body)
    except (binascii.Error, ValueError):
        return {}
    return claims if isinstance(claims, dict) else {}

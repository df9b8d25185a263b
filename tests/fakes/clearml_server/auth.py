"""Who calls: users, credentials, session tokens, and the ``auth.*`` endpoints."""

from __future__ import annotations

import base64
import binascii
import secrets
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from . import errors, tokens
from .clock import Clock
from .registry import Call, Identity, endpoint
from .settings import API_VERSION, COMPANY_ID, COMPANY_NAME, MAX_TOKEN_SECONDS, TOKEN_SECONDS, Settings


@dataclass(kw_only=True)
class Credential:
    secret: str
    identity: Identity
    label: str = ""


IMPERSONATES = ("X-Clearml-Impersonate-As", "X-Trains-Impersonate-As")
TENANT = "X-Clearml-Tenant"
MAY_IMPERSONATE = ("system", "root", "admin")
SERVICE_ACCOUNT = 2


def make_identity(
    *, user: str, role: str, protected: bool = False, company: str = COMPANY_ID, service_account_type: int = 0
) -> Identity:
    return Identity(
        user=user,
        user_name=user,
        company=company,
        company_name=COMPANY_NAME,
        role=role,
        protected=protected,
        service_account_type=service_account_type,
    )


class Auth:
    """Credentials by access key, and the key that signs tokens."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self.anonymous = make_identity(user="", role="guest")
        self.credentials: dict[str, Credential] = {}
        self._key = secrets.token_bytes(32)
        self._known_tokens: dict[str, dict[str, Any]] = {}
        self._revoked_sessions: set[str] = set()
        self.vaults: dict[str, list[str]] = {}
        """By user: HOCON."""
        self.reset()

    def reset(self) -> None:
        """Only the credentials that the server was started with. Tokens stay valid."""
        self.vaults = {}
        identity = make_identity(user="developer", role=self._settings.role)
        self.credentials = {self._settings.access_key: Credential(secret=self._settings.secret_key, identity=identity)}

    def add_credential(self, identity: Identity, *, label: str = "") -> tuple[str, str]:
        """A new access key and its secret."""
        access_key, secret = secrets.token_hex(10).upper(), secrets.token_urlsafe(32)
        self.credentials[access_key] = Credential(secret=secret, identity=identity, label=label)
        return access_key, secret

    def revoke_all_tokens(self) -> None:
        """As when the server's own secret is changed: every token given so far is refused from now on."""
        self._key = secrets.token_bytes(32)
        self._known_tokens.clear()

    def revoke_token(self, token: str) -> None:
        self._revoked_sessions.add(str(tokens.decode(token, self._key).get("session_id")))

    def issue(self, identity: Identity, *, seconds: int | None) -> str:
        now = int(self._clock.time())
        major, minor = API_VERSION
        claims = {
            "iat": now,
            "exp": now + (seconds or TOKEN_SECONDS),
            "identity": identity.claim(),
            "env": "<unknown>",
            "auth_type": "Bearer",
            "session_id": uuid.uuid4().hex,
            "api_version": f"{major}.{minor}",
            "server_version": self._settings.server_version,
            "server_build": "",
            "feature_set": self._settings.edition,
            **({"tenant": identity.tenant or identity.company} if self._settings.edition == "enterprise" else {}),
        }
        return tokens.encode(claims, self._key)

    def identify(self, headers: Mapping[str, str]) -> Identity:
        """Who the call counts as: whoever it authenticates, or another one in whose name that may speak.

        400/6 for a role that may not, or a user that is not there; 403/10 for a company that is not the user's.
        """
        identity = self._in_tenant(self.authenticate(headers), headers)
        user = next((headers[name] for name in IMPERSONATES if headers.get(name)), None)
        if user is None:
            return identity
        if identity.role not in MAY_IMPERSONATE and identity.service_account_type < SERVICE_ACCOUNT:
            raise errors.impersonation("impersonation not allowed", role=identity.role)
        known = (credential.identity for credential in self.credentials.values())
        found = next((one for one in known if one.user == user), None)
        if found is None:
            raise errors.impersonation("unknown user", id=user, company=identity.company)
        return found

    def _in_tenant(self, identity: Identity, headers: Mapping[str, str]) -> Identity:
        tenant = headers.get(TENANT)
        if tenant is None or self._settings.edition != "enterprise":
            return identity
        if tenant not in (identity.company, COMPANY_ID):
            raise errors.tenant_not_allowed(tenant)
        return replace(identity, tenant=tenant)

    def authenticate(self, headers: Mapping[str, str]) -> Identity:
        """401/20 without a header, 401/10 for an unknown scheme, 401/22 bad credentials, 401/30 bad token."""
        header = headers.get("Authorization")
        if not header:
            raise errors.no_credentials()
        scheme, _, value = header.partition(" ")
        match scheme.lower():
            case "bearer":
                return self._by_token(value.strip())
            case "basic":
                return self._by_credentials(value.strip())
        raise errors.bad_auth_type()

    def _by_credentials(self, value: str) -> Identity:
        try:
            access_key, _, secret = base64.b64decode(value, validate=True).decode().partition(":")
        except (ValueError, binascii.Error) as error:
            raise errors.invalid_credentials("malformed credentials") from error
        found = self.credentials.get(access_key)
        if found is None or not secrets.compare_digest(found.secret.encode(), secret.encode()):
            raise errors.invalid_credentials()
        return found.identity

    def _by_token(self, token: str) -> Identity:
        claims = self._known_tokens.get(token)
        if claims is None:
            claims = tokens.decode(token, self._key)
            if len(self._known_tokens) > 1000:
                self._known_tokens.clear()
            self._known_tokens[token] = claims
        if claims.get("exp", 0) <= self._clock.time():
            raise errors.invalid_token("Signature has expired")
        if claims.get("session_id") in self._revoked_sessions:
            raise errors.invalid_token("Token was revoked")
        identity = claims["identity"]
        made = make_identity(
            user=identity["user"],
            role=identity["role"],
            protected=self._is_protected(identity["user"]),
            company=identity["company"],
            service_account_type=identity.get("service_account_type", 0),
        )
        return replace(made, tenant=claims.get("tenant", ""))

    def _is_protected(self, user: str) -> bool:
        return any(
            credential.identity.user == user and credential.identity.protected
            for credential in self.credentials.values()
        )


class AuthService:
    def __init__(self, auth: Auth) -> None:
        self._auth = auth

    @endpoint("auth.login", expiration_sec="int")
    def login(self, call: Call) -> dict[str, Any]:
        seconds = call.data.get("expiration_sec")
        if seconds is not None and seconds > MAX_TOKEN_SECONDS:
            raise errors.validation(f"expiration_sec must be at most {MAX_TOKEN_SECONDS}", field="expiration_sec")
        return {"token": self._auth.issue(call.identity, seconds=seconds)}

    @endpoint("auth.logout", since="2.2")
    def logout(self, call: Call) -> dict[str, Any]:
        return {}

    @endpoint("auth.create_credentials", label="str")
    def create_credentials(self, call: Call) -> dict[str, Any]:
        if call.identity.protected:
            raise errors.protected_user()
        label = call.data.get("label") or ""
        access_key, secret = self._auth.add_credential(call.identity, label=label)
        return {"credentials": {"access_key": access_key, "secret_key": secret, "label": label}}

    @endpoint("auth.get_credentials")
    def get_credentials(self, call: Call) -> dict[str, Any]:
        return {
            "credentials": [
                {"access_key": key, "label": credential.label}
                for key, credential in self._auth.credentials.items()
                if credential.identity.user == call.identity.user
            ]
        }

    @endpoint("auth.revoke_credentials", access_key="!str")
    def revoke_credentials(self, call: Call) -> dict[str, Any]:
        if call.identity.protected:
            raise errors.protected_user()
        found = self._auth.credentials.get(call.data["access_key"])
        if found is None or found.identity.user != call.identity.user:
            raise errors.invalid_user(id=call.identity.user)
        del self._auth.credentials[call.data["access_key"]]
        return {"revoked": 1}

    @endpoint("auth.create_user", roles=("system", "root", "admin"))
    def create_user(self, call: Call) -> dict[str, Any]:
        return {"id": uuid.uuid4().hex}

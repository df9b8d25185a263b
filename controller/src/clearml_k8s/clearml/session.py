"""One login and one way to call the ClearML server.

Always POST: a GET is repeated by proxies and clients, and some actions of this API take things away. Writes are sent
once; only a 401, which comes before anything is done, leads to a new login and one repeat with the new header.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from types import TracebackType
from typing import Any, Final

from clearml_k8s.backoff import Backoff
from clearml_k8s.clearml import token as tokens
from clearml_k8s.clearml.health import ServerHealth, State
from clearml_k8s.clearml.keys import Credentials, Keys
from clearml_k8s.clearml.token import LOGIN
from clearml_k8s.clearml.transport import Transport
from clearml_k8s.clock import Clock, holding
from clearml_k8s.errors import (
    MAX_REQUEST_SECONDS,
    ApiRefused,
    ApiUnanswered,
    AuthRefused,
    Refused,
    Unanswered,
    Unreachable,
)
from clearml_k8s.guarded import Guard, guarded_by, unguarded
from clearml_k8s.metrics import Metrics, Outcome

READ_ATTEMPT_SECONDS: Final = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class _Request:
    """What is asked, whoever asks; ``headers`` come beside those of every request."""

    endpoint: str
    payload: bytes
    content: str
    read: bool
    version: str | None
    headers: Mapping[str, str]


_OWN_LOGIN: Final = _Request(
    endpoint=LOGIN, payload=b"{}", content="application/json", read=True, version=None, headers={}
)


class Session:
    """Calls of the ClearML API; use it as an async context manager, or `close` it.

    ``health`` follows every call. The attributes of the server stand in ``info`` after the first login.
    """

    def __init__(
        self,
        *,
        api_server: str,
        credentials: Credentials,
        clock: Clock,
        verify_certificate: bool | str = True,
        metrics: Metrics | None = None,
        random: Random | None = None,
        max_request_seconds: float = MAX_REQUEST_SECONDS,
        learn: Callable[[str], None] = lambda secret: None,
        guard: Guard = unguarded,
    ) -> None:
        """``learn`` is told every secret that is used, also those of later (see `Keys`).

        ``guard`` is asked before each write is sent (see `guarded_by`).
        """
        self.clock = clock
        self._guard = guard
        self._max_request_seconds = max_request_seconds
        self._transport = Transport(api_server=api_server, clock=clock, verify_certificate=verify_certificate)
        self._keys = Keys(credentials, clock=clock, learn=learn)
        self._metrics = metrics
        self._random = random or Random()
        self._token: tokens.Token | None = None
        self._token_of = ""
        self._login_lock = asyncio.Lock()
        self.health = ServerHealth(clock=clock, probe=self.ping, random=self._random)

    async def __aenter__(self) -> Session:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; the session cannot be used afterwards."""
        await self._transport.close()

    @property
    def address(self) -> str:
        """The server's address as used, without credentials."""
        return self._transport.address

    @property
    def info(self) -> tokens.ServerInfo | None:
        """What the last token said about the server and the user; None before the first login."""
        return self._token.info if self._token else None

    async def login(self, *, deadline: float | None = None) -> tokens.ServerInfo:
        """Log in unless a token is at hand; errors as `call`, wrong credentials are AuthRefused."""
        return (await self._fresh(None, self._until(deadline))).info

    async def login_with(
        self, headers: Mapping[str, str], *, bearer: tokens.Token | None = None, deadline: float | None = None
    ) -> tokens.Token:
        """A token that the server gives for these headers, which stays the caller's; errors as `call`.

        ``bearer``: who asks, in place of this session's own account. Nothing is changed, so it is repeated as a read.
        """
        data = await self._call(
            LOGIN, b"{}", "application/json", deadline, read=True, version=None, headers=headers, bearer=bearer
        )
        return tokens.read_login(data, at=self.clock.monotonic(), address=self.address)

    async def ping(self) -> None:
        """The cheapest call that needs the credentials and the database: one queue's id."""
        await self.call("queues.get_all", {"page": 0, "page_size": 1, "only_fields": ["id"]})

    async def call(
        self,
        endpoint: str,
        body: Mapping[str, object] | None = None,
        *,
        deadline: float | None = None,
        read: bool = False,
        version: str | None = None,
    ) -> dict[str, Any]:
        """POST ``body`` to ``endpoint`` ("queues.get_all") and return ``data`` of the answer.

        ``deadline`` is a time on ``clock.monotonic()``, by default ``max_request_seconds`` from now; a write never
        lasts longer. With ``read`` the call changes nothing: it is repeated after doubt, lost connections and 429
        until the deadline. ``version`` pins the API version ("2.13").

        Raises `Refused` (ApiRefused and its kinds, Unreachable, NotSent) or `Unanswered` (ApiUnanswered).
        """
        # What is no Unicode (a lone surrogate) would be answered 500, again and again: "?" stands for it.
        payload = json.dumps(body or {}, ensure_ascii=False).encode(errors="replace")
        return await self._call(endpoint, payload, "application/json", deadline, read=read, version=version)

    async def send_lines(
        self, endpoint: str, lines: bytes, *, deadline: float | None = None, version: str | None = None
    ) -> dict[str, Any]:
        """POST JSON lines (a batch endpoint such as ``events.add_batch``); a write, with the endings of `call`."""
        return await self._call(endpoint, lines, "application/json-lines", deadline, read=False, version=version)

    # ---- one call ---------------------------------------------------------------------------------------------------

    async def _call(
        self,
        endpoint: str,
        payload: bytes,
        content: str,
        deadline: float | None,
        *,
        read: bool,
        version: str | None,
        headers: Mapping[str, str] | None = None,
        bearer: tokens.Token | None = None,
    ) -> dict[str, Any]:
        until = self._until(deadline)
        asked = _Request(
            endpoint=endpoint, payload=payload, content=content, read=read, version=version, headers=headers or {}
        )
        if not read:
            return await self._authorized(asked, min(until, self._until(None)))
        backoff = Backoff(first=0.25, cap=5.0, random=self._random)
        while True:
            try:
                if bearer is not None:
                    return await self._attempt(asked, bearer.value, until)
                return await self._authorized(asked, until)
            except (Unanswered, Unreachable) as error:
                wait = backoff.next()
                if self.clock.monotonic() + wait >= until:
                    raise error
            except ApiRefused as error:
                wait = backoff.next()
                if error.code != 429 or self.clock.monotonic() + wait >= until:
                    raise error
            await self.clock.sleep(wait)

    async def _authorized(self, asked: _Request, until: float) -> dict[str, Any]:
        token = await self._fresh(None, until)
        try:
            return await self._attempt(asked, token.value, until)
        except AuthRefused:
            # 401 is decided before anything is done, so even a write may be sent again, once, with the new token.
            token = await self._fresh(token, until)
            return await self._attempt(asked, token.value, until)

    async def _fresh(self, refused: tokens.Token | None, until: float) -> tokens.Token:
        """A token that is neither old nor the refused one; concurrent callers share one login."""
        self._keys.follow()
        token = self._current()
        now = self.clock.monotonic()
        if token is not None and token is not refused and now < token.renew_at:
            return token
        async with holding(self._login_lock, clock=self.clock):
            token = self._current()
            now = self.clock.monotonic()
            usable = token is not None and token is not refused and now < token.expires_at
            if token is not None and usable and now < token.renew_at:
                return token
            self._keys.follow(now=True)
            token = self._current()
            keys = self._keys.basic
            try:
                data = await self._attempt(_OWN_LOGIN, None, until)
            except (Unanswered, Unreachable):
                # The server is away; the old token may still do when it is back.
                if token is not None and usable:
                    return token
                raise
            found = tokens.read_login(data, at=self.clock.monotonic(), address=self.address)
            self._token, self._token_of = found, keys
            return found

    def _current(self) -> tokens.Token | None:
        """The token, if it is of the keys that are in use now."""
        return self._token if self._token_of == self._keys.basic else None

    async def _attempt(self, asked: _Request, bearer: str | None, until: float) -> dict[str, Any]:
        began = self.clock.monotonic()
        outcome: Outcome = "unanswered"
        try:
            with guarded_by(unguarded if asked.read else self._guard):
                data = await self._transport.post(
                    asked.endpoint,
                    asked.payload,
                    content=asked.content,
                    authorization=self._keys.basic if bearer is None else f"Bearer {bearer}",
                    seconds=min(until - began, READ_ATTEMPT_SECONDS if asked.read else self._max_request_seconds),
                    version=asked.version,
                    headers=asked.headers,
                )
        except Unreachable as error:
            outcome = "unreachable"
            self.health.failed(State.UNREACHABLE, str(error))
            raise
        except Refused as error:
            outcome = "refused"
            if isinstance(error, ApiRefused) and bearer is None:
                # Refused a login otherwise than for its credentials: no ClearML API server is at this address.
                away = State.UNAUTHORIZED if isinstance(error, AuthRefused) else State.UNREACHABLE
                self.health.failed(away, str(error))
            raise
        except ApiUnanswered as error:
            half_way = error.code is not None and not asked.read
            self.health.failed(State.HALF_WAY if half_way else State.UNREACHABLE, str(error))
            raise
        else:
            outcome = "answered"
            if bearer is not None:
                self.health.answered()
            return data
        finally:
            if self._metrics:
                seconds = self.clock.monotonic() - began
                self._metrics.called(api="clearml", endpoint=asked.endpoint, outcome=outcome, seconds=seconds)

    def _until(self, deadline: float | None) -> float:
        return self.clock.monotonic() + self._max_request_seconds if deadline is None else deadline

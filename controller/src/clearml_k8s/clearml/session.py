"""One connection pool, one login and one way to call the ClearML server.

Always POST: a GET is repeated by proxies and clients, and some actions of this API take things away. Writes are sent
once; only a 401, which comes before anything is done, leads to a new login and one repeat with the new header.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import Mapping
from random import Random
from types import TracebackType
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit
from urllib.request import getproxies_environment, proxy_bypass

import aiohttp

from clearml_k8s.backoff import Backoff
from clearml_k8s.clearml import token as tokens
from clearml_k8s.clearml.conf import Credentials
from clearml_k8s.clearml.health import ServerHealth, State
from clearml_k8s.clock import Clock
from clearml_k8s.config.address import API, address_problem
from clearml_k8s.errors import (
    MAX_REQUEST_SECONDS,
    ApiRefused,
    ApiUnanswered,
    AuthRefused,
    ConfigError,
    Forbidden,
    InvalidStatus,
    NotFound,
    NotSent,
    NotSupported,
    Refused,
    Unanswered,
    Unreachable,
)
from clearml_k8s.metrics import Metrics, Outcome

SERVICE: Final = "ClearML"
LOGIN: Final = "auth.login"
CONNECT_SECONDS: Final = 5.0
READ_ATTEMPT_SECONDS: Final = 10.0
MAX_CONNECTIONS: Final = 64

_NOT_FOUND: Final = frozenset({(400, 101), (400, 131), (400, 701)})


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
    ) -> None:
        self.clock = clock
        self._max_request_seconds = max_request_seconds
        self._base = _base(api_server)
        self._basic = "Basic " + base64.b64encode(f"{credentials.access_key}:{credentials.secret_key}".encode()).decode(
            "ascii"
        )
        self._proxy = _proxy(self._base)
        self._verify = verify_certificate
        self._metrics = metrics
        self._random = random or Random()
        self._http: aiohttp.ClientSession | None = None
        self._token: tokens.Token | None = None
        self._login_lock = asyncio.Lock()
        self.health = ServerHealth(clock=clock, probe=self.ping, random=self._random, metrics=metrics)

    async def __aenter__(self) -> Session:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; the session cannot be used afterwards."""
        if self._http is not None:
            await self._http.close()
            self._http = None

    @property
    def address(self) -> str:
        """The server's address as used, without credentials."""
        return self._base

    @property
    def info(self) -> tokens.ServerInfo | None:
        """What the last token said about the server and the user; None before the first login."""
        return self._token.info if self._token else None

    async def login(self, *, deadline: float | None = None) -> tokens.ServerInfo:
        """Log in unless a token is at hand; errors as `call`, wrong credentials are AuthRefused."""
        return (await self._fresh(None, self._until(deadline))).info

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
        payload = json.dumps(body or {}).encode()
        return await self._call(endpoint, payload, "application/json", deadline, read=read, version=version)

    async def send_lines(
        self, endpoint: str, lines: bytes, *, deadline: float | None = None, version: str | None = None
    ) -> dict[str, Any]:
        """POST JSON lines (a batch endpoint such as ``events.add_batch``); a write, with the endings of `call`."""
        return await self._call(endpoint, lines, "application/json-lines", deadline, read=False, version=version)

    # ---- one call ---------------------------------------------------------------------------------------------------

    async def _call(
        self, endpoint: str, payload: bytes, content: str, deadline: float | None, *, read: bool, version: str | None
    ) -> dict[str, Any]:
        until = self._until(deadline)
        if not read:
            return await self._authorized(
                endpoint, payload, content, min(until, self._until(None)), read=False, version=version
            )
        backoff = Backoff(first=0.25, cap=5.0, random=self._random)
        while True:
            try:
                return await self._authorized(endpoint, payload, content, until, read=True, version=version)
            except (Unanswered, Unreachable) as error:
                wait = backoff.next()
                if self.clock.monotonic() + wait >= until:
                    raise error
            except ApiRefused as error:
                wait = backoff.next()
                if error.code != 429 or self.clock.monotonic() + wait >= until:
                    raise error
            await self.clock.sleep(wait)

    async def _authorized(
        self, endpoint: str, payload: bytes, content: str, until: float, *, read: bool, version: str | None
    ) -> dict[str, Any]:
        token = await self._fresh(None, until)
        try:
            return await self._attempt(endpoint, payload, content, token.value, until, read=read, version=version)
        except AuthRefused:
            # 401 is decided before anything is done, so even a write may be sent again, once, with the new token.
            token = await self._fresh(token, until)
            return await self._attempt(endpoint, payload, content, token.value, until, read=read, version=version)

    async def _fresh(self, refused: tokens.Token | None, until: float) -> tokens.Token:
        """A token that is neither old nor the refused one; concurrent callers share one login."""
        token = self._token
        now = self.clock.monotonic()
        if token is not None and token is not refused and now < token.renew_at:
            return token
        async with self._login_lock:
            token = self._token
            now = self.clock.monotonic()
            usable = token is not None and token is not refused and now < token.expires_at
            if token is not None and usable and now < token.renew_at:
                return token
            try:
                data = await self._attempt(LOGIN, b"{}", "application/json", None, until, read=True, version=None)
            except (Unanswered, Unreachable):
                # The server is away; the old token may still do when it is back.
                if token is not None and usable:
                    return token
                raise
            value = data.get("token")
            if not isinstance(value, str) or not value:
                raise ApiUnanswered(LOGIN, f"the answer of {self._base} holds no token")
            self._token = tokens.read(value, at=self.clock.monotonic())
            return self._token

    async def _attempt(
        self,
        endpoint: str,
        payload: bytes,
        content: str,
        bearer: str | None,
        until: float,
        *,
        read: bool,
        version: str | None,
    ) -> dict[str, Any]:
        began = self.clock.monotonic()
        outcome: Outcome = "unanswered"
        try:
            data = await self._post(endpoint, payload, content, bearer, until, read=read, version=version)
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
            half_way = error.code is not None and not read
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
                self._metrics.called(api="clearml", endpoint=endpoint, outcome=outcome, seconds=seconds)

    async def _post(
        self,
        endpoint: str,
        payload: bytes,
        content: str,
        bearer: str | None,
        until: float,
        *,
        read: bool,
        version: str | None,
    ) -> dict[str, Any]:
        seconds = min(until - self.clock.monotonic(), READ_ATTEMPT_SECONDS if read else self._max_request_seconds)
        if seconds <= 0:
            raise NotSent(f"{endpoint}: the deadline had passed before the request was sent")
        path = f"/v{version}/{endpoint}" if version else f"/{endpoint}"
        headers = {
            "Authorization": self._basic if bearer is None else f"Bearer {bearer}",
            "Content-Type": content,
            "Accept": "application/json",
        }
        # Only the connection's own limit tells that nothing was sent, so it must come before the request's.
        limit = aiohttp.ClientTimeout(total=None, connect=min(CONNECT_SECONDS, seconds * 0.8))
        try:
            async with (
                self.clock.timeout(seconds),
                self._pool().post(
                    self._base + path,
                    data=payload,
                    headers=headers,
                    timeout=limit,
                    allow_redirects=False,
                    proxy=self._proxy,
                ) as reply,
            ):
                text = await reply.read()
                status, kind = reply.status, reply.content_type
                target = reply.headers.get("Location", "")
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.ClientHttpProxyError) as error:
            raise Unreachable(SERVICE, self._base, _why(error)) from error
        except aiohttp.InvalidURL as error:
            raise Unreachable(SERVICE, self._base, "the address is not a URL") from error
        except TimeoutError as error:
            raise ApiUnanswered(endpoint, f"no answer within {seconds:.0f} s") from error
        except aiohttp.ClientError as error:
            raise ApiUnanswered(endpoint, f"the connection was lost: {_why(error)}") from error
        return _data(endpoint, status, kind, text, target, address=self._base)

    # ---- helpers ----------------------------------------------------------------------------------------------------

    def _until(self, deadline: float | None) -> float:
        return self.clock.monotonic() + self._max_request_seconds if deadline is None else deadline

    def _pool(self) -> aiohttp.ClientSession:
        if self._http is None:
            connector = aiohttp.TCPConnector(limit=MAX_CONNECTIONS, ssl=self._tls())
            self._http = aiohttp.ClientSession(
                connector=connector, trust_env=False, cookie_jar=aiohttp.DummyCookieJar(), raise_for_status=False
            )
        return self._http

    def _tls(self) -> ssl.SSLContext | bool:
        if isinstance(self._verify, bool):
            return self._verify
        try:
            return ssl.create_default_context(cafile=self._verify)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"the CA bundle {self._verify!r} cannot be read: {error}") from error


def _base(api_server: str) -> str:
    text = api_server.strip().rstrip("/")
    problem = address_problem(text, kind=API)
    if problem:
        raise ConfigError(f"clearml.apiServer: {problem}")
    return text


def _proxy(address: str) -> str | None:
    """The environment's proxy for the address (HTTPS_PROXY, HTTP_PROXY, NO_PROXY), looked up once; None: no proxy.

    The ClearML server is often outside the cluster. aiohttp's own look-up costs a thread and 0.5 ms with every request.
    """
    parts = urlsplit(address)
    proxy = getproxies_environment().get(parts.scheme)
    if not proxy or proxy_bypass(parts.netloc):
        return None
    found = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    if not found.hostname:
        raise ConfigError(f"the environment's {parts.scheme}_proxy is not a URL: write http://host:port")
    return urlunsplit((found.scheme, found.netloc, found.path, "", ""))


def _why(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _data(endpoint: str, status: int, kind: str, text: bytes, target: str, *, address: str) -> dict[str, Any]:
    """``data`` of an answer, or the error that it is."""
    try:
        answer = json.loads(text)
    except ValueError:
        answer = None
    meta = answer.get("meta") if isinstance(answer, dict) else None
    if isinstance(answer, dict) and isinstance(meta, dict):
        code = _number(meta.get("result_code"), status) if status < 300 else status
        subcode = _number(meta.get("result_subcode"), 0)
        message = str(meta.get("result_msg") or "no message")
        if code < 300:
            data = answer.get("data")
            return data if isinstance(data, dict) else {}
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


def _number(value: object, default: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else default

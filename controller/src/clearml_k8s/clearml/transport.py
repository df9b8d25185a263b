"""One POST to the ClearML API server: address, proxy, TLS, connections, and how it ends."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit
from urllib.request import getproxies_environment, proxy_bypass

import aiohttp

from clearml_k8s.clearml.answer import data_of
from clearml_k8s.clock import Clock
from clearml_k8s.config.address import API, address_problem
from clearml_k8s.errors import ApiUnanswered, ConfigError, NotSent, Unreachable
from clearml_k8s.guarded import GuardedRequest

SERVICE: Final = "ClearML"
CONNECT_SECONDS: Final = 5.0
MAX_CONNECTIONS: Final = 64


class Transport:
    """The connections to one server; opened with the first request. `close` it."""

    def __init__(self, *, api_server: str, clock: Clock, verify_certificate: bool | str) -> None:
        """``verify_certificate``: a bool, or the path of a CA bundle. ConfigError for an address that cannot work."""
        self._clock = clock
        self.address = _base(api_server)
        self._proxy = _proxy(self.address)
        self._verify = verify_certificate
        self._http: aiohttp.ClientSession | None = None
        self._closed = False

    async def close(self) -> None:
        """Close the connections; nothing can be sent afterwards."""
        self._closed = True
        if self._http is not None:
            await self._http.close()

    async def post(
        self,
        endpoint: str,
        payload: bytes,
        *,
        content: str,
        authorization: str,
        seconds: float,
        version: str | None,
        headers: Mapping[str, str],
    ) -> dict[str, Any]:
        """Send it once, and return ``data`` of the answer; ``seconds``: for all of it, none are left at 0 or below;
        ``headers``: others than those of every request.

        Raises ApiRefused and its kinds, Unreachable, NotSent, or ApiUnanswered.
        """
        if self._closed:
            raise NotSent(f"{endpoint}: the connections are closed")
        if seconds <= 0:
            raise NotSent(f"{endpoint}: the deadline had passed before the request was sent")
        path = f"/v{version}/{endpoint}" if version else f"/{endpoint}"
        sent = {**headers, "Authorization": authorization, "Content-Type": content, "Accept": "application/json"}
        # Only the connection's own limit tells that nothing was sent, so it must come before the request's.
        limit = aiohttp.ClientTimeout(total=None, connect=min(CONNECT_SECONDS, seconds * 0.8))
        try:
            async with (
                self._clock.timeout(seconds),
                self._pool().post(
                    self.address + path,
                    data=payload,
                    headers=sent,
                    timeout=limit,
                    allow_redirects=False,
                    proxy=self._proxy,
                ) as reply,
            ):
                text = await reply.read()
                status, kind = reply.status, reply.content_type
                target = reply.headers.get("Location", "")
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.ClientHttpProxyError) as error:
            raise Unreachable(SERVICE, self.address, _why(error)) from error
        except aiohttp.InvalidURL as error:
            raise Unreachable(SERVICE, self.address, "the address is not a URL") from error
        except TimeoutError as error:
            raise ApiUnanswered(endpoint, f"no answer within {seconds:.0f} s") from error
        except aiohttp.ClientError as error:
            raise ApiUnanswered(endpoint, f"the connection was lost: {_why(error)}") from error
        return data_of(endpoint, status=status, kind=kind, text=text, target=target, address=self.address)

    def _pool(self) -> aiohttp.ClientSession:
        if self._http is None:
            connector = aiohttp.TCPConnector(limit=MAX_CONNECTIONS, ssl=self._tls())
            self._http = aiohttp.ClientSession(
                connector=connector,
                request_class=GuardedRequest,
                trust_env=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                raise_for_status=False,
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

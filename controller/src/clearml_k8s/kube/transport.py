"""One request to the Kubernetes API: the official client's TLS and connections, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio import config as kube_config
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.client.rest import RESTClientObject

from clearml_k8s.clock import Clock
from clearml_k8s.errors import ConfigError, KubeUnanswered, KubeUnauthorized, NotSent, Unreachable, trimmed
from clearml_k8s.guarded import GuardedRequest
from clearml_k8s.kube import status as statuses
from clearml_k8s.kube.configuration import Reload
from clearml_k8s.wire import parse_json

SERVICE: Final = "Kubernetes"
JSON: Final = "application/json"
CONNECT_SECONDS: Final = 5.0
REFUSAL_SECONDS: Final = 10.0

Params = Mapping[str, str | int | bool]


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What is sent; ``body`` is None or what becomes JSON."""

    method: str
    path: str
    body: object = None
    params: Params = field(default_factory=dict)
    content_type: str = JSON

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class Transport:
    """The connections to one API server; `close` it."""

    def __init__(self, *, configuration: Configuration, clock: Clock, reload: Reload | None) -> None:
        # The environment's proxy variables know no address ranges, so 10.96.0.1 would go to the proxy.
        configuration.client_session_kwargs = {
            **(configuration.client_session_kwargs or {}),
            "trust_env": False,
            "cookie_jar": aiohttp.DummyCookieJar(),
            "request_class": GuardedRequest,
        }
        self._clock = clock
        self._configuration = configuration
        self._reload = reload
        self._reload_lock = asyncio.Lock()
        self._closed = False
        try:
            self._rest = RESTClientObject(configuration)
        except OSError as error:
            raise ConfigError(f"the certificates for the Kubernetes API cannot be read: {error}") from error

    async def close(self) -> None:
        """Close the connections; nothing can be sent afterwards."""
        self._closed = True
        await self._rest.close()

    @property
    def address(self) -> str:
        """The API server's URL."""
        return str(self._configuration.host).rstrip("/")

    async def answer(self, request: Request, *, until: float, at_most: float) -> dict[str, Any]:
        """The JSON object of a 2xx answer; sent once, after a 401 once more with credentials that were read again.

        ``until`` is a time on the clock, ``at_most`` seconds for one sending. Raises KubeRefused and its kinds,
        Unreachable, NotSent, or KubeUnanswered.
        """
        for again in (True, False):
            seconds = min(until - self._clock.monotonic(), at_most)
            token = self._configuration.api_key.get("BearerToken")
            try:
                async with self._clock.timeout(seconds):
                    reply = await self._send(request, seconds)
                    async with reply:
                        if reply.status >= 300:
                            raise await self._refusal(request, reply)
                        text = await reply.read()
            except KubeUnauthorized:
                # 401 is decided before anything is done: read the credentials again, then once more.
                if not (again and await self._reloaded(token)):
                    raise
                continue
            except TimeoutError as error:
                raise KubeUnanswered(str(request), f"no answer within {seconds:.0f} s") from error
            except aiohttp.ClientError as error:
                raise KubeUnanswered(str(request), f"the connection was lost: {_why(error)}") from error
            try:
                answer = parse_json(text)
            except ValueError:
                answer = None
            if not isinstance(answer, dict):
                raise KubeUnanswered(str(request), "the answer is not a JSON object")
            return answer
        raise AssertionError("unreachable")

    @asynccontextmanager
    async def stream(self, request: Request, *, seconds: float) -> AsyncIterator[AsyncIterator[bytes]]:
        """The chunks of an answer that does not end, as they come; ``seconds`` for its opening.

        Raises as `answer`; a connection lost later ends the iteration with KubeUnanswered.
        """
        reply = await self._send(request, seconds)
        try:
            if reply.status == 401:
                # For the next try; this one is over.
                await self._reloaded(self._configuration.api_key.get("BearerToken"))
            if reply.status >= 300:
                raise await self._refusal(request, reply)
            yield _chunks(request, reply)
        finally:
            # Not released for reuse: the rest of the body is not wanted.
            reply.close()

    async def _send(self, request: Request, seconds: float) -> aiohttp.ClientResponse:
        """The answer's head; its body is still to be read. Raises as `answer`, and TimeoutError from the context."""
        if self._closed:
            raise NotSent(f"{request}: the connections are closed")
        if seconds <= 0:
            raise NotSent(f"{request}: the deadline had passed before the request was sent")
        headers = {"Accept": JSON, "Content-Type": request.content_type, "User-Agent": "clearml-k8s"}
        given = {key: _param(value) for key, value in request.params.items()}
        url = self.address + request.path + (f"?{urlencode(given)}" if given else "")
        # Only the connection's own limit tells that nothing was sent, so it must come before the request's.
        limit = aiohttp.ClientTimeout(total=None, connect=min(CONNECT_SECONDS, seconds * 0.8))
        try:
            async with self._clock.timeout(seconds):
                bearer = await self._configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
                if bearer:
                    headers["Authorization"] = bearer
                wrapped = await self._rest.request(
                    request.method, url, headers=headers, body=request.body, _request_timeout=limit
                )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.ClientHttpProxyError) as error:
            raise Unreachable(SERVICE, self.address, _why(error)) from error
        except aiohttp.InvalidURL as error:
            raise Unreachable(SERVICE, self.address, "the address is not a URL") from error
        except kube_config.ConfigException as error:
            raise NotSent(f"{request}: the service account's token cannot be read: {trimmed(str(error))}") from error
        except TimeoutError as error:
            raise KubeUnanswered(str(request), f"no answer within {seconds:.0f} s") from error
        except aiohttp.ClientError as error:
            raise KubeUnanswered(str(request), f"the connection was lost: {_why(error)}") from error
        response: aiohttp.ClientResponse = wrapped.response
        return response

    async def _refusal(self, request: Request, reply: aiohttp.ClientResponse) -> Exception:
        try:
            async with self._clock.timeout(REFUSAL_SECONDS):
                text = await reply.read()
        except (aiohttp.ClientError, TimeoutError):
            # The status alone says how it ended.
            text = b""
        return statuses.error(
            str(request),
            code=reply.status,
            status=statuses.parse(text),
            http_reason=reply.reason or "",
            retry_after=reply.headers.get("Retry-After"),
        )

    async def _reloaded(self, refused: str | None) -> bool:
        """Read the credentials again; True when there is a reason to try once more."""
        if self._reload is None:
            return False
        async with self._reload_lock:
            if self._configuration.api_key.get("BearerToken") == refused:
                try:
                    await self._reload(self._configuration)
                except ConfigError:
                    # The refusal itself says more.
                    return False
            return True


async def _chunks(request: Request, reply: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    try:
        async for chunk in reply.content.iter_any():
            yield chunk
    except (aiohttp.ClientError, TimeoutError) as error:
        raise KubeUnanswered(str(request), f"the connection was lost: {_why(error)}") from error


def _param(value: str | int | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _why(error: BaseException) -> str:
    return str(error) or type(error).__name__

"""Requests to the Kubernetes API: raw dictionaries over the official client's configuration, TLS and pool.

The client's models are not used: they refuse fields they do not know and cost several times the request.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, Final, Literal
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio import config as kube_config
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.client.rest import RESTClientObject

from clearml_k8s.backoff import Backoff
from clearml_k8s.clock import Clock
from clearml_k8s.errors import (
    MAX_REQUEST_SECONDS,
    ConfigError,
    KubeNotFound,
    KubeThrottled,
    KubeUnanswered,
    KubeUnauthorized,
    NotSent,
    Refused,
    Unreachable,
    trimmed,
)
from clearml_k8s.kube import status as statuses
from clearml_k8s.kube.resources import Resource
from clearml_k8s.metrics import Metrics, Outcome

SERVICE: Final = "Kubernetes"
JSON: Final = "application/json"
MERGE_PATCH: Final = "application/merge-patch+json"
JSON_PATCH: Final = "application/json-patch+json"
CONNECT_SECONDS: Final = 5.0
READ_ATTEMPT_SECONDS: Final = 10.0
PAGE_SIZE: Final = 500

Params = Mapping[str, str | int | bool]
Reload = Callable[[Configuration], Awaitable[None]]

_NAMESPACE_FILE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class KubeClient:
    """One connection pool to one API server; use it as an async context manager, or `close` it."""

    def __init__(
        self,
        *,
        configuration: Configuration,
        clock: Clock,
        namespace: str = "default",
        reload: Reload | None = None,
        metrics: Metrics | None = None,
        random: Random | None = None,
        max_request_seconds: float = MAX_REQUEST_SECONDS,
    ) -> None:
        """``configuration`` as the official client makes it; ``reload`` reads the credentials again after a 401."""
        # The environment's proxy variables know no address ranges, so 10.96.0.1 would go to the proxy.
        configuration.client_session_kwargs = {
            **(configuration.client_session_kwargs or {}),
            "trust_env": False,
            "cookie_jar": aiohttp.DummyCookieJar(),
        }
        self.clock = clock
        self.max_request_seconds = max_request_seconds
        self.random = random or Random()
        self.metrics = metrics
        self.namespace = namespace
        self._configuration = configuration
        self._reload = reload
        self._reload_lock = asyncio.Lock()
        try:
            self._rest = RESTClientObject(configuration)
        except OSError as error:
            raise ConfigError(f"the certificates for the Kubernetes API cannot be read: {error}") from error

    @classmethod
    async def connect(
        cls,
        *,
        clock: Clock,
        kubeconfig: str | None = None,
        context: str | None = None,
        metrics: Metrics | None = None,
        random: Random | None = None,
        max_request_seconds: float = MAX_REQUEST_SECONDS,
    ) -> KubeClient:
        """The client for the pod's service account, or for a kubeconfig when one is named or no service account is.

        ``client.namespace`` is then the service account's or the context's. ConfigError says what cannot be read.
        """
        configuration = Configuration()
        if kubeconfig is None and context is None and _NAMESPACE_FILE.is_file():
            await _load_in_cluster(configuration)
            namespace = _NAMESPACE_FILE.read_text(encoding="utf-8").strip()
            reload: Reload = _load_in_cluster
        else:
            namespace = await _load_kubeconfig(configuration, kubeconfig, context)

            async def reload(configuration: Configuration) -> None:
                await _load_kubeconfig(configuration, kubeconfig, context)

        return cls(
            configuration=configuration,
            clock=clock,
            namespace=namespace or "default",
            reload=reload,
            metrics=metrics,
            random=random,
            max_request_seconds=max_request_seconds,
        )

    async def __aenter__(self) -> KubeClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; the client cannot be used afterwards."""
        await self._rest.close()

    @property
    def address(self) -> str:
        """The API server's URL."""
        return str(self._configuration.host).rstrip("/")

    # ---- any request ------------------------------------------------------------------------------------------------

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        params: Params | None = None,
        content_type: str = JSON,
        deadline: float | None = None,
        read: bool | None = None,
    ) -> dict[str, Any]:
        """Send one request and return the JSON object of a 2xx answer.

        ``deadline`` is a time on ``clock.monotonic()``, by default ``max_request_seconds`` from now; a write never
        lasts longer and is sent once (after a 401 once more). A read (GET by default) is repeated after doubt, lost
        connections and 429, honouring Retry-After, until the deadline.

        Raises `Refused` (KubeRefused and its kinds, Unreachable, NotSent) or `Unanswered` (KubeUnanswered).
        """
        until = self._until(deadline)
        if not (method == "GET" if read is None else read):
            return await self._attempt(method, path, body, params, content_type, min(until, self._until(None)), None)
        backoff = Backoff(first=0.25, cap=5.0, random=self.random)
        while True:
            try:
                return await self._attempt(method, path, body, params, content_type, until, READ_ATTEMPT_SECONDS)
            except (KubeUnanswered, KubeThrottled) as error:
                # The wait asked for is the least; the jitter on top keeps the callers apart.
                wait = backoff.next() + (error.retry_after or 0.0)
                if self.clock.monotonic() + wait >= until:
                    raise error
            except Unreachable as error:
                wait = backoff.next()
                if self.clock.monotonic() + wait >= until:
                    raise error
            await self.clock.sleep(wait)

    @asynccontextmanager
    async def stream(self, path: str, *, params: Params | None = None) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a GET whose answer does not end (a watch): gives the body's chunks as they come.

        The opening has the endings of `request`, within ``max_request_seconds``, not repeated. A connection lost later
        ends the iteration with KubeUnanswered. Who reads must limit the silence between chunks.
        """
        call = f"GET {path}"
        reply = await self._send("GET", path, None, params, JSON, self._until(None), None)
        try:
            if reply.status == 401:
                # For the next try; this one is over.
                await self._reloaded(self._configuration.api_key.get("BearerToken"))
            if reply.status >= 300:
                raise await self._refusal(call, reply)
            yield _chunks(call, reply)
        finally:
            # Not released for reuse: the rest of the body is not wanted.
            reply.close()

    # ---- by resource ------------------------------------------------------------------------------------------------

    async def create(
        self,
        resource: Resource,
        body: Mapping[str, Any],
        *,
        namespace: str | None = None,
        dry_run: bool = False,
        strict: bool = False,
        deadline: float | None = None,
    ) -> dict[str, Any]:
        """Create an object. ``dry_run``: check only, nothing stays; ``strict``: unknown fields are refused."""
        params: dict[str, str] = {}
        if dry_run:
            params["dryRun"] = "All"
        if strict:
            params["fieldValidation"] = "Strict"
        path = resource.path(namespace=namespace)
        return await self.request("POST", path, body=body, params=params, deadline=deadline)

    async def get(
        self, resource: Resource, name: str, *, namespace: str | None = None, deadline: float | None = None
    ) -> dict[str, Any]:
        """Read an object; KubeNotFound when there is none."""
        return await self.request("GET", resource.path(namespace=namespace, name=name), deadline=deadline)

    async def find(
        self, resource: Resource, name: str, *, namespace: str | None = None, deadline: float | None = None
    ) -> dict[str, Any] | None:
        """Read an object; None only when the API server says that there is none."""
        try:
            return await self.get(resource, name, namespace=namespace, deadline=deadline)
        except KubeNotFound:
            return None

    async def list_pages(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        resource_version: str | None = None,
        limit: int = PAGE_SIZE,
    ) -> AsyncIterator[dict[str, Any]]:
        """The pages of a list, each a List object; KubeExpired when it took too long: begin again."""
        params: dict[str, str | int | bool] = {"limit": limit}
        if label_selector:
            params["labelSelector"] = label_selector
        if field_selector:
            params["fieldSelector"] = field_selector
        if resource_version is not None:
            params["resourceVersion"] = resource_version
        while True:
            page = await self.request("GET", resource.path(namespace=namespace), params=params)
            if not isinstance(page.get("items"), list):
                # Not an empty list: what is missing from a list is taken for deleted.
                raise KubeUnanswered(f"list {resource.plural}", "the answer holds no list of items")
            yield page
            token = (page.get("metadata") or {}).get("continue")
            if not token:
                return
            params.pop("resourceVersion", None)
            params["continue"] = str(token)

    async def patch(
        self,
        resource: Resource,
        name: str,
        body: Mapping[str, Any] | list[dict[str, Any]],
        *,
        namespace: str | None = None,
        subresource: str | None = None,
        deadline: float | None = None,
    ) -> dict[str, Any]:
        """Patch an object: a mapping is a merge patch, a list a JSON patch.

        With ``metadata.resourceVersion`` (or a ``test`` operation) in it, KubeConflict when the object was changed.
        """
        kind = JSON_PATCH if isinstance(body, list) else MERGE_PATCH
        path = resource.path(namespace=namespace, name=name, subresource=subresource)
        return await self.request("PATCH", path, body=body, content_type=kind, deadline=deadline)

    async def delete(
        self,
        resource: Resource,
        name: str,
        *,
        uid: str,
        namespace: str | None = None,
        resource_version: str | None = None,
        grace_seconds: int | None = None,
        propagation: Literal["Background", "Foreground", "Orphan"] = "Background",
        deadline: float | None = None,
    ) -> bool:
        """Delete the object of this ``uid`` and what it owns; False when it is gone already.

        KubeConflict when another object has the name now, or when ``resource_version`` is given and it was changed.
        The HTTP library may send it twice when the reply is lost, which the ``uid`` makes harmless.
        """
        preconditions = {"uid": uid}
        if resource_version is not None:
            preconditions["resourceVersion"] = resource_version
        body: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": propagation,
            "preconditions": preconditions,
        }
        if grace_seconds is not None:
            body["gracePeriodSeconds"] = grace_seconds
        try:
            await self.request("DELETE", resource.path(namespace=namespace, name=name), body=body, deadline=deadline)
        except KubeNotFound:
            return False
        return True

    # ---- one request ------------------------------------------------------------------------------------------------

    async def _attempt(
        self,
        method: str,
        path: str,
        body: object,
        params: Params | None,
        content_type: str,
        until: float,
        at_most: float | None,
    ) -> dict[str, Any]:
        call = f"{method} {path}"
        began = self.clock.monotonic()
        outcome: Outcome = "unanswered"
        try:
            answer = await self._answer(call, method, path, body, params, content_type, until, at_most)
            outcome = "answered"
            return answer
        except Unreachable:
            outcome = "unreachable"
            raise
        except Refused:
            outcome = "refused"
            raise
        finally:
            if self.metrics:
                seconds = self.clock.monotonic() - began
                label = _label(method, path)
                self.metrics.called(api="kubernetes", endpoint=label, outcome=outcome, seconds=seconds)

    async def _answer(
        self,
        call: str,
        method: str,
        path: str,
        body: object,
        params: Params | None,
        content_type: str,
        until: float,
        at_most: float | None,
    ) -> dict[str, Any]:
        for again in (True, False):
            seconds = min(until - self.clock.monotonic(), at_most or self.max_request_seconds)
            token = self._configuration.api_key.get("BearerToken")
            try:
                async with self.clock.timeout(seconds):
                    reply = await self._send(method, path, body, params, content_type, until, at_most)
                    async with reply:
                        if reply.status >= 300:
                            raise await self._refusal(call, reply)
                        text = await reply.read()
            except KubeUnauthorized:
                # 401 is decided before anything is done: read the credentials again, then once more.
                if not (again and await self._reloaded(token)):
                    raise
                continue
            except TimeoutError as error:
                raise KubeUnanswered(call, f"no answer within {seconds:.0f} s") from error
            except aiohttp.ClientError as error:
                raise KubeUnanswered(call, f"the connection was lost: {_why(error)}") from error
            try:
                answer = json.loads(text)
            except ValueError:
                answer = None
            if not isinstance(answer, dict):
                raise KubeUnanswered(call, "the answer is not a JSON object")
            return answer
        raise AssertionError("unreachable")

    async def _send(
        self,
        method: str,
        path: str,
        body: object,
        params: Params | None,
        content_type: str,
        until: float,
        at_most: float | None,
    ) -> aiohttp.ClientResponse:
        """The answer's head; its body is still to be read. Raises as `_answer`, and TimeoutError from the context."""
        call = f"{method} {path}"
        seconds = min(until - self.clock.monotonic(), at_most or self.max_request_seconds)
        if seconds <= 0:
            raise NotSent(f"{call}: the deadline had passed before the request was sent")
        headers = {"Accept": JSON, "Content-Type": content_type, "User-Agent": "clearml-k8s"}
        query = f"?{urlencode({key: _param(value) for key, value in params.items()})}" if params else ""
        # Only the connection's own limit tells that nothing was sent, so it must come before the request's.
        limit = aiohttp.ClientTimeout(total=None, connect=min(CONNECT_SECONDS, seconds * 0.8))
        try:
            async with self.clock.timeout(seconds):
                bearer = await self._configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
                if bearer:
                    headers["Authorization"] = bearer
                wrapped = await self._rest.request(
                    method, self.address + path + query, headers=headers, body=body, _request_timeout=limit
                )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.ClientHttpProxyError) as error:
            raise Unreachable(SERVICE, self.address, _why(error)) from error
        except aiohttp.InvalidURL as error:
            raise Unreachable(SERVICE, self.address, "the address is not a URL") from error
        except kube_config.ConfigException as error:
            raise NotSent(f"{call}: the service account's token cannot be read: {trimmed(str(error))}") from error
        except TimeoutError as error:
            raise KubeUnanswered(call, f"no answer within {seconds:.0f} s") from error
        except aiohttp.ClientError as error:
            raise KubeUnanswered(call, f"the connection was lost: {_why(error)}") from error
        response: aiohttp.ClientResponse = wrapped.response
        return response

    async def _refusal(self, call: str, reply: aiohttp.ClientResponse) -> Exception:
        try:
            async with self.clock.timeout(READ_ATTEMPT_SECONDS):
                text = await reply.read()
        except (aiohttp.ClientError, TimeoutError):
            # The status alone says how it ended.
            text = b""
        return statuses.error(
            call,
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

    def _until(self, deadline: float | None) -> float:
        return self.clock.monotonic() + self.max_request_seconds if deadline is None else deadline


async def _chunks(call: str, reply: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    try:
        async for chunk in reply.content.iter_any():
            yield chunk
    except (aiohttp.ClientError, TimeoutError) as error:
        raise KubeUnanswered(call, f"the connection was lost: {_why(error)}") from error


async def _load_in_cluster(configuration: Configuration) -> None:
    try:
        kube_config.load_incluster_config(client_configuration=configuration)
    except (kube_config.ConfigException, OSError) as error:
        raise ConfigError(f"the pod's service account cannot be used: {trimmed(str(error))}") from error


async def _load_kubeconfig(configuration: Configuration, kubeconfig: str | None, context: str | None) -> str:
    """Load the kubeconfig into ``configuration`` and return the context's namespace."""
    try:
        loader = await kube_config.load_kube_config(
            config_file=kubeconfig, context=context, client_configuration=configuration, persist_config=False
        )
        namespace = loader.current_context["context"].get("namespace")
    except Exception as error:  # the loader raises its own, YAML's and built-in errors
        where = kubeconfig or "the kubeconfig (KUBECONFIG or ~/.kube/config)"
        raise ConfigError(f"{where} cannot be used: {trimmed(str(error))}") from error
    return str(namespace or "default")


def _label(method: str, path: str) -> str:
    """Method and resource, without names: "POST jobs"."""
    parts = path.strip("/").split("/")
    parts = parts[3:] if parts[0] == "apis" else parts[2:]
    if parts[:1] == ["namespaces"] and len(parts) > 2:
        parts = parts[2:]
    return f"{method} {parts[0]}" if parts else method


def _param(value: str | int | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _why(error: BaseException) -> str:
    return str(error) or type(error).__name__

"""Requests to the Kubernetes API: raw dictionaries over the official client's configuration, TLS and pool.

The client's models are not used: they refuse fields they do not know and cost several times the request.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from random import Random
from types import TracebackType
from typing import Any, Final, Literal

from kubernetes.aio.client.configuration import Configuration

from clearml_k8s.backoff import Backoff
from clearml_k8s.clock import Clock
from clearml_k8s.errors import (
    MAX_REQUEST_SECONDS,
    KubeNotFound,
    KubeThrottled,
    KubeUnanswered,
    Refused,
    Unreachable,
)
from clearml_k8s.guarded import Guard, guarded_by, unguarded
from clearml_k8s.kube.configuration import Reload, load
from clearml_k8s.kube.resources import Resource
from clearml_k8s.kube.transport import JSON, Params, Request, Transport
from clearml_k8s.metrics import Metrics, Outcome
from clearml_k8s.wire import got

MERGE_PATCH: Final = "application/merge-patch+json"
JSON_PATCH: Final = "application/json-patch+json"
READ_ATTEMPT_SECONDS: Final = 10.0
PAGE_SIZE: Final = 500


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
        guard: Guard = unguarded,
    ) -> None:
        """``configuration`` as the official client makes it; ``reload`` reads the credentials again after a 401.

        ``guard`` is asked before each write is sent (see `guarded_by`).
        """
        self.clock = clock
        self._guard = guard
        self.max_request_seconds = max_request_seconds
        self.random = random or Random()
        self.metrics = metrics
        self.namespace = namespace
        self._transport = Transport(configuration=configuration, clock=clock, reload=reload)

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
        guard: Guard = unguarded,
    ) -> KubeClient:
        """The client for the pod's service account, or for a kubeconfig when one is named or no service account is.

        ``client.namespace`` is then the service account's or the context's. ConfigError says what cannot be read.
        """
        loaded = await load(kubeconfig=kubeconfig, context=context)
        return cls(
            configuration=loaded.configuration,
            clock=clock,
            namespace=loaded.namespace,
            reload=loaded.reload,
            metrics=metrics,
            random=random,
            max_request_seconds=max_request_seconds,
            guard=guard,
        )

    async def __aenter__(self) -> KubeClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; the client cannot be used afterwards."""
        await self._transport.close()

    @property
    def address(self) -> str:
        """The API server's URL."""
        return self._transport.address

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
        sent = Request(method=method, path=path, body=body, params=params or {}, content_type=content_type)
        if not (method == "GET" if read is None else read):
            return await self._attempt(
                sent, until=min(until, self._until(None)), at_most=self.max_request_seconds, guard=self._guard
            )
        backoff = Backoff(first=0.25, cap=5.0, random=self.random)
        while True:
            try:
                return await self._attempt(sent, until=until, at_most=READ_ATTEMPT_SECONDS)
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

    def stream(self, path: str, *, params: Params | None = None) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open a GET whose answer does not end (a watch): gives the body's chunks as they come.

        The opening has the endings of `request`, within ``max_request_seconds``, not repeated. A connection lost later
        ends the iteration with KubeUnanswered. Who reads must limit the silence between chunks.
        """
        opening = Request(method="GET", path=path, params=params or {})
        return self._transport.stream(opening, seconds=self.max_request_seconds)

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
            meta = page.get("metadata") or {}
            token = meta.get("continue") or "" if isinstance(meta, Mapping) else None
            if not isinstance(token, str):
                raise KubeUnanswered(
                    f"list {resource.plural}", f"metadata.continue: {got(token, expected='text')}: the list has no end"
                )
            if not token:
                return
            params.pop("resourceVersion", None)
            params["continue"] = token

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
        self, request: Request, *, until: float, at_most: float, guard: Guard = unguarded
    ) -> dict[str, Any]:
        began = self.clock.monotonic()
        outcome: Outcome = "unanswered"
        try:
            with guarded_by(guard):
                answer = await self._transport.answer(request, until=until, at_most=at_most)
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
                label = _label(request.method, request.path)
                self.metrics.called(api="kubernetes", endpoint=label, outcome=outcome, seconds=seconds)

    def _until(self, deadline: float | None) -> float:
        return self.clock.monotonic() + self.max_request_seconds if deadline is None else deadline


def _label(method: str, path: str) -> str:
    """Method and resource, without names: "POST jobs"."""
    parts = path.strip("/").split("/")
    parts = parts[3:] if parts[0] == "apis" else parts[2:]
    if parts[:1] == ["namespaces"] and len(parts) > 2:
        parts = parts[2:]
    return f"{method} {parts[0]}" if parts else method

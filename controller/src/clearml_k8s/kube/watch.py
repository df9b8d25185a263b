"""List, then watch, for ever: what stands in the cluster, as a stream of events.

The rules, each against something seen: bookmarks are asked for, and 70 s without any byte mean a dead connection; the
server ends a watch after a random 300 to 600 s; a version that is too old (410) leads to a new paged list; every other
end to a new watch from the last version, with full-jitter waits from 0.5 to 30 s, so that nothing ever spins.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from clearml_k8s.backoff import Backoff
from clearml_k8s.errors import (
    KubeExpired,
    KubeForbidden,
    KubeNotFound,
    KubeRefused,
    KubeUnanswered,
    Refused,
    Unanswered,
    trimmed,
)
from clearml_k8s.kube import status as statuses
from clearml_k8s.kube.client import PAGE_SIZE, KubeClient
from clearml_k8s.kube.resources import Resource
from clearml_k8s.logs import kv
from clearml_k8s.wire import parse_json

SILENCE_SECONDS: Final = 70.0
WATCH_SECONDS: Final = (300, 600)
# A stream that lived shorter than this counts as a failure for the wait before the next.
SOUND_SECONDS: Final = 5.0

T = TypeVar("T")
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed(Generic[T]):
    """Everything that existed at ``version``, the list's resourceVersion: what is not in it was gone, or came later."""

    items: tuple[T, ...]
    version: str = field(default="", compare=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Upsert(Generic[T]):
    """This was added or changed."""

    item: T


@dataclass(frozen=True, kw_only=True, slots=True)
class Gone(Generic[T]):
    """This was deleted; ``item`` is its last state."""

    item: T


Event = Listed[T] | Upsert[T] | Gone[T]


class Watch(Generic[T]):
    """Watches one resource; ``slim`` makes the record to keep from the API's object, at the door."""

    def __init__(
        self,
        *,
        client: KubeClient,
        resource: Resource,
        slim: Callable[[Mapping[str, Any]], T],
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        page_size: int = PAGE_SIZE,
        permission: str = "",
    ) -> None:
        """``page_size``: objects that are held whole at a time; ``permission``: what gives it where it is missing."""
        self._client = client
        self._clock = client.clock
        self._resource = resource
        self._slim = slim
        self._namespace = namespace
        self._label_selector = label_selector
        self._field_selector = field_selector
        self._page_size = page_size
        self._permission = permission
        self._forbidden = ""
        self._told = ""
        self._version: str | None = None
        self._last_seen: float | None = None
        self._problem = ""

    @property
    def last_seen(self) -> float | None:
        """Monotonic time of the last byte from the API server; None before the first list. Older: do not trust."""
        return self._last_seen

    @property
    def problem(self) -> str:
        """Why there is no stream at the moment; "" when there is."""
        return self._problem

    @property
    def forbidden(self) -> bool:
        """The API server's last word was that this account may not list or watch it; it is asked again and again."""
        return bool(self._forbidden)

    async def events(self) -> AsyncIterator[Event[T]]:
        """First `Listed`, then changes; a new `Listed` whenever changes may have been missed. Ends only by cancelling.

        Errors of the API are waited out, logged and counted, never raised.
        """
        backoff = Backoff(random=self._client.random)
        while True:
            began = self._clock.monotonic()
            try:
                if self._version is None:
                    items, self._version = await self._list()
                    yield Listed(items=items, version=self._version)
                    began = self._clock.monotonic()
                async with self._client.stream(self._path(), params=self._params(self._version)) as chunks:
                    self._problem = self._forbidden = self._told = ""
                    async for event in self._changes(chunks):
                        yield event
                why, text = "closed", ""
            except KubeExpired as error:
                self._version, why, text = None, "expired", str(error)
            except KubeForbidden as error:
                why, text = "forbidden", self._missing(error)
            except KubeNotFound as error:
                self._version, why, text = None, "missing", error.message
            except KubeRefused as error:
                why, text = "throttled" if error.code == 429 else "refused", str(error)
                if error.code == 404:  # as it is answered where the resource itself went
                    self._version = None
                await self._clock.sleep(error.retry_after or 0.0)
            except (Refused, Unanswered) as error:
                why, text = "lost", str(error)
            self._restarted(why, text)
            if self._clock.monotonic() - began >= SOUND_SECONDS:
                backoff.reset()
                if why == "closed":
                    continue
            await self._clock.sleep(backoff.next())

    async def _list(self) -> tuple[tuple[T, ...], str]:
        items: list[T] = []
        version = ""
        async for page in self._client.list_pages(
            self._resource,
            namespace=self._namespace,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
            limit=self._page_size,
        ):
            self._last_seen = self._clock.monotonic()
            items += [self._slim(item) for item in page["items"]]
            version = str((page.get("metadata") or {}).get("resourceVersion") or "")
        if not version:
            raise KubeUnanswered(f"list {self._resource.plural}", "the list has no resourceVersion")
        if self._client.metrics:
            self._client.metrics.watch_synced.labels(resource=self._resource.plural).set(1)
        return tuple(items), version

    async def _changes(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[Upsert[T] | Gone[T]]:
        """The events of one stream; each event, and each bookmark, moves the version to resume from."""
        async for line in _lines(self._alive(chunks)):
            try:
                found = parse_json(line)
                kind, thing = found["type"], found["object"]
                if kind == "ERROR":
                    raise _stream_error(f"watch {self._resource.plural}", thing)
                version = str(thing["metadata"]["resourceVersion"])
                if kind in ("ADDED", "MODIFIED"):
                    event: Upsert[T] | Gone[T] | None = Upsert(item=self._slim(thing))
                else:
                    event = Gone(item=self._slim(thing)) if kind == "DELETED" else None
            except (ValueError, KeyError, TypeError) as error:
                raise KubeUnanswered(
                    f"watch {self._resource.plural}",
                    f"a line of the stream is not an event ({type(error).__name__}: {trimmed(str(error), limit=80)})",
                ) from error
            self._version = version
            if event is not None:
                yield event

    async def _alive(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The chunks, until one is missing for `SILENCE_SECONDS`."""
        while True:
            try:
                async with self._clock.timeout(SILENCE_SECONDS):
                    chunk = await anext(chunks)
            except StopAsyncIteration:
                return
            except TimeoutError as error:
                raise KubeUnanswered(
                    f"watch {self._resource.plural}", f"no byte for {SILENCE_SECONDS:.0f} s, not even a bookmark"
                ) from error
            self._last_seen = self._clock.monotonic()
            yield chunk

    def _restarted(self, why: str, text: str) -> None:
        self._problem = text
        if self._client.metrics:
            self._client.metrics.watch_restarts.labels(resource=self._resource.plural, reason=why).inc()
        if why in ("forbidden", "missing"):
            # Told once: it is asked until somebody changes the Role, or installs what is missing, which may be never.
            if text != self._told:
                log.error("%s", text)
            self._told, self._forbidden = text, text if why == "forbidden" else ""
            return
        level = logging.DEBUG if why in ("closed", "expired") else logging.WARNING
        log.log(level, "watch restarts", extra=kv(resource=self._resource.plural, reason=why, error=text or None))

    def _missing(self, error: KubeForbidden) -> str:
        where = f" in namespace {self._namespace}" if self._namespace else " of the cluster"
        return (
            f"this account may not list and watch {self._resource.plural}{where}: "
            f"{self._permission or 'give it a Role that allows both'}; it is tried again ({error.message})"
        )

    def _path(self) -> str:
        return self._resource.path(namespace=self._namespace)

    def _params(self, version: str) -> dict[str, str | int | bool]:
        params: dict[str, str | int | bool] = {
            "watch": True,
            "allowWatchBookmarks": True,
            "resourceVersion": version,
            "timeoutSeconds": self._client.random.randint(*WATCH_SECONDS),
        }
        if self._label_selector:
            params["labelSelector"] = self._label_selector
        if self._field_selector:
            params["fieldSelector"] = self._field_selector
        return params


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The stream cut at line ends; lines may be long and come in any pieces. An unfinished last line is lost."""
    pieces: list[bytes] = []
    async for chunk in chunks:
        *whole, rest = chunk.split(b"\n")
        for line in whole:
            pieces.append(line)
            joined = b"".join(pieces)
            pieces.clear()
            if joined.strip():
                yield joined
        if rest:
            pieces.append(rest)


def _stream_error(call: str, thing: object) -> Exception:
    found = thing if isinstance(thing, Mapping) else {}
    code = found.get("code")
    return statuses.error(call, code=code if isinstance(code, int) and 300 <= code <= 599 else 500, status=found)

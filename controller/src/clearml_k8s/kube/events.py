"""What Kubernetes says of an object: its Events, read when somebody wants to know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clearml_k8s.errors import trimmed
from clearml_k8s.kube.client import KubeClient
from clearml_k8s.kube.resources import EVENTS

MESSAGE_LIMIT = 1024
NAME_LIMIT = 128
MOST = 100
"""Events read of one object; it has more only when something floods."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EventRecord:
    """One event: ``about`` is the uid of its object, ``last`` the time when it was seen last (RFC 3339)."""

    uid: str
    about: str
    kind: str
    reason: str
    message: str
    warning: bool
    last: str

    @property
    def line(self) -> str:
        """For a person."""
        return f"{self.kind} {self.reason}: {self.message}"


def event_record(event: Mapping[str, Any]) -> EventRecord:
    """The record of an Event object, of core/v1 and of what events.k8s.io/v1 leaves of it there."""
    meta, about, series = (_map(event, key) for key in ("metadata", "involvedObject", "series"))
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"),
             event.get("firstTimestamp"), meta.get("creationTimestamp"))  # fmt: skip
    return EventRecord(
        uid=_text(meta, "uid"),
        about=_text(about, "uid"),
        kind=trimmed(_text(about, "kind"), limit=NAME_LIMIT),
        reason=trimmed(_text(event, "reason"), limit=NAME_LIMIT),
        message=trimmed(_text(event, "message"), limit=MESSAGE_LIMIT),
        warning=event.get("type") == "Warning",
        last=next((time for time in times if isinstance(time, str) and time), ""),
    )


def _map(source: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = source.get(key)
    return found if isinstance(found, Mapping) else {}


def _text(source: Mapping[str, Any], key: str) -> str:
    found = source.get(key)
    return found if isinstance(found, str) else ""


async def events_of(client: KubeClient, uid: str, *, namespace: str) -> list[EventRecord]:
    """The events of the object with this uid, oldest first. Errors as `KubeClient.request`."""
    async for page in client.list_pages(
        EVENTS, namespace=namespace, field_selector=f"involvedObject.uid={uid}", limit=MOST
    ):
        records = [event_record(event) for event in page["items"] if isinstance(event, Mapping)]
        records = [record for record in records if record.about == uid]
        return sorted(records, key=lambda record: (record.last, record.uid))
    return []

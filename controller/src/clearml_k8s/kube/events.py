"""What Kubernetes says of an object: its Events, read when somebody wants to know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clearml_k8s.errors import trimmed
from clearml_k8s.kube.client import KubeClient
from clearml_k8s.kube.resources import EVENTS

MESSAGE_LIMIT = 1024
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
    meta, about, series = (event.get(key) or {} for key in ("metadata", "involvedObject", "series"))
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"),
             event.get("firstTimestamp"), meta.get("creationTimestamp"))  # fmt: skip
    return EventRecord(
        uid=str(meta.get("uid") or ""),
        about=str(about.get("uid") or ""),
        kind=str(about.get("kind") or ""),
        reason=str(event.get("reason") or ""),
        message=trimmed(str(event.get("message") or ""), limit=MESSAGE_LIMIT),
        warning=event.get("type") == "Warning",
        last=next((str(time) for time in times if time), ""),
    )


async def events_of(client: KubeClient, uid: str, *, namespace: str) -> list[EventRecord]:
    """The events of the object with this uid, oldest first. Errors as `KubeClient.request`."""
    async for page in client.list_pages(
        EVENTS, namespace=namespace, field_selector=f"involvedObject.uid={uid}", limit=MOST
    ):
        records = [event_record(event) for event in page["items"] if isinstance(event, Mapping)]
        records = [record for record in records if record.about == uid]
        return sorted(records, key=lambda record: (record.last, record.uid))
    return []

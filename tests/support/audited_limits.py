"""Limits as the API server's audit log tells of them: what was used of each at any time, read from what was stored."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from chaos_audit import Held, held

Event = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A Job's way: ``template`` is its pod's. ``looked_at``: when the scheduler first said something of the pod,
    ``bound``: when it got a node; each None where that is not written down before the place's end."""

    place: Held
    template: Mapping[str, Any]
    looked_at: str | None
    bound: str | None

    @property
    def queue(self) -> str:
        return self.place.queue

    def amount(self, resource: str) -> Decimal:
        """Of the task's container, as it was written into the template."""
        resources = self.template["spec"]["containers"][0].get("resources", {})
        found = {**resources.get("limits", {}), **resources.get("requests", {})}.get(resource, "0")
        return Decimal(found[:-1]) / 1000 if str(found).endswith("m") else Decimal(found)

    def label(self, name: str) -> Decimal:
        return Decimal(self.template["metadata"]["labels"].get(name, "0"))


def seen(events: Iterable[Event], *, aborted: Collection[str] = ()) -> list[Seen]:
    """Every Job; each stage a little shorter than in truth, so that what is too many in here was too many."""
    kept = list(events)
    templates: dict[tuple[str, str], Any] = {}
    said: dict[str, list[str]] = {}
    bound: dict[str, list[str]] = {}
    for event in kept:
        about, code = event["objectRef"], event["responseStatus"].get("code")
        if code not in (200, 201) or "dryRun" in event["requestURI"]:
            continue
        kind = (about.get("resource"), about.get("subresource"), event["verb"])
        at = event["requestReceivedTimestamp"]
        if kind == ("jobs", None, "create"):
            made = event["responseObject"]
            templates[made["metadata"]["name"], event["stageTimestamp"]] = made["spec"]["template"]
        elif kind == ("pods", "binding", "create"):
            bound.setdefault(_job(about["name"]), []).append(at)
            said.setdefault(_job(about["name"]), []).append(at)
        elif kind == ("pods", "status", "patch") and "kube-scheduler" in event["user"]["username"]:
            said.setdefault(_job(about["name"]), []).append(at)
    return [
        Seen(
            place=place,
            template=templates[place.job, place.since],
            looked_at=_first(said.get(place.job, ()), place),
            bound=_first(bound.get(place.job, ()), place),
        )
        for place in held(kept, aborted=aborted)
    ]


def _job(pod: str) -> str:
    return pod.rpartition("-")[0]


def _first(times: Iterable[str], place: Held) -> str | None:
    return min((at for at in times if place.since <= at and (place.until is None or at < place.until)), default=None)


def most(some: Iterable[Seen], amount: Callable[[Seen], Decimal | int]) -> Decimal:
    """The largest sum of the amounts at one time, of those whose end is known."""
    return _most((one.place.since, one.place.until, amount(one)) for one in some)


def most_undecided(some: Iterable[Seen]) -> Decimal:
    """Most Jobs at one time of whose pod the scheduler had not said anything."""
    return _most((one.place.since, one.looked_at or one.place.until, 1) for one in some)


def paced(some: Iterable[Seen]) -> list[tuple[int, int]]:
    """At each Job's creation: how many Jobs, with it, the scheduler had said nothing of, and how many it had so far."""
    every = list(some)
    begun = sorted(_time(one.place.since) for one in every)
    got_to = sorted(_time(one.looked_at or one.place.until or one.place.since) for one in every)
    found = []
    for number, at in enumerate(begun, start=1):
        done = bisect.bisect_right(got_to, at)
        found.append((number - done, done))
    return found


def _time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def most_pending(some: Iterable[Seen]) -> Decimal:
    """Most Jobs at one time whose pod had no node."""
    return _most((one.place.since, one.bound or one.place.until, 1) for one in some)


def _most(spans: Iterable[tuple[str, str | None, Decimal | int]]) -> Decimal:
    changes: list[tuple[str, Decimal]] = []
    for since, until, amount in spans:
        if until is not None:
            changes += [(since, Decimal(amount)), (until, -Decimal(amount))]
    now = largest = Decimal(0)
    for _, change in sorted(changes):
        now += change
        largest = max(largest, now)
    return largest


def refused_pods(events: Iterable[Event]) -> int:
    """Pods that an admission plugin did not take."""
    return sum(
        event["objectRef"].get("resource") == "pods"
        and event["objectRef"].get("subresource") is None
        and event["verb"] == "create"
        and event["responseStatus"].get("code") == 403
        for event in events
    )

"""The document behind `clearml-k8s status`: what the process knows now, as plain data; asks nobody anything.

Its members are described in docs/operations.md. No secret is known to what it is made of, and whoever serves it has the
redactor look at it all the same: reasons quote what Kubernetes said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from clearml_k8s.app.parts import Parts
from clearml_k8s.flow.capacity import Room
from clearml_k8s.flow.overview import Phase, Row
from clearml_k8s.flow.served import Served
from clearml_k8s.hidden import without_secrets

MOST_TASKS = 500
"""Tasks that are listed; how many there are more stands beside them."""


def document(*, parts: Parts, server: str) -> dict[str, Any]:
    """All of it. ``server``: the ClearML server's address."""
    clock, health = parts.session.clock, parts.session.health
    rows = list(parts.reconciler.overview())
    taking = Counter(parts.book.in_flight().values())
    polled = parts.poller.last_poll
    return {
        "at": clock.now().isoformat(timespec="seconds"),
        "worker": parts.worker_id,
        "clearml": {"address": server, "state": health.state.value, "reason": health.reason},
        "kubernetes": {"state": "known" if parts.cluster.known() else "unknown"},
        "secondsSinceLastPoll": None if polled is None else round(clock.monotonic() - polled, 1),
        "queues": queues(
            parts.served.states, rows=rows, taking=taking, room=parts.poller.room(), now=clock.monotonic()
        ),
        **tasks(rows, held=[(held.task, held.queue, held.why) for held in parts.graces]),
    }


def hidden(value: Any, *, redact: Callable[[str], str]) -> Any:
    """The same data with each text redacted; keys are ours."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {key: hidden(member, redact=redact) for key, member in value.items()}
    if isinstance(value, list):
        return [hidden(member, redact=redact) for member in value]
    return value


def queues(
    states: Mapping[str, Served], *, rows: Iterable[Row], taking: Mapping[str, int], room: Room, now: float
) -> list[dict[str, Any]]:
    """One member for each configured queue: ``problem``: somebody has to mend it; ``reason`` why nothing is taken from
    it now, "" when tasks are taken; ``taking`` by queue id; ``now`` monotonic."""
    counts = Counter((row.queue, row.phase) for row in rows)
    found = []
    for key, served in states.items():
        queue = served.queue
        limited = queue is not None and (room.total, room.by_queue.get(queue.id)) != (None, None)
        left = room.of(queue.id) if limited and queue is not None else None
        problem = reason = served.problem
        if not problem and served.paused_until > now:
            reason = f"paused for {served.paused_until - now:.0f} s: {served.pause_reason}"
        elif not problem and left == 0:
            reason = "full: as many pods as it may have"
        found.append(
            {
                "key": key,
                "id": queue.id if queue else None,
                "name": queue.name if queue else None,
                "problem": bool(problem),
                "reason": without_secrets(reason),
                "taking": taking.get(queue.id, 0) if queue else 0,
                **{phase.value: counts[queue.id if queue else "", phase] for phase in Phase},
                "maxPods": served.config.settings.max_pods,
                "placesLeft": left,
            }
        )
    return found


def tasks(rows: Iterable[Row], *, held: Iterable[tuple[str, str, str]]) -> dict[str, Any]:
    """The tasks that wait for the cluster, oldest first, and those that are left alone for a grace (task, queue id,
    why)."""
    pending = sorted((row for row in rows if row.phase is Phase.PENDING), key=lambda row: row.since)
    alone = list(held)
    return {
        "waiting": [
            {
                "task": row.task,
                "job": row.job,
                "queue": row.queue,
                "since": row.since,
                "category": row.category.value if row.category else "",
                "why": without_secrets(row.why),
            }
            for row in pending[:MOST_TASKS]
        ],
        "waitingMore": max(0, len(pending) - MOST_TASKS),
        "leftAlone": [
            {"task": task, "queue": queue, "why": without_secrets(why)} for task, queue, why in alone[:MOST_TASKS]
        ],
        "leftAloneMore": max(0, len(alone) - MOST_TASKS),
    }

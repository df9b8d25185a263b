"""The document behind `clearml-k8s status`: what the process knows now, as plain data; asks nobody anything.

Its members are described in docs/operations.md. No secret is known to what it is made of, and whoever serves it has the
redactor look at it all the same: reasons quote what Kubernetes said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from clearml_k8s.app.parts import Parts
from clearml_k8s.flow.counting import Usage
from clearml_k8s.flow.lengths import Length
from clearml_k8s.flow.overview import Phase, Row
from clearml_k8s.flow.served import Served
from clearml_k8s.hidden import without_secrets

MOST_TASKS = 500
"""Tasks that are listed; how many there are more stands beside them."""


def document(*, parts: Parts, server: str) -> dict[str, Any]:
    """All of it. ``server``: the ClearML server's address."""
    clock, health = parts.session.clock, parts.session.health
    rows = list(parts.reconciler.overview())
    unknown = parts.cluster.unknown()
    polled, usage = parts.poller.last_round, parts.poller.usage()
    return {
        "at": clock.now().isoformat(timespec="seconds"),
        "worker": parts.worker_id,
        "clearml": {"address": server, "state": health.state.value, "reason": health.reason},
        "kubernetes": {"known": not unknown, "reason": unknown},
        "secondsSinceLastPoll": None if polled is None else round((clock.now() - polled).total_seconds(), 1),
        "queues": queues(
            parts.served.states,
            rows=rows,
            usage=usage,
            paused=parts.served.paused,
            lengths=parts.lengths.known(),
            lacking=parts.reports.lacking,
        ),
        "limits": limits(usage, queue=""),
        "nodes": parts.reports.said.get("nodes"),
        "dashboard": parts.reports.said.get("dashboard"),
        **tasks(rows, held=[(held.task, held.queue, held.why) for held in parts.graces]),
    }


def hidden(value: Any, *, redact: Callable[[str], str]) -> Any:
    """The same data with what is secret, or looks so, blanked in each text; keys are ours."""
    if isinstance(value, str):
        return redact(without_secrets(value))
    if isinstance(value, Mapping):
        return {key: hidden(member, redact=redact) for key, member in value.items()}
    if isinstance(value, list):
        return [hidden(member, redact=redact) for member in value]
    return value


def queues(
    states: Mapping[str, Served],
    *,
    rows: Iterable[Row],
    usage: Usage,
    paused: Callable[[str], str],
    lengths: Mapping[str, Length],
    lacking: Mapping[str, Sequence[str]],
) -> list[dict[str, Any]]:
    """One member for each configured queue. ``problem``: somebody has to mend it; ``reason``: why nothing is taken from
    it now, "" when tasks are taken; ``waiting``: entries on the server, None while not known, ``oldest`` since when;
    ``taking``: claimed, and no Job yet; ``limits``: its own. ``paused``, ``lengths`` and ``lacking`` (what its pods ask
    for and no node has) by its key."""
    counts = Counter((row.queue, row.phase) for row in rows)
    known = {one.queue: one for one in usage.standings}
    found = []
    for key, served in states.items():
        queue, standing, length = served.queue, known.get(key), lengths.get(key)
        reason = served.problem or paused(key) or (standing.why if standing else "")
        found.append(
            {
                "key": key,
                "id": queue.id if queue else None,
                "name": queue.name if queue else None,
                "problem": bool(served.problem),
                "reason": reason,
                "hints": list(lacking.get(key, ())),
                "waiting": length.entries if length else None,
                "oldest": length.oldest.isoformat() if length and length.oldest else None,
                "taking": standing.coming if standing else 0,
                **{phase.value: counts[queue.id if queue else "", phase] for phase in Phase},
                "placesLeft": standing.left if standing else None,
                "gpus": usage.gpus.get(queue.id, 0.0) if queue else None,
                "limits": limits(usage, queue=key),
            }
        )
    return found


def limits(usage: Usage, *, queue: str) -> list[dict[str, Any]]:
    """The limits of a queue (its key), "": those that queues share."""
    return [
        {"limit": one.name, "setting": one.setting, "most": float(one.most), "used": float(one.used)}
        for one in usage.limits
        if one.queue == queue
    ]


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
                "why": row.why,
            }
            for row in pending[:MOST_TASKS]
        ],
        "waitingMore": max(0, len(pending) - MOST_TASKS),
        "leftAlone": [{"task": task, "queue": queue, "why": why} for task, queue, why in alone[:MOST_TASKS]],
        "leftAloneMore": max(0, len(alone) - MOST_TASKS),
    }

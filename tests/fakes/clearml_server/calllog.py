"""The log of every call, for assertions and benchmarks."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, fields
from typing import Any

_COUNTS = ("removed", "added", "updated", "queued", "dequeued", "deleted", "position", "num", "id", "started")


@dataclass(slots=True, kw_only=True)
class CallRecord:
    """``n`` counts from 1 in the order in which calls ended. ``code`` 0: the connection was closed without an answer.

    ``done`` says whether the operation ran, whatever the client was told; ``code`` and ``subcode`` are what the
    operation gave (of a call that was not done: what the client was told). ``user``: in whose name. Times are
    seconds; ``time`` is wall time at arrival.
    """

    n: int
    time: float
    duration: float
    endpoint: str
    version: str
    task: str | None
    queue: str | None
    worker: str | None
    client: str | None
    user_agent: str | None
    user: str | None
    code: int
    subcode: int
    done: bool
    fault: str | None
    summary: dict[str, Any] | None


_FIELDS = tuple(item.name for item in fields(CallRecord))


def summarize(data: dict[str, Any]) -> dict[str, Any]:
    """The few facts of an answer that tests count: what was removed, added, popped, changed to which status."""
    summary = {name: data[name] for name in _COUNTS if name in data}
    entry = data.get("entry")
    if isinstance(entry, dict):
        summary["popped"] = entry.get("task")
    fields = data.get("fields")
    if isinstance(fields, dict) and "status" in fields:
        summary["status"] = fields["status"]
    for name in ("tasks", "queues", "events", "workers", "projects"):
        if isinstance(data.get(name), list):
            summary[name] = len(data[name])
    return summary


class CallLog:
    """Unbounded unless ``limit`` is set; then the oldest records go first."""

    def __init__(self) -> None:
        self._records: list[CallRecord] = []
        self._next = 1
        self.limit: int | None = None
        self.under_way: set[object] = set()
        """One thing for each call that is not done yet, or lands later."""
        self.by_endpoint: Counter[str] = Counter()
        self.by_result: Counter[str] = Counter()
        self.by_fault: Counter[str] = Counter()

    def add(self, **fields: Any) -> None:
        record = CallRecord(n=self._next, **fields)
        self._next += 1
        self._records.append(record)
        self.by_endpoint[record.endpoint] += 1
        self.by_result[f"{record.endpoint} {record.code}/{record.subcode}"] += 1
        if record.fault:
            self.by_fault[record.fault] += 1
        if self.limit is not None and len(self._records) > self.limit + self.limit // 10:
            del self._records[: len(self._records) - self.limit]

    def clear(self) -> None:
        """Forgets the records; numbers go on, so that a ``since`` taken before stays right."""
        self._records.clear()
        self.under_way.clear()
        for counter in (self.by_endpoint, self.by_result, self.by_fault):
            counter.clear()

    def select(self, *, since: int, endpoint: str | None, task: str | None, limit: int) -> dict[str, Any]:
        """``{"calls": [...], "last": n}``; ask again with ``since=last`` until ``calls`` is empty."""
        pattern = re.compile(endpoint) if endpoint else None
        first = self._records[0].n if self._records else self._next
        calls: list[dict[str, Any]] = []
        last = since
        for record in self._records[max(0, since + 1 - first) :]:
            if len(calls) >= limit:
                break
            last = record.n
            if (pattern is None or pattern.search(record.endpoint)) and (task is None or record.task == task):
                calls.append({name: getattr(record, name) for name in _FIELDS})
        return {"calls": calls, "last": last}

    def counters(self) -> dict[str, Any]:
        return {
            "calls": self._next - 1,
            "in_flight": len(self.under_way),
            "by_endpoint": dict(self.by_endpoint),
            "by_result": dict(self.by_result),
            "by_fault": dict(self.by_fault),
        }

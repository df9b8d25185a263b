"""The controller as a worker of the ClearML server: what the workers page shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from clearml_k8s.clearml.session import Session
from clearml_k8s.errors import ApiUnanswered


async def register(
    session: Session, worker: str, *, queues: Sequence[str], timeout_seconds: int = 600, deadline: float | None = None
) -> None:
    """Register ``worker`` as listening to ``queues`` (ids); after ``timeout_seconds`` of silence it is dropped."""
    body: dict[str, object] = {"worker": worker, "queues": list(queues), "timeout": timeout_seconds}
    await session.call("workers.register", body, deadline=deadline)


async def status_report(
    session: Session,
    worker: str,
    *,
    at: datetime,
    queues: Sequence[str] | None = None,
    task: str | None = None,
    machine_stats: Mapping[str, object] | None = None,
    deadline: float | None = None,
) -> None:
    """Report ``worker`` as alive at ``at``; an unknown worker is registered by it.

    With ``task`` the server writes the worker into the task's ``last_worker``. Harmless to repeat.
    """
    body: dict[str, object] = {"worker": worker, "timestamp": int(at.timestamp())}
    if queues is not None:
        body["queues"] = list(queues)
    if task is not None:
        body["task"] = task
    if machine_stats is not None:
        body["machine_stats"] = dict(machine_stats)
    await session.call("workers.status_report", body, deadline=deadline)


async def ids(session: Session, *, deadline: float | None = None) -> list[str]:
    """The ids of all workers that the server has heard of lately. A read. Errors as `Session.call`."""
    data = await session.call("workers.get_all", {}, deadline=deadline, read=True)
    found = data.get("workers")
    if not isinstance(found, list):
        raise ApiUnanswered("workers.get_all", "the answer holds no list of workers")
    return [worker["id"] for worker in found if isinstance(worker, dict) and isinstance(worker.get("id"), str)]


async def unregister(session: Session, worker: str, *, deadline: float | None = None) -> None:
    """Take ``worker`` off the server's list; an unknown worker is no error."""
    await session.call("workers.unregister", {"worker": worker}, deadline=deadline)


async def probe(session: Session, worker: str, *, queues: Sequence[str] | None = None) -> None:
    """The probe for `ServerHealth.use_probe`: a status report with machine statistics.

    It makes the server write to its search engine as a take does, so it fails as long as takes fail half-way.
    """
    await status_report(session, worker, at=session.clock.now(), queues=queues, machine_stats={"cpu_usage": [0.0]})


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterReport:
    """The capacity of a category of the Orchestration Dashboard.

    ``partial``: this is one agent's share, and the server adds up those of all; else it is the category's total. ``at``
    is when it was true, ``timeout_seconds`` how long the server believes it. Of the maxima 0 means not known.
    """

    worker: str
    category: str
    resource_groups: tuple[str, ...]
    partial: bool
    at: datetime
    timeout_seconds: int
    max_gpus: int
    max_cpus: int
    max_workers: int


async def cluster_report(session: Session, report: ClusterReport, *, deadline: float | None = None) -> None:
    """Send the report. NotSupported where the server has no dashboard; other errors as `Session.call`.

    Harmless to repeat.
    """
    body: dict[str, object] = {
        "worker": report.worker,
        "partial": report.partial,
        "key": report.category,
        "timestamp": int(report.at.timestamp() * 1000),
        "timeout": report.timeout_seconds,
        "resource_groups": list(report.resource_groups),
        "properties": {
            "max_gpus": report.max_gpus,
            "max_cpus": report.max_cpus,
            "max_workers": report.max_workers,
        },
    }
    await session.call("workers.cluster_report", body, deadline=deadline)


async def cluster_unregister(session: Session, category: str, *, deadline: float | None = None) -> None:
    """Take the category's report back. Errors as `cluster_report`."""
    await session.call("workers.cluster_unregister", {"key": category}, deadline=deadline)

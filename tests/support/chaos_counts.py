"""What is counted at the end of a chaos test: by the agents, and by what both servers wrote down themselves."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chaos_agent import Agents, Start
from chaos_audit import CALLS, PENDING, courses, held, left_over, most_held
from chaos_kube import AuditLog, JobCreated, Kube
from clearml_server.process import DevServer


async def until(
    condition: Callable[[], bool | Awaitable[bool]], what: Callable[[], str] | str, *, limit: float
) -> None:
    """AssertionError with ``what`` when the condition does not come true within ``limit`` seconds."""
    end = time.monotonic() + limit
    while True:
        found = condition()
        if not isinstance(found, bool):
            found = await found
        if found:
            return
        assert time.monotonic() < end, f"not within {limit:.0f} s: {what if isinstance(what, str) else what()}"
        await asyncio.sleep(0.25)


@dataclass(frozen=True, kw_only=True)
class Counts:
    """The counts of one run; ``peaks``: most Jobs and pods that held a place at one time, by queue and in all ("").

    ``aborted``: tasks that their user aborted and that stayed so; whether they were started is not counted. By the
    ClearML server's own log: ``served_twice`` are tasks of which one attempt was taken or started twice,
    ``served_never`` completed ones that were not taken or started; ``audited``: as peaks, by the API server's log.
    """

    tasks: int
    completed: int
    aborted: int
    jobs: int
    starts: int
    refused: int
    attempts_with_two_jobs: int
    attempts_started_twice: int
    never_started: int
    peaks: Mapping[str, int]
    left_in_queues: Mapping[str, int]
    served_twice: int
    served_never: int
    audited: Mapping[str, int]
    left_over: tuple[str, ...]

    def __str__(self) -> str:
        lines = [
            f"  tasks {self.tasks}, completed {self.completed}, aborted {self.aborted}, "
            f"of the completed started {self.starts}, never {self.never_started}",
            f"  Jobs stored {self.jobs} (audit log and watch), refused by the start check {self.refused}",
            f"  attempts started twice {self.attempts_started_twice}, with two Jobs {self.attempts_with_two_jobs}",
            "  most places held at one time (Jobs stored, their pods not ended or gone; by etcd's revisions): "
            + ", ".join(f"{name or 'in all'} {peak}" for name, peak in self.peaks.items()),
            "  by the API server's audit log alone: "
            + ", ".join(f"{name or 'in all'} {peak}" for name, peak in self.audited.items()),
            f"  by the ClearML server's log: an attempt taken or started twice {self.served_twice}, "
            f"completed and not taken or not started {self.served_never}",
            f"  left over on tasks: {len(self.left_over)} {'; '.join(self.left_over[:3])}",
            "  left in queues: " + ", ".join(f"{name} {left}" for name, left in self.left_in_queues.items()),
        ]
        return "\n".join(lines)


def count(
    *,
    server: DevServer,
    tasks: Sequence[str],
    audit: AuditLog,
    agents: Iterable[Agents],
    others: Iterable[Start] = (),
    aborted: Collection[str] = (),
) -> Counts:
    """Everything, now. ``aborted``: the tasks that their user aborted."""
    agents = list(agents)
    status = statuses(server, tasks)
    over = {task for task in aborted if status[task] == "stopped"}
    starts = [*(start for one in agents for start in one.starts), *others]
    ended: dict[str, int] = {}
    for one in agents:
        # A Job that never had a pod held its place until it went itself.
        ended |= {job: revision for job, revision in one.deleted.items() if job not in one.jobs} | one.ended
    by_attempt = Counter((start.task, start.attempt) for start in starts)
    jobs = stored(audit.jobs(), agents)
    unknown = {start.job for start in starts if start.job} - {job.uid for job in jobs}
    assert not unknown, f"Jobs were started of which neither the audit log nor a watch tells: {unknown}"
    uids: dict[tuple[str, str], set[str]] = {}
    for job in jobs:
        uids.setdefault((job.task, job.attempt), set()).add(job.uid)
    state = server.state()
    pending = server.queue_id(PENDING) if PENDING in state["queues"] else None
    known = courses(server.iterate_calls(endpoint=CALLS), pending=pending)
    through = [known.get(task) for task in tasks if status[task] == "completed"]
    return Counts(
        tasks=len(tasks),
        completed=sum(found == "completed" for found in status.values()),
        aborted=len(over),
        jobs=sum(len(found) for found in uids.values()),
        starts=sum(start.task not in over for start in starts),
        refused=sum(len(one.refused) for one in agents),
        attempts_with_two_jobs=sum(len(found) > 1 for found in uids.values()),
        attempts_started_twice=sum(number > 1 for number in by_attempt.values()),
        never_started=len(set(tasks) - over - {start.task for start in starts}),
        peaks=peaks(jobs, ended),
        left_in_queues={name: queue["entries"] for name, queue in state["queues"].items()},
        served_twice=sum(one.most > 1 or max(one.starts) > 1 for one in known.values()),
        served_never=sum(one is None or one.taken != 1 or one.starts[-1] != 1 for one in through),
        audited=most_held(held(audit.events(), aborted=aborted)),
        left_over=tuple(left_over(server, tasks)),
    )


def stored(jobs: Iterable[JobCreated], agents: Iterable[Agents]) -> list[JobCreated]:
    """Every Job that was stored, in order: of the audit log, and of the agents' watches, which know of all."""
    found = {uid: job for one in agents for uid, job in one.created.items()} | {job.uid: job for job in jobs}
    return sorted(found.values(), key=lambda job: job.revision)


def peaks(jobs: Sequence[JobCreated], ended: Mapping[str, int]) -> dict[str, int]:
    """Most Jobs whose pod had not ended, by queue and in all (""): exact, by the revisions of the cluster's writes."""
    changes = sorted(
        [(job.revision, 1, job.queue) for job in jobs]
        + [(ended[job.uid], -1, job.queue) for job in jobs if job.uid in ended]
    )
    now: Counter[str] = Counter()
    most: dict[str, int] = {"": 0}
    for _, change, queue in changes:
        for name in ("", queue):
            now[name] += change
            most[name] = max(most.get(name, 0), now[name])
    return most


def statuses(server: DevServer, tasks: Sequence[str]) -> dict[str, str]:
    """Status by task."""
    found: dict[str, str] = {}
    for start in range(0, len(tasks), 400):
        rows = server.call("tasks.get_all", id=list(tasks[start : start + 400]), only_fields=["status"])["tasks"]
        found.update((row["id"], row["status"]) for row in rows)
    return found


def check(counts: Counts, *, limits: Mapping[str, int | None]) -> None:
    """All that must hold: each task once, by someone, or aborted; nothing left; ``limits`` by queue and in all ("")."""
    assert counts.completed + counts.aborted == counts.tasks, counts
    assert counts.never_started == 0, counts
    assert counts.starts == counts.completed, counts
    assert counts.attempts_started_twice == 0, counts
    assert counts.attempts_with_two_jobs == 0, counts
    for name, limit in limits.items():
        assert limit is None or counts.peaks.get(name, 0) <= limit, (name, counts)
        assert limit is None or counts.audited.get(name, 0) <= limit, (name, counts)
    assert counts.audited[""] > 0, "the audit log tells of Jobs and of their ends"
    assert counts.served_twice == 0, counts
    assert counts.served_never == 0, counts
    assert counts.left_over == (), counts
    assert not any(counts.left_in_queues.values()), counts


def shown(title: str, lines: Mapping[str, Any], counts: Counts) -> str:
    """What a test prints."""
    return "\n".join([f"\n{title}", *(f"  {key}: {value}" for key, value in lines.items()), str(counts)])


def _unfinished(server: DevServer, tasks: Sequence[str]) -> str:
    """How many tasks are in which status, and all that the server was asked about one that is not completed."""
    found = statuses(server, tasks)
    task = next((task for task, status in found.items() if status != "completed"), None)
    calls = [] if task is None else server.calls(task=task)
    keys = ("n", "time", "endpoint", "client", "code", "subcode", "done", "fault", "summary")
    lines = [str({key: call[key] for key in keys if key in call}) for call in calls]
    return "\n".join([f"{Counter(found.values())}; task {task}:", *lines])


async def settled(
    *,
    server: DevServer,
    tasks: Sequence[str],
    kube: Kube,
    releases: Mapping[str, str],
    agents: Sequence[Agents],
    aborted: Collection[str] = (),
    limit: float = 120,
) -> None:
    """Wait until all is done: tasks completed, or ``aborted`` and stopped; no entry, no Job, no record left.

    ``releases``: release -> namespace.
    """

    def over() -> bool:
        for one in agents:
            one.check()
        return all(
            status == "completed" or (status == "stopped" and task in aborted)
            for task, status in statuses(server, tasks).items()
        )

    await until(over, lambda: f"all tasks are completed, or aborted: {_unfinished(server, tasks)}", limit=limit)

    def left() -> dict[str, int]:
        return {name: queue["entries"] for name, queue in server.state()["queues"].items() if queue["entries"]}

    await until(lambda: not left(), lambda: f"the queues are empty: {left()}", limit=30)
    for release, namespace in releases.items():

        async def none(namespace: str = namespace) -> bool:
            return not (await kube.request("GET", f"/apis/batch/v1/namespaces/{namespace}/jobs"))["items"]

        async def empty(release: str = release, namespace: str = namespace) -> bool:
            path = f"/api/v1/namespaces/{namespace}/configmaps/{release}-clearml-agent-claims"
            return not (await kube.request("GET", path)).get("data")

        await until(none, f"all Jobs of {release} are deleted", limit=30)
        await until(empty, f"the record of {release} is empty", limit=20)
    # Again: what landed late is taken out by a sweep; after the record is empty nothing can land any more.
    await until(lambda: not left(), lambda: f"the queues are empty: {left()}", limit=30)
    for one in agents:
        one.check()
        await one.caught_up()

"""Where the time of a task's attempt went, told once at its end: from what both servers noted, to words."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from clearml_k8s.clearml.tasks import TaskView
from clearml_k8s.clock import moment
from clearml_k8s.flow.decide import WAITS
from clearml_k8s.flow.diagnosis import ranks
from clearml_k8s.flow.ending import finished_at
from clearml_k8s.kube.slim import JobRecord, PodRecord

FRESH = timedelta(seconds=60)
"""Since the end: what ended longer ago may have been told by an earlier life of the process."""

Phase = tuple[str, timedelta]


def phases(
    *, task: TaskView, job: JobRecord, pods: Sequence[PodRecord], ended: datetime, pulling: str = ""
) -> list[Phase]:
    """What came after the enqueue, in order, and how long each took; a phase whose end nobody noted is part of the
    next. Never negative: the servers' clocks may differ, and Kubernetes counts whole seconds.

    ``pulling``: when the node began to pull an image, "" when that is not known.
    """
    pod = next(iter(ranks(pods)), None)
    scheduled = pod.condition("PodScheduled") if pod else None
    container = next((c for c in pod.containers if not c.init and c.started_at), None) if pod else None
    ends = (
        ("in the queue", job.taken),
        ("until the Job was made", job.created),
        ("until a node was found", scheduled.since if scheduled else ""),
        ("volumes", pulling),
        ("image and start" if pulling else "volumes, image and start", container.started_at if container else ""),
        ("until the agent began", task.started or ""),
        ("environment and run", ended.isoformat()),
    )
    found: list[Phase] = []
    before = moment(job.attempt or "")
    for name, text in ends:
        at = moment(text)
        if at is None or before is None or at > ended:
            continue
        found.append((name, max(at - before, timedelta(0))))
        before = max(at, before)
    return found


def sentence(
    *, task: TaskView | None, job: JobRecord, pods: Sequence[PodRecord], now: datetime, pulling: str = ""
) -> str:
    """One line for the task's console; "" where there is nothing to tell, no end yet or an old one. ``pulling`` as in
    `phases`."""
    if task is None or task.status in WAITS or task.status == "created":
        return ""
    # Of an aborted task the Job goes before the pod has ended.
    ended = finished_at(job, pods) or (moment(task.status_changed) if task.status == "stopped" else None)
    if ended is None or now - ended > FRESH:
        return ""
    told = phases(task=task, job=job, pods=pods, ended=ended, pulling=pulling)
    if len(told) < 2:
        return ""
    total = sum((length for _, length in told), timedelta(0))
    return f"Durations: {', '.join(f'{name} {_words(length)}' for name, length in told)}; in all {_words(total)}"


def _words(length: timedelta) -> str:
    """ "0.4 s", "12 s", "3 min 2 s", "5 h 0 min"."""
    seconds = length.total_seconds()
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"

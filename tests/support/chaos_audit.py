"""What both servers wrote down themselves: the ClearML server's calls, the API server's audit log; and what is left."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from chaos_kube import MARKER, QUEUE, TASK
from clearml_server.process import DevServer

CALLS = r"^(queues\.(remove_task|add_task|get_next_task)|tasks\.(enqueue|started))$"
PENDING = "k8s_scheduler"
OURS = frozenset({"k8s-queue", "k8s-controller", "k8s-requeues"})
MARK = "k8s-claim-"


@dataclass(kw_only=True)
class Course:
    """One task, by the calls that the ClearML server did; ``starts``: of each attempt, one by one."""

    takes: int = 0
    puts: int = 0
    most: int = 0
    starts: list[int] = field(default_factory=lambda: [0])

    @property
    def taken(self) -> int:
        """How often it was taken out of its queue and not put back."""
        return self.takes - self.puts


def courses(calls: Iterable[Mapping[str, Any]], *, pending: str | None) -> dict[str, Course]:
    """By task; of records of the call log (`clearml_server.calllog.CallRecord`), in order.

    ``pending``: that queue's id.
    """
    found: dict[str, Course] = defaultdict(Course)
    for call in calls:
        summary = call["summary"] or {}
        task = call["task"] or summary.get("popped")
        if not call["done"] or not task:
            continue
        course = found[task]
        match call["endpoint"]:
            case "queues.remove_task" if call["queue"] != pending:
                course.takes += summary.get("removed", 0)
            case "queues.get_next_task":
                course.takes += 1
            case "queues.add_task" if call["queue"] != pending:
                course.puts += summary.get("added", 0)
            case "tasks.enqueue" if summary.get("queued"):
                course.takes = course.puts = 0
                course.starts.append(0)
            case "tasks.started" if call["code"] == 200:
                course.starts[-1] += 1
        course.most = max(course.most, course.taken)
    return found


@dataclass(kw_only=True)
class Held:
    """A place, as the audit log tells of it: since a Job's creation was answered, until its pod's end was told."""

    job: str
    task: str
    queue: str
    since: str
    until: str | None = None


def held(events: Iterable[Mapping[str, Any]], *, aborted: Collection[str]) -> list[Held]:
    """The places that Jobs held; each a little shorter than in truth, so that what is too many in here was too many.

    Of a Job whose pod's end is not written down nothing is known (the log may lose what was answered right before the
    API server's death), unless its task was ``aborted``: then it is over when its pod is removed.
    """
    found: dict[str, list[Held]] = defaultdict(list)
    ends: dict[str, list[str]] = defaultdict(list)
    removed: dict[str, list[str]] = defaultdict(list)
    for event in events:
        about, code = event["objectRef"], event["responseStatus"].get("code")
        kind, began = (
            (about.get("resource"), about.get("subresource"), event["verb"]),
            event["requestReceivedTimestamp"],
        )
        if code not in (200, 201) or "dryRun" in event["requestURI"]:
            continue
        match kind:
            case ("jobs", None, "create"):
                meta = event["responseObject"]["metadata"]
                task = meta["labels"][TASK]
                if task != MARKER:
                    queue, since = meta["annotations"][QUEUE], event["stageTimestamp"]
                    found[meta["name"]].append(Held(job=meta["name"], task=task, queue=queue, since=since))
            case ("pods", "status", "patch" | "update"):
                status = (event.get("requestObject") or {}).get("status") or {}
                if status.get("phase") in ("Succeeded", "Failed"):
                    ends[about["name"].rpartition("-")[0]].append(began)
            case ("pods", None, "delete"):
                removed[about["name"].rpartition("-")[0]].append(began)
            case ("jobs", None, "delete"):
                removed[about["name"]].append(began)
    for name, jobs in found.items():
        jobs.sort(key=lambda one: one.since)
        for one, following in zip(jobs, [*(other.since for other in jobs[1:]), "9"], strict=True):
            own = [[at for at in times[name] if one.since <= at < following] for times in (ends, removed)]
            if own[0]:
                one.until = min(own[0])
            elif one.task in aborted:
                # The last, as those before ask for a graceful end.
                one.until = max(own[1], default=None)
    return [one for jobs in found.values() for one in jobs]


def most_held(places: Sequence[Held]) -> dict[str, int]:
    """Most of them at one time, by queue and in all ("")."""
    known = [one for one in places if one.until is not None]
    changes = [(one.since, 1, one.queue) for one in known] + [(str(one.until), -1, one.queue) for one in known]
    now: Counter[str] = Counter()
    most: dict[str, int] = {"": 0}
    for _, change, queue in sorted(changes):
        for name in ("", queue):
            now[name] += change
            most[name] = max(most.get(name, 0), now[name])
    return most


def left_over(server: DevServer, tasks: Sequence[str]) -> list[str]:
    """What stands on tasks that nobody needs: marks in others' way, properties of ours that nobody knows."""
    found: list[str] = []
    for start in range(0, len(tasks), 400):
        fields = ["status", "status_changed", "hyperparams.properties"]
        rows = server.call("tasks.get_all", id=list(tasks[start : start + 400]), only_fields=fields)["tasks"]
        found += [problem for row in rows for problem in _problems(row)]
    return found


def _problems(row: Mapping[str, Any]) -> list[str]:
    properties = {name: item.get("value") for name, item in row.get("hyperparams", {}).get("properties", {}).items()}
    marks = {name: str(value) for name, value in properties.items() if name.startswith(MARK)}
    unknown = sorted(name for name in properties if name not in OURS and name not in marks)
    found = [f"task {row['id']} has the property {name}" for name in unknown]
    if row["status"] == "queued":
        found += [f"task {row['id']} is queued, with the mark {name}={value}" for name, value in marks.items()]
    return found

"""Tasks of the ClearML server: read many in one call, tell what happened, end one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from clearml_k8s.clearml.session import Session
from clearml_k8s.errors import ApiUnanswered
from clearml_k8s.names import PROPERTIES_SECTION
from clearml_k8s.wire import NOTHING, got

PAGE_SIZE: Final = 500

FIELDS: Final = (
    "id",
    "name",
    "type",
    "status",
    "status_changed",
    "status_reason",
    "status_message",
    "execution.queue",
    "project",
    "parent",
    "user",
    "company",
    "tags",
    "system_tags",
    "container",
    "script.repository",
    "last_worker",
    "last_worker_report",
    "last_update",
    "last_change",
    "runtime",
    f"hyperparams.{PROPERTIES_SECTION}",
)

STATE_FIELDS: Final = (
    "id",
    "status",
    "status_changed",
    "status_reason",
    "status_message",
    "last_worker",
    "last_update",
    "started",
)
"""What tells how a task stands: read of every task that has a Job, every few seconds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Container:
    """What the task says about its container; "" where it says nothing. ``arguments`` is a docker command line.

    ``malformed`` names a setting that is no text, so that the task is not run without it; "" when all are.
    """

    image: str = ""
    arguments: str = ""
    setup_shell_script: str = ""
    malformed: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskView:
    """One task as read; times are the server's strings, unchanged; "" or None where the server says nothing."""

    id: str
    name: str = ""
    type: str = ""
    status: str = ""
    status_changed: str = ""
    status_reason: str = ""
    status_message: str = ""
    execution_queue: str | None = None
    project: str | None = None
    project_name: str = ""
    """Only where somebody looked it up."""
    parent: str | None = None
    user: str = ""
    company: str = ""
    tags: tuple[str, ...] = ()
    system_tags: tuple[str, ...] = ()
    container: Container = Container()
    script_repository: str = ""
    last_worker: str | None = None
    last_worker_report: str | None = None
    last_update: str | None = None
    started: str | None = None
    last_change: str | None = None
    runtime: Mapping[str, Any] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)
    document: Mapping[str, Any] | None = None
    """All that the server has of it; only where somebody read that."""


async def get_document(session: Session, task: str, *, deadline: float | None = None) -> Mapping[str, Any]:
    """All that the server has of a task. A read; NotFound when it does not exist."""
    data = await session.call("tasks.get_by_id", {"task": task}, read=True, deadline=deadline)
    found = data.get("task", NOTHING)
    if not isinstance(found, Mapping):
        raise ApiUnanswered("tasks.get_by_id", got(found, expected="an object"))
    return found


async def get_many(
    session: Session, ids: Iterable[str], *, fields: Sequence[str] = FIELDS, deadline: float | None = None
) -> Mapping[str, TaskView]:
    """The tasks by id, one call per 500; an id that is absent from the answer does not exist. A read.

    Of other ``fields`` than these the answer says nothing; they have their defaults.
    """
    distinct = list(dict.fromkeys(ids))
    found: dict[str, TaskView] = {}
    for start in range(0, len(distinct), PAGE_SIZE):
        part = distinct[start : start + PAGE_SIZE]
        for view in await _page(session, {"id": part}, 0, deadline, fields=fields):
            found[view.id] = view
    return found


async def find_queued(
    session: Session, *, queue_ids: Sequence[str], changed_before: str | None = None, deadline: float | None = None
) -> Mapping[str, TaskView]:
    """All tasks of status ``queued`` whose ``execution.queue`` is one of ``queue_ids``, for the sweep. A read.

    ``changed_before`` is a server time string: only tasks whose status changed before it.
    """
    if not queue_ids:
        return {}
    query: dict[str, object] = {"status": ["queued"], "execution.queue": list(queue_ids), "order_by": ["id"]}
    if changed_before:
        query["status_changed"] = [f"<{changed_before}"]
    found: dict[str, TaskView] = {}
    page = 0
    while True:
        views = await _page(session, query, page, deadline)
        found.update((view.id, view) for view in views)
        if len(views) < PAGE_SIZE:
            return found
        page += 1


async def set_properties(
    session: Session, task: str, properties: Mapping[str, str], *, deadline: float | None = None
) -> None:
    """Set user properties, each by its key: others stay as they are. Works at any status; harmless to repeat."""
    items = [{"section": PROPERTIES_SECTION, "name": key, "value": value} for key, value in properties.items()]
    if items:
        body: dict[str, object] = {"task": task, "hyperparams": items, "replace_hyperparams": "none"}
        await session.call("tasks.edit_hyper_params", body, deadline=deadline)


async def delete_properties(session: Session, task: str, keys: Iterable[str], *, deadline: float | None = None) -> None:
    """Delete user properties by key; those that are not there are ignored. Harmless to repeat."""
    items = [{"section": PROPERTIES_SECTION, "name": key} for key in keys]
    if items:
        await session.call("tasks.delete_hyper_params", {"task": task, "hyperparams": items}, deadline=deadline)


async def set_status_message(session: Session, task: str, message: str, *, deadline: float | None = None) -> None:
    """Set ``status_message`` alone, at any status: of all else only ``last_change`` moves. Harmless to repeat."""
    await session.call("tasks.update", {"task": task, "status_message": message}, deadline=deadline)


async def failed(
    session: Session, task: str, *, reason: str, message: str, force: bool = False, deadline: float | None = None
) -> None:
    """End the task as ``failed``; InvalidStatus when its status does not allow that (``queued`` needs ``force``)."""
    await _end(session, "tasks.failed", task, reason, message, force=force, deadline=deadline)


async def stopped(
    session: Session, task: str, *, reason: str, message: str, force: bool = False, deadline: float | None = None
) -> None:
    """End the task as ``stopped`` (aborted); InvalidStatus when its status does not allow that."""
    await _end(session, "tasks.stopped", task, reason, message, force=force, deadline=deadline)


async def enqueue(
    session: Session, task: str, *, queue: str, reason: str, message: str, deadline: float | None = None
) -> None:
    """Put the task into the queue (an id) anew, at its tail, which gives it a new ``status_changed``.

    Allowed from ``created``, ``stopped``, ``failed``, and from ``queued``, which moves the entry; else InvalidStatus.
    NotFound when there is no such queue. ApiRefused 400/706 when it is in this queue already.
    """
    body: dict[str, object] = {"task": task, "queue": queue, "status_reason": reason, "status_message": message}
    await session.call("tasks.enqueue", body, deadline=deadline)


async def _end(
    session: Session, endpoint: str, task: str, reason: str, message: str, *, force: bool, deadline: float | None
) -> None:
    body: dict[str, object] = {"task": task, "status_reason": reason, "status_message": message}
    if force:
        body["force"] = True
    await session.call(endpoint, body, deadline=deadline)


async def _page(
    session: Session, query: Mapping[str, object], page: int, deadline: float | None, *, fields: Sequence[str] = FIELDS
) -> list[TaskView]:
    body: dict[str, object] = {
        **query,
        "search_hidden": True,
        "only_fields": list(fields),
        "page": page,
        "page_size": PAGE_SIZE,
    }
    data = await session.call("tasks.get_all", body, deadline=deadline, read=True)
    rows = data.get("tasks")
    if not isinstance(rows, list):
        # Not "no tasks": an absent task is taken for a deleted one, so a strange answer must not look like that.
        raise ApiUnanswered("tasks.get_all", "the answer holds no list of tasks")
    for index, row in enumerate(rows):
        # Nor may an unreadable one: which task it is of is not known.
        if not isinstance(row, Mapping):
            raise ApiUnanswered("tasks.get_all", f"tasks[{index}]: {got(row, expected='an object')}")
        found = row.get("id", NOTHING)
        if not isinstance(found, str) or not found:
            raise ApiUnanswered("tasks.get_all", f"tasks[{index}].id: {got(found, expected='text')}")
    return [view(row) for row in rows]


def view(row: Mapping[str, Any]) -> TaskView:
    """A task of the server's JSON that has an ``id``; members that are missing, null or of another type become the
    defaults, and of the container's settings it is noted."""
    execution = _section(row, "execution")
    sections = _section(row, "hyperparams")
    items = _section(sections, PROPERTIES_SECTION)
    return TaskView(
        id=row["id"],
        name=_text(row, "name"),
        type=_text(row, "type"),
        status=_text(row, "status"),
        status_changed=_text(row, "status_changed"),
        status_reason=_text(row, "status_reason"),
        status_message=_text(row, "status_message"),
        execution_queue=_reference(execution, "queue"),
        project=_reference(row, "project"),
        parent=_reference(row, "parent"),
        user=_reference(row, "user") or "",
        company=_reference(row, "company") or "",
        tags=_texts(row, "tags"),
        system_tags=_texts(row, "system_tags"),
        container=_container(row.get("container")),
        script_repository=_text(_section(row, "script"), "repository"),
        last_worker=_text(row, "last_worker") or None,
        last_worker_report=_text(row, "last_worker_report") or None,
        last_update=_text(row, "last_update") or None,
        started=_text(row, "started") or None,
        last_change=_text(row, "last_change") or None,
        runtime=dict(_section(row, "runtime")),
        properties={key: _text(item, "value") for key, item in items.items() if isinstance(item, Mapping)},
    )


def _container(found: object) -> Container:
    if found is None:
        return Container()
    if not isinstance(found, Mapping):
        return Container(malformed=f"container: {got(found, expected='an object')}")
    wrong = ""
    for key in ("image", "arguments", "setup_shell_script"):
        if not isinstance(found.get(key), str | None):
            wrong = wrong or f"container.{key}: {got(found[key], expected='text')}"
    return Container(
        image=_text(found, "image"),
        arguments=_text(found, "arguments"),
        setup_shell_script=_text(found, "setup_shell_script"),
        malformed=wrong,
    )


def _texts(row: Mapping[str, Any], key: str) -> tuple[str, ...]:
    found = row.get(key)
    return tuple(item for item in found if isinstance(item, str)) if isinstance(found, list) else ()


def _section(row: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = row.get(key)
    return found if isinstance(found, Mapping) else {}


def _text(row: Mapping[str, Any], key: str) -> str:
    found = row.get(key)
    return found if isinstance(found, str) else ""


def _reference(row: Mapping[str, Any], key: str) -> str | None:
    """An id, whether given plainly or as the object it stands for."""
    found = row.get(key)
    if isinstance(found, Mapping):
        found = found.get("id")
    return found if isinstance(found, str) and found else None

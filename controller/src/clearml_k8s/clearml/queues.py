"""Queues of the ClearML server: look, take one entry, put one in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from clearml_k8s.clearml.session import Session
from clearml_k8s.errors import ApiRefused, ApiUnanswered, NotFound, Refused
from clearml_k8s.wire import NOTHING, got

PAGE_SIZE: Final = 500
_NAMES_PER_CALL: Final = 50

_NOT_IN_QUEUE: Final = (400, 703)
_ALREADY_IN_QUEUE: Final = (400, 706)
_NAME_TAKEN: Final = (400, 801)


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One entry of a queue: the task's id and when it came in (the server's string)."""

    task: str
    added: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Queue:
    """A queue with its first entries in order; ``total`` counts all, None when there are more than were asked for.

    ``unreadable`` says what stands among them that is no entry, "" when there is nothing.
    """

    id: str
    name: str
    entries: tuple[Entry, ...] = ()
    total: int | None = 0
    system_tags: tuple[str, ...] = ()
    unreadable: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Resolution:
    """What the configured names or ids stand for on the server, by the key as configured.

    An id wins over a name. ``ambiguous`` keys name more than one queue; ``missing`` ones none.
    """

    found: Mapping[str, Queue]
    ambiguous: Mapping[str, tuple[Queue, ...]]
    missing: tuple[str, ...]


async def get_queues(
    session: Session,
    *,
    ids: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    max_entries: int | None = None,
    deadline: float | None = None,
) -> tuple[Queue, ...]:
    """Queues by ``ids`` or by exact ``names`` (or all), hidden ones too, each with at most ``max_entries`` entries.

    One call per 500 queues (per 50 names). A queue that does not exist is missing from the answer. Errors as
    `Session.call`; a read.
    """
    if ids is not None and names is not None:
        raise ValueError("give ids or names, not both")
    if ids is not None:
        found: list[Queue] = []
        for part in _parts(ids, PAGE_SIZE):
            found += await _pages(session, {"id": part}, max_entries, deadline)
        return tuple(found)
    if names is not None:
        found = []
        for part in _parts(names, _NAMES_PER_CALL):
            # `name` is a regular expression to the server.
            pattern = "^(?:" + "|".join(re.escape(name) for name in part) + ")$"
            wanted = set(part)
            found += [q for q in await _pages(session, {"name": pattern}, max_entries, deadline) if q.name in wanted]
        return tuple(found)
    return tuple(await _pages(session, {}, max_entries, deadline))


async def resolve(session: Session, keys: Iterable[str], *, deadline: float | None = None) -> Resolution:
    """What each configured queue name or id stands for; two calls for up to 50 keys. A read."""
    wanted = tuple(dict.fromkeys(keys))
    by_id = {queue.id: queue for queue in await get_queues(session, ids=wanted, max_entries=1, deadline=deadline)}
    by_name: dict[str, list[Queue]] = {}
    rest = tuple(key for key in wanted if key not in by_id)
    if rest:
        for queue in await get_queues(session, names=rest, max_entries=1, deadline=deadline):
            by_name.setdefault(queue.name, []).append(queue)
    found = {key: by_id[key] for key in wanted if key in by_id}
    found.update({name: queues[0] for name, queues in by_name.items() if len(queues) == 1})
    return Resolution(
        found=found,
        ambiguous={name: tuple(queues) for name, queues in by_name.items() if len(queues) > 1},
        missing=tuple(key for key in rest if key not in by_name),
    )


async def all_entries(
    session: Session, *, ids: Sequence[str] | None = None, deadline: float | None = None
) -> tuple[Queue, ...]:
    """The queues (all by default, hidden ones too) with every entry; for the sweep. A read.

    ApiUnanswered when one of them holds what is no entry: what is not listed would be taken for absent.
    """
    found = await get_queues(session, ids=ids, deadline=deadline)
    for queue in found:
        if queue.unreadable:
            raise ApiUnanswered("queues.get_all", queue.unreadable)
    return found


async def num_entries(session: Session, queue: str, *, deadline: float | None = None) -> int:
    """How many entries the queue (an id) holds. A read; NotFound when there is no such queue."""
    data = await session.call("queues.get_num_entries", {"queue": queue}, deadline=deadline, read=True)
    num = data.get("num")
    if not isinstance(num, int):
        raise ApiUnanswered("queues.get_num_entries", "the answer holds no number")
    return num


async def remove_task(session: Session, queue: str, task: str, *, deadline: float | None = None) -> bool:
    """Take the task's entry out of the queue: True only when this call removed it, so it is ours.

    False: it was not there, someone else took it, or there is no such queue. `Unanswered`: it may be taken now or soon.
    """
    try:
        data = await session.call("queues.remove_task", {"queue": queue, "task": task}, deadline=deadline)
    except NotFound:
        return False
    except ApiRefused as error:
        if (error.code, error.subcode) == _NOT_IN_QUEUE:
            return False
        raise
    return data.get("removed") == 1


async def add_task(session: Session, queue: str, task: str, *, deadline: float | None = None) -> bool:
    """Put the task at the tail of the queue, its status untouched: True when this call added it, False when it is in.

    NotFound when there is no such queue; `Unanswered`: it may be in, now or soon.
    """
    try:
        data = await session.call("queues.add_task", {"queue": queue, "task": task}, deadline=deadline)
    except ApiRefused as error:
        if (error.code, error.subcode) == _ALREADY_IN_QUEUE:
            return False
        raise
    return data.get("added") == 1


async def move_task_to_front(session: Session, queue: str, task: str, *, deadline: float | None = None) -> bool:
    """Make the task the queue's first; False when it is not in it. Harmless to repeat."""
    try:
        await session.call("queues.move_task_to_front", {"queue": queue, "task": task}, deadline=deadline)
    except ApiRefused as error:
        if (error.code, error.subcode) == _NOT_IN_QUEUE:
            return False
        raise
    return True


async def create_queue(
    session: Session, name: str, *, system_tags: Sequence[str] = (), deadline: float | None = None
) -> str:
    """Create a queue and return its id; ApiRefused 400/801 when the name is taken."""
    body: dict[str, object] = {"name": name}
    if system_tags:
        body["system_tags"] = list(system_tags)
    data = await session.call("queues.create", body, deadline=deadline)
    created = data.get("id")
    if not isinstance(created, str) or not created:
        raise ApiUnanswered("queues.create", "the answer holds no id")
    return created


async def ensure_queue(
    session: Session, name: str, *, system_tags: Sequence[str] = (), deadline: float | None = None
) -> Queue:
    """The queue of exactly this name, created only after the server said that there is none."""
    existing = await get_queues(session, names=[name], max_entries=1, deadline=deadline)
    if existing:
        return existing[0]
    try:
        created = await create_queue(session, name, system_tags=system_tags, deadline=deadline)
    except ApiRefused as error:
        if (error.code, error.subcode) != _NAME_TAKEN:
            raise
        # Someone else was faster.
        existing = await get_queues(session, names=[name], max_entries=1, deadline=deadline)
        if not existing:
            raise Refused(f"queue {name!r} exists on the server but these credentials cannot see it") from error
        return existing[0]
    return Queue(id=created, name=name, system_tags=tuple(system_tags))


def _parts(items: Sequence[str], size: int) -> list[list[str]]:
    distinct = list(dict.fromkeys(items))
    return [distinct[start : start + size] for start in range(0, len(distinct), size)]


async def _pages(
    session: Session, query: Mapping[str, object], max_entries: int | None, deadline: float | None
) -> list[Queue]:
    found: dict[str, Queue] = {}
    page = 0
    while True:
        body: dict[str, object] = {
            **query,
            "search_hidden": True,
            "only_fields": ["id", "name", "entries", "system_tags"],
            "order_by": ["id"],
            "page": page,
            "page_size": PAGE_SIZE,
        }
        if max_entries is not None:
            body["max_task_entries"] = max_entries
        data = await session.call("queues.get_all", body, deadline=deadline, read=True)
        rows = data.get("queues")
        if not isinstance(rows, list):
            raise ApiUnanswered("queues.get_all", "the answer holds no list of queues")
        for index, row in enumerate(rows):
            queue = _queue(row, max_entries, where=f"queues[{index}]")
            found[queue.id] = queue
        if len(rows) < PAGE_SIZE:
            return list(found.values())
        page += 1


def _queue(row: object, max_entries: int | None, *, where: str) -> Queue:
    """A queue of the server's JSON, ``where`` in the answer. What is no entry is passed over, and told."""
    if not isinstance(row, Mapping):
        raise ApiUnanswered("queues.get_all", f"{where}: {got(row, expected='an object')}")
    for key in ("id", "name"):
        text = row.get(key, NOTHING)
        if not isinstance(text, str) or not text:
            raise ApiUnanswered("queues.get_all", f"{where}.{key}: {got(text, expected='text')}")
    raw = row.get("entries") or []
    if not isinstance(raw, list):
        raise ApiUnanswered("queues.get_all", f"{where}.entries: {got(raw, expected='a list')}")
    entries: list[Entry] = []
    unreadable = ""
    for index, item in enumerate(raw):
        task = item.get("task") if isinstance(item, Mapping) else item
        if isinstance(item, Mapping) and isinstance(task, str) and task:
            added = item.get("added")
            entries.append(Entry(task=task, added=added if isinstance(added, str) else ""))
        else:
            unreadable = unreadable or f"{where}.entries[{index}]: {got(task, expected='an entry with a task')}"
    # An older server ignores max_task_entries and gives all.
    cut = max_entries is not None and len(raw) == max_entries
    tags = row.get("system_tags")
    return Queue(
        id=row["id"],
        name=row["name"],
        entries=tuple(entries) if max_entries is None else tuple(entries[:max_entries]),
        total=None if cut else len(raw),
        system_tags=tuple(tag for tag in tags if isinstance(tag, str)) if isinstance(tags, list) else (),
        unreadable=unreadable,
    )

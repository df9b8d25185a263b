"""The data, as a real server's databases hold them. Every method is one database operation: it never awaits."""

from __future__ import annotations

import itertools
import uuid
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from .clock import Clock, to_database
from .settings import COMPANY_ID

Document = dict[str, Any]


def new_id() -> str:
    return uuid.uuid4().hex


class Tasks:
    """Task documents by id, with an index by status, so that a poll for queued tasks does not scan all of them."""

    def __init__(self) -> None:
        self._documents: dict[str, Document] = {}
        self._by_status: dict[str, dict[str, None]] = {}

    def __len__(self) -> int:
        return len(self._documents)

    def __iter__(self) -> Iterator[Document]:
        return iter(self._documents.values())

    def get(self, task_id: str) -> Document | None:
        return self._documents.get(task_id)

    def add(self, document: Document) -> None:
        self._documents[document["id"]] = document
        self._by_status.setdefault(document["status"], {})[document["id"]] = None

    def delete(self, task_id: str) -> None:
        document = self._documents.pop(task_id)
        self._by_status[document["status"]].pop(task_id)

    def update(self, task_id: str, fields: Document) -> bool:
        """Set top-level fields; times lose what is below a millisecond. False if the task is gone."""
        document = self._documents.get(task_id)
        if document is None:
            return False
        before = document["status"]
        for name, value in fields.items():
            document[name] = to_database(value) if isinstance(value, datetime) else value
        if document["status"] != before:
            self._by_status[before].pop(task_id)
            self._by_status.setdefault(document["status"], {})[task_id] = None
        return True

    def update_if_status(self, task_id: str, expected: str, fields: Document) -> bool:
        """The compare-and-set that every change of status is made with."""
        document = self._documents.get(task_id)
        return document is not None and document["status"] == expected and self.update(task_id, fields)

    def with_status(self, statuses: Iterable[str]) -> list[Document]:
        """In order of creation within one status."""
        return [self._documents[task_id] for status in statuses for task_id in self._by_status.get(status, ())]

    def count_by_status(self) -> dict[str, int]:
        return {status: len(ids) for status, ids in sorted(self._by_status.items()) if ids}

    def set_execution_queue(self, task_id: str, queue_id: str | None) -> None:
        document = self._documents.get(task_id)
        if document is None:
            return
        if queue_id is None:
            document["execution"].pop("queue", None)
        else:
            document["execution"]["queue"] = queue_id


class Queue:
    """A queue and its entries: task id -> time of the push, in order."""

    def __init__(self, *, name: str, now: datetime, tags: list[str], system_tags: list[str], fields: Document) -> None:
        self.id = new_id()
        self.name = name
        self.created = now
        self.last_update = now
        self.tags = tags
        self.system_tags = system_tags
        self.fields = fields
        self.entries: OrderedDict[str, datetime] = OrderedDict()

    def document(self, *, max_entries: int | None = None) -> Document:
        """The public form. ``max_entries``: the first n entries; of a negative number the last n, as MongoDB."""
        if max_entries and max_entries > 0:
            entries = list(itertools.islice(self.entries.items(), max_entries))
        else:
            entries = list(self.entries.items())[max_entries or 0 :]
        return {
            "id": self.id,
            "name": self.name,
            "company": COMPANY_ID,
            "created": self.created,
            "last_update": self.last_update,
            "tags": self.tags,
            "system_tags": self.system_tags,
            "entries": [{"task": task, "added": added} for task, added in entries],
            **self.fields,
        }


class Queues:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._queues: dict[str, Queue] = {}

    def __iter__(self) -> Iterator[Queue]:
        return iter(self._queues.values())

    def __len__(self) -> int:
        return len(self._queues)

    def get(self, queue_id: str) -> Queue | None:
        return self._queues.get(queue_id)

    def by_name(self, name: str) -> Queue | None:
        return next((queue for queue in self if queue.name == name), None)

    def create(
        self, name: str, *, tags: list[str] | None = None, system_tags: list[str] | None = None, **fields: Any
    ) -> Queue:
        now = self._clock.stored_now()
        queue = Queue(name=name, now=now, tags=tags or [], system_tags=system_tags or [], fields=fields)
        self._queues[queue.id] = queue
        return queue

    def delete(self, queue_id: str) -> None:
        del self._queues[queue_id]

    def push(self, queue: Queue, task_id: str) -> bool:
        """Append unless there; False if it was there."""
        if task_id in queue.entries:
            return False
        queue.entries[task_id] = queue.last_update = self._clock.stored_now()
        return True

    def pop(self, queue: Queue, *, expected_head: str | None = None) -> tuple[str, datetime] | None:
        """Find and modify: the head, or None if there is none or it is not the one expected."""
        if not queue.entries or (expected_head is not None and next(iter(queue.entries)) != expected_head):
            return None
        queue.last_update = self._clock.stored_now()
        return queue.entries.popitem(last=False)

    def pull(self, queue: Queue, task_id: str, added: datetime) -> bool:
        """Remove the entry that was read. True if the task was in the queue.

        As the real server: an entry pushed anew between the read and this call stays, and True is answered even so.
        """
        current = queue.entries.get(task_id)
        if current is None:
            return False
        queue.last_update = self._clock.stored_now()
        if current == added:
            del queue.entries[task_id]
        return True

    def remove_from_all(self, task_id: str, *, but: str | None = None) -> int:
        removed = 0
        for queue in self._queues.values():
            if queue.id != but and task_id in queue.entries:
                del queue.entries[task_id]
                queue.last_update = self._clock.stored_now()
                removed += 1
        return removed

    def move(self, queue: Queue, task_id: str, position: int) -> None:
        order = [task for task in queue.entries if task != task_id]
        order.insert(position, task_id)
        queue.entries = OrderedDict((task, queue.entries[task]) for task in order)
        queue.last_update = self._clock.stored_now()


class Store:
    """Everything that ``POST /_dev/reset`` forgets."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.reset()

    def reset(self) -> None:
        self.tasks = Tasks()
        self.queues = Queues(self._clock)
        self.projects: dict[str, Document] = {}
        self.models: dict[str, Document] = {}
        self.workers: dict[str, Document] = {}
        self.cluster_reports: dict[str, dict[str, Document]] = {}
        # by task, then in order of arrival
        self.events: dict[str, list[Document]] = {}
        self.files: dict[str, bytes] = {}
        self.queues.create("default", system_tags=["default"])

"""What exists in the cluster: the records of one resource, found by task."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

from clearml_k8s.kube.watch import Event, Listed, Upsert

LATELY = 10_000
"""Objects whose deletion is remembered: many more than go while one request is under way."""


MOST_DIGITS = 20
"""Of a resourceVersion: it is a number of 64 bits."""


def newer(version: str, other: str) -> bool:
    """Whether a resourceVersion is later than another; False where they do not tell (they are numbers everywhere)."""
    numbers = all(text.isascii() and text.isdecimal() and len(text) <= MOST_DIGITS for text in (version, other))
    return numbers and int(version) > int(other)


class Record(Protocol):
    """What a store needs of its records."""

    @property
    def uid(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def resource_version(self) -> str: ...
    @property
    def task(self) -> str | None: ...


R = TypeVar("R", bound=Record)


class Store(Generic[R]):
    """The records of one resource, by uid, by name and by task; tells which tasks changed."""

    def __init__(self, *, dirty: Callable[[str], None] | None = None, keep_gone: bool = False) -> None:
        """``dirty`` is called with a task's id after each change of one of its records, during `apply`.

        ``keep_gone``: last states of what was deleted are kept, until `forget`.
        """
        self._dirty = dirty
        self._keep_gone = keep_gone
        self._records: dict[str, R] = {}
        self._names: dict[str, str] = {}
        self._tasks: dict[str, set[str]] = {}
        self._gone: dict[str, list[R]] = {}
        self._listed = ""
        self._lately_gone: dict[str, None] = {}
        self.synced = asyncio.Event()

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[R]:
        """All records as they are now; safe against changes while iterating."""
        return iter(list(self._records.values()))

    def get(self, uid: str) -> R | None:
        return self._records.get(uid)

    def named(self, name: str) -> R | None:
        """The record of this object name."""
        uid = self._names.get(name)
        return None if uid is None else self._records.get(uid)

    def of_task(self, task: str) -> tuple[R, ...]:
        """The task's records, in no order."""
        return tuple(self._records[uid] for uid in self._tasks.get(task, ()))

    def gone_of_task(self, task: str) -> tuple[R, ...]:
        """The last states of the task's records that are gone, in the order they went."""
        return tuple(self._gone.get(task, ()))

    def gone(self) -> Iterator[R]:
        """The last states of all records that are gone."""
        return (record for records in self._gone.values() for record in records)

    def forget(self, task: str) -> None:
        """Nobody asks for the task's gone records any more."""
        self._gone.pop(task, None)

    def tasks(self) -> frozenset[str]:
        """The tasks that have a record."""
        return frozenset(self._tasks)

    def apply(self, event: Event[R]) -> None:
        """Take over one event of a `Watch`; the first `Listed` sets ``synced``."""
        if isinstance(event, Listed):
            self._listed = event.version
            for uid in self._records.keys() - {record.uid for record in event.items}:
                # A write of ours may be newer than the list: the stream, which begins with the list, shows its end.
                if not newer(self._records[uid].resource_version, event.version):
                    self._remove(self._records[uid])
            for record in event.items:
                self._put(record)
            self.synced.set()
        elif isinstance(event, Upsert):
            self._put(event.item)
        else:
            self._remove(event.item)

    def note(self, record: R) -> None:
        """Take over what a write of ours answered, unless the watch was faster, to its end perhaps."""
        if record.uid in self._records or record.uid in self._lately_gone:
            return
        if self._listed and newer(self._listed, record.resource_version):
            return  # a later list does not have it
        self._put(record)

    def _put(self, record: R) -> None:
        old = self._records.get(record.uid)
        if old == record:
            return
        if old is not None:
            self._unlink(old)
        self._records[record.uid] = record
        self._names[record.name] = record.uid
        if record.task is not None:
            self._tasks.setdefault(record.task, set()).add(record.uid)
        self._changed(record)

    def _remove(self, record: R) -> None:
        self._lately_gone[record.uid] = None
        if len(self._lately_gone) > LATELY:
            del self._lately_gone[next(iter(self._lately_gone))]
        old = self._records.pop(record.uid, None)
        if old is not None:
            self._unlink(old)
            if self._keep_gone and record.task is not None:
                self._gone.setdefault(record.task, []).append(record)
            self._changed(old)

    def _unlink(self, record: R) -> None:
        if self._names.get(record.name) == record.uid:
            del self._names[record.name]
        if record.task is not None:
            uids = self._tasks[record.task]
            uids.discard(record.uid)
            if not uids:
                del self._tasks[record.task]

    def _changed(self, record: R) -> None:
        if self._dirty is not None and record.task is not None:
            self._dirty(record.task)

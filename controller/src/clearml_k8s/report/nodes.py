"""The nodes of the cluster, as their watch brings them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from clearml_k8s.kube.node import NodeRecord
from clearml_k8s.kube.watch import Event, Listed, Upsert


class Nodes:
    """Records by name. ``changes`` counts what really changed: a heartbeat does not."""

    def __init__(self) -> None:
        self._records: dict[str, NodeRecord] = {}
        self.changes = 0
        self.synced = asyncio.Event()

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[NodeRecord]:
        return iter(self._records.values())

    def apply(self, event: Event[NodeRecord]) -> None:
        """Take one event over."""
        if isinstance(event, Listed):
            found = {record.name: record for record in event.items}
            if found != self._records or not self.synced.is_set():
                self._records = found
                self.changes += 1
            self.synced.set()
        elif isinstance(event, Upsert):
            if self._records.get(event.item.name) != event.item:
                self._records[event.item.name] = event.item
                self.changes += 1
        elif self._records.pop(event.item.name, None) is not None:
            self.changes += 1

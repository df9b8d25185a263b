"""What is kept of a Node: thousands of them cost little, and a heartbeat of one changes nothing.

A full Node takes some 50 KiB in memory, most of it names of images. Nodes of a kind are alike, so what they have in
common is kept once.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from clearml_k8s.errors import KubeUnanswered
from clearml_k8s.kube.quantity import quantity
from clearml_k8s.wire import NOTHING, got

Pairs = tuple[tuple[str, str], ...]
Amounts = tuple[tuple[str, int], ...]
T = TypeVar("T", Pairs, Amounts)

_NOT_EXTENDED: Final = ("kubernetes.io/", "attachable-volumes-", "hugepages-")


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeRecord:
    """A Node.

    ``labels`` are those that were asked for; ``cpus_milli`` its capacity in thousandths; ``extended`` what it offers of
    extended resources (``nvidia.com/gpu``, ``nvidia.com/mig-1g.5gb``, ...) to pods, whole numbers above 0.
    """

    name: str
    labels: Pairs
    ready: bool
    cordoned: bool
    cpus_milli: int
    extended: Amounts

    def label(self, key: str) -> str | None:
        return next((value for name, value in self.labels if name == key), None)

    @property
    def usable(self) -> bool:
        """New pods may run on it."""
        return self.ready and not self.cordoned


class NodeSlimmer:
    """Makes records of Node objects, with the labels of these keys; equal parts of records are one object."""

    def __init__(self, label_keys: Collection[str]) -> None:
        self._keys = sorted(label_keys)
        self._pairs: dict[Pairs, Pairs] = {}
        self._amounts: dict[Amounts, Amounts] = {}

    def __call__(self, node: Mapping[str, Any]) -> NodeRecord:
        """Raises KubeUnanswered for a node without name."""
        meta, spec, status = _map(node, "metadata"), _map(node, "spec"), _map(node, "status")
        name = meta.get("name", NOTHING)
        if not isinstance(name, str) or not name:
            raise KubeUnanswered("Node", f"metadata.name: {got(name, expected='text')}")
        labels = _map(meta, "labels")
        kept = [(sys.intern(key), sys.intern(text)) for key in self._keys if isinstance(text := labels.get(key), str)]
        cpus = quantity(_map(status, "capacity").get("cpu"))
        return NodeRecord(
            name=name,
            labels=_one(self._pairs, tuple(kept)),
            ready=_ready(status),
            cordoned=spec.get("unschedulable") is True,
            cpus_milli=max(0, int(cpus * 1000)) if cpus is not None else 0,
            extended=_one(self._amounts, extended(_map(status, "allocatable"))),
        )


def extended(amounts: Mapping[str, Any]) -> Amounts:
    """The extended resources of a map of quantities, sorted by name: those whose name has a domain of its own."""
    found = []
    for name, text in amounts.items():
        if not isinstance(name, str) or "/" not in name or name.startswith(_NOT_EXTENDED):
            continue
        amount = quantity(text)
        if amount is not None and amount >= 1:
            found.append((sys.intern(name), int(amount)))
    return tuple(sorted(found))


def _one(known: dict[T, T], value: T) -> T:
    # Labels may be as many as there are nodes (a host's name): then nothing is shared, and nothing is kept for it.
    if len(known) > 1000:
        known.clear()
    return known.setdefault(value, value)


def _ready(status: Mapping[str, Any]) -> bool:
    conditions = status.get("conditions")
    return isinstance(conditions, list) and any(
        isinstance(one, Mapping) and one.get("type") == "Ready" and one.get("status") == "True" for one in conditions
    )


def _map(source: object, key: str) -> Mapping[str, Any]:
    found = source.get(key) if isinstance(source, Mapping) else None
    return found if isinstance(found, Mapping) else {}

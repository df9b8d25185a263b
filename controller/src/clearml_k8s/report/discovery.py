"""How many GPUs and CPUs the cluster has, counted from its nodes as they are."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from clearml_k8s import names
from clearml_k8s.config import selector
from clearml_k8s.config.dashboard import DashboardConfig
from clearml_k8s.config.gpus import is_gpu
from clearml_k8s.kube.node import Amounts
from clearml_k8s.report.nodes import Nodes

log = logging.getLogger(__name__)

_COUNT = re.compile(r"[0-9]{1,6}")
MOST_TOLD: Final = 5
"""Nodes that one warning names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """What the nodes have.

    ``counts_gpus`` and ``counts_cpus``: discovery of them is on.
    ``gpus`` and ``cpus_milli`` are of all nodes that match, ready or not, cordoned or not; ``..._usable`` those of them
    on which new pods may run. ``offered`` is what the usable nodes with GPUs offer to pods by resource: MIG devices and
    shares of GPUs are more than the ``gpus`` that they are of. ``largest``: by extended resource, the most that one
    node of the cluster offers. ``unlabelled`` match, but carry no label that counts; ``unreadable``: node, label and
    value of those whose label is no number. Both have no GPUs here.
    """

    counts_gpus: bool = True
    counts_cpus: bool = False
    nodes: int = 0
    gpu_nodes: int = 0
    gpus: int = 0
    gpus_usable: int = 0
    offered: Amounts = ()
    cpu_nodes: int = 0
    cpus_milli: int = 0
    cpus_milli_usable: int = 0
    largest: Amounts = ()
    unlabelled: tuple[str, ...] = ()
    unreadable: tuple[tuple[str, str, str], ...] = ()

    @property
    def text(self) -> str:
        """One line for people."""
        said = [f"{self.nodes} nodes"]
        if self.gpu_nodes:
            unused = self.gpus - self.gpus_usable
            said.append(
                f"{self.gpus} GPUs on {self.gpu_nodes} nodes"
                + (f", {unused} of them on nodes that are not ready or are cordoned" if unused else "")
            )
            if sum(amount for _, amount in self.offered) != self.gpus_usable:
                amounts = ", ".join(f"{amount} {resource}" for resource, amount in self.offered)
                said.append(f"pods may ask for {amounts or 'none of them'}")
        elif self.counts_gpus:
            said.append("no GPUs on nodes that match")
        if self.cpu_nodes:
            unused = (self.cpus_milli - self.cpus_milli_usable) // 1000
            said.append(
                f"{self.cpus_milli // 1000} CPUs on {self.cpu_nodes} nodes"
                + (f", {unused} of them on nodes that are not ready or are cordoned" if unused else "")
            )
        if self.unlabelled:
            said.append(f"no label that counts GPUs on {_some(self.unlabelled)}")
        if self.unreadable:
            said.append(f"a label that is no number on {_some(node for node, _, _ in self.unreadable)}")
        return "; ".join(said)


class Discovery:
    """Counts when asked, and only if a node changed since."""

    def __init__(self, *, config: DashboardConfig, nodes: Nodes) -> None:
        gpu, cpu = config.gpu_discovery, config.cpu_discovery
        self._gpus = selector.parse(gpu.base_selector, gpu.node_selector) if gpu.enabled else None
        self._cpus = selector.parse(cpu.node_selector) if cpu.enabled else None
        self._count_labels = selector.label_keys(gpu.count_labels)
        self._nodes = nodes
        self._counted = -1
        self._summary = Summary()
        self._told: frozenset[tuple[str, str, str]] = frozenset()

    @property
    def known(self) -> bool:
        """The nodes were listed once."""
        return self._nodes.synced.is_set()

    @property
    def summary(self) -> Summary:
        """What the nodes have now. A label that is no number is logged with its node, once."""
        if self._counted != self._nodes.changes:
            self._summary = self._count()
            self._counted = self._nodes.changes
            self._tell(self._summary)
        return self._summary

    def _count(self) -> Summary:
        total: Counter[str] = Counter()
        offered: Counter[str] = Counter()
        largest: dict[str, int] = {}
        unlabelled: list[str] = []
        unreadable: list[tuple[str, str, str]] = []
        for node in self._nodes:
            labels = dict(node.labels)
            usable = node.usable
            for resource, amount in node.extended:
                largest[resource] = max(amount, largest.get(resource, 0))
            if self._cpus is not None and self._cpus.matches(labels):
                total.update(cpu_nodes=1, cpus_milli=node.cpus_milli, cpus_milli_usable=node.cpus_milli * usable)
            if self._gpus is None or not self._gpus.matches(labels):
                continue
            label = next((key for key in self._count_labels if key in labels), None)
            if label is None:
                unlabelled.append(node.name)
            elif not _COUNT.fullmatch(labels[label]):
                unreadable.append((node.name, label, labels[label]))
            else:
                gpus = int(labels[label])
                total.update(gpu_nodes=1, gpus=gpus, gpus_usable=gpus * usable)
            if usable:
                offered.update({resource: amount for resource, amount in node.extended if is_gpu(resource)})
        return Summary(
            counts_gpus=self._gpus is not None,
            counts_cpus=self._cpus is not None,
            nodes=len(self._nodes),
            gpu_nodes=total["gpu_nodes"],
            gpus=total["gpus"],
            gpus_usable=total["gpus_usable"],
            cpu_nodes=total["cpu_nodes"],
            cpus_milli=total["cpus_milli"],
            cpus_milli_usable=total["cpus_milli_usable"],
            offered=tuple(sorted(offered.items())),
            largest=tuple(sorted(largest.items())),
            unlabelled=tuple(sorted(unlabelled)),
            unreadable=tuple(sorted(unreadable)),
        )

    def _tell(self, summary: Summary) -> None:
        found = frozenset(summary.unreadable)
        for node, label, value in sorted(found - self._told)[:MOST_TOLD]:
            log.warning(
                "node %s: label %s: found %s; expected a whole number: its GPUs are not counted",
                node,
                label,
                names.shown(value),
            )
        if (more := len(found - self._told) - MOST_TOLD) > 0:
            log.warning("%d more nodes have a label that is no number: their GPUs are not counted", more)
        self._told = found


def _some(nodes: Iterable[str]) -> str:
    first = list(nodes)
    more = len(first) - MOST_TOLD
    return ", ".join(first[:MOST_TOLD]) + (f" and {more} more" if more > 0 else "")

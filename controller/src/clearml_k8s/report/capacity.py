"""The numbers of a dashboard report, from where each comes: the values, the nodes, a namespace's quota."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from clearml_k8s.config import Config
from clearml_k8s.kube.quantity import quantity
from clearml_k8s.report.discovery import Summary

_CPU_KEYS: Final = ("limits.cpu", "requests.cpu", "cpu")


@dataclass(frozen=True, kw_only=True, slots=True)
class Capacity:
    """What is reported; 0: not known, or no limit."""

    gpus: int = 0
    cpus: int = 0
    workers: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Unknown:
    """The numbers are not known now: nothing is better than a wrong number."""

    why: str


def capacity(
    config: Config, *, summary: Summary | None, quota_cpus: Decimal | None, quota_problem: str = ""
) -> Capacity | Unknown:
    """The numbers to report.

    ``summary``: of the nodes, None while they are not known; ``quota_cpus``: what the namespace's quota allows, None
    without one; ``quota_problem``: why that is not known.
    """
    dashboard = config.dashboard
    gpus, cpus = dashboard.max_gpus, dashboard.max_cpus
    if dashboard.discovers_gpus or dashboard.discovers_cpus:
        if summary is None:
            return Unknown(why="the nodes are not known")
        if dashboard.discovers_gpus:
            gpus = summary.gpus
        if dashboard.discovers_cpus:
            cpus = summary.cpus_milli // 1000
    if dashboard.reads_quota:
        if quota_problem:
            return Unknown(why=quota_problem)
        cpus = int(quota_cpus) if quota_cpus is not None else 0
    return Capacity(gpus=gpus, cpus=cpus, workers=workers(config))


def workers(config: Config) -> int:
    """How many tasks run at most: `maxPods`, or those of all queues where each has its own; 0 without a limit."""
    own = [queue.settings.max_pods for queue in config.queues.values()]
    limits = [limit for limit in own if limit is not None]
    together = sum(limits) if len(limits) == len(own) else None
    return min((limit for limit in (config.max_pods, together) if limit is not None), default=0)


def cpus_of(quotas: Iterable[Mapping[str, Any]]) -> Decimal | None:
    """The CPUs that the ResourceQuotas of one namespace allow: the least of them; None without a limit.

    Quotas with scopes hold for some pods only, and do not count.
    """
    found: list[Decimal] = []
    for quota in quotas:
        spec = quota.get("spec")
        if not isinstance(spec, Mapping) or spec.get("scopes") or spec.get("scopeSelector"):
            continue
        hard = spec.get("hard")
        if isinstance(hard, Mapping):
            found += [amount for key in _CPU_KEYS if (amount := quantity(hard.get(key))) is not None]
    return min(found, default=None)

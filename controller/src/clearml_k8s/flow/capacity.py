"""How many more tasks may be started: counted from what exists, never from counters that could drift (ADR 0011).

Pure. `Room` knows what is left, `places` who holds what; here the configured limits and the quotas come in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import reduce
from itertools import chain
from typing import Any

from clearml_k8s.config import Config, ResolvedQueue
from clearml_k8s.errors import SpecError
from clearml_k8s.flow.places import Count, Stage
from clearml_k8s.flow.quotas import JOBS_COUNT, applies, demand
from clearml_k8s.flow.room import ONE, Costs, Limit, Room
from clearml_k8s.kube.quota import QuotaRecord
from clearml_k8s.kube.uses import NOTHING, Measure, Uses, field_path
from clearml_k8s.spec.job import template_probe_job
from clearml_k8s.spec.variants import variants

PODS, MONITORED, UNDECIDED = "pods", "monitored-resources", "undecided-jobs"
"""Names of the limits that all queues share; their keys, too."""

PENDING, GPUS, CPUS = "pending-pods", "gpus", "cpus"
"""Names of those that a queue has of its own, beside `PODS`. A quota's have the name of their resource."""

LIMITS = (PODS, GPUS, CPUS, PENDING, UNDECIDED, MONITORED)

Counts = Mapping[str | None, Count]
"""By queue id; None: of all."""

EMPTY = Count()


@dataclass(frozen=True, kw_only=True, slots=True)
class Need:
    """What one task of a queue takes: ``pod`` is what its pod will be made of, ``demand`` that pod's share of quotas,
    ``least`` what each has at least; ``problem``: why it is not known.

    With conditional templates ``uses`` and ``demand`` are the most, of each amount, that one of them asks for: which
    task gets which is known only once the task is taken.
    """

    uses: Uses = NOTHING
    pod: Mapping[str, Any] = field(default_factory=dict)
    demand: Mapping[str, Decimal] = field(default_factory=dict)
    least: Mapping[str, Decimal] = field(default_factory=dict)
    problem: str = ""


UNKNOWN = Need()


def measure_of(config: Config) -> Measure:
    """Reads what this configuration limits."""
    monitored = config.monitored_resources
    fields = dict.fromkeys((monitored.min_field, monitored.max_field)) if monitored.max_resources > 0 else ()
    return Measure(fields=tuple(field_path(path) for path in fields))


def need_of(config: Config, queue: ResolvedQueue, *, measure: Measure, worker_id: str) -> Need:
    """What one task of the queue takes: its own settings change nothing in what is limited. ``worker_id``: ours; parts
    of it may stand in a template."""
    pods = []
    for variant in variants(config=config, queue=queue.config):
        of_queue = replace(queue, config=variant.queue)
        try:
            built = template_probe_job(variant.config, of_queue, worker_id=worker_id, controller_id="")
        except SpecError as error:
            return Need(problem=f"its pod template cannot be used: {error}")
        pods.append(built.manifest["spec"]["template"])
    uses = reduce(Uses.most, map(measure, pods))
    problem = ""
    if uses.unreadable:
        problem = f"agentk8sglue.monitoredResources: {uses.unreadable} of its pod template is no amount: write a number"
    demands = [demand(pod) for pod in pods]
    most = {key: max(one.get(key, Decimal(0)) for one in demands) for key in dict.fromkeys(chain(*demands))}
    least = {key: min(one.get(key, Decimal(0)) for one in demands) for key in most}
    return Need(uses=uses, pod=pods[0], demand=most, least=least, problem=problem)


def room(
    *,
    config: Config,
    queues: Sequence[ResolvedQueue],
    counts: Counts,
    needs: Mapping[str, Need],
    quotas: Iterable[QuotaRecord] = (),
    pace: int,
    unknown: str = "",
) -> Room:
    """The places left. ``counts`` of all places; ``needs`` by queue id; ``pace``: see `Pace`; ``unknown``: why it is
    not known what exists, so that nothing may be taken, else ""."""
    pending = config.max_pending_pods if config.max_pending_pods is not None else pace
    everything = counts.get(None, EMPTY)
    limits = dict(_shared(config, everything, pending))
    left = [(quota, dict(_left(quota, counts, needs))) for quota in quotas]
    costs: dict[str, Costs] = {}
    closed: dict[str, str] = {}
    for queue in queues:
        need, count = needs.get(queue.id, UNKNOWN), counts.get(queue.id, EMPTY)
        of_all = {PODS: ONE, MONITORED: need.uses.monitored, UNDECIDED: ONE}
        found = [(key, limits[key], cost) for key, cost in of_all.items() if key in limits]
        own = [*_own(queue, count, need, pending), *_by_quota(left, need), *found]
        limits.update((key, limit) for key, limit, _ in own)
        costs[queue.id] = tuple((key, cost) for key, _, cost in own if cost > 0)
        strange = everything.uses.unreadable if MONITORED in dict(costs[queue.id]) else ""
        if why := unknown or _closed(count, need, strange):
            closed[queue.id] = why
    others = tuple((key, ONE) for key in (PODS, UNDECIDED) if key in limits)
    return Room(limits=limits, costs=costs, others=others, closed=closed)


def _shared(config: Config, count: Count, pending: int) -> Iterator[tuple[str, Limit]]:
    if config.max_pods is not None:
        most, used = Decimal(config.max_pods), Decimal(count.pods)
        yield PODS, Limit(name=PODS, most=most, used=used, what="pods", setting="agentk8sglue.maxPods", kept=True)
    if config.monitored_resources.max_resources > 0:
        yield (
            MONITORED,
            Limit(
                name=MONITORED,
                most=Decimal(str(config.monitored_resources.max_resources)),
                used=count.uses.monitored,
                what="monitored resources",
                setting="agentk8sglue.monitoredResources.maxResources",
                kept=True,
            ),
        )
    yield (
        UNDECIDED,
        Limit(
            name=UNDECIDED,
            most=Decimal(pending),
            used=Decimal(count.of(Stage.COMING, Stage.UNDECIDED)),
            what="Jobs that Kubernetes has not got to yet",
            setting="agentk8sglue.maxPendingPods",
            kept=True,
        ),
    )


def _own(queue: ResolvedQueue, count: Count, need: Need, pace: int) -> Iterator[tuple[str, Limit, Decimal]]:
    settings = queue.config.settings
    where = f"agentk8sglue.queues.{queue.config.name}.queueSettings"
    pending = settings.max_pending_pods
    for name, most, used, cost, what, setting in (
        (PODS, settings.max_pods, Decimal(count.pods), ONE, "pods", f"{where}.maxPods"),
        (GPUS, settings.max_gpus, count.uses.gpus, need.uses.gpus, "GPUs", f"{where}.maxGpus"),
        (CPUS, settings.max_cpus, count.uses.cpus, need.uses.cpus, "CPUs", f"{where}.maxCpus"),
        (
            PENDING,
            pace if pending is None else pending,
            Decimal(count.pending),
            ONE,
            "pods that wait for a node",
            "agentk8sglue.maxPendingPods" if pending is None else f"{where}.maxPendingPods",
        ),
    ):
        if most is not None:
            limit = Limit(
                name=name,
                most=Decimal(str(most)),
                used=used,
                what=what,
                setting=setting,
                queue=queue.config.name,
            )
            yield f"{name} of {queue.id}", limit, cost


def _left(quota: QuotaRecord, counts: Counts, needs: Mapping[str, Need]) -> Iterator[tuple[str, Limit]]:
    """By resource. What is sure to come, and that the quota does not know of yet, is used. So is what our own pods use,
    where the quota's own number is lower: it may be told later than they are."""
    for resource, hard in quota.hard.items():
        coming, there = Decimal(0), Decimal(0)
        for queue, need in needs.items():
            count = counts.get(queue, EMPTY)
            if count.pods and resource in need.demand and applies(quota, need.pod):
                jobs = count.of(Stage.COMING)
                new, old = (jobs, count.pods - jobs) if resource == JOBS_COUNT else (count.podless, count.with_pod)
                coming += new * need.demand[resource]
                there += old * need.least[resource]
        used = max(quota.used.get(resource, Decimal(0)), there) + coming
        what = f"{resource} in the namespace"
        limit = Limit(name=resource, most=hard, used=used, what=what, setting=f"ResourceQuota {quota.name}")
        yield resource, limit


def _by_quota(
    left: Iterable[tuple[QuotaRecord, Mapping[str, Limit]]], need: Need
) -> Iterator[tuple[str, Limit, Decimal]]:
    for quota, limits in left:
        if need.pod and applies(quota, need.pod):
            for resource in sorted(limits.keys() & need.demand.keys()):
                yield f"quota {quota.uid} {resource}", limits[resource], need.demand[resource]


def _closed(count: Count, need: Need, strange: str) -> str:
    """Why nothing is taken from a queue, whatever is left; ``strange``: a field of a pod that is no amount."""
    if count.refused:
        return f"quota: {count.refused}"
    if need.problem:
        return need.problem
    if strange:
        return f"agentk8sglue.monitoredResources: {strange} of a pod that is there is no amount: the sum is not known"
    return ""

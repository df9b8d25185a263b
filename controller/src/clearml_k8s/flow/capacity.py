"""How many more tasks may be started: counted from what exists, never from counters that could drift (ADR 0011).

Pure. `Room` knows what is left, `places` who holds what; here the configured limits and the quotas come in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal

from clearml_k8s.config import Config, ResolvedQueue
from clearml_k8s.flow.needs import UNKNOWN, Need, Own
from clearml_k8s.flow.places import Count, Stage
from clearml_k8s.flow.quotas import applies
from clearml_k8s.flow.room import ONE, Costs, Limit, Room
from clearml_k8s.kube.quota import QuotaRecord
from clearml_k8s.kube.uses import JOBS_COUNT

PODS, MONITORED, UNDECIDED = "pods", "monitored-resources", "undecided-jobs"
"""Names of the limits that all queues share; their keys, too."""

PENDING, GPUS, CPUS = "pending-pods", "gpus", "cpus"
"""Names of those that a queue has of its own, beside `PODS`. A quota's have the name of their resource."""

LIMITS = (PODS, GPUS, CPUS, PENDING, UNDECIDED, MONITORED)

Counts = Mapping[str | None, Count]
"""By queue id; None: of all."""

EMPTY = Count()
ZERO = Decimal(0)


def room(
    *,
    config: Config,
    queues: Sequence[ResolvedQueue],
    counts: Counts,
    needs: Mapping[str, Need],
    own: Mapping[str, Own] | None = None,
    quotas: Iterable[QuotaRecord] = (),
    pace: int,
    unknown: str = "",
    kueue: str = "",
) -> Room:
    """The places left. ``counts`` of all places; ``needs`` by queue id; ``own``: by queue id, where tasks say
    themselves what they need; ``pace``: see `Pace`; ``unknown``: why it is not known what exists, so that nothing
    may be taken, else ""; ``kueue``: why nothing may be taken of queues whose Jobs wait for Kueue, else ""."""
    pending = config.max_pending_pods if config.max_pending_pods is not None else pace
    everything = counts.get(None, EMPTY)
    limits = dict(_shared(config, everything, pending))
    left = [(quota, dict(_left(quota, counts, needs))) for quota in quotas]
    costs: dict[str, Costs] = {}
    by_task: dict[str, Mapping[str, Costs]] = {}
    at_most: dict[str, Costs] = {}
    closed: dict[str, str] = {}

    def price(queue: ResolvedQueue, count: Count, need: Need) -> Costs:
        pods = Decimal(need.pods)
        of_all = {PODS: pods, MONITORED: pods * need.uses.monitored, UNDECIDED: min(pods, limits[UNDECIDED].most)}
        shared = [(key, limits[key], cost) for key, cost in of_all.items() if key in limits]
        found = [*_own(queue, count, need, pending), *_by_quota(left, need), *shared]
        limits.update((key, limit) for key, limit, _ in found)
        return tuple((key, cost) for key, _, cost in found if cost > 0)

    for queue in queues:
        need, count = needs.get(queue.id, UNKNOWN), counts.get(queue.id, EMPTY)
        costs[queue.id] = price(queue, count, need)
        if mine := (own or {}).get(queue.id):
            # Most tasks of a queue ask for the same.
            priced = {one: price(queue, count, one) for one in {mine.most, *mine.tasks.values()}}
            by_task[queue.id] = {task: priced[one] for task, one in mine.tasks.items()}
            at_most[queue.id] = priced[mine.most]
        strange = everything.uses.unreadable if MONITORED in dict(costs[queue.id]) else ""
        managed = queue.config.settings.kueue is not None
        if why := unknown or (kueue if managed else "") or _closed(count, need, strange):
            closed[queue.id] = why
    others = tuple((key, ONE) for key in (PODS, UNDECIDED) if key in limits)
    return Room(limits=limits, costs=costs, by_task=by_task, at_most=at_most, others=others, closed=closed)


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
    pending, pods = settings.max_pending_pods, Decimal(need.pods)
    at_most = pace if pending is None else pending
    # What Kueue holds waits, too: the order of all the others stays in the users' hands.
    held = count.of(Stage.HELD) if settings.kueue is not None else 0
    for name, most, used, cost, what, setting in (
        (PODS, settings.max_pods, Decimal(count.pods), pods, "pods", f"{where}.maxPods"),
        (GPUS, settings.max_gpus, count.uses.gpus, pods * need.uses.gpus, "GPUs", f"{where}.maxGpus"),
        (CPUS, settings.max_cpus, count.uses.cpus, pods * need.uses.cpus, "CPUs", f"{where}.maxCpus"),
        (
            PENDING,
            at_most,
            Decimal(count.pending + held),
            # Not a limit of what a task may be: one with more pods needs all of it.
            min(pods, Decimal(at_most)),
            "pods that wait for a node" if settings.kueue is None else "tasks that wait for Kueue or for a node",
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
    those = [
        (dict(demand) if demand else need.demand, alike)
        for queue, need in needs.items()
        if queue in counts
        for (demand, kind), alike in counts[queue].demands.items()
        if applies(quota, kind or need.kind)
    ]
    for resource, hard in quota.hard.items():
        coming, there = ZERO, ZERO
        for each, alike in those:
            if amount := each.get(resource):
                jobs = resource == JOBS_COUNT
                coming += amount * (alike.jobless if jobs else alike.podless)
                there += amount * (alike.jobs if jobs else alike.with_pod)
        used = max(quota.used.get(resource, ZERO), there) + coming
        what = f"{resource} in the namespace"
        limit = Limit(name=resource, most=hard, used=used, what=what, setting=f"ResourceQuota {quota.name}")
        yield resource, limit


def _by_quota(
    left: Iterable[tuple[QuotaRecord, Mapping[str, Limit]]], need: Need
) -> Iterator[tuple[str, Limit, Decimal]]:
    for quota, limits in left:
        if need.demand and applies(quota, need.kind):
            for resource in sorted(limits.keys() & need.demand.keys()):
                number = 1 if resource == JOBS_COUNT else need.pods
                yield f"quota {quota.uid} {resource}", limits[resource], number * need.demand[resource]


def _closed(count: Count, need: Need, strange: str) -> str:
    """Why nothing is taken from a queue, whatever is left; ``strange``: a field of a pod that is no amount."""
    if count.refused:
        return f"quota: {count.refused}"
    if need.problem:
        return need.problem
    if strange:
        return f"agentk8sglue.monitoredResources: {strange} of a pod that is there is no amount: the sum is not known"
    return ""

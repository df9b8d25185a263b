"""The gauges of /metrics, read at each scrape from what there is: nothing that could drift.

A process that does not certainly lead shows none: another one may. What exists in the cluster is left out while it is
not known, how long the queues are once that was seen too long ago.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from prometheus_client import Metric as Family
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from clearml_k8s import metrics
from clearml_k8s.app.parts import Parts
from clearml_k8s.flow.counting import Usage
from clearml_k8s.flow.measures import NOT_SERVED
from clearml_k8s.flow.served import State
from clearml_k8s.metrics import Metric

PHASES = ("Pending", "Running", "Succeeded", "Failed", "Unknown")
STARTING, SUSPENDED = "starting", "suspended"

Samples = Mapping[tuple[str, ...], float]


class StateGauges(Collector):
    """Registered once; ``parts`` is None until the process has led."""

    def __init__(self, *, parts: Callable[[], Parts | None], leads: Callable[[], bool]) -> None:
        self._parts = parts
        self._leads = leads

    def describe(self) -> Iterator[Family]:
        """The names, so that registering them reads nothing."""
        for metric in metrics.ALL:
            if metric.state:
                yield _family(metric, {})

    def collect(self) -> Iterator[Family]:
        parts = self._parts()
        if parts is None or not self._leads():
            return
        usage = parts.poller.usage() if parts.cluster.known() else None
        for metric, samples in (*_of_the_servers(parts, usage), *_of_the_nodes(parts), *_of_the_cluster(parts, usage)):
            if samples:
                yield _family(metric, samples)


def _family(metric: Metric, samples: Samples) -> GaugeMetricFamily:
    family = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, value in samples.items():
        family.add_metric(labels, value)
    return family


def _of_the_servers(parts: Parts, usage: Usage | None) -> Iterator[tuple[Metric, Samples]]:
    served, now = parts.served, parts.session.clock.now()
    healthy = {"clearml": parts.session.health.healthy, "kubernetes": parts.cluster.known()}
    yield metrics.API_HEALTHY, {(api,): float(well) for api, well in healthy.items()}
    last = parts.poller.last_round
    yield metrics.LAST_POLL, {} if last is None else {(): last.timestamp()}
    closed = {one.queue for one in usage.standings if one.closed} if usage else set()
    states = {key: served.state_of(key) for key in served.states}
    states |= {key: State.CLOSED for key in closed if states[key] is State.SERVED}
    yield metrics.QUEUE_STATE, {(key, state.value): 1.0 for key, state in states.items()}
    lengths = parts.lengths.known()
    yield metrics.QUEUE_ENTRIES, {(key,): float(length.entries) for key, length in lengths.items()}
    ages = {key: (now - length.oldest).total_seconds() if length.oldest else 0.0 for key, length in lengths.items()}
    # The server's clock is another one.
    yield metrics.QUEUE_OLDEST, {(key,): max(0.0, age) for key, age in ages.items()}


def _of_the_nodes(parts: Parts) -> Iterator[tuple[Metric, Samples]]:
    summary = parts.reports.seen()
    if summary is None:
        return
    if summary.counts_gpus:
        yield metrics.GPUS, {("all",): float(summary.gpus), ("usable",): float(summary.gpus_usable)}
    if summary.counts_cpus:
        cpus = {"all": summary.cpus_milli, "usable": summary.cpus_milli_usable}
        yield metrics.CPUS, {(nodes,): milli / 1000 for nodes, milli in cpus.items()}


def _of_the_cluster(parts: Parts, usage: Usage | None) -> Iterator[tuple[Metric, Samples]]:
    if usage is None:
        return
    by_id = {queue.id: queue.config.name for queue in parts.served.all_found()}

    by_name = {queue.name: queue.config.name for queue in parts.served.all_found()}

    def key_of(queue: str | None, name: str | None = None) -> str:
        return by_id.get(queue or "", by_name.get(name or "", NOT_SERVED))

    yield metrics.QUEUE_ROOM, {(one.queue,): float(one.left) for one in usage.standings}
    limits = {(limit.queue, limit.name, limit.setting): limit for limit in usage.limits}
    yield metrics.LIMIT, {labels: float(limit.most) for labels, limit in limits.items()}
    yield metrics.LIMIT_USED, {labels: float(limit.used) for labels, limit in limits.items()}
    for metric, by_queue in ((metrics.QUEUE_PLACES, usage.places), (metrics.QUEUE_GPUS, usage.gpus)):
        by_key = dict.fromkeys(by_id.values(), 0.0)
        for queue_id, number in by_queue.items():
            by_key[key_of(queue_id)] = by_key.get(key_of(queue_id), 0.0) + number
        yield metric, {(key,): number for key, number in by_key.items()}
    yield metrics.CLAIMS, {(): float(len(parts.book.in_flight()))}
    pods = [*parts.cluster.pods, *parts.adopted.pods()]
    phases = Counter({(key, phase): 0 for key in by_id.values() for phase in PHASES})
    phases.update((key_of(pod.queue, pod.queue_name), pod.phase if pod.phase in PHASES else "Unknown") for pod in pods)
    yield metrics.PODS, {labels: float(number) for labels, number in phases.items()}
    running = {pod.job_uid for pod in pods if pod.phase == "Running"}
    waiting = Counter({(key, state): 0 for key in by_id.values() for state in (STARTING, SUSPENDED)})
    waiting.update(
        (key_of(job.queue, job.queue_name), SUSPENDED if job.suspend else STARTING)
        for job in parts.cluster.jobs
        if job.task is not None and not job.finished and job.uid not in running
    )
    yield metrics.JOBS_NOT_RUNNING, {labels: float(number) for labels, number in waiting.items()}

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
from clearml_k8s.flow.measures import NOT_SERVED
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
        for metric, samples in (*_of_the_servers(parts), *_of_the_cluster(parts)):
            if samples:
                yield _family(metric, samples)


def _family(metric: Metric, samples: Samples) -> GaugeMetricFamily:
    family = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, value in samples.items():
        family.add_metric(labels, value)
    return family


def _of_the_servers(parts: Parts) -> Iterator[tuple[Metric, Samples]]:
    served, now = parts.served, parts.session.clock.now()
    healthy = {"clearml": parts.session.health.healthy, "kubernetes": parts.cluster.known()}
    yield metrics.API_HEALTHY, {(api,): float(well) for api, well in healthy.items()}
    last = parts.poller.last_round
    yield metrics.LAST_POLL, {} if last is None else {(): last.timestamp()}
    yield metrics.QUEUE_STATE, {(key, served.state_of(key).value): 1.0 for key in served.states}
    lengths = parts.lengths.known()
    yield metrics.QUEUE_ENTRIES, {(key,): float(length.entries) for key, length in lengths.items()}
    ages = {key: (now - length.oldest).total_seconds() if length.oldest else 0.0 for key, length in lengths.items()}
    # The server's clock is another one.
    yield metrics.QUEUE_OLDEST, {(key,): max(0.0, age) for key, age in ages.items()}
    limits = {key: state.config.settings.max_pods for key, state in served.states.items()}
    yield metrics.QUEUE_MAX_PODS, {(key,): float(limit) for key, limit in limits.items() if limit is not None}
    gpus = {key: state.config.settings.max_gpus for key, state in served.states.items()}
    yield metrics.QUEUE_MAX_GPUS, {(key,): float(limit) for key, limit in gpus.items() if limit is not None}
    yield metrics.MAX_PODS, {} if parts.max_pods is None else {(): float(parts.max_pods)}


def _of_the_cluster(parts: Parts) -> Iterator[tuple[Metric, Samples]]:
    summary = parts.reports.seen()
    if summary is not None and summary.counts_gpus:
        yield metrics.GPUS, {("all",): float(summary.gpus), ("usable",): float(summary.gpus_usable)}
    if not parts.cluster.known():
        return
    by_id = {queue.id: queue.config.name for queue in parts.served.all_found()}

    def key_of(queue: str | None) -> str:
        return by_id.get(queue or "", NOT_SERVED)

    standings = parts.counting.standings()
    yield metrics.QUEUE_ROOM, {(one.queue,): float(one.left) for one in standings}
    limited = {one.queue: one.gpus for one in standings if parts.served.states[one.queue].config.settings.max_gpus}
    yield metrics.QUEUE_GPUS, {(key,): used for key, used in limited.items()}
    taken = parts.counting.pods()
    by_key = Counter(dict.fromkeys(by_id.values(), 0))
    for queue_id, number in taken.items():
        by_key[key_of(queue_id)] += number
    yield metrics.QUEUE_PLACES, {(key,): float(number) for key, number in by_key.items()}
    yield metrics.PLACES, {(): float(sum(taken.values()))}
    yield metrics.CLAIMS, {(): float(len(parts.book.in_flight()))}
    pods = [*parts.cluster.pods, *parts.adopted.pods()]
    phases = Counter({(key, phase): 0 for key in by_id.values() for phase in PHASES})
    phases.update((key_of(pod.queue), pod.phase if pod.phase in PHASES else "Unknown") for pod in pods)
    yield metrics.PODS, {labels: float(number) for labels, number in phases.items()}
    running = {pod.job_uid for pod in pods if pod.phase == "Running"}
    waiting = Counter({(key, state): 0 for key in by_id.values() for state in (STARTING, SUSPENDED)})
    waiting.update(
        (key_of(job.queue), SUSPENDED if job.suspend else STARTING)
        for job in parts.cluster.jobs
        if job.task is not None and not job.finished and job.uid not in running
    )
    yield metrics.JOBS_NOT_RUNNING, {labels: float(number) for labels, number in waiting.items()}

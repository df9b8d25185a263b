"""What /metrics has: the names, once, from which instruments, state and docs/metrics.md are made.

Labels are queues, reasons and results, never a task. Instruments are made on a registry that is passed in: no module
state, two controllers share nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

Outcome = Literal["answered", "refused", "unanswered", "unreachable"]
OUTCOMES: Final[tuple[str, ...]] = get_args(Outcome)
Kind = Literal["counter", "gauge", "histogram"]

PREFIX: Final = "clearml_k8s_"
_LATENCY_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0)
_TAKE_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_START_BUCKETS: Final = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
_WAIT_BUCKETS: Final = (
    1.0,
    5.0,
    15.0,
    60.0,
    300.0,
    900.0,
    1800.0,
    3600.0,
    10800.0,
    21600.0,
    43200.0,
    86400.0,
    259200.0,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """One name: ``state`` tells a gauge that is read at the scrape from what there is, by the process that leads."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    state: bool = False

    @property
    def shown(self) -> str:
        """The name as Prometheus has it."""
        return self.name + ("_total" if self.kind == "counter" else "")


def _state(name: str, text: str, *labels: str) -> Metric:
    return Metric(name=PREFIX + name, kind="gauge", help=text, labels=labels, state=True)


# ---- of every process ----------------------------------------------------------------------------------------------

LEADER: Final = Metric(
    name=PREFIX + "leader",
    kind="gauge",
    help="1 while this process certainly holds the Lease, 0 as standby and while the Lease cannot be renewed.",
)
API_REQUESTS: Final = Metric(
    name=PREFIX + "api_requests",
    kind="counter",
    help="Requests to the ClearML and Kubernetes APIs, by how they ended.",
    labels=("api", "endpoint", "outcome"),
)
API_SECONDS: Final = Metric(
    name=PREFIX + "api_request_seconds",
    kind="histogram",
    help="Duration of requests to the ClearML and Kubernetes APIs.",
    labels=("api", "endpoint"),
    buckets=_LATENCY_BUCKETS,
)
WATCH_RESTARTS: Final = Metric(
    name=PREFIX + "watch_restarts",
    kind="counter",
    help="Ends of a watch stream, by resource and reason; a server ends each after some minutes.",
    labels=("resource", "reason"),
)
WATCH_SYNCED: Final = Metric(
    name=PREFIX + "watch_synced",
    kind="gauge",
    help="1 once the resource was listed completely.",
    labels=("resource",),
)
LAUNCHES: Final = Metric(
    name=PREFIX + "launches",
    kind="counter",
    help="Tasks for which a Job was to be created, by how that ended. After a doubt the Job may come all the same, and "
    "is counted as created, too.",
    labels=("queue", "result"),
)
FAILED: Final = Metric(
    name=PREFIX + "tasks_failed",
    kind="counter",
    help="Tasks that the controller failed, or whose failure it explained, by reason.",
    labels=("queue", "reason"),
)
REQUEUED: Final = Metric(
    name=PREFIX + "tasks_requeued",
    kind="counter",
    help="Tasks put back to the front of their queue after the cluster ended their pod, by reason.",
    labels=("queue", "reason"),
)
TAKE_TO_JOB: Final = Metric(
    name=PREFIX + "take_to_job_seconds",
    kind="histogram",
    help="From the choice of a task in its queue until the creation of its Job is answered.",
    labels=("queue",),
    buckets=_TAKE_BUCKETS,
)
JOB_TO_RUNNING: Final = Metric(
    name=PREFIX + "job_to_running_seconds",
    kind="histogram",
    help="From the creation of a Job until a container of its pod runs, by the cluster's clocks.",
    labels=("queue",),
    buckets=_START_BUCKETS,
)
QUEUED_TO_RUNNING: Final = Metric(
    name=PREFIX + "queued_to_running_seconds",
    kind="histogram",
    help="The whole wait: from the enqueue of a task, by the server's clock, until a container of its pod runs.",
    labels=("queue",),
    buckets=_WAIT_BUCKETS,
)

# ---- of the process that leads, read at the scrape -------------------------------------------------------------------

API_HEALTHY: Final = _state(
    "api_healthy",
    "clearml: 1 while the server answers as it should, 0 after a failure until a probe succeeds. "
    "kubernetes: 1 while it is known what exists in the cluster, 0 before the first list and when a watch is silent.",
    "api",
)
LAST_POLL: Final = _state(
    "last_poll_timestamp_seconds",
    "When the queues were last looked at without trouble, or there was no room for any task of theirs (Unix time).",
)
QUEUE_STATE: Final = _state(
    "queue_state", "1 for the state that the queue is in; its other states have no series.", "queue", "state"
)
QUEUE_ENTRIES: Final = _state("queue_entries", "Tasks that wait in the queue on the ClearML server.", "queue")
QUEUE_OLDEST: Final = _state(
    "queue_oldest_entry_age_seconds",
    "Age of the oldest entry among the queue's first ones (100 at least); 0 in an empty queue.",
    "queue",
)
QUEUE_ROOM: Final = _state(
    "queue_room", "How many tasks of the queue could be taken now, by all limits; 200 at most.", "queue"
)
LIMIT: Final = _state(
    "limit",
    "A limit, by what it counts and where it is set; queue is empty where queues share it. Of quotas, what the queues' "
    "pods ask for.",
    "queue",
    "limit",
    "setting",
)
LIMIT_USED: Final = _state(
    "limit_used",
    "What is used of the limit with the same labels: maxPods, GPUs, CPUs by the controller's own count of what exists "
    "and is on its way, a quota with all that others use.",
    "queue",
    "limit",
    "setting",
)
QUEUE_PLACES: Final = _state(
    "queue_places_used",
    "Places taken by the queue's tasks, as maxPods counts them: Jobs that are not over, pods that may still run, "
    "tasks on their way to a Job.",
    "queue",
)
PODS: Final = _state("pods", "Task pods that exist, by phase.", "queue", "phase")
JOBS_NOT_RUNNING: Final = _state(
    "jobs_not_running",
    "Jobs that are not over and have no running pod: suspended ones, and others, which are starting.",
    "queue",
    "state",
)
CLAIMS: Final = _state("claims_in_flight", "Tasks on their way from a queue to a Job, those in doubt among them.")
QUEUE_GPUS: Final = _state(
    "queue_gpus_used", "GPUs that the queue's tasks ask for, of those that take a place.", "queue"
)
GPUS: Final = _state(
    "gpus",
    "GPUs that discovery counts: on all nodes that match, and on those of them that take pods (usable).",
    "nodes",
)
CPUS: Final = _state("cpus", "CPUs that discovery counts: on all nodes that match, and on usable ones.", "nodes")

ALL: Final = (
    *(LEADER, API_REQUESTS, API_SECONDS, WATCH_RESTARTS, WATCH_SYNCED),
    *(LAUNCHES, FAILED, REQUEUED, TAKE_TO_JOB, JOB_TO_RUNNING, QUEUED_TO_RUNNING),
    *(API_HEALTHY, LAST_POLL, CLAIMS),
    *(QUEUE_STATE, QUEUE_ENTRIES, QUEUE_OLDEST, QUEUE_ROOM, QUEUE_PLACES, PODS, JOBS_NOT_RUNNING),
    *(LIMIT, LIMIT_USED, QUEUE_GPUS, GPUS, CPUS),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Metrics:
    """The instruments that count events; what is read at the scrape has none."""

    registry: CollectorRegistry
    leader: Gauge
    api_requests: Counter
    api_seconds: Histogram
    watch_restarts: Counter
    watch_synced: Gauge
    launches: Counter
    failed: Counter
    requeued: Counter
    take_to_job: Histogram
    job_to_running: Histogram
    queued_to_running: Histogram

    def called(self, *, api: Literal["clearml", "kubernetes"], endpoint: str, outcome: Outcome, seconds: float) -> None:
        """Count one request; ``endpoint`` is an action or ``verb resource``, never a name or an id."""
        self.api_requests.labels(api=api, endpoint=endpoint, outcome=outcome).inc()
        self.api_seconds.labels(api=api, endpoint=endpoint).observe(seconds)


def create(registry: CollectorRegistry | None = None) -> Metrics:
    """Make the instruments on ``registry`` (a new one by default)."""
    registry = registry or CollectorRegistry()

    def counter(metric: Metric) -> Counter:
        return Counter(metric.name, metric.help, metric.labels, registry=registry)

    def gauge(metric: Metric) -> Gauge:
        return Gauge(metric.name, metric.help, metric.labels, registry=registry)

    def histogram(metric: Metric) -> Histogram:
        return Histogram(metric.name, metric.help, metric.labels, buckets=metric.buckets, registry=registry)

    return Metrics(
        registry=registry,
        leader=gauge(LEADER),
        api_requests=counter(API_REQUESTS),
        api_seconds=histogram(API_SECONDS),
        watch_restarts=counter(WATCH_RESTARTS),
        watch_synced=gauge(WATCH_SYNCED),
        launches=counter(LAUNCHES),
        failed=counter(FAILED),
        requeued=counter(REQUEUED),
        take_to_job=histogram(TAKE_TO_JOB),
        job_to_running=histogram(JOB_TO_RUNNING),
        queued_to_running=histogram(QUEUED_TO_RUNNING),
    )

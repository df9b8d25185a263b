"""Prometheus instruments, made on a registry that is passed in: no module state, two controllers share nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

Outcome = Literal["answered", "refused", "unanswered", "unreachable"]

PREFIX: Final = "clearml_k8s_"
_LATENCY_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Metrics:
    """The instruments of the API layers."""

    registry: CollectorRegistry
    api_requests: Counter
    api_seconds: Histogram
    api_healthy: Gauge
    watch_restarts: Counter
    watch_synced: Gauge
    leader: Gauge

    def called(self, *, api: Literal["clearml", "kubernetes"], endpoint: str, outcome: Outcome, seconds: float) -> None:
        """Count one request; ``endpoint`` is an action or ``verb resource``, never a name or an id."""
        self.api_requests.labels(api=api, endpoint=endpoint, outcome=outcome).inc()
        self.api_seconds.labels(api=api, endpoint=endpoint).observe(seconds)


def create(registry: CollectorRegistry | None = None) -> Metrics:
    """Make the instruments on ``registry`` (a new one by default)."""
    registry = registry or CollectorRegistry()
    return Metrics(
        registry=registry,
        api_requests=Counter(
            PREFIX + "api_requests",
            "Requests to the ClearML and Kubernetes APIs, by how they ended.",
            ("api", "endpoint", "outcome"),
            registry=registry,
        ),
        api_seconds=Histogram(
            PREFIX + "api_request_seconds",
            "Duration of requests to the ClearML and Kubernetes APIs.",
            ("api", "endpoint"),
            buckets=_LATENCY_BUCKETS,
            registry=registry,
        ),
        api_healthy=Gauge(
            PREFIX + "api_healthy",
            "1 while the API answers as it should, 0 after a failure until a probe succeeds.",
            ("api",),
            registry=registry,
        ),
        watch_restarts=Counter(
            PREFIX + "watch_restarts",
            "Ends of a watch stream, by resource and reason.",
            ("resource", "reason"),
            registry=registry,
        ),
        watch_synced=Gauge(
            PREFIX + "watch_synced",
            "1 once the resource was listed completely.",
            ("resource",),
            registry=registry,
        ),
        leader=Gauge(
            PREFIX + "leader",
            "1 while this process certainly holds the Lease, 0 as standby and while the Lease cannot be renewed.",
            registry=registry,
        ),
    )

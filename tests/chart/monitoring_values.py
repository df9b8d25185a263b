"""Values that make all objects for Prometheus and Grafana, but for the second monitor."""

from __future__ import annotations

from typing import Any

ALL_MONITORING: dict[str, Any] = {
    "metrics": {
        key: {"enabled": True, "labels": {"team": "platform"}}
        for key in ("serviceMonitor", "prometheusRule", "grafanaDashboard")
    }
}

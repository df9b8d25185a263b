"""Writes docs/metrics.md: the names, labels and reasons of /metrics, from the code.

python tests/support/metrics_page.py            write it
python tests/support/metrics_page.py --check    write nothing; end with 1 when it is out of date
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from clearml_k8s import metrics
from clearml_k8s.app.gauges import PHASES, STARTING, SUSPENDED
from clearml_k8s.flow.capacity import LIMITS
from clearml_k8s.flow.diagnosis import DISRUPTIONS, FAILS
from clearml_k8s.flow.launch import Launch
from clearml_k8s.flow.measures import CANNOT_BE_LAUNCHED
from clearml_k8s.flow.served import State
from clearml_k8s.metrics import Metric

PAGE = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"

HEADER = """\
# Metrics

Built by `make generate` from `metrics.py` and the lists of the code. `/metrics`, port 8080 of the controller's pod; the
alerts, and what to do: [operations](operations.md#metrics-and-alerts).

- A `queue` is named by its key under `agentk8sglue.queues`; empty: tasks of a queue that is not served (any more). No
  label names a task, a Job or a pod, so the number of series depends on the number of queues (some 130 for each) and of
  resources in the namespace's quotas (2 for each).
- Names and values of labels do not change between minor versions.
- Counters and histograms count from the start of the process. Gauges marked "leader" are read from what there is at
  each scrape, and shown by the process alone that certainly leads: a standby has none of them. Those of the cluster are
  left out while it is not known what exists there, lengths of queues when they were seen more than a minute ago.
- `limit` of a ResourceQuota is the resource as the quota names it (`requests.cpu`), `setting` is `ResourceQuota` and
  its name.
"""

LABELS = {
    "launches": ("result", [launch.value for launch in Launch]),
    "tasks_failed": ("reason", [CANNOT_BE_LAUNCHED, *(category.value for category in FAILS)]),
    "tasks_requeued": ("reason", [category.value for category in DISRUPTIONS]),
    "queue_state": ("state", [state.value for state in State]),
    "pods": ("phase", PHASES),
    "limit": ("limit", LIMITS),
    "jobs_not_running": ("state", [STARTING, SUSPENDED]),
    "api_requests": ("outcome", metrics.OUTCOMES),
}
"""By name without its prefix: the label whose values are a list in the code, and that list."""


def page() -> str:
    """The text of docs/metrics.md."""
    lines = [HEADER, "| name | kind | labels | |", "|---|---|---|---|", *(_row(metric) for metric in metrics.ALL)]
    lines += ["", "## Values of labels", "", "| metric | label | values |", "|---|---|---|"]
    for name, (label, values) in LABELS.items():
        metric = next(metric for metric in metrics.ALL if metric.name == metrics.PREFIX + name)
        lines.append(f"| `{metric.shown}` | `{label}` | {_listed(values)} |")
    return "\n".join(lines) + "\n"


def _row(metric: Metric) -> str:
    kind = f"{metric.kind}, leader" if metric.state else metric.kind
    return f"| `{metric.shown}` | {kind} | {_listed(metric.labels)} | {metric.help} |"


def _listed(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def main() -> int:
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(page(), encoding="utf-8")
        return 0
    found = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    if found != page():
        print("docs/metrics.md is not what the code says: make generate", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

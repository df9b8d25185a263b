"""The chart: size of its package, and time of `helm template` with many queues beside one, in turn."""

from __future__ import annotations

import json
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ci.paths import ROOT

CHART = ROOT / "charts/clearml-agent"
MANY = 100
ROUNDS = 9


@dataclass(frozen=True, kw_only=True)
class Rendering:
    """``package_bytes`` of the .tgz; seconds are medians of one `helm template` each."""

    package_bytes: int
    one_seconds: float
    many_seconds: float

    @property
    def ratio(self) -> float:
        return self.many_seconds / self.one_seconds


def values(queues: int) -> dict[str, Any]:
    """Queues as people write them, each with a pod template and settings of its own."""
    template = {
        "labels": {"team": "research"},
        "env": [{"name": "PIP_NO_CACHE_DIR", "value": "1"}],
        "resources": {"limits": {"nvidia.com/gpu": 1, "memory": "16Gi"}},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "nodeSelector": {"nvidia.com/gpu.present": "true"},
    }
    settings = {"maxPods": 4, "defaultImage": "python:3.12"}
    return {
        "clearml": {"agentk8sglueKey": "a", "agentk8sglueSecret": "b"},
        "agentk8sglue": {
            "queues": {f"queue-{n}": {"templateOverrides": template, "queueSettings": settings} for n in range(queues)}
        },
    }


def measured(*, helm: str = "helm4", rounds: int = ROUNDS) -> Rendering:
    """One round of each size first, not counted. Raises CalledProcessError when Helm fails."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run([helm, "package", CHART, "--destination", folder], check=True, stdout=subprocess.DEVNULL)
        (package,) = folder.glob("*.tgz")
        seconds: dict[int, list[float]] = {1: [], MANY: []}
        for number in range(rounds + 1):
            for queues, times in seconds.items():
                file = folder / f"{queues}.json"  # JSON is YAML
                file.write_text(json.dumps(values(queues)))
                began = time.monotonic()
                command = [helm, "template", "bench", CHART, "--kube-version", "1.37.0", "--values", file]
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
                if number:
                    times.append(time.monotonic() - began)
        return Rendering(
            package_bytes=package.stat().st_size,
            one_seconds=statistics.median(seconds[1]),
            many_seconds=statistics.median(seconds[MANY]),
        )


def report(found: Rendering) -> str:
    return "\n".join(
        [
            f"  chart package      {found.package_bytes / 1000:8.1f} kB",
            f"  helm template      {found.one_seconds * 1000:8.0f} ms with 1 queue, "
            f"{found.many_seconds * 1000:.0f} ms with {MANY}",
            f"  ratio              {found.ratio:8.2f}",
        ]
    )

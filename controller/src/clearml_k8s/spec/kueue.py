"""What a Job carries so that Kueue decides when it may run."""

from __future__ import annotations

from typing import Any

from clearml_k8s import names
from clearml_k8s.config.kueue import KueueConfig


def labels(kueue: KueueConfig | None) -> dict[str, str]:
    """Of the Job alone: its pods belong to the Job's Workload."""
    if kueue is None:
        return {}
    priority = {names.LABEL_KUEUE_PRIORITY: kueue.priority_class} if kueue.priority_class else {}
    return {names.LABEL_KUEUE_QUEUE: kueue.queue_name, **priority}


def spec(kueue: KueueConfig | None) -> dict[str, Any]:
    """Suspended from the start: Kueue's webhook would do it, but may be away or not look at the namespace."""
    return {} if kueue is None else {"suspend": True}

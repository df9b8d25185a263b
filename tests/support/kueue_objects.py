"""Workloads as Kueue 0.17 writes them."""

from __future__ import annotations

import dataclasses
from typing import Any

from clearml_k8s.kube.slim import Condition
from clearml_k8s.kube.workload import WorkloadRecord
from flow_parts import TASK

PREEMPTED_TEXT = (
    "Preempted to accommodate a workload (UID: 0b6f, JobUID: 7c11) due to prioritization in the ClusterQueue"
)


def make_workload(*, uid: str = "workload-uid", task: str | None = TASK, **changes: Any) -> WorkloadRecord:
    found = WorkloadRecord(
        uid=uid, name="job-train", resource_version="1", task=task, job="job-uid", active=True, conditions=()
    )
    return dataclasses.replace(found, **changes)


def pending_workload(message: str, *, reason: str = "Pending") -> tuple[Condition, ...]:
    """The conditions of one that waits."""
    return (Condition(type="QuotaReserved", status="False", reason=reason, message=message),)


def evicted(reason: str, message: str) -> tuple[Condition, ...]:
    """The conditions of one whose place was taken away."""
    preempted = (Condition(type="Preempted", status="True", reason="InClusterQueue", message=message),)
    return (
        *pending_workload(message),
        Condition(type="Evicted", status="True", reason=reason, message=message),
        *(preempted if reason == "Preempted" else ()),
    )


def readmitted(reason: str, message: str) -> tuple[Condition, ...]:
    """The same, after it got a place again."""
    before = f"Previously: {message}"
    preempted = (Condition(type="Preempted", status="False", reason="QuotaReserved", message=before),)
    return (
        Condition(type="QuotaReserved", status="True", reason="QuotaReserved"),
        Condition(type="Admitted", status="True", reason="Admitted"),
        Condition(type="Evicted", status="False", reason="QuotaReserved", message=before),
        *(preempted if reason == "Preempted" else ()),
    )

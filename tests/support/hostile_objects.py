"""A Job, a pod and an event as the API server gives them, with every field that we read, to be spoilt by `hostile`."""

from __future__ import annotations

from typing import Any

TASK = "5e6f0a1b2c3d4e5f60718293a4b5c6d7"
_META: dict[str, Any] = {
    "resourceVersion": "12",
    "creationTimestamp": "2026-01-15T06:22:12Z",
    "deletionTimestamp": "2026-01-15T06:52:12Z",
    "deletionGracePeriodSeconds": 30,
    "labels": {"clearml-task-id": TASK, "clearml-k8s.io/controller": "c", "CLEARML": "agent-1"},
    "annotations": {
        "clearml-k8s.io/attempt": "2026-01-15T06:22:11.065000+00:00",
        "clearml-k8s.io/queue-id": "id-default",
        "clearml-k8s.io/worker-id": "w",
    },
}

JOB: dict[str, Any] = {
    "metadata": {**_META, "uid": "job-uid", "name": f"clearml-id-{TASK}"},
    "spec": {"suspend": False},
    "status": {
        "active": 0,
        "succeeded": 0,
        "failed": 1,
        "ready": 0,
        "terminating": 0,
        "conditions": [
            {
                "type": "Failed",
                "status": "True",
                "reason": "BackoffLimitExceeded",
                "message": "Job has reached the specified backoff limit",
                "lastTransitionTime": "2026-01-15T06:52:13Z",
            }
        ],
    },
}

POD: dict[str, Any] = {
    "metadata": {
        **_META,
        "uid": "pod-uid",
        "name": f"clearml-id-{TASK}-x",
        "ownerReferences": [{"kind": "Job", "uid": "job-uid"}],
    },
    "spec": {"nodeName": "node-1"},
    "status": {
        "phase": "Failed",
        "reason": "Evicted",
        "message": "low on memory",
        "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "Insufficient cpu"},
            {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": "preempted"},
        ],
        "initContainerStatuses": [{"name": "init", "state": {"waiting": {"reason": "ErrImagePull", "message": "no"}}}],
        "containerStatuses": [
            {
                "name": "task",
                "ready": False,
                "started": True,
                "restartCount": 0,
                "state": {
                    "terminated": {
                        "reason": "OOMKilled",
                        "exitCode": 137,
                        "signal": 9,
                        "message": "m",
                        "finishedAt": "2026-01-15T06:52:10Z",
                    }
                },
                "lastState": {"terminated": {"reason": "Error", "exitCode": 1}},
            }
        ],
    },
}

EVENT: dict[str, Any] = {
    "metadata": {"uid": "event-uid", "creationTimestamp": "2026-01-15T06:22:12Z"},
    "involvedObject": {"uid": "pod-uid", "kind": "Pod"},
    "series": {"lastObservedTime": "2026-01-15T06:22:12.000000Z"},
    "lastTimestamp": None,
    "eventTime": None,
    "firstTimestamp": None,
    "reason": "FailedCreate",
    "message": 'Error creating: pods "x" is forbidden: exceeded quota',
    "type": "Warning",
}

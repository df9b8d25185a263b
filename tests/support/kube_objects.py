"""A Job and a pod as the API server gives them."""

TASK = "0123456789abcdef0123456789abcdef"


def job(uid="j1", task=TASK, **status):
    return {
        "metadata": {
            "name": f"clearml-id-{task}",
            "uid": uid,
            "resourceVersion": "7",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"clearml-task-id": task, "clearml-k8s.io/controller": "abc"},
            "annotations": {
                "clearml-k8s.io/attempt": "2026-01-01T00:00:00.1+00:00",
                "clearml-k8s.io/queue-id": "q1",
                "clearml-k8s.io/worker-id": "worker-a",
            },
            "managedFields": [{"x": "y" * 5000}],
        },
        "spec": {"suspend": True, "template": {"spec": {"containers": [{"env": [{"name": "S", "value": "secret"}]}]}}},
        "status": status,
    }


def pod(uid="p1", **parts):
    return {
        "metadata": {
            "name": f"clearml-id-{TASK}-x7k2p",
            "uid": uid,
            "ownerReferences": [{"kind": "Job", "uid": "j1"}],
            "labels": {"clearml-task-id": TASK},
            "annotations": {"clearml-k8s.io/queue-id": "q1"},
            "deletionTimestamp": "2026-01-01T00:01:00Z",
            "deletionGracePeriodSeconds": 30,
        },
        "spec": {"nodeName": "n1"},
        "status": {
            "phase": "Failed",
            "reason": "Evicted",
            "message": "The node was low on resource: memory.",
            "conditions": [
                {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"},
                {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"},
            ],
            "initContainerStatuses": [
                {"name": "init", "state": {"waiting": {"reason": "ErrImagePull", "message": "x" * 5000}}}
            ],
            "containerStatuses": [
                {
                    "name": "task",
                    "restartCount": 1,
                    "state": {"terminated": {"reason": "OOMKilled", "exitCode": 137, "finishedAt": "t"}},
                    "lastState": {"terminated": {"reason": "Error", "exitCode": 1}},
                }
            ],
            **parts,
        },
    }

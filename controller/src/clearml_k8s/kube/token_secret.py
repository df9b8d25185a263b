"""The Secret with the token of a task's owner: its manifest."""

from __future__ import annotations

from typing import Any

from clearml_k8s import names
from clearml_k8s.kube.resources import JOBS, SECRETS
from clearml_k8s.kube.slim import JobRecord


def manifest(job: JobRecord, *, token: str, namespace: str, release: str, controller: str) -> dict[str, Any]:
    """Of the name that the Job's pod refers to (`JobRecord.token_secret`); Kubernetes removes it with the Job.

    Nobody but the pod's node reads it, so it is never changed, and the controller needs no right but to create it.
    """
    labels = {
        **names.common_labels(release=release, controller=controller),
        names.LABEL_COMPONENT: names.COMPONENT_TOKEN,
        **({names.LABEL_TASK_ID: job.task} if job.task else {}),
    }
    owner = {"apiVersion": JOBS.api_version, "kind": JOBS.kind, "name": job.name, "uid": job.uid}
    return {
        "apiVersion": SECRETS.api_version,
        "kind": SECRETS.kind,
        "type": "Opaque",
        "immutable": True,
        "metadata": {
            "name": job.token_secret,
            "namespace": namespace,
            "labels": labels,
            "ownerReferences": [owner],
        },
        "stringData": {names.TOKEN_KEY: token},
    }

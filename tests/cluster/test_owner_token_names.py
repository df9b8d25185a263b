"""Why the Secret with an owner's token is not named after its Job's uid (ADR 0019): asked of the real API server."""

from __future__ import annotations

from typing import Any

import pytest
from chaos_controller import config
from chaos_kube import Kube, KubeError
from clearml_k8s.clearml.tasks import TaskView
from clearml_k8s.config import ResolvedQueue
from clearml_k8s.config.file import config_from_document
from clearml_k8s.spec.job import build_job

TASK = "0123456789abcdef0123456789abcdef"
CHOSEN = "11111111-2222-3333-4444-555555555555"


def job(namespace: str) -> dict[str, Any]:
    """That of a task which runs as its owner."""
    document = config(
        release="r", namespace=namespace, api_server="http://127.0.0.1:1", queues={"q": None}, max_pods=None
    )
    document["clearml"] = {"apiServer": "http://127.0.0.1:1", "ownerToken": True}
    of = config_from_document(document, source="the test")
    return build_job(
        config=of,
        queue=ResolvedQueue(config=of.queues["q"], id="q", name="q"),
        task=TaskView(id=TASK, status="queued", status_changed="2026-01-15T06:22:11.065000+00:00"),
        attempt="2026-01-15T06:22:11.065000+00:00",
        worker_id="w",
        controller_id="c",
    ).manifest


async def test_a_jobs_uid_is_not_known_before_it_is_there_and_its_environment_cannot_be_changed_afterwards(
    kube: Kube, namespaces: tuple[str, str]
) -> None:
    jobs = f"/apis/batch/v1/namespaces/{namespaces[0]}/jobs"
    manifest = job(namespaces[0])
    manifest["metadata"]["uid"] = CHOSEN
    manifest["spec"]["suspend"] = True
    made = await kube.request("POST", jobs, body=manifest)
    assert made["metadata"]["uid"] != CHOSEN
    # The Job controller writes to it as well: whichever version is there, this is asked of.
    del made["metadata"]["resourceVersion"]
    template = made["spec"]["template"]
    for entry in template["spec"]["containers"][0]["env"]:
        if entry["name"] == "CLEARML_AUTH_TOKEN":
            entry["valueFrom"]["secretKeyRef"]["name"] = f"owner-token-{made['metadata']['uid']}"
    with pytest.raises(KubeError, match="422: .* is invalid: spec.template.spec: Invalid value"):
        await kube.request("PUT", f"{jobs}/{made['metadata']['name']}", body=made)

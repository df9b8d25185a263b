"""Jobs as the real API server takes them, by a dry run with strict fields: of hostile tasks, and all that are kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import golden
import pytest
from clearml_k8s.clearml.tasks import TaskView
from clearml_k8s.clock import SystemClock
from clearml_k8s.config import QueueConfig, ResolvedQueue
from clearml_k8s.config.multi_node import MultiNodeConfig
from clearml_k8s.errors import KubeRefused, SpecError
from clearml_k8s.kube.client import KubeClient
from clearml_k8s.kube.resources import JOBS, PODS, SERVICES
from clearml_k8s.kube.service import headless
from clearml_k8s.kube.slim import slim_job
from clearml_k8s.spec.job import SAMPLE_ATTEMPT, SAMPLE_TASK_ID, build_job, pod_of
from hostile import BOUNDED
from hostile_tasks import config, queues, tasks
from hypothesis import HealthCheck, Phase, given, settings

SAMPLE = 60
MOST_TRIES = 400


def sample(namespace: str) -> tuple[list[dict], int]:
    """Manifests of the first tasks that a Job can be made of, the same in every run; and how many were refused."""
    made: list[dict] = []
    refused = 0

    @settings(BOUNDED, max_examples=MOST_TRIES, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(task=tasks(), queue=queues())
    def collect(task, queue):
        nonlocal refused
        if len(made) == SAMPLE:
            return
        try:
            built = build_job(
                config=config(namespace=namespace),
                queue=queue,
                task=task,
                attempt=task.status_changed,
                worker_id="w",
                controller_id="73428caf09",
            )
        except SpecError:
            refused += 1
        else:
            made.append(built.manifest)

    collect()
    return made, refused


async def test_every_job_of_a_hostile_task_is_accepted(cluster_kubeconfig: Path, namespaces: tuple[str, str]) -> None:
    manifests, refused = sample(namespaces[0])
    assert len(manifests) == SAMPLE
    assert refused > 0
    problems = []
    async with await KubeClient.connect(clock=SystemClock(), kubeconfig=str(cluster_kubeconfig)) as client:
        for manifest in manifests:
            for resource, thing in ((JOBS, manifest), (PODS, pod_of(manifest))):
                try:
                    await client.create(resource, thing, namespace=namespaces[0], dry_run=True, strict=True)
                except KubeRefused as error:
                    problems.append(f"{error}\n{thing}")
        left = await client.request("GET", JOBS.path(namespace=namespaces[0]))
    assert not problems, "\n\n".join(problems)
    assert not left["items"]


async def test_every_kind_of_task_on_several_nodes_is_accepted(
    cluster_kubeconfig: Path, namespaces: tuple[str, str]
) -> None:
    several = replace(config(namespace=namespaces[0]), multi_node=MultiNodeConfig())
    queue = ResolvedQueue(config=QueueConfig(name="default"), id="id-default", name="default")
    problems = []
    async with await KubeClient.connect(clock=SystemClock(), kubeconfig=str(cluster_kubeconfig)) as client:
        for request, layout, kind in (
            ("[2, 6]", "gpus_per_node_count", "physical"),
            ("[2, 6]", "gpus_per_node_count", "logical"),
            ("[2, 2, 4]", "gpus_per_node_list", "physical"),
            ("[0, 512]", "gpus_per_node_count", "physical"),
            ("[8, 1]", "gpus_per_node_count", "physical"),
        ):
            asked = {"multi_node_request": request, "multi_node_request_layout": layout, "multi_node_type": kind}
            task = TaskView(id=SAMPLE_TASK_ID, status="queued", status_changed=SAMPLE_ATTEMPT, properties=asked)
            manifest = build_job(
                config=several,
                queue=queue,
                task=task,
                attempt=SAMPLE_ATTEMPT,
                worker_id="w",
                controller_id="73428caf09",
            ).manifest
            job = slim_job({**manifest, "metadata": {**manifest["metadata"], "uid": "u"}})
            service = headless(job, namespace=namespaces[0], release="r", controller="73428caf09")
            for resource, thing in ((JOBS, manifest), (PODS, pod_of(manifest)), (SERVICES, service)):
                try:
                    await client.create(resource, thing, namespace=namespaces[0], dry_run=True, strict=True)
                except KubeRefused as error:
                    problems.append(f"{error}\n{thing}")
    assert problems == []


@pytest.mark.parametrize("name", golden.manifests())
async def test_every_manifest_that_is_kept_is_accepted(
    name: str, cluster_kubeconfig: Path, namespaces: tuple[str, str]
) -> None:
    """The Job alone, which the server checks with its pods: what these name (accounts, classes) is not there."""
    manifest = golden.manifests()[name]
    manifest["metadata"]["namespace"] = namespaces[0]
    async with await KubeClient.connect(clock=SystemClock(), kubeconfig=str(cluster_kubeconfig)) as client:
        made = await client.create(JOBS, manifest, namespace=namespaces[0], dry_run=True, strict=True)
        manifest["spec"]["template"]["spec"]["containers"][0]["resources"] = {"limits": {"clear.ml/fraction-1": "0.5"}}
        with pytest.raises(KubeRefused):
            await client.create(JOBS, manifest, namespace=namespaces[0], dry_run=True, strict=True)
    assert made["metadata"]["name"] == manifest["metadata"]["name"]

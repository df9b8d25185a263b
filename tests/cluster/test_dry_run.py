"""Jobs of hostile tasks, as the real API server takes them: by a dry run, with strict fields."""

from __future__ import annotations

from pathlib import Path

from clearml_k8s.clock import SystemClock
from clearml_k8s.errors import KubeRefused, SpecError
from clearml_k8s.kube.client import KubeClient
from clearml_k8s.kube.resources import JOBS, PODS
from clearml_k8s.spec.job import build_job, pod_of
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

"""Each row of the reconcile table, made on the real API server: it leads to what the row made by hand leads to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from chaos_kube import Kube
from clearml_k8s import names
from clearml_k8s.clock import SystemClock
from clearml_k8s.flow.decide import Decision
from clearml_k8s.kube.client import KubeClient
from cluster_states import Made
from cluster_ways import WAYS
from reconcile_states import CLUSTER, TASK, Shown, step, step_of

from ci.cluster.local import LocalCluster


@pytest.fixture
async def client(cluster_kubeconfig: Path) -> AsyncIterator[KubeClient]:
    async with await KubeClient.connect(clock=SystemClock(), kubeconfig=str(cluster_kubeconfig)) as connected:
        yield connected


def essence(decision: Decision, *, patience: bool) -> dict[str, Any]:
    """What has to be the same; texts hold what the cluster said."""
    found = decision.diagnosis
    return {
        "step": decision.step.name,
        "why": decision.why,
        "category": found and found.category.value,
        "patience": found.patience if found and patience else None,
    }


def differences(row: str, shown: Shown) -> dict[str, Any]:
    """By column: what the row made by hand gives, and what the cluster shows gives."""
    # How long a better reason may come after depends on whether the Job has ended, which may be later than its pod.
    patience = shown.job.finished == CLUSTER[row].job.finished
    found = {}
    for column in TASK:
        by_hand = essence(step(column, row), patience=patience)
        real = essence(step_of(column, shown, row=row), patience=patience)
        if by_hand != real:
            found[column] = {"by hand": by_hand, "real": real}
    return found


def test_no_way_is_one_to_a_state_that_the_table_does_not_have() -> None:
    assert not WAYS.keys() - CLUSTER.keys()


@pytest.mark.parametrize("row", CLUSTER)
async def test_the_real_state_leads_to_the_same_steps(
    row: str, kube: Kube, client: KubeClient, cluster: LocalCluster, namespaces: tuple[str, str]
) -> None:
    ways, looks = WAYS[row], 0
    for way, namespace in zip(ways, namespaces[: len(ways)], strict=True):
        made = Made(kube=kube, client=client, cluster=cluster, namespace=namespace)
        async with made, aclosing(way(made)) as moments:
            async for _ in moments:
                shown = await made.shown()
                looks += 1
                assert not differences(row, shown), f"look {looks}: {shown}"
                assert shown.job.controller == "c"
                assert shown.job.worker is not None
                told = names.task_worker_id(worker_id=shown.job.worker, task_id=shown.job.task or "")
                assert told == f"w:{made.task}"
    assert looks >= len(ways)

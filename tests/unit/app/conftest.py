"""A kubeconfig to the scripted Kubernetes API server, in which there is a namespace."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from scripted_kube import Cluster


@pytest.fixture
async def cluster(cluster: Cluster) -> Cluster:
    """The scripted API server, with the namespace of the tests."""
    # What stands at a cluster's own level keeps the name of its collection here.
    cluster.objects["namespaces"] = {"ns": {"metadata": {"name": "ns", "uid": "12345678-90ab", "resourceVersion": "1"}}}
    return cluster


@pytest.fixture
def kubeconfig(cluster: Cluster, tmp_path: Path) -> str:
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": "ns"}}],
        "clusters": [{"name": "c", "cluster": {"server": cluster.url}}],
        "users": [{"name": "u", "user": {}}],
    }
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(document))
    return str(path)

"""A kubeconfig, read."""

import pytest
import yaml
from clearml_k8s.errors import (
    ConfigError,
)
from clearml_k8s.kube.client import KubeClient
from clearml_k8s.kube.resources import JOBS


async def test_connect_by_kubeconfig(cluster, clock, tmp_path):
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text(
        yaml.safe_dump(
            {
                "current-context": "one",
                "contexts": [
                    {"name": "one", "context": {"cluster": "c", "user": "u", "namespace": "clearml"}},
                    {"name": "two", "context": {"cluster": "c", "user": "u"}},
                ],
                "clusters": [{"name": "c", "cluster": {"server": cluster.url}}],
                "users": [{"name": "u", "user": {"token": "abc"}}],
            }
        )
    )
    cluster.tokens = {"Bearer abc"}
    async with await KubeClient.connect(clock=clock, kubeconfig=str(kubeconfig)) as client:
        assert client.namespace == "clearml"
        await client.create(JOBS, {"metadata": {"name": "clearml-id-ab"}}, namespace="ns")
    async with await KubeClient.connect(clock=clock, kubeconfig=str(kubeconfig), context="two") as client:
        assert client.namespace == "default"
    with pytest.raises(ConfigError, match="three"):
        await KubeClient.connect(clock=clock, kubeconfig=str(kubeconfig), context="three")
    with pytest.raises(ConfigError, match="nowhere"):
        await KubeClient.connect(clock=clock, kubeconfig="/nowhere")

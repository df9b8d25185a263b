"""A client to the scripted API server."""

from random import Random

import pytest
from clearml_k8s.kube.client import KubeClient
from kubernetes.aio.client.configuration import Configuration


@pytest.fixture
async def client(cluster, clock, meters):
    """A client to the server."""
    configuration = Configuration(host=cluster.url)
    async with KubeClient(
        configuration=configuration, clock=clock, namespace="ns", metrics=meters, random=Random(7)
    ) as client:
        yield client

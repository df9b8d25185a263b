"""Who the controller is, of the release and its namespace alone."""

from __future__ import annotations

import pytest
from clearml_k8s import names
from clearml_k8s.app.connect import Identity, identity_of
from clearml_k8s.clock import SystemClock
from clearml_k8s.config import Config
from clearml_k8s.errors import ConfigError
from clearml_k8s.kube.client import KubeClient
from flow_parts import make_config
from scripted_kube import Cluster, Fault, status

UID = "12345678-90ab"


async def identity(config: Config, kubeconfig: str) -> Identity:
    async with await KubeClient.connect(clock=SystemClock(), kubeconfig=kubeconfig, context=None) as client:
        return await identity_of(config, client=client)


async def test_the_worker_id_is_for_people_and_the_identity_is_not_made_of_it(
    cluster: Cluster, kubeconfig: str
) -> None:
    made = await identity(make_config(), kubeconfig)
    given = await identity(make_config(worker_id="lab"), kubeconfig)
    assert made == Identity(
        worker_id="clearml-agent-gpu-12345678", controller=names.controller_id(namespace_uid=UID, release="gpu")
    )
    assert given == Identity(worker_id="lab", controller=made.controller)


async def test_with_one_worker_id_releases_and_namespaces_stay_apart(cluster: Cluster, kubeconfig: str) -> None:
    found = [await identity(make_config(worker_id="lab"), kubeconfig)]
    found.append(await identity(make_config(worker_id="lab", release_name="cpu"), kubeconfig))
    cluster.objects["namespaces"]["ns"]["metadata"]["uid"] = "of-another-cluster"
    found.append(await identity(make_config(worker_id="lab"), kubeconfig))
    assert len({one.controller for one in found}) == 3


async def test_a_namespace_that_may_not_be_read_is_named(cluster: Cluster, kubeconfig: str) -> None:
    forbidden = Fault(code=403, status=status(403, "Forbidden", "User x cannot get resource namespaces"))
    cluster.fault("GET", forbidden, path="namespaces/ns")
    with pytest.raises(ConfigError) as caught:
        await identity(make_config(worker_id="lab"), kubeconfig)
    assert "allow this account to get namespaces 'ns'" in str(caught.value)
    assert "User x cannot get" in str(caught.value)

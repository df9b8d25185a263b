"""How one request to the API server ends: answered, refused, in doubt; the token that is read again."""

import asyncio
import socket

import pytest
from clearml_k8s.errors import (
    KubeNotFound,
    KubeRefused,
    KubeUnanswered,
    KubeUnauthorized,
    NotSent,
    Refused,
    Unreachable,
)
from clearml_k8s.kube.client import KubeClient
from clearml_k8s.kube.resources import JOBS
from kubernetes.aio.client.configuration import Configuration
from scripted_kube import Fault

JOB = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "clearml-id-ab"}, "spec": {"x": 8}}


@pytest.mark.parametrize("fault", [Fault(code=500), Fault(code=503), Fault(code=504), Fault(drop=True)])
async def test_writes_in_doubt_are_not_repeated(cluster, client, fault):
    cluster.fault("POST", fault)
    with pytest.raises(KubeUnanswered):
        await client.create(JOBS, JOB, namespace="ns")
    assert len(cluster.of("POST")) == 1


async def test_a_reply_lost_after_the_commit_is_doubt(cluster, client):
    cluster.fault("POST", Fault(drop=True, after=True))
    with pytest.raises(KubeUnanswered):
        await client.create(JOBS, JOB, namespace="ns")
    assert "clearml-id-ab" in cluster.objects["jobs"]


async def test_a_lost_reply_to_a_delete_ends_as_gone(cluster, client):
    # aiohttp sends a DELETE once more on a new connection; with the uid in it that is harmless.
    uid = cluster.put("jobs", "clearml-id-ab")["metadata"]["uid"]
    cluster.fault("DELETE", Fault(drop=True, after=True))
    assert not await client.delete(JOBS, "clearml-id-ab", uid=uid, namespace="ns")


async def test_no_request_outlives_20_seconds(cluster, client, clock):
    cluster.fault("POST", Fault(stall=True))
    task = asyncio.create_task(client.create(JOBS, JOB, namespace="ns", deadline=clock.monotonic() + 3600))
    async with asyncio.timeout(5):
        while not cluster.seen:
            await asyncio.sleep(0.001)
    await clock.advance(19)
    assert not task.done()
    await clock.advance(2)
    with pytest.raises(KubeUnanswered, match="no answer within 20 s"):
        await task


async def test_unreachable_is_certainly_not_done(clock):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    async with KubeClient(configuration=Configuration(host=f"http://127.0.0.1:{port}"), clock=clock) as client:
        with pytest.raises(Unreachable, match="Kubernetes API"):
            await client.create(JOBS, JOB, namespace="ns")
        with pytest.raises(Unreachable):
            await client.get(JOBS, "x", namespace="ns")
    assert len(clock.slept) > 1


async def test_a_deadline_in_the_past_sends_nothing(cluster, client, clock):
    with pytest.raises(NotSent):
        await client.create(JOBS, JOB, namespace="ns", deadline=clock.monotonic())
    assert cluster.seen == []


async def test_only_the_api_servers_own_404_means_not_found(cluster, client):
    with pytest.raises(KubeNotFound):
        await client.get(JOBS, "x", namespace="ns")
    assert await client.find(JOBS, "x", namespace="ns") is None
    cluster.fault("GET", Fault(code=404, text="default backend - 404"))
    with pytest.raises(Refused) as caught:
        await client.find(JOBS, "x", namespace="ns")
    assert not isinstance(caught.value, KubeNotFound)
    cluster.fault("DELETE", Fault(code=404, text="default backend - 404"))
    with pytest.raises(KubeRefused):
        await client.delete(JOBS, "x", uid="u", namespace="ns")


async def test_an_expired_token_is_read_again_and_the_write_repeated(cluster, clock):
    cluster.tokens = {"Bearer new"}
    configuration = Configuration(host=cluster.url)
    configuration.api_key["BearerToken"] = "Bearer old"
    reloads = []

    async def reload(given):
        reloads.append(1)
        given.api_key["BearerToken"] = "Bearer new"

    async with KubeClient(configuration=configuration, clock=clock, reload=reload) as client:
        jobs = [{**JOB, "metadata": {"name": f"j{number}"}} for number in range(10)]
        await asyncio.gather(*(client.create(JOBS, job, namespace="ns") for job in jobs))
    assert len(reloads) == 1
    assert len(cluster.objects["jobs"]) == 10


async def test_a_token_that_stays_refused(cluster, clock):
    cluster.tokens = {"Bearer other"}

    async def reload(given):
        given.api_key["BearerToken"] = "Bearer still-wrong"

    async with KubeClient(configuration=Configuration(host=cluster.url), clock=clock, reload=reload) as client:
        with pytest.raises(KubeUnauthorized):
            await client.create(JOBS, JOB, namespace="ns")
    assert len(cluster.of("POST")) == 2


async def test_the_environments_proxy_is_not_used(cluster, client, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    await client.create(JOBS, JOB, namespace="ns")

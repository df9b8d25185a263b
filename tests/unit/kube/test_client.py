"""The three endings of a request, what is repeated, and what an error may show."""

import asyncio
import json

import pytest
from clearml_k8s.errors import (
    KubeAlreadyExists,
    KubeConflict,
    KubeExpired,
    KubeForbidden,
    KubeInvalid,
    KubeRefused,
    KubeThrottled,
    KubeUnanswered,
    NotSent,
)
from clearml_k8s.kube.client import KubeClient
from clearml_k8s.kube.resources import JOBS, NAMESPACES, PODS
from clearml_k8s.kube.status import RETRY_AFTER_MOST
from kubernetes.aio.client.configuration import Configuration
from scripted_kube import Fault, status
from scripted_servers import waiting_for_a_connection

JOB = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "clearml-id-ab"}, "spec": {"x": 8}}


async def test_create_get_patch_delete(cluster, client):
    made = await client.create(JOBS, JOB, namespace="ns")
    assert made["spec"] == {"x": 8}
    assert (await client.get(JOBS, "clearml-id-ab", namespace="ns"))["metadata"]["uid"] == made["metadata"]["uid"]
    patched = await client.patch(JOBS, "clearml-id-ab", {"spec": {"suspend": False}}, namespace="ns")
    assert patched["spec"] == {"x": 8, "suspend": False}
    assert await client.delete(JOBS, "clearml-id-ab", uid=made["metadata"]["uid"], namespace="ns")
    assert await client.find(JOBS, "clearml-id-ab", namespace="ns") is None
    assert not await client.delete(JOBS, "clearml-id-ab", uid=made["metadata"]["uid"], namespace="ns")
    create, patch, delete = (cluster.of(method)[0] for method in ("POST", "PATCH", "DELETE"))
    assert create.path == "/apis/batch/v1/namespaces/ns/jobs"
    assert patch.headers["Content-Type"] == "application/merge-patch+json"
    assert delete.body["propagationPolicy"] == "Background"
    assert delete.body["preconditions"] == {"uid": made["metadata"]["uid"]}


async def test_a_delete_never_hits_another_object_of_the_same_name(cluster, client):
    cluster.put("jobs", "clearml-id-ab")
    with pytest.raises(KubeConflict):
        await client.delete(JOBS, "clearml-id-ab", uid="another", namespace="ns")
    assert "clearml-id-ab" in cluster.objects["jobs"]


async def test_already_exists_is_its_own_kind(cluster, client):
    cluster.put("jobs", "clearml-id-ab")
    with pytest.raises(KubeAlreadyExists):
        await client.create(JOBS, JOB, namespace="ns")


async def test_dry_run_and_strict_validation(cluster, client):
    await client.create(JOBS, JOB, namespace="ns", dry_run=True, strict=True)
    assert cluster.of("POST")[0].query == {"dryRun": "All", "fieldValidation": "Strict"}
    assert cluster.objects["jobs"] == {}


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (400, "BadRequest", KubeInvalid),
        (403, "Forbidden", KubeForbidden),
        (409, "Conflict", KubeConflict),
        (410, "Expired", KubeExpired),
        (410, "Gone", KubeExpired),
        (405, "MethodNotAllowed", KubeRefused),
        (422, "Invalid", KubeInvalid),
    ],
)
async def test_refusals(cluster, client, code, reason, kind):
    cluster.fault("POST", Fault(code=code, status=status(code, reason, "because")))
    with pytest.raises(KubeRefused) as caught:
        await client.create(JOBS, JOB, namespace="ns")
    assert type(caught.value) is kind
    assert (caught.value.code, caught.value.reason, caught.value.message) == (code, reason, "because")


async def test_throttled_writes_say_how_long_and_are_not_repeated(cluster, client):
    body = status(429, "TooManyRequests", "slow down", retryAfterSeconds=7)
    cluster.fault("POST", Fault(code=429, status=body))
    with pytest.raises(KubeThrottled) as caught:
        await client.create(JOBS, JOB, namespace="ns")
    assert caught.value.retry_after == 7
    assert len(cluster.of("POST")) == 1


@pytest.mark.parametrize("where", ["header", "status"])
async def test_no_wait_of_hours_is_believed(cluster, client, where):
    body = status(429, "TooManyRequests", "slow down", **({"retryAfterSeconds": 7200} if where == "status" else {}))
    headers = {"Retry-After": "7200"} if where == "header" else {}
    cluster.fault("POST", Fault(code=429, status=body, headers=headers))
    with pytest.raises(KubeThrottled) as caught:
        await client.create(JOBS, JOB, namespace="ns")
    assert caught.value.retry_after == RETRY_AFTER_MOST


async def test_reads_are_repeated_and_honour_retry_after(cluster, client, clock):
    cluster.put("jobs", "clearml-id-ab")
    cluster.fault(
        "GET",
        Fault(code=429, status=status(429, "TooManyRequests"), headers={"Retry-After": "3"}),
        Fault(code=500),
        Fault(code=200, text="not json"),
    )
    found = await client.get(JOBS, "clearml-id-ab", namespace="ns")
    assert found["metadata"]["name"] == "clearml-id-ab"
    assert 3 <= clock.slept[0] <= 4
    assert len(cluster.of("GET")) == 4


async def test_reads_end_with_their_deadline(cluster, client, clock):
    cluster.fault("GET", *[Fault(code=503)] * 200)
    began = clock.monotonic()
    with pytest.raises(KubeUnanswered):
        await client.get(JOBS, "x", namespace="ns", deadline=began + 15)
    assert clock.monotonic() <= began + 15


async def test_an_error_never_echoes_an_object(cluster, client):
    secret = "hunter2-" * 40
    message = f'Invalid value: {{"env":"{secret}"}}: field is immutable'
    cause = {"field": "spec.template", "reason": "FieldValueInvalid", "message": message}
    body = status(422, "Invalid", f'Job "x" is invalid: {message}', kind="Job", name="x", causes=[cause])
    thing = json.dumps({"kind": "Job", "spec": secret})
    cluster.fault("POST", Fault(code=422, status=body), Fault(code=500, text=thing))
    with pytest.raises(KubeInvalid) as caught:
        await client.create(JOBS, JOB, namespace="ns")
    assert caught.value.message == "Job x is invalid: spec.template: Invalid value: (long value): field is immutable"
    assert caught.value.causes[0].field == "spec.template"
    assert "hunter2" not in str(caught.value) + str(caught.value.causes)
    with pytest.raises(KubeUnanswered) as doubt:
        await client.create(JOBS, JOB, namespace="ns")
    assert "hunter2" not in str(doubt.value)


async def test_lists_are_paged(cluster, client):
    for number in range(25):
        cluster.put("pods", f"p{number:03}")
    names = []
    async for page in client.list_pages(PODS, namespace="ns", label_selector="a=b", limit=10):
        names += [item["metadata"]["name"] for item in page["items"]]
    assert len(set(names)) == 25
    assert [seen.query["limit"] for seen in cluster.of("GET")] == ["10"] * 3
    assert cluster.of("GET")[0].query["labelSelector"] == "a=b"


async def test_an_answer_without_items_is_no_empty_list(cluster, client):
    cluster.fault("GET", *[Fault(code=200, text="{}")] * 200)
    with pytest.raises(KubeUnanswered):
        async for _ in client.list_pages(PODS, namespace="ns"):
            pass


def test_paths():
    assert NAMESPACES.path(name="a") == "/api/v1/namespaces/a"
    assert PODS.path(namespace="n", name="p", subresource="log") == "/api/v1/namespaces/n/pods/p/log"
    assert JOBS.path(namespace="n") == "/apis/batch/v1/namespaces/n/jobs"
    assert JOBS.path(namespace="n", name="a/../b") == "/apis/batch/v1/namespaces/n/jobs/a%2F..%2Fb"


async def test_metrics_carry_no_names(cluster, client, meters):
    cluster.put("jobs", "clearml-id-ab")
    await client.get(JOBS, "clearml-id-ab", namespace="ns")
    labels = {"api": "kubernetes", "endpoint": "GET jobs", "outcome": "answered"}
    assert meters.registry.get_sample_value("clearml_k8s_api_requests_total", labels) == 1


# ---- the guard ------------------------------------------------------------------------------------------------------


async def test_a_guarded_write_is_not_sent_and_reads_are(cluster, clock):
    def closed():
        raise NotSent("not ours any more")

    async with KubeClient(configuration=Configuration(host=cluster.url), clock=clock, guard=closed) as client:
        assert await client.find(JOBS, "clearml-id-ab", namespace="ns") is None
        for write in (
            client.create(JOBS, JOB, namespace="ns"),
            client.patch(JOBS, "clearml-id-ab", {}, namespace="ns"),
            client.delete(JOBS, "clearml-id-ab", uid="u", namespace="ns"),
            client.request("DELETE", JOBS.path(namespace="ns", name="clearml-id-ab")),
        ):
            with pytest.raises(NotSent, match="not ours any more"):
                await write
    assert {seen.method for seen in cluster.seen} == {"GET"}


async def test_the_guard_is_asked_when_the_connection_is_there(cluster, clock):
    closed = False

    def guard():
        if closed:
            raise NotSent("not ours any more")

    configuration = Configuration(host=cluster.url)
    configuration.connection_pool_maxsize = 1
    cluster.fault("GET", Fault(stall=True))
    async with KubeClient(configuration=configuration, clock=clock, guard=guard) as client:
        read = asyncio.ensure_future(client.find(JOBS, "clearml-id-ab", namespace="ns"))
        async with asyncio.timeout(5):
            while not cluster.seen:
                await asyncio.sleep(0.001)
        writes = [
            asyncio.ensure_future(write)
            for write in (
                client.create(JOBS, JOB, namespace="ns"),
                client.patch(JOBS, "clearml-id-ab", {}, namespace="ns"),
                client.delete(JOBS, "clearml-id-ab", uid="u", namespace="ns"),
                client.request("DELETE", JOBS.path(namespace="ns", name="clearml-id-ab")),
            )
        ]
        await waiting_for_a_connection(client._transport._rest.pool_manager, count=len(writes))
        closed = True
        cluster.release()
        assert await read is None
        for write in writes:
            with pytest.raises(NotSent, match="not ours any more"):
                await write
    assert {seen.method for seen in cluster.seen} == {"GET"}


async def test_a_closed_client_sends_nothing(cluster, clock):
    client = KubeClient(configuration=Configuration(host=cluster.url), clock=clock)
    await client.close()
    with pytest.raises(NotSent, match="closed"):
        await client.create(JOBS, JOB, namespace="ns")
    assert not cluster.seen


async def test_the_guard_is_asked_again_after_a_401(cluster, clock):
    asked = []

    def once():
        asked.append(1)
        if len(asked) > 1:
            raise NotSent("not ours any more")

    async def reload(configuration):
        return None

    configuration = Configuration(host=cluster.url)
    cluster.fault("POST", Fault(code=401, status=status(401, "Unauthorized")))
    async with KubeClient(configuration=configuration, clock=clock, guard=once, reload=reload) as client:
        with pytest.raises(NotSent):
            await client.create(JOBS, JOB, namespace="ns")
    assert len(cluster.of("POST")) == 1

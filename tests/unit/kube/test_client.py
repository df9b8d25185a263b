"""The three endings of a request, what is repeated, and what an error may show."""

import asyncio
import json
import socket

import pytest
import yaml
from clearml_k8s.errors import (
    ConfigError,
    KubeAlreadyExists,
    KubeConflict,
    KubeExpired,
    KubeForbidden,
    KubeInvalid,
    KubeNotFound,
    KubeRefused,
    KubeThrottled,
    KubeUnanswered,
    KubeUnauthorized,
    NotSent,
    Refused,
    Unreachable,
)
from clearml_k8s.kube import access
from clearml_k8s.kube.client import KubeClient
from clearml_k8s.kube.resources import CONFIGMAPS, JOBS, NAMESPACES, PODS
from kubernetes.aio.client.configuration import Configuration
from scripted_kube import Fault, status

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
        await client.create(JOBS, JOB, namespace="ns")
    async with await KubeClient.connect(clock=clock, kubeconfig=str(kubeconfig), context="two") as client:
        assert client.namespace == "default"
    with pytest.raises(ConfigError, match="three"):
        await KubeClient.connect(clock=clock, kubeconfig=str(kubeconfig), context="three")
    with pytest.raises(ConfigError, match="nowhere"):
        await KubeClient.connect(clock=clock, kubeconfig="/nowhere")


async def test_access_review(cluster, client):
    may = await access.review(client, verb="create", resource=JOBS, namespace="ns")
    may_not = await access.review(client, verb="delete", resource=CONFIGMAPS, namespace="ns", name="x")
    assert may.allowed
    assert str(may_not) == "may not delete configmaps 'x' in namespace ns"
    assert cluster.of("POST")[0].body["spec"]["resourceAttributes"] == {
        "verb": "create",
        "group": "batch",
        "resource": "jobs",
        "namespace": "ns",
    }


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

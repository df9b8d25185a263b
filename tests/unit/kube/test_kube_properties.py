"""Whatever the Kubernetes API answers: a record of the documented shape, or an error of ours that names the field."""

import json
import math

import pytest
from clearml_k8s.errors import KubeRefused, KubeUnanswered
from clearml_k8s.kube import status as statuses
from clearml_k8s.kube.events import EventRecord, event_record
from clearml_k8s.kube.old_pod import OldPod, slim_old_pod
from clearml_k8s.kube.record import Claim, ClaimRecord
from clearml_k8s.kube.resources import JOBS
from clearml_k8s.kube.slim import JobRecord, PodRecord, slim_job, slim_pod
from clearml_k8s.kube.store import newer
from clearml_k8s.kube.uses import Measure, Uses, field_path
from clearml_k8s.kube.watch import Gone, Upsert, Watch
from hostile import BOUNDED, DEEP, run, spoilt, texts, values
from hostile_objects import EVENT, JOB, POD
from hypothesis import example, given
from hypothesis import strategies as st
from manual_clock import ManualClock
from scripted_kube import Fault


def fields_of(record):
    for name in type(record).__dataclass_fields__:
        found = getattr(record, name)
        if isinstance(found, tuple):
            for item in found:
                yield from fields_of(item)
        else:
            yield name, found


MEASURE = Measure(fields=(field_path("resources|limits|nvidia.com/gpu"), field_path("metadata|labels|a")))


# ---- objects --------------------------------------------------------------------------------------------------------


@BOUNDED
@given(job=spoilt(JOB))
def test_a_job_becomes_a_record_or_doubt(job):
    try:
        record = slim_job(job, measure=MEASURE)
    except KubeUnanswered as error:
        assert "metadata" in str(error) or not isinstance(job, dict)
        return
    assert isinstance(record, JobRecord) and record.uid and record.name
    assert all(isinstance(found, str | int | Uses | None) for _, found in fields_of(record))
    assert record.finished in (True, False)


@BOUNDED
@given(pod=spoilt(POD))
@example(pod={**POD, "status": {**POD["status"], "conditions": ["Ready"]}})
@example(pod={**POD, "status": {**POD["status"], "containerStatuses": {"a": 1}}})
@example(pod={**POD, "metadata": {**POD["metadata"], "ownerReferences": [None, {"kind": "Job"}]}})
@example(pod={**POD, "metadata": {**POD["metadata"], "labels": {"clearml-task-id": ["a"]}}})
def test_a_pod_becomes_a_record_or_doubt(pod):
    try:
        record = slim_pod(pod, measure=MEASURE)
    except KubeUnanswered as error:
        assert "metadata" in str(error) or not isinstance(pod, dict)
        return
    assert isinstance(record, PodRecord) and record.uid and record.name
    assert all(isinstance(found, str | int | Uses | None) for _, found in fields_of(record))
    assert record.finished in (True, False)


OLD = {
    **POD,
    "metadata": {**POD["metadata"], "labels": {"CLEARML": "agent-x", "clearml-agent-queue": "q1"}},
    "spec": {"containers": [{"name": "c", "env": [{"name": "A"}, {"name": "CLEARML_WORKER_ID", "value": "gpu:ab"}]}]},
}


def test_a_pod_of_the_glue_has_the_glues_queue_and_worker():
    old = slim_old_pod(OLD)
    assert (old.pod.queue, old.reports_as, old.pod.job_uid) == ("q1", "gpu:ab", old.uid)


@BOUNDED
@given(pod=spoilt(OLD))
@example(pod={**OLD, "spec": {"containers": [{"env": [{"name": "CLEARML_WORKER_ID", "value": 3}]}, None]}})
@example(pod={**OLD, "metadata": {**OLD["metadata"], "labels": {"clearml-agent-queue": ["a"]}}})
def test_a_pod_of_the_glue_becomes_a_record_or_doubt(pod):
    try:
        old = slim_old_pod(pod)
    except KubeUnanswered as error:
        assert "metadata" in str(error) or not isinstance(pod, dict)
        return
    assert isinstance(old, OldPod) and isinstance(old.reports_as, str)
    assert isinstance(old.pod.queue, str | None)
    job = old.as_job(attempt="a", gone=True)
    assert (job.uid, job.finished) == (old.uid, True)


@pytest.mark.parametrize(
    ("thing", "named"),
    [
        (None, "found null; expected an object"),
        ({}, r"metadata\.uid: found nothing"),
        ({"metadata": []}, r"metadata\.uid: found nothing"),
        ({"metadata": {"uid": 5, "name": "a"}}, r"metadata\.uid: found a number; expected text"),
        ({"metadata": {"uid": "u"}}, r"metadata\.name: found nothing"),
    ],
)
@pytest.mark.parametrize("slim", [slim_job, slim_pod, slim_old_pod])
def test_an_object_without_identity_is_doubt_and_named(slim, thing, named):
    with pytest.raises(KubeUnanswered, match=named):
        slim(thing)


@BOUNDED
@given(event=spoilt(EVENT))
@example(event={**EVENT, "metadata": "x"})
@example(event={**EVENT, "involvedObject": [1]})
def test_an_event_becomes_a_record(event):
    record = event_record(event if isinstance(event, dict) else {})
    assert isinstance(record, EventRecord)
    assert all(isinstance(found, str | bool) for _, found in fields_of(record))
    assert len(record.line) < 1500


# ---- refusals -------------------------------------------------------------------------------------------------------

STATUS = {
    "kind": "Status",
    "code": 422,
    "reason": "Invalid",
    "message": 'Job.batch "x" is invalid: spec: Invalid value: "y": field is immutable',
    "details": {
        "name": "x",
        "kind": "Job",
        "retryAfterSeconds": 3,
        "causes": [{"field": "spec", "reason": "FieldValueInvalid", "message": 'Invalid value: "y": no'}],
    },
}


@BOUNDED
@given(
    body=st.builds(lambda status: json.dumps(status).encode(), spoilt(STATUS)) | st.binary(max_size=20),
    code=st.sampled_from([300, 400, 401, 403, 404, 408, 409, 410, 422, 429, 500, 503, 599]),
    retry_after=st.none() | texts(),
)
@example(body=DEEP, code=500, retry_after=None)
@example(body=json.dumps({**STATUS, "reason": "x" * 10**6}).encode(), code=409, retry_after="nan")
def test_a_refusal_is_an_error_with_a_short_text(body, code, retry_after):
    error = statuses.error("POST /x", code=code, status=statuses.parse(body), retry_after=retry_after)
    assert isinstance(error, KubeRefused | KubeUnanswered)
    assert isinstance(error, KubeUnanswered) is (code >= 500 or code == 408)
    assert len(str(error)) < 1000
    assert error.retry_after is None or (0 <= error.retry_after <= 60 and math.isfinite(error.retry_after))


# ---- watch ----------------------------------------------------------------------------------------------------------


class Client:
    """What a `Watch` needs to read a stream."""

    def __init__(self):
        self.clock = ManualClock(auto=True)


async def changes(raw: bytes, *, cut: int):
    async def chunks():
        for start in range(0, len(raw), cut):
            yield raw[start : start + cut]

    watch = Watch(client=Client(), resource=JOBS, slim=slim_job)
    return [event async for event in watch._changes(chunks())]


LINE = {"type": "MODIFIED", "object": JOB}


@BOUNDED
@given(
    lines=st.lists(
        st.builds(lambda line: json.dumps(line).encode(), spoilt(LINE)) | st.binary(max_size=20), max_size=3
    ),
    cut=st.integers(1, 5000),
)
@example(lines=[DEEP], cut=4096)
@example(lines=[b'{"type": "ADDED", "object": []}'], cut=9)
@example(lines=[b'{"type": "ERROR", "object": 5}'], cut=9)
@example(lines=[b"[]", b"null", b"\xff"], cut=1)
def test_a_stream_gives_changes_or_an_error_of_the_api(lines, cut):
    raw = b"\n".join(lines) + b"\n"
    try:
        found = run(changes(raw, cut=cut))
    except (KubeRefused, KubeUnanswered) as error:
        assert len(str(error)) < 1000
        return
    assert all(isinstance(event, Upsert | Gone) and isinstance(event.item, JobRecord) for event in found)


def test_a_line_that_is_no_event_is_named():
    line = json.dumps({"type": "ADDED", "object": {"metadata": {"name": "a", "resourceVersion": "5"}}}).encode() + b"\n"
    with pytest.raises(KubeUnanswered, match=r"metadata\.uid: found nothing; expected text"):
        run(changes(line, cut=10))


# ---- lists and answers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metadata", [[1], "x", {"continue": 5}, {"continue": ["t"]}])
async def test_a_list_whose_end_is_unknown_is_doubt(cluster, client, metadata):
    """Not a complete one: what is missing from a list is taken for deleted."""
    cluster.fault("GET", Fault(code=200, text=json.dumps({"items": [], "metadata": metadata})))
    with pytest.raises(KubeUnanswered, match=r"metadata\.continue: found .*; expected text"):
        assert [page async for page in client.list_pages(JOBS, namespace="ns")]


@pytest.mark.parametrize("text", [DEEP.decode(), "[]", "null", "{" * 10])
async def test_an_answer_that_is_no_object_is_doubt(cluster, client, text):
    cluster.fault("POST", Fault(code=200, text=text))
    with pytest.raises(KubeUnanswered, match="not a JSON object"):
        await client.create(JOBS, {"metadata": {"name": "x"}}, namespace="ns")


@BOUNDED
@given(one=texts(), other=texts())
@example(one="9" * 5000, other="1")
@example(one="²", other="1")
def test_versions_of_any_text_are_compared(one, other):
    assert newer(one, other) in (True, False)


# ---- the claim record -----------------------------------------------------------------------------------------------


class Stored:
    """In place of a client: the record as it stands, whatever is written."""

    max_request_seconds = 20.0
    random = None

    def __init__(self, found):
        self.found = found
        self.clock = ManualClock(auto=True)

    async def find(self, *_names, **_options):
        return self.found

    async def patch(self, *_names, **_options):
        return self.found

    async def create(self, *_names, **_options):
        return self.found


RECORD = {
    "metadata": {"resourceVersion": "7", "annotations": {"clearml-k8s.io/holder": "me"}},
    "data": {"t1": json.dumps({"queue": "q", "mark": "a#1", "controller": "c"}), "t2": "{}"},
}


@BOUNDED
@given(found=spoilt(RECORD))
@example(found={**RECORD, "data": {"t1": DEEP.decode()}})
@example(found={**RECORD, "data": ["t1"]})
@example(found={**RECORD, "metadata": {}})
def test_the_record_is_read_or_doubt(found):
    record = ClaimRecord(client=Stored(found), namespace="ns", name="claims", holder="me")
    try:
        claims = run(record.open())
    except KubeUnanswered as error:
        assert "configmap" in str(error)
        return
    assert all(isinstance(claim, Claim) and isinstance(claim.attempt, str) for claim in claims.values())


@BOUNDED
@given(text=values())
def test_a_claim_that_cannot_be_read_hides_no_other(text):
    data = {**RECORD["data"], "t9": text if isinstance(text, str) else json.dumps(text)}
    record = ClaimRecord(client=Stored({**RECORD, "data": data}), namespace="ns", name="claims", holder="me")
    assert "t1" in run(record.open())

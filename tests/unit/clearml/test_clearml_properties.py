"""Whatever the ClearML server answers: a value of the documented shape, or an error of ours that names the field."""

import base64
import dataclasses
import json

import pytest
from clearml_k8s.clearml import events, queues, tasks, token
from clearml_k8s.clearml.answer import data_of
from clearml_k8s.clearml.events import LogLine, packets
from clearml_k8s.clearml.queues import Entry, Queue
from clearml_k8s.clearml.tasks import Container, TaskView
from clearml_k8s.errors import ApiRefused, ApiUnanswered, ClearMLK8sError
from hostile import BOUNDED, DEEP, Answers, numbers, run, spoilt, texts, values
from hypothesis import example, given
from hypothesis import strategies as st

TASK = {
    "id": "5e6f0a1b2c3d4e5f60718293a4b5c6d7",
    "name": "train",
    "type": "training",
    "status": "queued",
    "status_changed": "2026-01-15T06:22:11.065000+00:00",
    "status_reason": "",
    "status_message": "",
    "execution": {"queue": "q1"},
    "project": {"id": "p1"},
    "parent": "aa",
    "user": "u",
    "company": {"id": "c"},
    "tags": ["a"],
    "system_tags": ["b"],
    "container": {"image": "python:3.11", "arguments": "-e A=B", "setup_shell_script": "true"},
    "script": {"repository": "https://git.example.com/x.git"},
    "last_worker": "w",
    "last_worker_report": "2026-01-15T06:22:11.065000+00:00",
    "last_update": None,
    "last_change": "2026-01-15T06:22:11.065000+00:00",
    "runtime": {"a": 1},
    "hyperparams": {"properties": {"k8s-queue": {"name": "k8s-queue", "value": "default"}}},
}
QUEUE = {"id": "q1", "name": "default", "entries": [{"task": "t1", "added": "2026-01-15"}], "system_tags": ["x"]}


def parsed(body: bytes, *, status: int = 200):
    return data_of("tasks.get_all", status=status, kind="text/html", text=body, target="", address="http://a")


# ---- the envelope ---------------------------------------------------------------------------------------------------


@BOUNDED
@given(
    body=st.binary(max_size=50)
    | st.builds(
        lambda answer: json.dumps(answer).encode(),
        spoilt({"meta": {"result_code": 200, "result_subcode": 0, "result_msg": "OK"}, "data": {"tasks": []}}),
    ),
    status=st.sampled_from([200, 201, 301, 400, 401, 403, 404, 408, 429, 500, 503]),
)
@example(body=DEEP, status=200)
@example(body=b'{"meta": {"result_code": 200}, "data": ' + DEEP + b"}", status=200)
@example(body=b'{"meta": {"result_code": %s}}' % (b"9" * 5000), status=200)
def test_an_answer_is_data_or_an_error_of_the_api(body, status):
    try:
        data = parsed(body, status=status)
    except (ApiRefused, ApiUnanswered) as error:
        assert len(str(error)) < 1000
    else:
        assert isinstance(data, dict) and status < 300


@pytest.mark.parametrize("code", ['"500"', "null", "[]", "true", "1.5"])
def test_a_result_code_that_is_no_number_is_doubt(code):
    with pytest.raises(ApiUnanswered, match=r"meta\.result_code"):
        parsed(f'{{"meta": {{"result_code": {code}}}, "data": {{"removed": 1}}}}'.encode())


def test_data_that_is_no_object_is_doubt():
    with pytest.raises(ApiUnanswered, match=r"data: found a list"):
        parsed(b'{"meta": {"result_code": 200}, "data": [1]}')


# ---- tasks ----------------------------------------------------------------------------------------------------------


def assert_shape(value, kind):
    """Every field of the dataclass has a value of its annotation's kind."""
    assert type(value) is kind
    for field in dataclasses.fields(value):
        found = getattr(value, field.name)
        if isinstance(found, tuple):
            assert all(isinstance(item, str | Entry) for item in found)
        else:
            assert isinstance(found, str | None | Container | dict | int), field.name


@BOUNDED
@given(row=spoilt(TASK))
@example(row={**TASK, "tags": 5})
@example(row={**TASK, "tags": "abc"})
@example(row={**TASK, "system_tags": [{"a": []}]})
def test_a_task_is_read_or_its_answer_is_doubt(row):
    try:
        found = run(tasks.get_many(Answers({"tasks": [row, {"id": "other"}]}), ["x"]))
    except ApiUnanswered as error:
        assert not isinstance(row, dict) or not isinstance(row.get("id"), str) or not row["id"]
        assert "tasks[0]" in str(error)
        return
    assert set(found) == {row["id"], "other"}
    view = found[row["id"]]
    assert_shape(view, TaskView)
    assert_shape(view.container, Container)
    assert all(isinstance(k, str) and isinstance(v, str) for k, v in view.properties.items())


@pytest.mark.parametrize(
    ("row", "named"),
    [
        (None, r"tasks\[0\]: found null; expected an object"),
        ([], r"tasks\[0\]: found a list"),
        ({}, r"tasks\[0\]\.id: found nothing; expected text"),
        ({"id": None}, r"tasks\[0\]\.id: found null; expected text"),
        ({"id": 5}, r"tasks\[0\]\.id: found a number"),
    ],
)
def test_a_row_that_is_no_task_is_doubt_and_named(row, named):
    with pytest.raises(ApiUnanswered, match=named):
        run(tasks.get_many(Answers({"tasks": [row]}), ["x"]))


@pytest.mark.parametrize("container", [[], "python:3.11", {"image": ["python"]}, {"arguments": ["-e", "A=B"]}])
def test_container_settings_of_the_wrong_type_are_told(container):
    view = tasks.view({"id": "x", "container": container})
    assert view.container.malformed.startswith("container")
    assert "; expected " in view.container.malformed


@pytest.mark.parametrize("container", [None, {}, {"image": None}, {"image": "", "arguments": "", "other": 5}])
def test_missing_container_settings_are_none(container):
    assert tasks.view({"id": "x", "container": container}).container == Container()


# ---- queues ---------------------------------------------------------------------------------------------------------


@BOUNDED
@given(row=spoilt(QUEUE))
@example(row={**QUEUE, "entries": 5})
@example(row={**QUEUE, "entries": ["t1"]})
@example(row={**QUEUE, "system_tags": 1})
def test_a_queue_is_read_or_its_answer_is_doubt(row):
    try:
        first, second = run(queues.get_queues(Answers({"queues": [row, {"id": "other", "name": "o"}]})))
    except ApiUnanswered as error:
        assert "queues[0]" in str(error)
        return
    assert_shape(first, Queue)
    assert second.id == "other"


def test_entries_that_are_none_stop_no_others_but_the_sweep():
    entries = [None, {"task": "t1", "added": "a"}, {"added": "b"}, "t2", {"task": 7}, {"task": "t3"}]
    answers = Answers({"queues": [{"id": "q1", "name": "default", "entries": entries}]})

    (queue,) = run(queues.get_queues(answers))
    assert [entry.task for entry in queue.entries] == ["t1", "t3"]

    # Who concludes from an entry's absence must not read this.
    with pytest.raises(ApiUnanswered, match=r"queues\[0\]\.entries\[0\]: found null"):
        run(queues.all_entries(answers))


@BOUNDED
@given(data=st.dictionaries(st.sampled_from(["num", "removed", "added", "id"]), values()))
def test_counts_and_ids_are_read_or_doubt(data):
    answers = Answers(data)
    assert run(queues.remove_task(answers, "q", "t")) in (True, False)
    assert run(queues.add_task(answers, "q", "t")) in (True, False)
    for call in (queues.num_entries(answers, "q"), queues.create_queue(answers, "q")):
        try:
            assert isinstance(run(call), int | str)
        except ApiUnanswered:
            continue


@BOUNDED
@given(data=values())
def test_an_answer_without_its_list_is_doubt(data):
    answers = Answers({"queues": data, "tasks": data})
    if not isinstance(data, list):
        for call in (queues.get_queues(answers), tasks.get_many(answers, ["x"])):
            with pytest.raises(ApiUnanswered, match="no list of"):
                run(call)


# ---- console lines --------------------------------------------------------------------------------------------------


@BOUNDED
@given(data=spoilt({"added": 1, "errors": 1, "errors_info": {"Invalid task id": 1}}))
@example(data={"errors": 1, "errors_info": 7})
def test_a_report_about_lines_is_read(data):
    line = LogLine(task="t", worker="w", msg="m", timestamp_ms=1)
    report = run(events.add_log_batch(Answers(data if isinstance(data, dict) else {}), [line]))
    assert isinstance(report.added, int)
    assert all(isinstance(text, str) and len(text) < 500 for text in report.errors)


@BOUNDED
@given(msg=texts(), task=texts(), worker=texts())
def test_any_text_becomes_lines_of_utf8(msg, task, worker):
    (packet,) = packets([LogLine(task=task, worker=worker, msg=msg, timestamp_ms=1)]) or (b"",)
    for line in packet.split(b"\n"):
        assert set(json.loads(line)) == {"type", "task", "worker", "level", "msg", "timestamp"}


# ---- tokens ---------------------------------------------------------------------------------------------------------


def jwt(claims: bytes) -> str:
    return "e30." + base64.urlsafe_b64encode(claims).decode().rstrip("=") + ".sig"


@BOUNDED
@given(
    value=texts()
    | st.builds(
        lambda claims: jwt(json.dumps(claims).encode()),
        spoilt({"iat": 1, "exp": 10, "feature_set": "basic", "identity": {"user": "u", "service_account_type": 2}}),
    )
    | st.builds(lambda a, b: jwt(json.dumps({"iat": a, "exp": b}).encode()), numbers(), numbers())
)
@example(value=jwt(DEEP))
@example(value="a.\ud800.c")
@example(value=jwt(b'{"identity": {"service_account_type": 1%s}}' % (b"0" * 400)))
@example(value=jwt(b'{"identity": {"service_account_type": "1%s"}}' % (b"0" * 5000)))
@example(value=jwt(b'{"iat": 0, "exp": 1%s}' % (b"0" * 400)))
def test_a_token_is_read_or_lives_an_hour(value):
    found = token.read(value, at=5.0)
    assert 5.0 < found.renew_at <= found.expires_at < float("inf")
    told = dataclasses.asdict(found.info)
    assert isinstance(told.pop("service_account_type"), int)
    assert all(isinstance(text, str) for text in told.values())


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "Ünïcödé", "\ud800", "a b", "\0"])
def test_a_token_that_fits_no_header_is_doubt(value):
    with pytest.raises(ClearMLK8sError, match="token"):
        token.read_login({"token": value}, at=0.0, address="http://a")


@BOUNDED
@given(data=st.dictionaries(st.just("token"), values()))
def test_a_login_gives_a_token_or_doubt(data):
    try:
        found = token.read_login(data, at=0.0, address="http://a")
    except ApiUnanswered as error:
        assert "token" in str(error)
    else:
        assert found.value.isascii() and found.value.isprintable()

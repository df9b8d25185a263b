"""Tasks: many in one call, absent means gone, and the ends."""

import pytest
from clearml_k8s.clearml import tasks
from clearml_k8s.errors import InvalidStatus, Unanswered
from scripted_clearml import Reply

ROW = {
    "id": "ab",
    "name": "train",
    "type": "training",
    "status": "queued",
    "status_changed": "2026-01-15T06:22:11.065000+00:00",
    "status_reason": "",
    "status_message": None,
    "execution": {"queue": "q1"},
    "project": {"id": "p1", "name": "x"},
    "user": "u1",
    "company": "c1",
    "container": {"image": "python:3.11", "arguments": "-e A=B", "setup_shell_script": None},
    "script": {"repository": "https://example.com/r.git"},
    "last_worker": None,
    "runtime": {"a": 1},
    "hyperparams": {
        "properties": {
            "k8s-queue": {"section": "properties", "name": "k8s-queue", "value": "gpu"},
            "odd": {"section": "properties", "name": "odd"},
        }
    },
}


async def test_a_view_holds_what_the_server_said(api, session):
    api.script("tasks.get_all", Reply(data={"tasks": [ROW]}))
    found = await tasks.get_many(session, ["ab", "gone"])
    assert list(found) == ["ab"]
    view = found["ab"]
    assert view.status_changed == "2026-01-15T06:22:11.065000+00:00"
    assert (view.execution_queue, view.project, view.last_worker) == ("q1", "p1", None)
    assert view.container == tasks.Container(image="python:3.11", arguments="-e A=B")
    assert view.properties == {"k8s-queue": "gpu", "odd": ""}
    assert view.script_repository == "https://example.com/r.git"
    assert view.status_message == ""
    sent = api.of("tasks.get_all")[0]
    assert sent["id"] == ["ab", "gone"]
    assert "hyperparams.properties" in sent["only_fields"]


async def test_a_bare_row_becomes_a_view(api, session):
    api.script("tasks.get_all", Reply(data={"tasks": [{"id": "ab"}]}))
    view = (await tasks.get_many(session, ["ab"]))["ab"]
    assert view == tasks.TaskView(id="ab")


async def test_more_than_500_tasks_take_more_calls(api, session):
    def answer(body):
        assert len(body["id"]) <= body["page_size"] == 500
        return Reply(data={"tasks": [{"id": one} for one in body["id"]]})

    api.script("tasks.get_all", answer)
    ids = [f"t{number}" for number in range(1001)]
    assert len(await tasks.get_many(session, ids)) == 1001
    assert len(api.of("tasks.get_all")) == 3


async def test_nothing_asked_nothing_sent(api, session):
    assert await tasks.get_many(session, []) == {}
    assert await tasks.find_queued(session, queue_ids=[]) == {}
    assert api.calls == []


async def test_a_strange_answer_is_not_taken_for_deleted_tasks(api, session):
    api.script("tasks.get_all", Reply(data={}))
    with pytest.raises(Unanswered):
        await tasks.get_many(session, ["ab"])


async def test_find_queued_reads_all_pages(api, session):
    def answer(body):
        count = 500 if body["page"] == 0 else 3
        return Reply(data={"tasks": [{"id": f"{body['page']}-{i}", "status": "queued"} for i in range(count)]})

    api.script("tasks.get_all", answer)
    found = await tasks.find_queued(session, queue_ids=["q1"], changed_before="2026-01-01T00:00:00")
    assert len(found) == 503
    sent = api.of("tasks.get_all")[0]
    assert sent["status"] == ["queued"]
    assert sent["execution.queue"] == ["q1"]
    assert sent["status_changed"] == ["<2026-01-01T00:00:00"]


async def test_properties_are_set_key_by_key(api, session):
    api.script("tasks.edit_hyper_params", Reply(data={"updated": 1}))
    await tasks.set_properties(session, "ab", {"k8s-queue": "gpu"})
    (sent,) = api.of("tasks.edit_hyper_params")
    assert sent["hyperparams"] == [{"section": "properties", "name": "k8s-queue", "value": "gpu"}]
    assert sent["replace_hyperparams"] == "none"
    await tasks.set_properties(session, "ab", {})
    assert len(api.of("tasks.edit_hyper_params")) == 1


async def test_delete_properties(api, session):
    api.script("tasks.delete_hyper_params", Reply(data={"deleted": 1}))
    await tasks.delete_properties(session, "ab", ["k8s-claim-x"])
    assert api.of("tasks.delete_hyper_params")[0]["hyperparams"] == [{"section": "properties", "name": "k8s-claim-x"}]


async def test_the_status_message_alone(api, session):
    api.script("tasks.update", Reply(data={"updated": 1}))
    await tasks.set_status_message(session, "ab", "waits for a node")
    assert api.of("tasks.update") == [{"task": "ab", "status_message": "waits for a node"}]


async def test_ends(api, session):
    api.script("tasks.failed", Reply(code=400, subcode=110, message="Invalid task status"), Reply(data={"updated": 1}))
    api.script("tasks.stopped", Reply(data={"updated": 1}))
    with pytest.raises(InvalidStatus):
        await tasks.failed(session, "ab", reason="r", message="m")
    await tasks.failed(session, "ab", reason="r", message="m", force=True)
    await tasks.stopped(session, "ab", reason="r", message="m")
    assert api.of("tasks.failed")[1] == {"task": "ab", "status_reason": "r", "status_message": "m", "force": True}
    assert "force" not in api.of("tasks.stopped")[0]

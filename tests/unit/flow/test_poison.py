"""One task of which the server says anything at all stops no other, and is itself not lost."""

import asyncio
import copy
import json

import pytest
from clearml_k8s.clearml.session import Session
from clearml_k8s.names import job_name
from hostile import DEEP
from reconcile_loop import Loop
from scripted_kube import Fault

ROWS = {
    "container is a list": {"container": ["python:3.11"]},
    "image is a number": {"container": {"image": 3.11}},
    "arguments are a list": {"container": {"arguments": ["-e", "A=B"]}},
    "script of 10 MB": {"container": {"setup_shell_script": "x" * 10_000_000}},
    "arguments of 10 MB": {"container": {"arguments": "-e A=B " * 1_250_000}},
    "image of 10 MB": {"container": {"image": "a/" * 5_000_000}},
    "quotes do not match": {"container": {"arguments": "-e 'A=B"}},
    "zero byte": {"container": {"setup_shell_script": "a\0b"}},
    "no Unicode": {"container": {"arguments": "-e A=\ud800"}},
}
"""What is refused, with the reason told."""

ODD = {
    "tags are a number": {"tags": 5, "system_tags": {"a": 1}},
    "all else is null": {"name": None, "project": None, "parent": None, "script": None, "runtime": None},
    "all else is a list": {"name": [1], "project": [1], "parent": [1], "script": [1], "runtime": [1], "user": [1]},
    "name in any script": {"name": "\ud800\0\u202e任务 ${HOME} $(A) " * 200, "parent": "Ünï/…$(x)"},
}
"""What runs all the same."""


@pytest.fixture
def poisoned(monkeypatch):
    """Changes the server's answers about one task, as every part of the controller reads them."""
    poison: dict[str, dict] = {}
    call = Session.call

    async def answer(self, endpoint, body=None, **options):
        data = await call(self, endpoint, body, **options)
        if endpoint == "tasks.get_all" and "status" not in (body or {}):
            data = copy.deepcopy(data)
            for row in data["tasks"]:
                row.update(poison.get(row["id"], {}))
        return data

    monkeypatch.setattr(Session, "call", answer)
    return poison


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
async def test_a_task_that_no_job_can_be_made_of_is_failed_and_told(side, server, poisoned, row):
    bad, good = server.create_task(queue="default"), server.create_task(queue="default")
    poisoned[bad] = row

    assert await side.poll() == 1

    assert len(side.created(good)) == 1 and not side.created(bad)
    task = server.task(bad)
    assert task["status"] == "failed" and task["status_reason"] == "cannot be launched"
    assert len(task["status_message"]) < 500
    assert side.session.health.healthy


@pytest.mark.parametrize("row", ODD.values(), ids=ODD)
async def test_a_task_with_odd_fields_runs(side, server, poisoned, row):
    odd, good = server.create_task(queue="default"), server.create_task(queue="default")
    poisoned[odd] = row
    assert await side.poll() == 2
    assert len(side.created(odd)) == len(side.created(good)) == 1
    json.dumps(side.created(odd), ensure_ascii=False).encode()


@pytest.mark.parametrize("row", [{"status": None}, {"status": ["queued"]}, {"status_changed": 5}, {"status": "\ud800"}])
async def test_a_task_in_no_known_state_is_left_in_its_queue(side, server, poisoned, row):
    bad, good = server.create_task(queue="default"), server.create_task(queue="default")
    poisoned[bad] = row
    await side.poll()
    assert len(side.created(good)) == 1
    poisoned.clear()
    await side.rest()
    assert len(side.created(bad)) == 1  # once the server says what it is


async def test_rows_that_are_no_tasks_are_doubt_and_lose_nothing(side, server, poisoned):
    bad, good = server.create_task(queue="default"), server.create_task(queue="default")
    poisoned[bad] = {"id": None}
    assert await side.poll() == 0
    assert server.task(bad)["status"] != "failed"
    poisoned.clear()
    await side.rest()
    assert len(side.created(bad)) == len(side.created(good)) == 1


async def test_what_no_one_foresaw_ends_no_loop(side, server, monkeypatch):
    task = server.create_task(queue="default")
    with monkeypatch.context() as patch:
        patch.setattr("clearml_k8s.clearml.tasks.view", lambda row: 1 / 0)
        assert await side.poll() == 0
        assert side.book.busy(task)  # passed over for a while: no tight loop
    await side.rest()
    assert len(side.created(task)) == 1


async def test_the_reconcile_loop_goes_on_beside_a_poison_task(side, server, poisoned):
    loop = Loop(side)
    bad, good = await loop.launched(), await loop.launched()
    poisoned[bad] = {"status": {"a": 1}, "status_changed": [], "status_message": 5, "status_reason": None}
    server.call("tasks.stop", task=good, force=True)

    assert set(await loop.reads.refresh(side.jobs.tasks())) == {bad, good}
    loop.work.put(bad)
    loop.work.put(good)
    loop.work.close()  # what is ready is still worked on
    async with asyncio.timeout(20):
        await loop.reconciler.run()

    # Nothing is ended on what is not understood.
    assert loop.jobs() == {job_name(bad)}


@pytest.mark.parametrize("text", ['{"kind": "Job"}', "[]", DEEP.decode()], ids=["no metadata", "a list", "deep"])
async def test_a_job_that_is_answered_with_anything_is_found_again(side, server, cluster, text):
    task = server.create_task(queue="default")
    cluster.fault("POST", Fault(code=201, text=text, after=True), path="jobs")
    assert await side.poll() == 0
    side.relist()
    await side.rest()
    assert len(side.created(task)) == 1
    assert task not in side.stored()

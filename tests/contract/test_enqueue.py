"""tasks.enqueue, and tasks that were popped and never started: sections 3 and 6 of the API contract."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from .client import Client
from .conftest import Maker


def test_the_answer_and_what_it_leaves(api: Client, make: Maker) -> None:
    queue, task = make.queue(), make.task()
    answer = api.ok("tasks.enqueue", task=task, queue=queue, status_reason="because")
    assert (answer["queued"], answer["updated"]) == (1, 1)
    expected = {"status", "status_reason", "status_message", "status_changed", "last_update", "last_change"}
    assert expected | {"last_changed_by", "enqueue_status", "execution.queue"} <= set(answer["fields"])
    found = api.task(task)
    assert (found["status"], found["status_reason"], found["execution"]["queue"]) == ("queued", "because", queue)
    assert api.entries(queue) == [task]


def test_twice_into_the_same_queue_is_refused_but_not_free(api: Client, make: Maker) -> None:
    queue, task = make.queue(), make.task(status="stopped")
    api.ok("tasks.enqueue", task=task, queue=queue)
    before = api.task(task)
    for force in (False, True):
        answer = api.post("tasks.enqueue", task=task, queue=queue, force=force)
        assert answer.code == "400/706"
        assert "already queued" in answer.meta["result_msg"]
    assert api.entries(queue) == [task]
    after = api.task(task)
    assert (after["status"], after["status_reason"]) == ("queued", "failed enqueueing")
    assert after["last_update"] > before["last_update"]
    api.ok("tasks.dequeue", task=task)
    assert api.status(task) == "created"


def test_into_another_queue_moves_the_task(api: Client, make: Maker) -> None:
    queue, other = make.queue(), make.queue()
    task = make.task(queue=queue)
    api.ok("tasks.enqueue", task=task, queue=other)
    assert (api.entries(queue), api.entries(other)) == ([], [task])
    assert api.task(task)["execution"]["queue"] == other


def test_into_another_queue_without_changing_the_execution_queue(api: Client, make: Maker) -> None:
    queue, other = make.queue(), make.queue()
    task = make.task(queue=queue)
    api.ok("tasks.enqueue", task=task, queue=other, update_execution_queue=False)
    assert (api.entries(queue), api.entries(other)) == ([], [task])
    assert api.task(task)["execution"]["queue"] == queue
    assert api.code("tasks.enqueue", task=make.task(), queue=other, update_execution_queue=False) == "400/12"


def test_a_popped_task_is_appended(api: Client, make: Maker) -> None:
    queue = make.queue()
    first, second = make.task(queue=queue), make.task(queue=queue)
    api.ok("queues.get_next_task", queue=queue)
    api.ok("tasks.enqueue", task=first, queue=queue)
    assert api.entries(queue) == [second, first]


def test_an_unknown_queue_reverts_the_status(api: Client, make: Maker) -> None:
    task = make.task(status="stopped")
    assert api.code("tasks.enqueue", task=task, queue="none") == "400/701"
    assert api.status(task) == "stopped"


def test_a_queue_name_that_names_none_makes_one(api: Client, make: Maker) -> None:
    name, task = make.name("new"), make.task()
    api.ok("tasks.enqueue", task=task, queue_name=name)
    queue = api.ok("queues.get_all", name=f"^{name}$")["queues"][0]["id"]
    make.keep_queue(queue)
    assert api.entries(queue) == [task]
    other = make.task()
    api.ok("tasks.enqueue", task=other, queue_name=name)
    assert api.entries(queue) == [task, other]


def test_no_queue_means_the_default_queue(api: Client, make: Maker) -> None:
    task = make.task()
    api.ok("tasks.enqueue", task=task)
    assert api.task(task)["execution"]["queue"] == api.ok("queues.get_default")["id"]


def test_verify_watched_queue(api: Client, make: Maker) -> None:
    queue, worker = make.queue(), make.worker()
    answer = api.ok("tasks.enqueue", task=make.task(), queue=queue, verify_watched_queue=True)
    assert answer["queue_watched"] is False
    api.ok("workers.register", worker=worker, queues=[queue], timeout=600)
    answer = api.ok("tasks.enqueue", task=make.task(), queue=queue, verify_watched_queue=True)
    assert answer["queue_watched"] is True


def _popped(api: Client, make: Maker) -> tuple[str, str]:
    queue = make.queue()
    task = make.task(queue=queue)
    api.ok("queues.get_next_task", queue=queue)
    return queue, task


def test_what_a_popped_task_looks_like(api: Client, make: Maker) -> None:
    queue, task = _popped(api, make)
    found = api.task(task)
    assert (found["status"], found["execution"]["queue"]) == ("queued", queue)
    assert found.get("last_worker") is None
    assert api.entries(queue) == []


def test_queued_tasks_are_found_by_queue_and_time(api: Client, make: Maker) -> None:
    queue, task = _popped(api, make)
    changed = datetime.fromisoformat(api.task(task)["status_changed"])

    def found(before: datetime) -> list[str]:
        condition: dict[str, Any] = {
            "status": ["queued"],
            "execution.queue": [queue],
            "status_changed": [f"<{before.isoformat()}"],
        }
        tasks = api.ok("tasks.get_all", **condition, page=0, page_size=500, only_fields=["id", "status"])["tasks"]
        return [task["id"] for task in tasks]

    assert found(changed + timedelta(seconds=1)) == [task]
    assert found(changed - timedelta(seconds=1)) == []
    waiting = make.task(queue=queue)
    assert set(found(changed + timedelta(hours=1))) - set(api.entries(queue)) == {task}
    assert api.entries(queue) == [waiting]


def test_a_popped_task_is_put_back_by_add_task(api: Client, make: Maker) -> None:
    queue, task = _popped(api, make)
    other = make.task(queue=queue)
    before = api.task(task)
    api.ok("queues.add_task", queue=queue, task=task)
    assert api.entries(queue) == [other, task]
    assert api.task(task)["status_changed"] == before["status_changed"]
    api.ok("queues.move_task_to_front", queue=queue, task=task)
    assert api.entries(queue) == [task, other]


@pytest.mark.parametrize(
    ("endpoint", "force", "code", "status"),
    [
        ("tasks.failed", False, "400/110", "queued"),
        ("tasks.failed", True, "200/0", "failed"),
        ("tasks.stop", False, "200/0", "stopped"),
        ("tasks.dequeue", False, "200/0", "created"),
        ("queues.remove_task", False, "400/703", "queued"),
    ],
)
def test_how_a_popped_task_is_dropped(
    api: Client, make: Maker, endpoint: str, force: bool, code: str, status: str
) -> None:
    queue, task = _popped(api, make)
    assert api.code(endpoint, task=task, queue=queue, force=force) == code
    assert api.status(task) == status

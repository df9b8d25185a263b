"""The task state machine, endpoint by current status: section 2 of the API contract."""

from __future__ import annotations

import pytest

from .client import Client
from .conftest import Maker

STATUSES = ("created", "queued", "in_progress", "stopped", "failed", "completed", "closed", "published")
TARGETS = {
    "enqueue": "queued",
    "stop": "stopped",
    "stopped": "stopped",
    "started": "in_progress",
    "failed": "failed",
    "completed": "completed",
    "reset": "created",
}
# without force, in the order of STATUSES; "-" is 400/110
ALLOWED = {
    "enqueue": "+ + - + + - - -",
    "stop": "- + + + + - + -",
    "stopped": "- + + + + - + -",
    "started": "+ + + + - + - -",
    "failed": "- - + + + - + -",
    "completed": "- - + + - + - -",
    "reset": "+ + + + + + + -",
}
CASES = [
    (action, status, mark == "+")
    for action, marks in ALLOWED.items()
    for status, mark in zip(STATUSES, marks.split(), strict=True)
]


def _arguments(action: str, task: str, make: Maker) -> dict[str, str]:
    # a queue of its own: the task is in no queue or in another one
    return {"task": task, **({"queue": make.queue()} if action == "enqueue" else {})}


@pytest.mark.parametrize(("action", "status", "allowed"), CASES)
def test_without_force(api: Client, make: Maker, action: str, status: str, allowed: bool) -> None:
    task = make.task(status=status)
    answer = api.post(f"tasks.{action}", **_arguments(action, task, make))
    assert answer.code == ("200/0" if allowed else "400/110")
    assert api.status(task) == (TARGETS[action] if allowed else status)
    if allowed:
        assert answer.data["updated"] == 1
        assert answer.data["fields"]["status"] == TARGETS[action]


@pytest.mark.parametrize(("action", "status"), [(action, status) for action, status, _ in CASES])
def test_with_force(api: Client, make: Maker, action: str, status: str) -> None:
    task = make.task(status=status)
    api.ok(f"tasks.{action}", force=True, **_arguments(action, task, make))
    assert api.status(task) == TARGETS[action]


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("status", STATUSES)
def test_dequeue_is_a_no_op_but_for_queued_and_in_progress(api: Client, make: Maker, status: str, force: bool) -> None:
    task = make.task(status=status)
    updated = int(status in ("queued", "in_progress"))
    assert api.ok("tasks.dequeue", task=task, force=force)["updated"] == updated
    assert api.status(task) == ("created" if updated else status)


def test_dequeue_gives_the_status_before_the_enqueue_and_keeps_the_execution_queue(api: Client, make: Maker) -> None:
    queue, task = make.queue(), make.task(status="stopped")
    api.ok("tasks.enqueue", task=task, queue=queue)
    assert api.ok("tasks.dequeue", task=task)["updated"] == 1
    found = api.task(task)
    assert (found["status"], found["execution"]["queue"]) == ("stopped", queue)
    assert api.entries(queue) == []


@pytest.mark.parametrize("status", ["queued", "in_progress"])
def test_dequeue_to_a_status_of_choice(api: Client, make: Maker, status: str) -> None:
    task = make.task(status=status)
    assert api.ok("tasks.dequeue", task=task, new_status="in_progress")["updated"] == 1
    assert api.status(task) == "in_progress"
    assert api.code("tasks.dequeue", task=task, new_status="nonsense") == "400/12"


def test_dequeue_leaves_entries_in_other_queues_unless_told(api: Client, make: Maker) -> None:
    queue, other = make.queue(), make.queue()
    task = make.task(queue=queue)
    api.ok("queues.add_task", queue=other, task=task, update_execution_queue=False)
    api.ok("tasks.dequeue", task=task, new_status="in_progress")
    assert (api.entries(queue), api.entries(other)) == ([], [task])
    api.ok("tasks.dequeue", task=task, remove_from_all_queues=True)
    assert api.entries(other) == []


def test_stop_takes_a_queued_task_out_of_its_queue(api: Client, make: Maker) -> None:
    queue = make.queue()
    task = make.task(queue=queue)
    api.ok("tasks.stop", task=task)
    assert api.entries(queue) == []


def test_stopped_and_failed_leave_the_entry(api: Client, make: Maker) -> None:
    queue = make.queue()
    first, second = make.task(queue=queue), make.task(queue=queue)
    api.ok("tasks.stopped", task=first)
    api.ok("tasks.failed", task=second, force=True)
    assert api.entries(queue) == [first, second]


@pytest.mark.parametrize("force", [False, True])
def test_stop_of_a_task_with_a_live_worker_only_asks_for_it(api: Client, make: Maker, force: bool) -> None:
    task, worker = make.task(status="in_progress"), make.worker()
    api.ok("workers.status_report", worker=worker, task=task, timestamp=0)
    before = api.task(task)
    api.ok("tasks.stop", task=task, force=force)
    found = api.task(task)
    assert (found["status"], found["status_message"]) == ("in_progress", "stopping")
    assert found["last_update"] >= before["last_update"]
    api.ok("tasks.stopped", task=task)
    assert api.status(task) == "stopped"


def test_a_change_of_status_says_why_and_when(api: Client, make: Maker) -> None:
    task = make.task()
    before = api.task(task)
    api.ok("tasks.started", task=task, status_reason="a reason", status_message="a message")
    found = api.task(task)
    assert (found["status_reason"], found["status_message"]) == ("a reason", "a message")
    for name in ("status_changed", "last_update", "last_change"):
        assert found[name] >= before[name]
    assert found["started"] is not None


def test_reset_forgets_the_run(api: Client, make: Maker) -> None:
    queue = make.queue()
    task = make.task(queue=queue)
    api.ok("tasks.started", task=task)
    assert api.entries(queue) == [task]
    api.ok("tasks.reset", task=task)
    found = api.task(task)
    assert found["status"] == "created"
    assert found.get("started") is None
    assert found.get("last_worker") is None
    assert "queue" not in found.get("execution", {})
    assert api.entries(queue) == []


def test_an_unknown_task(api: Client, make: Maker) -> None:
    ghost = "0123456789abcdef0123456789abcdef"
    codes = {
        action: api.code(f"tasks.{action}", task=ghost)
        for action in ("get_by_id", "stop", "stopped", "failed", "completed", "reset", "started", "edit", "delete")
    }
    assert codes.pop("started") == "400/10"
    assert set(codes.values()) == {"400/101"}, codes
    assert api.code("tasks.enqueue", task=ghost, queue=make.queue()) == "400/101"
    assert api.ok("tasks.dequeue", task=ghost)["updated"] == 0
    assert api.ok("tasks.get_all", id=[ghost])["tasks"] == []

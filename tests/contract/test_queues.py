"""Queues and their entries: sections 1, 9 and 10 of the API contract."""

from __future__ import annotations

import urllib.parse
from datetime import datetime
from typing import Any

import pytest

from .client import Client
from .conftest import Maker


def test_an_empty_queue_pops_nothing(api: Client, make: Maker) -> None:
    assert api.ok("queues.get_next_task", queue=make.queue()) == {}


def test_a_pop_takes_the_head_and_leaves_the_status(api: Client, make: Maker) -> None:
    queue = make.queue()
    tasks = [make.task(queue=queue) for _ in range(3)]
    before = api.task(tasks[0])
    entry = api.ok("queues.get_next_task", queue=queue)["entry"]
    assert entry["task"] == tasks[0]
    assert datetime.fromisoformat(entry["added"]).tzinfo is not None
    assert api.entries(queue) == tasks[1:]
    after = api.task(tasks[0])
    assert after["status"] == "queued"
    assert after["status_changed"] == before["status_changed"]
    assert after["execution"]["queue"] == queue


def test_get_task_info(api: Client, make: Maker) -> None:
    queue = make.queue()
    make.task(queue=queue)
    info = api.ok("queues.get_next_task", queue=queue, get_task_info=True)["task_info"]
    assert set(info) == {"company", "user"}


def test_a_pop_with_a_query_string(api: Client, make: Maker) -> None:
    queue = make.queue()
    task = make.task(queue=queue)
    query = urllib.parse.urlencode({"queue": queue})
    answer = api.request("GET", f"queues.get_next_task?{query}", headers=api.bearer())
    assert answer.data["entry"]["task"] == task


def test_a_pop_of_an_unknown_queue(api: Client, make: Maker) -> None:
    assert api.code("queues.get_next_task", queue="none") == "400/701"
    queue = make.queue()
    api.ok("queues.delete", queue=queue)
    assert api.code("queues.get_next_task", queue=queue) == "400/701"
    assert api.code("queues.get_next_task") == "400/12"


def test_a_pop_sets_a_stopped_task_back_to_queued_and_nothing_else(api: Client, make: Maker) -> None:
    queue = make.queue()
    task = make.task(queue=queue)
    api.ok("tasks.stopped", task=task)
    assert api.entries(queue) == [task]
    stopped = api.task(task)
    api.ok("queues.get_next_task", queue=queue)
    popped = api.task(task)
    assert (stopped["status"], popped["status"]) == ("stopped", "queued")
    assert popped["status_changed"] == stopped["status_changed"]


def test_an_entry_may_name_a_task_that_does_not_exist_or_is_not_queued(api: Client, make: Maker) -> None:
    queue, created = make.queue(), make.task()
    ghost = "0123456789abcdef0123456789abcdef"
    assert api.ok("queues.add_task", queue=queue, task=ghost) == {"added": 1}
    api.ok("queues.add_task", queue=queue, task=created)
    assert [api.ok("queues.get_next_task", queue=queue)["entry"]["task"] for _ in range(2)] == [ghost, created]
    assert api.status(created) == "created"


def test_a_conditional_pop_takes_only_the_head(api: Client, make: Maker) -> None:
    queue = make.queue()
    first, second = make.task(queue=queue), make.task(queue=queue)
    assert api.ok("queues.get_next_task", queue=queue, task=second) == {}
    assert api.entries(queue) == [first, second]
    assert api.ok("queues.get_next_task", queue=queue, task=first)["entry"]["task"] == first
    assert api.ok("queues.get_next_task", queue=queue, task=first) == {}
    assert api.code("queues.get_next_task", queue="none", task=first) == "400/701"


def test_peek_changes_nothing(api: Client, make: Maker) -> None:
    queue = make.queue()
    assert api.ok("queues.peek_task", queue=queue) == {"task": None}
    task = make.task(queue=queue)
    assert api.ok("queues.peek_task", queue=queue) == {"task": task}
    assert api.entries(queue) == [task]
    assert api.code("queues.peek_task", queue="none") == "400/701"


def test_remove_task_takes_an_entry_wherever_it_stands(api: Client, make: Maker) -> None:
    queue = make.queue()
    tasks = [make.task(queue=queue) for _ in range(3)]
    before = api.task(tasks[1])
    assert api.ok("queues.remove_task", queue=queue, task=tasks[1]) == {"removed": 1}
    assert api.entries(queue) == [tasks[0], tasks[2]]
    after = api.task(tasks[1])
    assert (after["status"], after["execution"]["queue"]) == ("queued", queue)
    assert after["status_changed"] == before["status_changed"]
    assert api.code("queues.remove_task", queue=queue, task=tasks[1]) == "400/703"
    assert api.code("queues.remove_task", queue="none", task=tasks[0]) == "400/703"


@pytest.mark.parametrize("before", ["created", "stopped"])
def test_remove_task_can_give_back_the_status_before_the_enqueue(api: Client, make: Maker, before: str) -> None:
    queue, task = make.queue(), make.task(status=before)
    api.ok("tasks.enqueue", task=task, queue=queue)
    assert api.ok("queues.remove_task", queue=queue, task=task, update_task_status=True) == {"removed": 1}
    found = api.task(task)
    assert found["status"] == before
    assert "queue" not in found.get("execution", {})


def test_remove_task_leaves_the_status_if_the_task_names_another_queue(api: Client, make: Maker) -> None:
    queue, other = make.queue(), make.queue()
    task = make.task(queue=queue)
    api.ok("queues.add_task", queue=other, task=task, update_execution_queue=False)
    api.ok("queues.remove_task", queue=other, task=task, update_task_status=True)
    assert api.status(task) == "queued"


def test_add_task_is_exclusive_and_leaves_other_queues_alone(api: Client, make: Maker) -> None:
    queue, other = make.queue(), make.queue()
    task = make.task(queue=queue)
    before = api.task(task)
    assert api.ok("queues.add_task", queue=other, task=task) == {"added": 1}
    assert api.entries(queue) == api.entries(other) == [task]
    after = api.task(task)
    assert after["execution"]["queue"] == other
    assert (after["status"], after["status_changed"]) == (before["status"], before["status_changed"])
    assert api.code("queues.add_task", queue=other, task=task) == "400/706"
    assert api.code("queues.add_task", queue="none", task=task) == "400/701"


def test_add_task_can_leave_the_execution_queue(api: Client, make: Maker) -> None:
    queue, other = make.queue(), make.queue()
    task = make.task(queue=queue)
    api.ok("queues.add_task", queue=other, task=task, update_execution_queue=False)
    assert api.task(task)["execution"]["queue"] == queue


def test_entries_can_be_moved(api: Client, make: Maker) -> None:
    queue = make.queue()
    a, b, c = tasks = [make.task(queue=queue) for _ in range(3)]
    assert api.ok("queues.move_task_to_front", queue=queue, task=c) == {"position": 0}
    assert api.entries(queue) == [c, a, b]
    assert api.ok("queues.move_task_to_back", queue=queue, task=c) == {"position": 2}
    assert api.entries(queue) == tasks
    assert api.ok("queues.move_task_backward", queue=queue, task=a, count=1) == {"position": 1}
    assert api.entries(queue) == [b, a, c]
    assert api.ok("queues.move_task_forward", queue=queue, task=c, count=2) == {"position": 0}
    assert api.entries(queue) == [c, b, a]
    for endpoint in ("to_front", "to_back", "forward", "backward"):
        assert api.code(f"queues.move_task_{endpoint}", queue=queue, task="none") == "400/703"


def test_entries_are_counted_and_their_number_can_be_limited(api: Client, make: Maker) -> None:
    queue = make.queue()
    tasks = [make.task(queue=queue) for _ in range(3)]
    assert api.ok("queues.get_num_entries", queue=queue) == {"num": 3}
    found = api.ok("queues.get_by_id", queue=queue, max_task_entries=2)["queue"]
    assert [entry["task"] for entry in found["entries"]] == tasks[:2]
    found = api.ok("queues.get_all", id=[queue], max_task_entries=1)["queues"][0]
    assert [entry["task"] for entry in found["entries"]] == tasks[:1]
    assert len(api.ok("queues.get_all", id=[queue])["queues"][0]["entries"]) == 3


def test_queue_names(api: Client, make: Maker) -> None:
    name = make.name("queue")
    queue = make.queue(name=f"  {name} ")
    assert api.ok("queues.get_by_id", queue=queue)["queue"]["name"] == name
    assert api.code("queues.create", name=name) == "400/801"
    assert api.code("queues.create", name="ab") == "400/800"
    other = make.queue()
    assert api.code("queues.update", queue=other, name=name) == "400/801"
    renamed = make.name("queue")
    assert api.ok("queues.update", queue=other, name=renamed)["updated"] == 1
    assert [found["id"] for found in api.ok("queues.get_all", name=f"^{renamed}$")["queues"]] == [other]


def test_queues_are_found_by_name_and_id_and_shown_in_part(api: Client, make: Maker) -> None:
    first, second = make.queue(), make.queue()
    found = api.ok("queues.get_all", name=f"^{make.prefix}", only_fields=["id", "name"])["queues"]
    assert {queue["id"] for queue in found} == {first, second}
    assert all(set(queue) == {"id", "name"} for queue in found)
    assert [queue["id"] for queue in api.ok("queues.get_all", id=[second])["queues"]] == [second]
    assert api.code("queues.get_by_id", queue="none") == "400/701"


def test_the_queue_of_parked_tasks_is_hidden(api: Client, make: Maker) -> None:
    name = make.name("hidden")
    queue = make.queue(name=name, system_tags=["k8s-glue"])

    def seen(**data: Any) -> bool:
        found: list[str] = []
        for page in range(1000):
            queues = api.ok("queues.get_all", only_fields=["id"], page=page, page_size=500, **data)["queues"]
            found += [found["id"] for found in queues]
            if len(queues) < 500:
                break
        return queue in found

    assert not seen()
    assert seen(search_hidden=True)
    assert seen(id=[queue])
    assert seen(name=f"^{name}$")


def test_a_page_holds_at_most_500_queues(api: Client, make: Maker) -> None:
    queues = {make.queue() for _ in range(501)}

    def page(number: int, size: int) -> list[str]:
        answer = api.ok("queues.get_all", name=f"^{make.prefix}", page=number, page_size=size)
        return [queue["id"] for queue in answer["queues"]]

    pages = [page(0, 1000), page(1, 500)]
    assert [len(page) for page in pages] == [500, 1]
    assert set(pages[0] + pages[1]) == queues
    assert len(page(3, 100)) == 100


def test_deleting_a_queue_with_entries_needs_force(api: Client, make: Maker) -> None:
    queue = make.queue()
    task = make.task(queue=queue)
    assert api.code("queues.delete", queue=queue) == "400/702"
    assert api.ok("queues.delete", queue=queue, force=True)["deleted"] == 1
    assert api.code("queues.get_by_id", queue=queue) == "400/701"
    assert api.status(task) == "created"


def test_there_is_a_default_queue(api: Client) -> None:
    found = api.ok("queues.get_default")
    assert "default" in api.ok("queues.get_by_id", queue=found["id"])["queue"]["system_tags"]

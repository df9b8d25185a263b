"""Exclusive takes and pops under concurrency: section 1 of the API contract. No timing is asserted."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from .client import Client
from .conftest import Maker


def test_each_task_is_popped_once_and_in_order(api: Client, make: Maker) -> None:
    queue = make.queue()
    tasks = [make.task(queue=queue) for _ in range(40)]
    assert [api.ok("queues.get_next_task", queue=queue)["entry"]["task"] for _ in range(10)] == tasks[:10]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: api.ok("queues.get_next_task", queue=queue), range(40)))
    popped = [answer["entry"]["task"] for answer in answers if answer]
    assert sorted(popped) == sorted(tasks[10:])


def test_remove_task_is_an_exclusive_take(api: Client, make: Maker) -> None:
    queue = make.queue()
    tasks = [make.task(queue=queue) for _ in range(40)]

    def take(task: str) -> tuple[str, str]:
        answer = api.post("queues.remove_task", queue=queue, task=task)
        return task, f"removed {answer.data['removed']}" if answer.status == 200 else answer.code

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(take, [task for task in tasks for _ in range(4)]))
    assert Counter(task for task, result in answers if result == "removed 1") == dict.fromkeys(tasks, 1)
    assert {result for _, result in answers} <= {"removed 1", "removed 0", "400/703"}


def test_takes_and_pops_of_one_queue_never_share_a_task(api: Client, make: Maker) -> None:
    queue = make.queue()
    tasks = [make.task(queue=queue) for _ in range(40)]

    def take(task: str | None) -> str | None:
        if task is None:
            found = api.ok("queues.get_next_task", queue=queue)
            return str(found["entry"]["task"]) if found else None
        answer = api.post("queues.remove_task", queue=queue, task=task)
        return task if answer.status == 200 and answer.data["removed"] == 1 else None

    work: list[str | None] = [item for task in tasks for item in (task, None)]
    with ThreadPoolExecutor(8) as pool:
        taken = Counter(task for task in pool.map(take, work) if task)
    assert max(taken.values()) == 1
    assert set(taken) | set(api.entries(queue)) == set(tasks)


def test_add_task_is_exclusive(api: Client, make: Maker) -> None:
    queue = make.queue()
    tasks = [make.task() for _ in range(10)]

    def add(task: str) -> tuple[str, str]:
        return task, api.code("queues.add_task", queue=queue, task=task)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(add, [task for task in tasks for _ in range(4)]))
    assert Counter(task for task, code in answers if code == "200/0") == dict.fromkeys(tasks, 1)
    # 703 is the loser of the race between the look and the push
    assert {code for _, code in answers} <= {"200/0", "400/706", "400/703"}
    assert sorted(api.entries(queue)) == sorted(tasks)

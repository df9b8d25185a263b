"""Log events: section 12 of the API contract."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from .client import Client
from .conftest import Maker


def _line(task: str, number: int, timestamp: int) -> dict[str, Any]:
    return {
        "type": "log",
        "level": "info",
        "task": task,
        "worker": "contract",
        "msg": f"line {number}",
        "timestamp": timestamp + number,
    }


def _until(condition: Callable[[], bool]) -> None:
    """A real server makes events searchable a moment after it has taken them."""
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "the events did not show up within 20 s"
        time.sleep(0.2)


def test_lines_come_back_in_order_and_in_pages(api: Client, make: Maker) -> None:
    task = make.task(status="in_progress")
    start = int(time.time() * 1000)
    answer = api.post_lines("events.add_batch", [_line(task, number, start) for number in range(5)])
    assert answer.code == "200/0"
    assert (answer.data["added"], answer.data["errors"]) == (5, 0)

    def lines(**data: Any) -> list[str]:
        return [event["msg"] for event in api.ok("events.get_task_log", task=task, **data)["events"]]

    _until(lambda: len(lines()) == 5)
    assert lines(navigate_earlier=False) == [f"line {number}" for number in range(5)]
    assert lines(navigate_earlier=False, batch_size=2) == ["line 0", "line 1"]
    assert lines(navigate_earlier=False, batch_size=2, from_timestamp=start + 1) == ["line 2", "line 3"]
    assert lines(navigate_earlier=True, batch_size=2) == ["line 4", "line 3"]
    assert lines(navigate_earlier=True, batch_size=2, order="asc") == ["line 3", "line 4"]
    assert api.ok("events.get_task_log", task=task)["total"] == 5


def test_lines_renew_last_update(api: Client, make: Maker) -> None:
    task = make.task(status="in_progress")
    before = api.task(task)
    api.post_lines("events.add_batch", [_line(task, 0, int(time.time() * 1000))])
    after = api.task(task)
    assert after["last_update"] >= before["last_update"]
    assert after["status_changed"] == before["status_changed"]


def test_an_unknown_task(api: Client) -> None:
    ghost = "0123456789abcdef0123456789abcdef"
    assert api.post_lines("events.add_batch", [_line(ghost, 0, 0)]).code == "400/131"


def test_one_bad_line_does_not_lose_the_others(api: Client, make: Maker) -> None:
    task = make.task()
    answer = api.post_lines("events.add_batch", [_line(task, 0, 1), {**_line(task, 1, 1), "type": "no such type"}])
    assert answer.code == "200/0"
    assert (answer.data["added"], answer.data["errors"]) == (1, 1)

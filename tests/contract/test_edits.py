"""Edits by status and what they change: section 2 of the API contract; creation and look-up of tasks."""

from __future__ import annotations

from typing import Any

import pytest

from .client import Client
from .conftest import Maker

STATUSES = ("created", "queued", "in_progress", "stopped", "failed", "completed", "closed", "published")


def _parameter(section: str, name: str = "key", value: str = "value") -> dict[str, str]:
    return {"section": section, "name": name, "value": value}


def _edit(endpoint: str, task: str, force: bool) -> dict[str, Any]:
    arguments: dict[str, dict[str, Any]] = {
        "tasks.edit": {"comment": "edited"},
        "tasks.update": {"comment": "edited"},
        "tasks.edit_hyper_params": {"hyperparams": [_parameter("General")]},
        "properties": {"hyperparams": [_parameter("properties")]},
        "tasks.edit_runtime": {"runtime": {"key": "value"}},
    }
    return {"task": task, **arguments[endpoint], **({"force": True} if force else {})}


ALL = set(STATUSES)
CASES: list[tuple[str, bool, set[str]]] = [
    ("tasks.edit", False, {"created"}),
    ("tasks.edit", True, ALL),
    ("tasks.update", False, ALL),
    ("tasks.edit_hyper_params", False, {"created"}),
    ("tasks.edit_hyper_params", True, {"created", "queued", "in_progress"}),
    ("properties", False, ALL),
    ("tasks.edit_runtime", False, {"created", "queued", "in_progress"}),
]


@pytest.mark.parametrize(("endpoint", "force", "allowed"), CASES)
@pytest.mark.parametrize("status", STATUSES)
def test_edits_by_status(api: Client, make: Maker, endpoint: str, force: bool, allowed: set[str], status: str) -> None:
    task = make.task(status=status)
    name = "tasks.edit_hyper_params" if endpoint == "properties" else endpoint
    assert api.code(name, **_edit(endpoint, task, force)) == ("200/0" if status in allowed else "400/110")
    assert api.status(task) == status


def test_properties_are_merged_by_key_and_leave_last_update(api: Client, make: Maker) -> None:
    task = make.task(status="in_progress")
    before = api.task(task)
    api.ok("tasks.edit_hyper_params", task=task, hyperparams=[_parameter("properties", "one", "1")])
    items = [_parameter("Properties", "two", "2")]
    api.ok("tasks.edit_hyper_params", task=task, hyperparams=items, replace_hyperparams="none")
    found = api.task(task)
    assert {name: item["value"] for name, item in found["hyperparams"]["properties"].items()} == {
        "one": "1",
        "two": "2",
    }
    assert found["last_update"] == before["last_update"]
    assert found["status_changed"] == before["status_changed"]
    api.ok("tasks.delete_hyper_params", task=task, hyperparams=[{"section": "properties", "name": "one"}])
    assert list(api.task(task)["hyperparams"]["properties"]) == ["two"]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("none", {"A": {"x", "new"}, "B": {"y"}}),
        ("section", {"A": {"new"}, "B": {"y"}}),
        ("all", {"A": {"new"}}),
    ],
)
def test_replacing_parameters(api: Client, make: Maker, mode: str, expected: dict[str, set[str]]) -> None:
    task = make.task()
    api.ok("tasks.edit_hyper_params", task=task, hyperparams=[_parameter("A", "x"), _parameter("B", "y")])
    items = [_parameter("A", "new")]
    api.ok("tasks.edit_hyper_params", task=task, hyperparams=items, replace_hyperparams=mode)
    found = api.task(task)["hyperparams"]
    assert {section: set(values) for section, values in found.items() if values} == expected
    listed = api.ok("tasks.get_hyper_params", tasks=[task])["params"][0]["hyperparams"]
    assert {(item["section"], item["name"]) for item in listed} == {
        (s, n) for s, names in expected.items() for n in names
    }
    assert api.code("tasks.edit_hyper_params", task=task, hyperparams=items, replace_hyperparams="most") == "400/12"


def test_configurations(api: Client, make: Maker) -> None:
    task = make.task()
    api.ok("tasks.edit_configuration", task=task, configuration=[{"name": "one", "value": "1"}])
    api.ok("tasks.edit_configuration", task=task, configuration=[{"name": "two", "value": "2"}])
    found = api.ok("tasks.get_configurations", tasks=[task])["configurations"][0]["configuration"]
    assert [(item["name"], item["value"]) for item in found] == [("one", "1"), ("two", "2")]
    assert api.ok("tasks.get_configuration_names", tasks=[task])["configurations"][0]["names"] == ["one", "two"]
    api.ok("tasks.edit_configuration", task=task, configuration=[{"name": "new"}], replace_configuration=True)
    assert list(api.task(task)["configuration"]) == ["new"]


def test_edit_merges_the_script_and_replaces_the_runtime(api: Client, make: Maker) -> None:
    task = make.task(script={"repository": " http://host/repo ", "branch": "main"}, runtime={"a": "1"})
    api.ok("tasks.edit", task=task, script={"branch": "other"}, runtime={"b": "2"})
    found = api.task(task)
    assert (found["script"]["repository"], found["script"]["branch"]) == ("http://host/repo", "other")
    assert found["runtime"] == {"b": "2"}


def test_create_checks_its_arguments(api: Client) -> None:
    assert api.code("tasks.create", type="training") == "400/12"
    assert api.code("tasks.create", name="name") == "400/12"
    assert api.code("tasks.create", name="ab", type="training") == "400/800"


def test_clone_gives_a_created_task_without_queue(api: Client, make: Maker) -> None:
    source = make.task(queue=make.queue(), script={"entry_point": "a.py"})
    clone = api.ok("tasks.clone", task=source, new_task_name=make.name("clone"))["id"]
    try:
        found = api.task(clone)
        assert (found["status"], found["script"]["entry_point"], found["parent"]) == ("created", "a.py", source)
        assert "queue" not in found.get("execution", {})
    finally:
        api.ok("tasks.delete", task=clone, force=True)


def test_delete_wants_force_unless_created(api: Client, make: Maker) -> None:
    queue = make.queue()
    task = make.task(queue=queue)
    assert api.code("tasks.delete", task=task) == "400/123"
    assert api.ok("tasks.delete", task=task, force=True)["deleted"] in (True, 1)
    assert api.entries(queue) == []
    assert api.code("tasks.get_by_id", task=task) == "400/101"
    assert api.ok("tasks.delete", task=make.task())["deleted"] in (True, 1)


def test_tasks_are_found_by_id_in_pages_and_in_part(api: Client, make: Maker) -> None:
    tasks = [make.task() for _ in range(3)]
    found = api.ok("tasks.get_all", id=tasks, only_fields=["status", "execution.queue"])["tasks"]
    assert {task["id"] for task in found} == set(tasks)
    assert all(task["status"] == "created" and "name" not in task for task in found)
    pages = [
        api.ok("tasks.get_all", id=tasks, page=page, page_size=2, order_by=["created"])["tasks"] for page in (0, 1)
    ]
    assert [len(page) for page in pages] == [2, 1]
    assert {task["id"] for page in pages for task in page} == set(tasks)
    found = api.ok("tasks.get_all_ex", id=tasks, status=["created"], only_fields=["name"])["tasks"]
    assert {task["id"] for task in found} == set(tasks)


def test_ping_moves_last_update_only(api: Client, make: Maker) -> None:
    task = make.task(status="in_progress")
    before = api.task(task)
    api.ok("tasks.ping", task=task)
    after = api.task(task)
    assert after["last_update"] >= before["last_update"]
    assert (after["status"], after["status_changed"]) == (before["status"], before["status_changed"])

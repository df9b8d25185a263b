"""Whether a task stands in a queue that was not looked at, and which entries of the pending queue mean nothing."""

from __future__ import annotations

import pytest
from clearml_k8s import names
from clearml_k8s.clearml.session import Session
from clearml_k8s.flow import elsewhere
from clearml_k8s.flow.recover import shown_in_vain
from flow_parts import ATTEMPT, make_task
from scripted_clearml import Api, Reply

ME, OTHER = "0000000001", "0000000002"
MARK, OLDER = (names.mark_value(attempt=attempt, instance="1") for attempt in (ATTEMPT, "older"))


@pytest.mark.parametrize(
    ("execution_queue", "mark", "strange"),
    [
        ("q1", MARK, False),
        ("pending", MARK, False),
        ("q2", MARK, True),
        (None, MARK, True),
        ("q1", OLDER, True),
        ("pending", OLDER, True),
        ("q1", None, True),
    ],
)
def test_where_an_entry_may_be_elsewhere(execution_queue: str | None, mark: str | None, strange: bool) -> None:
    properties = {names.mark_key(ME): mark} if mark else {}
    task = make_task(execution_queue=execution_queue, properties=properties)
    assert elsewhere.strange(task, queue="q1", pending="pending", controller=ME) is strange


async def test_its_own_queue_and_the_pending_queue_are_not_elsewhere(api: Api, session: Session) -> None:
    """The pending queue by its name: its id may not be known yet."""
    entries = [{"task": task, "added": ATTEMPT} for task in ("a", "b", "c")]
    listed = [
        {"id": "q1", "name": "one", "entries": entries[:2]},
        {"id": "q2", "name": "two", "entries": entries[1:]},
        {"id": "pending", "name": "k8s_scheduler", "entries": entries},
    ]
    api.script("queues.get_all", Reply(data={"queues": listed}))
    found = await elsewhere.entries(session, {"a": "q1", "b": "q1", "d": "q1"})
    assert found == {"b": "q2"}


async def test_who_asks_for_none_asks_nobody(api: Api, session: Session) -> None:
    assert await elsewhere.entries(session, {}) == {}
    assert api.calls == []


@pytest.mark.parametrize(
    ("status", "properties", "vain"),
    [
        ("queued", {names.mark_key(ME): MARK}, False),
        ("queued", {names.mark_key(OTHER): MARK, names.mark_key(ME): OLDER}, False),
        ("queued", {names.mark_key(ME): OLDER}, True),
        # of ClearML's own agent, whose pods ask for no entry
        ("queued", {names.PROPERTY_QUEUE: "default"}, False),
        ("stopped", {names.PROPERTY_QUEUE: "default"}, True),
        ("stopped", {}, False),
    ],
)
def test_what_is_shown_in_vain(status: str, properties: dict[str, str], vain: bool) -> None:
    assert shown_in_vain(make_task(status, properties=properties)) is vain


def test_an_entry_of_no_task_is_shown_in_vain() -> None:
    assert shown_in_vain(None)

"""Queues: every page, exact names, and exclusive takes."""

import re

import pytest
from clearml_k8s.clearml import queues
from clearml_k8s.errors import NotFound, Unanswered
from scripted_clearml import Reply


def rows(count, *, entries=0):
    return [
        {
            "id": f"q{number:04}",
            "name": f"queue {number}",
            "entries": [{"task": f"t{number}-{i}", "added": "2026-01-01T00:00:00"} for i in range(entries)],
        }
        for number in range(count)
    ]


def stored(all_rows):
    """A `queues.get_all` over these rows: pages, ids, the name's pattern, max_task_entries."""

    def answer(body):
        found = all_rows
        if "id" in body:
            found = [row for row in found if row["id"] in body["id"]]
        if "name" in body:
            found = [row for row in found if re.search(body["name"], row["name"])]
        start = body["page"] * body["page_size"]
        page = found[start : start + body["page_size"]]
        most = body.get("max_task_entries")
        return Reply(data={"queues": [{**row, "entries": row["entries"][:most]} for row in page]})

    return answer


async def test_all_pages_of_500(api, session):
    api.script("queues.get_all", stored(rows(1203)))
    found = await queues.get_queues(session)
    assert len({queue.id for queue in found}) == 1203
    sent = api.of("queues.get_all")
    assert [body["page"] for body in sent] == [0, 1, 2]
    assert all(body["search_hidden"] is True and body["page_size"] == 500 for body in sent)


async def test_one_call_serves_500_queues(api, session):
    api.script("queues.get_all", stored(rows(499, entries=3)))
    ids = [f"q{number:04}" for number in range(499)]
    found = await queues.get_queues(session, ids=ids, max_entries=2)
    assert len(found) == 499
    assert len(api.of("queues.get_all")) == 1


async def test_entries_in_order_and_the_total_where_it_is_known(api, session):
    api.script("queues.get_all", stored(rows(1, entries=3)))
    (few,) = await queues.get_queues(session, ids=["q0000"], max_entries=2)
    assert [entry.task for entry in few.entries] == ["t0-0", "t0-1"]
    assert few.total is None
    (full,) = await queues.all_entries(session, ids=["q0000"])
    assert full.total == 3
    assert full.entries[2].added == "2026-01-01T00:00:00"


async def test_an_older_server_that_ignores_the_limit(api, session):
    api.script("queues.get_all", Reply(data={"queues": rows(1, entries=9)}))
    (queue,) = await queues.get_queues(session, ids=["q0000"], max_entries=4)
    assert len(queue.entries) == 4
    assert queue.total == 9


async def test_names_are_exact_and_not_patterns(api, session):
    all_rows = [{"id": str(i), "name": n, "entries": []} for i, n in enumerate(["a.b", "axb", "a.b c", "gpu (1)"])]
    api.script("queues.get_all", stored(all_rows))
    found = await queues.get_queues(session, names=["a.b", "gpu (1)"])
    assert {queue.name for queue in found} == {"a.b", "gpu (1)"}


async def test_resolve_by_id_by_name_and_say_what_is_missing_or_double(api, session):
    all_rows = [
        {"id": "11", "name": "one", "entries": []},
        {"id": "22", "name": "two", "entries": []},
        {"id": "33", "name": "two", "entries": []},
    ]
    api.script("queues.get_all", stored(all_rows))
    result = await queues.resolve(session, ["11", "one", "two", "none"])
    assert {key: queue.id for key, queue in result.found.items()} == {"11": "11", "one": "11"}
    assert {queue.id for queue in result.ambiguous["two"]} == {"22", "33"}
    assert result.missing == ("none",)


async def test_an_answer_without_a_list_is_no_empty_list(api, session):
    api.script("queues.get_all", Reply(data={}))
    with pytest.raises(Unanswered):
        await queues.get_queues(session)


@pytest.mark.parametrize(
    ("reply", "taken"),
    [
        (Reply(data={"removed": 1}), True),
        (Reply(data={"removed": 0}), False),
        (Reply(code=400, subcode=703), False),
        (Reply(code=400, subcode=701), False),
    ],
)
async def test_remove_task_is_ours_only_after_removed_1(api, session, reply, taken):
    api.script("queues.remove_task", reply)
    assert await queues.remove_task(session, "q", "t") is taken
    assert api.of("queues.remove_task") == [{"queue": "q", "task": "t"}]


async def test_a_take_in_doubt_is_neither(api, session):
    api.script("queues.remove_task", Reply(code=500, subcode=100))
    with pytest.raises(Unanswered):
        await queues.remove_task(session, "q", "t")


@pytest.mark.parametrize(("reply", "added"), [(Reply(data={"added": 1}), True), (Reply(code=400, subcode=706), False)])
async def test_add_task(api, session, reply, added):
    api.script("queues.add_task", reply)
    assert await queues.add_task(session, "q", "t") is added


async def test_add_task_to_a_queue_that_is_gone(api, session):
    api.script("queues.add_task", Reply(code=400, subcode=701))
    with pytest.raises(NotFound):
        await queues.add_task(session, "q", "t")


async def test_move_to_front(api, session):
    api.script("queues.move_task_to_front", Reply(data={"position": 0}), Reply(code=400, subcode=703))
    assert await queues.move_task_to_front(session, "q", "t")
    assert not await queues.move_task_to_front(session, "q", "t")


async def test_ensure_queue_creates_only_what_is_not_there(api, session):
    api.script("queues.get_all", stored([{"id": "1", "name": "k8s_scheduler", "entries": []}]))
    api.script("queues.create", Reply(data={"id": "2"}))
    assert (await queues.ensure_queue(session, "k8s_scheduler")).id == "1"
    assert api.of("queues.create") == []
    assert (await queues.ensure_queue(session, "k8s", system_tags=["k8s-glue"])).id == "2"
    assert api.of("queues.create") == [{"name": "k8s", "system_tags": ["k8s-glue"]}]


async def test_ensure_queue_creates_nothing_when_the_look_fails(api, session):
    api.script("queues.get_all", Reply(code=500))
    with pytest.raises(Unanswered):
        await queues.ensure_queue(session, "k8s_scheduler")
    assert api.of("queues.create") == []


async def test_ensure_queue_when_someone_else_is_faster(api, session):
    row = {"id": "7", "name": "k8s_scheduler", "entries": []}
    api.script("queues.get_all", Reply(data={"queues": []}), Reply(data={"queues": [row]}))
    api.script("queues.create", Reply(code=400, subcode=801))
    assert (await queues.ensure_queue(session, "k8s_scheduler")).id == "7"


async def test_num_entries(api, session):
    api.script("queues.get_num_entries", Reply(data={"num": 12}))
    assert await queues.num_entries(session, "q") == 12

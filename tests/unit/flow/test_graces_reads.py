"""Graces, batched reads and console lines, with a scripted ClearML server and the time in the test's hand."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from clearml_k8s.clearml.session import Session
from clearml_k8s.errors import Refused, Unanswered
from clearml_k8s.flow.graces import Graces
from clearml_k8s.flow.reads import TaskReads
from clearml_k8s.flow.tell import Teller
from clearml_k8s.logs import Redactor
from flow_parts import ATTEMPT, GRACE, LATER, TASK
from manual_clock import ManualClock
from scripted_clearml import Api, Reply, make_session
from scripted_servers import start

QUEUE = "q1"
CONTROLLER = "0123456789"


def show(api: Api, *, entry: str | None = None, status: str = "queued", changed: str = ATTEMPT) -> None:
    """What the server says of the task from now on."""
    entries = [{"task": TASK, "added": entry}] if entry else []
    api.script("queues.get_all", Reply(data={"queues": [{"id": QUEUE, "name": "default", "entries": entries}]}))
    api.script(
        "tasks.get_all",
        Reply(
            data={"tasks": [{"id": TASK, "status": status, "status_changed": changed, "execution": {"queue": QUEUE}}]}
        ),
    )


# ---- graces ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def graces(session: Session) -> Graces:
    return Graces(session=session, controller=CONTROLLER, pending_queue=lambda: None, grace_seconds=GRACE)


async def test_a_picture_that_stands_for_a_grace_settles(api: Api, graces: Graces, clock: ManualClock) -> None:
    show(api)
    graces.hold(TASK, queue=QUEUE, why="test")
    assert await graces.look() == []
    await clock.advance(GRACE - 1)
    calls = len(api.calls)
    assert await graces.look() == []
    assert len(api.calls) == calls  # nothing is read before its time
    await clock.advance(2)
    (settled,) = await graces.look()
    assert (settled.held.task, settled.seen.attempt, settled.task and settled.task.id) == (TASK, ATTEMPT, TASK)
    assert TASK not in graces


async def test_the_grace_begins_with_the_first_look(api: Api, graces: Graces, clock: ManualClock) -> None:
    show(api)
    graces.hold(TASK, queue=QUEUE, why="test")
    await clock.advance(10 * GRACE)
    assert await graces.look() == []
    assert TASK in graces


@pytest.mark.parametrize("change", [{"entry": "t"}, {"status": "in_progress"}, {"changed": LATER}])
@pytest.mark.parametrize("doubt", [False, True])
async def test_a_change_ends_the_grace_but_not_a_doubts(
    api: Api, graces: Graces, clock: ManualClock, change: dict[str, str], doubt: bool
) -> None:
    show(api)
    graces.hold(TASK, queue=QUEUE, why="test", doubt=doubt)
    await graces.look()
    await clock.advance(GRACE + 1)
    show(api, **change)  # type: ignore[arg-type]
    assert await graces.look() == []
    assert (TASK in graces) == doubt
    await clock.advance(GRACE + 1)
    assert len(await graces.look()) == (1 if doubt else 0)


async def test_a_doubt_begins_the_grace_anew_and_stays_one(api: Api, graces: Graces, clock: ManualClock) -> None:
    show(api)
    graces.hold(TASK, queue=QUEUE, why="first")
    await graces.look()
    await clock.advance(GRACE - 1)
    graces.hold(TASK, queue=QUEUE, why="second", doubt=True)
    graces.hold(TASK, queue=QUEUE, why="third")
    await graces.look()
    await clock.advance(2)
    assert await graces.look() == []
    (held,) = graces
    assert (held.why, held.doubt) == ("second", True)


async def test_a_failed_read_settles_nothing(api: Api, graces: Graces, clock: ManualClock) -> None:
    show(api)
    graces.hold(TASK, queue=QUEUE, why="test")
    await graces.look()
    await clock.advance(GRACE + 1)
    api.script("tasks.get_all", Reply(code=403, message="no"))
    with pytest.raises(Refused):
        await graces.look()
    assert TASK in graces
    api.script("tasks.get_all", Reply(data={}))  # not a list: not "no tasks"
    with pytest.raises(Unanswered):
        await graces.look()
    assert TASK in graces


async def test_a_hold_during_the_look_is_not_lost(api: Api, graces: Graces, clock: ManualClock) -> None:
    show(api)
    graces.hold(TASK, queue=QUEUE, why="test")
    await graces.look()
    await clock.advance(GRACE + 1)

    def meanwhile(_body: object) -> Reply:
        graces.hold(TASK, queue=QUEUE, why="doubt", doubt=True)
        return Reply(data={"tasks": [{"id": TASK, "status": "queued", "status_changed": ATTEMPT}]})

    api.script("tasks.get_all", meanwhile)
    assert await graces.look() == []
    (held,) = graces
    assert (held.doubt, held.seen) == (True, None)


# ---- reads ----------------------------------------------------------------------------------------------------------


async def test_reads_are_batched(api: Api, session: Session) -> None:
    show(api)
    reads = TaskReads(session=session)
    found = await asyncio.gather(*(reads.fresh(task) for task in (TASK, "other", TASK)))
    assert [seen.task and seen.task.status for seen in found] == ["queued", None, "queued"]
    (body,) = api.of("tasks.get_all")
    assert sorted(body["id"]) == sorted([TASK, "other"])
    assert reads.last(TASK) == found[0]


async def test_an_error_reaches_all_who_wait(api: Api, session: Session) -> None:
    api.script("tasks.get_all", Reply(code=403, message="no"))
    reads = TaskReads(session=session)
    found = await asyncio.gather(reads.fresh("a"), reads.fresh("b"), return_exceptions=True)
    assert all(isinstance(error, Refused) for error in found)
    api.script("tasks.get_all", Reply(data={"tasks": [{"no": "id"}]}))
    with pytest.raises(Unanswered):
        await reads.fresh("a")
    show(api)
    assert (await reads.fresh(TASK)).task is not None


async def test_refresh_tells_what_changed_and_forgets_the_rest(api: Api, session: Session, clock: ManualClock) -> None:
    show(api)
    reads = TaskReads(session=session)
    assert (await reads.refresh([TASK, "gone"])).keys() == {TASK, "gone"}
    await clock.advance(1)
    assert await reads.refresh([TASK, "gone"]) == {}
    show(api, status="in_progress")
    await clock.advance(1)
    assert (await reads.refresh([TASK])).keys() == {TASK}
    assert reads.last("gone") is None


async def test_a_newer_read_is_not_overwritten(api: Api, session: Session) -> None:
    """The refresh began before the fresh read and ends after it."""
    reads = TaskReads(session=session)
    older = Reply(data={"tasks": [{"id": TASK, "status": "queued", "status_changed": ATTEMPT}]}, stall=True)
    newer = Reply(data={"tasks": [{"id": TASK, "status": "failed", "status_changed": LATER}]})
    api.script("tasks.get_all", older, newer)
    refreshing = asyncio.create_task(reads.refresh([TASK]))
    async with asyncio.timeout(5):
        while not api.of("tasks.get_all"):
            await asyncio.sleep(0.001)
    seen = await reads.fresh(TASK)
    api.release()
    assert await refreshing == {}
    assert reads.last(TASK) == seen
    assert seen.task is not None
    assert seen.task.status == "failed"


# ---- console lines --------------------------------------------------------------------------------------------------


@pytest.fixture
def teller(session: Session) -> Teller:
    return Teller(session=session, worker_id="w", redact=Redactor(["topsecret"]))


SENT = "events.add_batch"


async def test_lines_go_out_together_once_and_in_order(api: Api, teller: Teller) -> None:
    api.script(SENT, Reply(data={"added": 2}))
    teller.say("a", "one topsecret")
    teller.say("b", "two", level="ERROR")
    teller.say("a", "one topsecret")
    await teller.flush()
    await teller.flush()
    ((first, second),) = api.of(SENT)
    assert (first["task"], first["msg"], second["level"]) == ("a", "one ********\n", "ERROR")
    assert first["timestamp"] < second["timestamp"]


async def test_what_was_forgotten_may_be_said_again(api: Api, teller: Teller) -> None:
    api.script(SENT, Reply(data={"added": 2}))
    teller.say("a", "one")
    teller.forget("a")
    teller.say("a", "one")
    await teller.flush()
    assert len(api.of(SENT)[0]) == 2


async def test_lines_wait_for_a_server_that_is_away(api: Api, session: Session, teller: Teller) -> None:
    teller.say("a", "one")
    port = api.server.port
    await api.server.close()
    await teller.flush()
    teller.say("a", "two")
    await start(api, port=port)
    api.script(SENT, Reply(data={"added": 2}))
    await teller.flush()
    assert [line["msg"] for line in api.of(SENT)[0]] == ["one\n", "two\n"]


@pytest.mark.parametrize("answer", [Reply(code=400, message="bad"), Reply(code=500), Reply(drop=True)])
async def test_lines_are_not_sent_twice(api: Api, teller: Teller, answer: Reply) -> None:
    api.script(SENT, answer, Reply(data={"added": 1}))
    teller.say("a", "one")
    await teller.flush()
    await teller.flush()
    assert len(api.of(SENT)) == 1


async def test_nothing_is_sent_while_the_server_is_not_well(api: Api, session: Session) -> None:
    clock = ManualClock()
    async with make_session(api.url, clock) as session:
        teller = Teller(session=session, worker_id="w", redact=Redactor())
        api.script(SENT, Reply(code=500), Reply(data={"added": 1}))
        running = asyncio.create_task(teller.run())
        teller.say("a", "one")
        await clock.until_sleeping()
        await clock.advance(1)
        async with asyncio.timeout(5):
            while session.health.healthy:
                await asyncio.sleep(0.001)
        teller.say("a", "two")
        await clock.until_sleeping()
        await clock.advance(1)
        await clock.until_sleeping()
        assert len(api.of(SENT)) == 1
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running

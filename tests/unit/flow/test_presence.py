"""An absent task is taken for a deleted one only where something else of ours is seen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from clearml_k8s.clearml.session import Session
from clearml_k8s.errors import Unanswered
from clearml_k8s.flow.presence import FIRST_SECONDS, Finding, Presence
from clearml_k8s.kube.slim import JobRecord
from clearml_k8s.kube.store import Store
from clearml_k8s.kube.watch import Listed
from flow_parts import make_job
from manual_clock import ManualClock
from scripted_clearml import Api, Reply, make_session

JOB = make_job("a", uid="ja", queue="q1")


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    api = Api()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", api.handle)
    api.server = TestServer(app)
    await api.server.start_server(shutdown_timeout=0.1)
    yield api
    api.release()
    await api.server.close()


@pytest.fixture
async def session(api: Api, clock: ManualClock) -> AsyncIterator[Session]:
    async with make_session(api.url, clock) as session:
        yield session


@pytest.fixture
def presence(session: Session) -> Presence:
    jobs: Store[JobRecord] = Store()
    others = [make_job("b", uid="jb", queue="q1"), make_job("c", uid="jc", queue="q2")]
    jobs.apply(Listed(items=(JOB, *others)))
    return Presence(session=session, jobs=jobs, namespace="ns", release="gpu")


def show(api: Api, *, queues: tuple[str, ...] = (), tasks: tuple[str, ...] = ()) -> None:
    """What the server lists from now on."""
    api.script("queues.get_all", Reply(data={"queues": [{"id": one, "name": one} for one in queues]}))
    api.script("tasks.get_all", Reply(data={"tasks": [{"id": one} for one in tasks]}))


@pytest.mark.parametrize(
    ("finding", "proven"),
    [
        (Finding(queue_seen=False, asked=0, seen=0), False),
        (Finding(queue_seen=False, asked=9, seen=0), False),
        (Finding(queue_seen=True, asked=0, seen=0), True),
        (Finding(queue_seen=False, asked=9, seen=1), True),
    ],
)
def test_the_rule(finding: Finding, proven: bool) -> None:
    assert finding.proven is proven


async def test_the_jobs_own_queue_and_the_tasks_that_came_from_it_are_asked_for(
    api: Api, presence: Presence, clock: ManualClock
) -> None:
    """Those of another queue may be of another server: of that which the address named before, or names now."""
    show(api)
    assert (await presence.doubt(JOB, since=clock.monotonic()) or 0) > 0
    (asked,) = api.of("queues.get_all")
    assert (asked["id"], asked["search_hidden"]) == (["q1"], True)
    (asked,) = api.of("tasks.get_all")
    assert (sorted(asked["id"]), asked["search_hidden"]) == (["a", "b"], True)


@pytest.mark.parametrize("seen", [{"queues": ("q1",)}, {"tasks": ("b",)}])
async def test_one_look_serves_all_that_vanished_before_it(
    api: Api, presence: Presence, clock: ManualClock, seen: dict[str, tuple[str, ...]]
) -> None:
    show(api, **seen)
    since = clock.monotonic()
    await clock.advance(1)
    assert await asyncio.gather(*(presence.doubt(JOB, since=since) for _ in range(20))) == [None] * 20
    assert len(api.of("queues.get_all")) == 1


async def test_what_was_seen_before_the_task_vanished_proves_nothing(
    api: Api, presence: Presence, clock: ManualClock
) -> None:
    show(api, queues=("q1",))
    assert await presence.doubt(JOB, since=clock.monotonic()) is None
    await clock.advance(1)
    show(api)
    assert await presence.doubt(JOB, since=clock.monotonic()) is not None


async def test_the_waits_grow_and_nothing_is_asked_before_their_end(
    api: Api, presence: Presence, clock: ManualClock
) -> None:
    show(api)
    since, waits = clock.monotonic(), []
    for number in range(1, 9):
        wait = await presence.doubt(JOB, since=since)
        assert wait is not None
        await clock.advance(wait / 2)
        assert await presence.doubt(JOB, since=since) == pytest.approx(wait / 2)
        assert len(api.of("queues.get_all")) == number
        await clock.advance(wait)
        waits.append(wait)
    assert max(waits) > FIRST_SECONDS
    show(api, queues=("q1",))
    assert await presence.doubt(JOB, since=since) is None
    show(api)
    await clock.advance(1)
    assert 0 < (await presence.doubt(JOB, since=clock.monotonic()) or 0) <= FIRST_SECONDS


async def test_it_is_told_once_and_again_when_it_changes(
    api: Api, presence: Presence, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="clearml_k8s")

    async def look() -> None:
        await clock.advance(1000)
        await presence.doubt(JOB, since=clock.monotonic())

    def told() -> list[str]:
        found = [record.levelname for record in caplog.records if record.name.startswith("clearml_k8s")]
        caplog.clear()
        return found

    show(api)
    await look()
    await look()
    assert told() == ["ERROR"]
    presence._jobs._put(make_job("d", uid="jd", queue="q1"))
    await look()
    await look()
    assert told() == ["ERROR"]
    show(api, tasks=("d",))
    await look()
    await look()
    assert told() == ["INFO"]
    show(api)
    await look()
    assert told() == ["ERROR"]


async def test_a_failed_look_proves_nothing(api: Api, presence: Presence, clock: ManualClock) -> None:
    show(api)
    api.script("queues.get_all", Reply(data={}))  # not a list
    with pytest.raises(Unanswered):
        await presence.doubt(JOB, since=clock.monotonic())

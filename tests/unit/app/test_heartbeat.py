"""What counts as a loop's sign of life, and what does not."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from clearml_k8s.app.heartbeat import Heartbeats
from clearml_k8s.clock import holding, in_turns
from manual_clock import ManualClock

Run = Callable[[str, Awaitable[None]], "asyncio.Task[None]"]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def heartbeats(clock: ManualClock) -> Heartbeats:
    return Heartbeats(clock=clock, limit_seconds=10)


@pytest.fixture
async def run(heartbeats: Heartbeats) -> AsyncIterator[Run]:
    tasks: list[asyncio.Task[None]] = []

    def begin(name: str, loop: Awaitable[None]) -> asyncio.Task[None]:
        tasks.append(asyncio.create_task(heartbeats.run(name, loop)))
        return tasks[-1]

    yield begin
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def for_ever() -> None:
    await asyncio.Event().wait()


async def test_a_wait_that_nothing_ends_is_late_after_the_limit(
    clock: ManualClock, heartbeats: Heartbeats, run: Run
) -> None:
    run("a", for_ever())
    await clock.advance(10)
    assert heartbeats.late() == {}
    await clock.advance(1)
    assert heartbeats.late() == {"a": 11.0}


async def test_a_sleep_however_long_is_a_sign_of_life(clock: ManualClock, heartbeats: Heartbeats, run: Run) -> None:
    async def loop() -> None:
        await heartbeats.clock.sleep(3600)
        await for_ever()

    run("a", loop())
    for _ in range(36):
        await clock.advance(100)
        assert heartbeats.late() == {}
    await clock.advance(11)
    assert heartbeats.late() == {"a": 11.0}


async def test_a_limit_on_the_clock_is_a_sign_of_life_until_its_end(
    clock: ManualClock, heartbeats: Heartbeats, run: Run
) -> None:
    async def loop() -> None:
        async with heartbeats.clock.timeout(20):
            # The cancellation at the end of the time is lost.
            with contextlib.suppress(asyncio.CancelledError):
                await for_ever()
            await for_ever()

    run("a", loop())
    await clock.advance(29)
    assert heartbeats.late() == {}
    await clock.advance(2)
    assert heartbeats.late() == {"a": 11.0}


async def test_a_wait_that_ended_early_counts_no_longer(clock: ManualClock, heartbeats: Heartbeats, run: Run) -> None:
    event = asyncio.Event()

    async def loop() -> None:
        async with heartbeats.clock.timeout(3600):
            await event.wait()
        await for_ever()

    run("a", loop())
    await clock.advance(100)
    event.set()
    await clock.advance(0)
    assert heartbeats.late() == {}
    await clock.advance(11)
    assert heartbeats.late() == {"a": 11.0}


async def test_what_a_loop_waits_for_in_tasks_of_its_own_counts(
    clock: ManualClock, heartbeats: Heartbeats, run: Run
) -> None:
    async def loop() -> None:
        await asyncio.gather(heartbeats.clock.sleep(30), heartbeats.clock.sleep(60))

    task = run("a", loop())
    await clock.advance(30)
    await clock.advance(29)
    assert heartbeats.late() == {}
    await clock.advance(1)
    assert task.done()


async def test_somebody_elses_work_is_waited_for_however_long(
    clock: ManualClock, heartbeats: Heartbeats, run: Run
) -> None:
    lock, event, got = asyncio.Lock(), asyncio.Event(), []

    async def wants_the_lock() -> None:
        async with holding(lock, clock=heartbeats.clock):
            got.append("lock")

    async def wants_the_event() -> None:
        assert await in_turns(event.wait, clock=heartbeats.clock) is True
        got.append("event")

    async with lock:
        tasks = [run("a", wants_the_lock()), run("b", wants_the_event())]
        for _ in range(200):
            await clock.advance(5)
            assert heartbeats.late() == {}
        assert got == []
    event.set()
    await asyncio.gather(*tasks)
    assert sorted(got) == ["event", "lock"]
    assert not lock.locked()


async def test_loops_are_told_apart(clock: ManualClock, heartbeats: Heartbeats, run: Run) -> None:
    run("a", for_ever())
    run("b", heartbeats.clock.sleep(3600))
    await clock.advance(20)
    await sleep_elsewhere(heartbeats)
    assert heartbeats.late() == {"a": 20.0}


async def sleep_elsewhere(heartbeats: Heartbeats) -> None:
    """Outside of every loop the clock is just a clock."""
    await heartbeats.clock.sleep(0)
    async with heartbeats.clock.timeout(1):
        pass


async def test_a_loop_that_ended_is_no_longer_looked_at(clock: ManualClock, heartbeats: Heartbeats, run: Run) -> None:
    task = run("a", for_ever())
    await clock.advance(20)
    assert heartbeats.late() == {"a": 20.0}
    task.cancel()
    await clock.advance(0)
    assert heartbeats.late() == {}


async def test_each_lateness_is_logged_once(
    clock: ManualClock, heartbeats: Heartbeats, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    event = asyncio.Event()

    async def loop() -> None:
        while True:
            await event.wait()
            event.clear()
            await heartbeats.clock.sleep(1)

    run("a", loop())
    for _ in range(2):
        await clock.advance(11)
        for _ in range(3):
            assert "a" in heartbeats.late()
        event.set()
        await clock.advance(1)
        assert heartbeats.late() == {}
        await clock.advance(1)
    assert [(r.levelname, "'a'" in r.getMessage()) for r in caplog.records] == [("ERROR", True), ("INFO", False)] * 2

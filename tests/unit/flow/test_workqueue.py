"""The work queue: each key once, never twice at a time."""

import asyncio
from random import Random

import pytest
from clearml_k8s.flow.workqueue import QueueClosed, WorkQueue
from manual_clock import ManualClock


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def queue(clock):
    return WorkQueue(clock=clock, random=Random(1))


async def test_a_key_put_often_is_given_out_once(queue):
    for key in "abab":
        queue.put(key)
    assert [await queue.get(), await queue.get()] == ["a", "b"]
    assert len(queue) == 0


async def test_a_key_put_while_worked_on_comes_back_after_done(queue):
    queue.put("a")
    assert await queue.get() == "a"
    queue.put("a")
    queue.put("a")
    waiting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    assert not waiting.done()
    queue.done("a")
    assert await waiting == "a"
    queue.done("a")
    assert len(queue) == 0


async def test_many_workers_never_share_a_key(queue):
    working, done = set(), []

    async def worker():
        while True:
            key = await queue.get()
            assert key not in working
            working.add(key)
            await asyncio.sleep(0)
            working.discard(key)
            done.append(key)
            queue.done(key)

    workers = [asyncio.create_task(worker()) for _ in range(8)]
    for _ in range(50):
        for key in range(10):
            queue.put(key)
        await asyncio.sleep(0)
    async with asyncio.timeout(5):
        while len(queue) or working:
            await asyncio.sleep(0)
    for task in workers:
        assert not task.done()
        task.cancel()
    assert set(done) == set(range(10))
    assert len(queue) == 0


async def test_put_after_takes_the_earliest_time(queue, clock):
    queue.put_after("a", 10)
    queue.put_after("a", 5)
    queue.put_after("a", 20)
    assert queue.delayed == 1
    await clock.advance(4)
    assert len(queue) == 0
    await clock.advance(2)
    assert await queue.get() == "a"
    queue.done("a")
    await clock.advance(60)
    assert len(queue) == 0


async def test_put_overtakes_put_after(queue, clock):
    queue.put_after("a", 10)
    queue.put("a")
    assert await queue.get() == "a"
    queue.done("a")
    await clock.advance(60)
    assert (len(queue), queue.delayed) == (0, 0)


async def test_put_after_while_worked_on(queue, clock):
    queue.put("a")
    await queue.get()
    queue.put_after("a", 5)
    await clock.advance(6)
    assert len(queue) == 0
    queue.done("a")
    assert await queue.get() == "a"


async def test_waits_grow_by_key_until_forgotten(queue, clock):
    waits = []
    for _ in range(12):
        waits.append(queue.put_backoff("bad"))
        await clock.advance(31)
        queue.done(await queue.get())
    assert waits[0] <= 0.5
    assert max(waits) > 10
    assert queue.put_backoff("good") <= 0.5
    queue.forget("bad")
    await clock.advance(31)
    assert queue.put_backoff("bad") <= 0.5


async def test_close_wakes_the_workers_and_gives_out_what_is_ready(queue, clock):
    queue.put("a")
    queue.put_after("b", 5)
    queue.close()
    assert await queue.get() == "a"
    with pytest.raises(QueueClosed):
        await queue.get()
    queue.put("c")
    assert (len(queue), queue.delayed) == (0, 0)


async def test_close_wakes_those_that_wait(queue):
    waiting = [asyncio.create_task(queue.get()) for _ in range(3)]
    await asyncio.sleep(0)
    queue.close()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(result, QueueClosed) for result in results)

"""The watch gets through everything an API server does, and never spins."""

import asyncio
import contextlib
import json

import pytest
from clearml_k8s.kube.client import KubeClient
from clearml_k8s.kube.resources import JOBS
from clearml_k8s.kube.watch import SILENCE_SECONDS, Gone, Listed, Upsert, Watch
from kubernetes.aio.client.configuration import Configuration
from manual_clock import ManualClock
from scripted_kube import Fault, status
from scripted_servers import start


def name_of(thing):
    return thing["metadata"]["name"]


class Reader:
    """Runs a watch and keeps its events."""

    def __init__(self, client, **changes):
        self.watch = Watch(client=client, resource=JOBS, slim=name_of, namespace="ns", label_selector="a=b", **changes)
        self.events = []
        self._new = asyncio.Event()

    async def run(self):
        async for event in self.watch.events():
            self.events.append(event)
            self._new.set()

    async def wait(self, count):
        """Until there are ``count`` events; at most 5 s."""
        async with asyncio.timeout(5):
            while len(self.events) < count:
                self._new.clear()
                await self._new.wait()
        return self.events


@contextlib.asynccontextmanager
async def reading(client, **changes):
    reader = Reader(client, **changes)
    task = asyncio.create_task(reader.run())
    try:
        yield reader
    finally:
        assert not task.done(), task
        task.cancel()
        await asyncio.wait([task])


async def test_list_then_changes(cluster, client):
    cluster.put("jobs", "a")
    async with reading(client) as reader:
        await cluster.watching()
        cluster.put("jobs", "b")
        cluster.drop("jobs", "a")
        assert await reader.wait(3) == [Listed(items=("a",)), Upsert(item="b"), Gone(item="a")]
    query = cluster.watched()[0].query
    assert query["allowWatchBookmarks"] == "true"
    assert 300 <= int(query["timeoutSeconds"]) <= 600
    assert query["labelSelector"] == "a=b"


async def test_a_closed_stream_goes_on_from_the_last_version(cluster, client):
    async with reading(client) as reader:
        await cluster.watching()
        cluster.put("jobs", "a")
        await reader.wait(2)
        cluster.end_watches()
        cluster.put("jobs", "b")
        await reader.wait(3)
        assert reader.events[1:] == [Upsert(item="a"), Upsert(item="b")]
    assert len(cluster.of("GET")) == 1


async def test_bookmarks_move_the_version(cluster, client):
    async with reading(client) as reader:
        await cluster.watching()
        cluster.version += 500
        cluster.bookmark()
        cluster.end_watches()
        await cluster.watching(2)
        assert cluster.watched()[1].query["resourceVersion"] == str(cluster.version)
        assert len(reader.events) == 1


async def test_410_in_the_stream_lists_again(cluster, client):
    cluster.put("jobs", "a")
    async with reading(client) as reader:
        await cluster.watching()
        gone = {"type": "ERROR", "object": status(410, "Expired", "too old resource version")}
        del cluster.objects["jobs"]["a"]
        cluster.put("jobs", "b")
        cluster.push(json.dumps(gone).encode() + b"\n")
        events = await reader.wait(3)
        assert events[-1] == Listed(items=("b",))


async def test_410_at_the_opening_lists_again(cluster, client):
    async with reading(client) as reader:
        await cluster.watching()
        cluster.compact()
        cluster.end_watches()
        events = await reader.wait(2)
        assert [type(event) for event in events] == [Listed, Listed]


async def test_a_list_that_expires_between_its_pages_begins_again(cluster, client):
    for number in range(700):
        cluster.put("jobs", f"j{number:04}")
    calls = []

    def once():
        calls.append(1)
        if len(calls) == 2:
            cluster.oldest = 10_000_000

    cluster.on_list = once
    async with reading(client) as reader:
        async with asyncio.timeout(5):
            while len(calls) < 3:
                await asyncio.sleep(0.001)
            cluster.oldest = 0
        events = await reader.wait(1)
        assert len(events[0].items) == 700


async def test_70_seconds_of_silence_are_a_dead_connection(cluster):
    clock = ManualClock()
    configuration = Configuration(host=cluster.url)
    async with KubeClient(configuration=configuration, clock=clock) as client, reading(client) as reader:
        await cluster.watching()
        await reader.wait(1)
        await clock.advance(SILENCE_SECONDS - 5)
        cluster.bookmark()
        async with asyncio.timeout(5):
            while reader.watch.last_seen < clock.monotonic():
                await asyncio.sleep(0.001)
        await clock.advance(SILENCE_SECONDS - 5)
        assert len(cluster.watched()) == 1
        await clock.advance(10)
        await clock.until_sleeping()
        assert "not even a bookmark" in reader.watch.problem
        await clock.advance(1)
        await cluster.watching(2)
        cluster.put("jobs", "a")
        assert (await reader.wait(2))[-1] == Upsert(item="a")


@pytest.mark.parametrize(
    "fault",
    [
        Fault(code=429, status=status(429, "TooManyRequests"), headers={"Retry-After": "2"}),
        Fault(code=500, status=status(500, "InternalError")),
        Fault(code=403, status=status(403, "Forbidden")),
        Fault(code=200, text="garbage\n"),
        Fault(code=200, text=""),
        Fault(code=200, text='{"type": "ADDED", "object": {"meta'),
        Fault(code=200, text='{"type": "ADDED", "object": {}}\n'),
        Fault(code=200, text=json.dumps({"type": "ERROR", "object": status(500, "InternalError", "leader changed")})),
        Fault(drop=True),
    ],
)
async def test_failing_streams_are_waited_out_without_spinning(cluster, client, clock, fault, meters):
    cluster.watch_faults = [fault] * 25
    async with reading(client) as reader:
        async with asyncio.timeout(10):
            while cluster.watch_faults:
                await asyncio.sleep(0.001)
        await cluster.watching()
        cluster.put("jobs", "a")
        events = await reader.wait(2)
        assert events[-1] == Upsert(item="a")
    # 25 failures take minutes, not a burst: the waits grow to the 30 s of the cap.
    waits = [wait for wait in clock.slept if wait > 0]
    assert sum(waits) > 60
    assert all(wait <= 30 for wait in waits)


async def test_lists_that_fail_are_waited_out(cluster, client, clock):
    cluster.put("jobs", "a")
    cluster.fault("GET", *[Fault(code=503)] * 40)
    async with reading(client) as reader:
        (listed,) = await reader.wait(1)
        assert listed == Listed(items=("a",))
        assert listed.version == str(cluster.version)
    assert sum(clock.slept) > 20


async def test_an_api_server_that_goes_away_and_comes_back(cluster, client, clock):
    async with reading(client) as reader:
        await cluster.watching()
        port = cluster.server.port
        cluster.end_watches()
        await cluster.server.close()
        async with asyncio.timeout(5):
            while "cannot be reached" not in reader.watch.problem:
                await asyncio.sleep(0.001)
        clock.auto = False
        cluster.put("jobs", "a")
        await clock.until_sleeping()
        await start(cluster, port=port)
        clock.auto = True
        await clock.advance(31)
        assert (await reader.wait(2))[-1] == Upsert(item="a")


async def test_lines_longer_than_any_buffer_in_any_pieces(cluster, client):
    async with reading(client) as reader:
        await cluster.watching()
        thing = {"metadata": {"name": "big", "resourceVersion": "999", "annotations": {"x": "y" * 5_000_000}}}
        raw = json.dumps({"type": "ADDED", "object": thing}).encode() + b"\n"
        for start in range(0, len(raw), 1_300_000):
            cluster.push(raw[start : start + 1_300_000])
        small = {"type": "ADDED", "object": {"metadata": {"name": "small", "resourceVersion": "1000"}}}
        two = json.dumps(small).encode() + b"\n\n" + json.dumps({**small, "type": "DELETED"}).encode() + b"\n"
        cluster.push(two[:7])
        cluster.push(two[7:])
        events = await reader.wait(4)
        assert events[1:] == [Upsert(item="big"), Upsert(item="small"), Gone(item="small")]


async def test_restarts_are_counted(cluster, client, meters):
    async with reading(client) as reader:
        await cluster.watching()
        await reader.wait(1)
        cluster.end_watches()
        await cluster.watching(2)
    labels = {"resource": "jobs", "reason": "closed"}
    assert meters.registry.get_sample_value("clearml_k8s_watch_restarts_total", labels) == 1
    assert meters.registry.get_sample_value("clearml_k8s_watch_synced", {"resource": "jobs"}) == 1


@pytest.mark.parametrize("where", ["list", "watch"])
async def test_a_missing_permission_is_told_once_in_words(cluster, client, meters, caplog, where):
    no = Fault(code=403, status=status(403, "Forbidden", 'jobs is forbidden: User "x" cannot list'))
    if where == "list":
        cluster.fault("GET", *[no] * 4)
    else:
        cluster.watch_faults += [no] * 4
    cluster.put("jobs", "a")
    async with reading(client, permission="write x: true") as reader:
        await cluster.watching(1 if where == "list" else 5)
        await reader.wait(1)
        # The server sees the stream a moment before the client has it.
        async with asyncio.timeout(5):
            while reader.watch.problem:
                await asyncio.sleep(0.001)
    told = [r for r in caplog.records if r.levelname == "ERROR"]
    assert [r.getMessage() for r in told] == [
        "this account may not list and watch jobs in namespace ns: write x: true; it is tried again "
        '(jobs is forbidden: User "x" cannot list)'
    ]
    assert [r for r in caplog.records if r.levelname == "WARNING"] == []
    restarts = meters.registry.get_sample_value
    assert restarts("clearml_k8s_watch_restarts_total", {"resource": "jobs", "reason": "forbidden"}) == 4


async def test_pages_as_small_as_told(cluster, client):
    for name in "abcde":
        cluster.put("jobs", name)
    async with reading(client, page_size=2) as reader:
        assert await reader.wait(1) == [Listed(items=tuple("abcde"))]
        await cluster.watching()
    assert [seen.query["limit"] for seen in cluster.of("GET")] == ["2", "2", "2"]


async def test_a_busy_server_does_not_make_it_allowed(cluster, client, clock):
    """What counts is the last word about the permission, which a 429 says nothing of."""
    said = status(403, "Forbidden", "jobs.batch is forbidden")
    busy = status(429, "TooManyRequests", "later")
    cluster.fault("GET", Fault(code=403, status=said), *[Fault(code=429, status=busy)] * 1000, path="jobs")
    clock.auto = True
    async with reading(client) as reader:
        async with asyncio.timeout(5):
            while len(cluster.of("GET", "jobs")) < 3:
                await asyncio.sleep(0.001)
        assert reader.watch.forbidden


async def test_what_is_forbidden_is_told_once_and_asked_for_again(cluster, client, clock, caplog):
    said = status(403, "Forbidden", "jobs.batch is forbidden")
    cluster.fault("GET", *[Fault(code=403, status=said)] * 4, path="jobs")
    clock.auto = True
    async with reading(client) as reader:
        async with asyncio.timeout(5):
            while len(cluster.of("GET", "jobs")) < 3:
                await asyncio.sleep(0.001)
        assert reader.watch.forbidden
        await cluster.watching()
        cluster.put("jobs", "a")
        await reader.wait(2)
        assert not reader.watch.forbidden
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 1
    assert errors[0].startswith("this account may not list and watch jobs ")

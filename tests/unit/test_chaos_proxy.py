"""The proxy of the chaos tests does to requests what it says, and the real client and watch get through it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from chaos_faults import CALLS, LISTS, WATCHES, Faults
from chaos_proxy import CUT_AFTER, Fate, Proxy, Request
from clearml_k8s.errors import KubeExpired, KubeThrottled, KubeUnanswered
from clearml_k8s.kube.client import KubeClient
from clearml_k8s.kube.resources import JOBS
from clearml_k8s.kube.watch import SILENCE_SECONDS, Gone, Listed, Upsert, Watch
from flow_parts import kube_client
from manual_clock import ManualClock
from scripted_kube import Cluster


@pytest.fixture
async def proxy(cluster: Cluster) -> AsyncIterator[Proxy]:
    async with Proxy(cluster.url) as proxy:
        yield proxy


@pytest.fixture
async def client(proxy: Proxy, clock: ManualClock) -> AsyncIterator[KubeClient]:
    async with kube_client(proxy.url, clock) as client:
        yield client


class First:
    """Decides so for the first request of that kind."""

    def __init__(self, fate: Fate, *, watch: bool) -> None:
        self._fate, self._watch = fate, watch
        self.met = False

    async def __call__(self, request: Request) -> Fate:
        if self.met or request.watch is not self._watch:
            return Fate.PASS
        self.met = True
        return self._fate


async def until(what: Callable[[], bool]) -> None:
    """Wait (really, at most 5 s) until it is so."""
    async with asyncio.timeout(5):
        while not what():
            await asyncio.sleep(0.001)


def job(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name}}


@pytest.mark.parametrize(
    ("fate", "error", "done"),
    [
        (Fate.DROP_BEFORE, KubeUnanswered, False),
        (Fate.DROP_AFTER, KubeUnanswered, True),
        (Fate.ERROR_BEFORE, KubeUnanswered, False),
        (Fate.ERROR_AFTER, KubeUnanswered, True),
        (Fate.THROTTLE, KubeThrottled, False),
        (Fate.EXPIRED, KubeExpired, False),
        (Fate.LATE, KubeUnanswered, True),
    ],
)
async def test_a_write(
    proxy: Proxy, client: KubeClient, cluster: Cluster, fate: Fate, error: type[Exception], done: bool
) -> None:
    def there() -> bool:
        return "a" in cluster.objects.get("jobs", {})

    due = asyncio.Event()
    proxy.late = due.wait
    proxy.decide = First(fate, watch=False)
    with pytest.raises(error):
        await client.create(JOBS, job("a"), namespace="ns")
    assert there() is (done and fate is not Fate.LATE)
    due.set()
    await until(lambda: there() is done)
    await client.create(JOBS, job("b"), namespace="ns")


@pytest.mark.parametrize("fate", sorted({*WATCHES, Fate.SILENT}, key=lambda fate: fate.name))
async def test_a_watch_misses_nothing(
    proxy: Proxy, client: KubeClient, cluster: Cluster, clock: ManualClock, fate: Fate
) -> None:
    """Whatever its first stream meets: in the end it knows what there is."""
    proxy.decide = decide = First(fate, watch=True)
    watch: Watch[str] = Watch(
        client=client, resource=JOBS, slim=lambda thing: thing["metadata"]["name"], namespace="ns"
    )
    known: set[str] = set()

    async def read() -> None:
        async for event in watch.events():
            match event:
                case Listed(items=items):
                    known.clear()
                    known.update(items)
                case Upsert(item=name):
                    known.add(name)
                case Gone(item=name):
                    known.discard(name)

    reading = asyncio.create_task(read())
    names = [f"job-{number:02}" for number in range(3 * CUT_AFTER)]
    await until(lambda: decide.met)
    for name in names:
        cluster.put("jobs", name)
    cluster.drop("jobs", names[0])
    if fate is Fate.SILENT:
        await until(lambda: proxy.silent == 1)
        assert cluster.watched() == []  # so nothing can come
        while proxy.silent:
            # The client may not have begun to wait yet.
            await clock.advance(SILENCE_SECONDS + 1)
            await asyncio.sleep(0.01)
    await until(lambda: known == set(names[1:]))
    reading.cancel()
    await asyncio.wait([reading])
    assert not proxy.expired.total()


async def test_the_other_sides_own_410_is_counted(proxy: Proxy, client: KubeClient, cluster: Cluster) -> None:
    watch: Watch[str] = Watch(
        client=client, resource=JOBS, slim=lambda thing: thing["metadata"]["name"], namespace="ns"
    )
    events = watch.events()
    await anext(events)
    cluster.compact()
    assert isinstance(await anext(events), Listed)
    assert +proxy.expired == {"watch jobs": 1}
    await events.aclose()  # type: ignore[attr-defined]


def test_requests_have_names() -> None:
    def name(method: str, path: str) -> str:
        return Request(method=method, path=path, body=None, step=None, task=None).name

    batch, core = "/apis/batch/v1/namespaces/ns", "/api/v1/namespaces"
    assert name("GET", f"{batch}/jobs?watch=true&resourceVersion=1") == "watch jobs"
    assert name("DELETE", f"{batch}/jobs/clearml-id-1") == "DELETE jobs"
    assert name("GET", f"{core}/ns/pods/p/log?container=c") == "GET pods/log"
    assert name("GET", f"{core}/ns") == "GET namespaces"
    assert name("PATCH", "/apis/coordination.k8s.io/v1/namespaces/ns/leases/x") == "PATCH leases"
    assert name("POST", "/v2.30/tasks.get_all") == "tasks.get_all"


async def test_each_fate_has_its_turn_and_the_same_seed_the_same_course() -> None:
    async def course(seed: int) -> list[Fate]:
        faults = Faults(probability=0.3, watches=0.7, seed=seed, silent=("watch jobs",))
        paths = ("/apis/batch/v1/namespaces/ns/jobs?watch=1", "/api/v1/namespaces/ns/pods?limit=500", "/tasks.get_all")
        requests = [Request(method="GET", path=path, body=None, step=None, task=None) for path in paths * 40]
        return [await faults.decide(request) for request in requests]

    found = await course(1)
    assert found == await course(1) != await course(2)
    assert found[0] is Fate.SILENT
    assert set(found) == {*CALLS, *LISTS, *WATCHES, Fate.SILENT, Fate.PASS}

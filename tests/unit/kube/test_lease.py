"""The Lease: one holder at a time, who knows until when; nothing hangs on what a clock elsewhere says."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from random import Random
from typing import Any

import pytest
from clearml_k8s.errors import Fenced, NotSent
from clearml_k8s.kube.client import KubeClient
from clearml_k8s.kube.lease import LEASE_SECONDS, RENEW_SECONDS, RETRY_SECONDS, Lease
from kubernetes.aio.client.configuration import Configuration
from manual_clock import ManualClock
from scripted_kube import Cluster, Fault, status

STEP = 0.5
LATE = RETRY_SECONDS * 1.1 + STEP  # a try comes this much after it could, at most

FORBIDDEN = Fault(code=403, status=status(403, "Forbidden", 'cannot patch resource "leases"'))
AWAY = {
    "hangs": Fault(stall=True),
    "500": Fault(code=500),
    "429": Fault(code=429, status=status(429, "TooManyRequests")),
    "connection lost": Fault(drop=True),
    "answer lost": Fault(drop=True, after=True),
    "garbage": Fault(code=200, text="<html>"),
    "forbidden": FORBIDDEN,
}


class Process:
    """One process that wants the Lease; its time goes on by `passes` alone."""

    def __init__(self, cluster: Cluster, *, place: str, alone: bool, instance: str) -> None:
        self.clock = ManualClock()
        self.stop = asyncio.Event()
        self.client = KubeClient(
            configuration=Configuration(host=cluster.url), clock=self.clock, namespace="ns", random=Random(7)
        )
        self.lease = Lease(
            client=self.client,
            namespace="ns",
            name="gpu-leader",
            place=place,
            alone=alone,
            instance=instance,
            labels={"a": "b"},
        )
        self.running: asyncio.Task[Any] | None = None

    def begins(self) -> None:
        """Wait for the Lease and keep it."""

        async def life() -> None:
            if await self.lease.acquire(self.stop):
                await self.lease.keep(self.stop)

        self.running = asyncio.create_task(life())

    async def settles(self) -> None:
        """It sleeps, has ended, or waits for an answer that does not come."""
        assert self.running is not None
        for _ in range(25):
            if self.clock.sleepers or self.running.done():
                return
            await asyncio.sleep(0.002)

    async def passes(self, seconds: float) -> None:
        for _ in range(round(seconds / STEP)):
            await self.clock.advance(STEP)
            await self.settles()

    async def ends(self) -> None:
        if self.running is not None:
            self.running.cancel()
            await asyncio.wait({self.running})


Start = Callable[..., Awaitable[Process]]


@pytest.fixture
async def start(cluster: Cluster) -> AsyncIterator[Start]:
    async with contextlib.AsyncExitStack() as stack:

        async def begin(place: str = "one", *, alone: bool = True, instance: str = "1") -> Process:
            process = Process(cluster, place=place, alone=alone, instance=instance)
            await stack.enter_async_context(process.client)
            process.begins()
            stack.push_async_callback(process.ends)
            await process.settles()
            return process

        yield begin


def lease(cluster: Cluster) -> dict[str, Any]:
    found: dict[str, Any] = cluster.objects["leases"]["gpu-leader"]
    return found


def holder(cluster: Cluster) -> str | None:
    found: str | None = lease(cluster)["spec"].get("holderIdentity")
    return found


async def together(seconds: float, *processes: Process) -> None:
    """The same time passes for all; never do two lead."""
    for _ in range(round(seconds / STEP)):
        for process in processes:
            await process.passes(STEP)
        assert sum(process.lease.certain for process in processes) <= 1


async def crashes(process: Process) -> None:
    await process.ends()


# ---- acquire, renew, release ----------------------------------------------------------------------------------------


async def test_created_at_once_where_there_is_none(start: Start, cluster: Cluster) -> None:
    one = await start()
    assert one.lease.certain
    one.lease.guard()
    assert lease(cluster)["metadata"]["labels"] == {"a": "b"}
    spec = lease(cluster)["spec"]
    assert spec["holderIdentity"] == "one_1"
    assert spec["leaseDurationSeconds"] == LEASE_SECONDS
    assert spec["renewTime"] == spec["acquireTime"] == "2026-01-01T00:00:00.000000Z"


async def test_nothing_is_sent_before_it_is_held(cluster: Cluster) -> None:
    process = Process(cluster, place="one", alone=True, instance="1")
    with pytest.raises(NotSent, match="gpu-leader"):
        process.lease.guard()
    await process.client.close()


async def test_renewed_for_ever_and_the_standby_waits(
    start: Start, cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    one, two = await start("one"), await start("two")
    await together(60, one, two)
    assert one.lease.certain
    assert holder(cluster) == "one_1"
    assert lease(cluster)["spec"]["renewTime"] > "2026-01-01T00:00:55"
    assert (two.lease.held, two.lease.leader) == (False, "one_1")
    # Once, not with every try.
    assert [r.getMessage() for r in caplog.records if "standby" in r.getMessage()] == [
        "standby: one_1 holds the Lease gpu-leader; this process takes over when it ends"
    ]


@pytest.mark.parametrize("renewed", ["2000-01-01T00:00:00.000000Z", "2099-01-01T00:00:00.000000Z", None])
async def test_taken_over_when_it_stood_unchanged_whatever_its_holder_s_clock_said(
    start: Start, cluster: Cluster, renewed: str | None
) -> None:
    spec = {"holderIdentity": "other_9", "renewTime": renewed, "leaseDurationSeconds": 15, "leaseTransitions": 4}
    cluster.put("leases", "gpu-leader", spec=spec)
    one = await start()
    await one.passes(LEASE_SECONDS - STEP)
    assert holder(cluster) == "other_9"
    await one.passes(LATE + STEP)
    assert holder(cluster) == "one_1"
    assert lease(cluster)["spec"]["leaseTransitions"] == 5


async def test_a_stalled_holder_sends_nothing_before_another_leads(start: Start, cluster: Cluster) -> None:
    one, two = await start("one"), await start("two")
    await together(20, one, two)
    await crashes(one)  # its loop stands still, its clock goes on
    left = 0.0
    while one.lease.certain:
        await together_stalled(one, two)
        left += STEP
    assert left <= RENEW_SECONDS
    with pytest.raises(NotSent):
        one.lease.guard()
    assert holder(cluster) == "one_1"
    while not two.lease.certain:
        await together_stalled(one, two)
        left += STEP
    assert left >= LEASE_SECONDS - LATE
    # It wakes up: its renewal carries the old version, so it does nothing but tell whose the Lease is.
    one.running = asyncio.create_task(one.lease.keep(one.stop))
    await one.passes(LATE)
    with pytest.raises(Fenced, match="held by two_1"):
        await one.running
    assert holder(cluster) == "two_1"


async def together_stalled(stalled: Process, other: Process) -> None:
    await stalled.clock.advance(STEP)
    await other.passes(STEP)
    assert not (stalled.lease.certain and other.lease.certain)


async def test_released_it_is_taken_at_the_next_try(start: Start, cluster: Cluster) -> None:
    one, two = await start("one"), await start("two")
    await together(20, one, two)
    await crashes(one)
    await one.lease.release()
    assert holder(cluster) is None
    assert not one.lease.certain
    await two.passes(LATE)
    assert two.lease.certain
    assert holder(cluster) == "two_1"


async def test_it_is_released_beside_a_renewal_whose_answer_was_cut_off(start: Start, cluster: Cluster) -> None:
    one = await start()
    cluster.fault("PATCH", Fault(stall=True, after=True), path="leases")
    renewals = len(cluster.of("PATCH", "leases"))
    while len(cluster.of("PATCH", "leases")) == renewals:
        await one.clock.advance(STEP)
        await asyncio.sleep(0.001)
    await crashes(one)
    await one.lease.release()
    assert holder(cluster) is None


async def test_another_holders_lease_is_not_released(start: Start, cluster: Cluster) -> None:
    one = await start()
    await crashes(one)
    cluster.put("leases", "gpu-leader", spec={**lease(cluster)["spec"], "holderIdentity": "two_1"})
    await one.lease.release()
    assert holder(cluster) == "two_1"


async def test_nothing_is_sent_while_it_is_being_released(start: Start, cluster: Cluster) -> None:
    one = await start()
    await crashes(one)
    cluster.fault("PATCH", Fault(stall=True), path="leases")
    releasing = asyncio.create_task(one.lease.release())
    while not cluster.of("PATCH", "leases"):
        await asyncio.sleep(0.001)
    assert not one.lease.certain
    await one.clock.advance(20)
    await releasing


async def test_a_standby_that_is_told_to_stop_leaves_it(start: Start, cluster: Cluster) -> None:
    await start("one")
    two = await start("two")
    two.stop.set()
    assert two.running is not None
    await two.running
    await two.lease.release()
    assert holder(cluster) == "one_1"
    assert cluster.of("PATCH", "leases") == []


async def test_of_two_that_start_together_one_leads(cluster: Cluster, start: Start) -> None:
    processes = await asyncio.gather(*(start(name) for name in ("one", "two", "three")))
    assert sum(process.lease.certain for process in processes) == 1
    await together(30, *processes)
    assert sum(process.lease.certain for process in processes) == 1


# ---- the pod's own earlier life -------------------------------------------------------------------------------------


async def test_a_container_that_restarts_takes_its_pod_s_lease_at_once(start: Start, cluster: Cluster) -> None:
    await crashes(await start("pod", instance="1"))
    again = await start("pod", instance="2")
    assert again.lease.certain
    assert holder(cluster) == "pod_2"


@pytest.mark.parametrize(("place", "alone"), [("po", True), ("pod-1", True), ("pod", False)])
async def test_another_pod_s_lease_is_waited_for(start: Start, cluster: Cluster, place: str, alone: bool) -> None:
    await crashes(await start("pod", instance="1"))
    other = await start(place, alone=alone, instance="2")
    await other.passes(LEASE_SECONDS - STEP)
    assert holder(cluster) == "pod_1"
    await other.passes(LATE + STEP)
    assert other.lease.certain


# ---- loss -----------------------------------------------------------------------------------------------------------


async def test_taken_by_another_it_is_lost_at_once_and_for_good(start: Start, cluster: Cluster) -> None:
    one = await start()
    cluster.put("leases", "gpu-leader", spec={"holderIdentity": "two_1"})
    await one.passes(LATE)
    assert one.running is not None
    with pytest.raises(Fenced, match="held by two_1, no longer by one_1"):
        await one.running
    with pytest.raises(NotSent):
        one.lease.guard()
    await one.lease.release()
    assert holder(cluster) == "two_1"


async def test_deleted_it_is_lost(start: Start, cluster: Cluster) -> None:
    one = await start()
    cluster.drop("leases", "gpu-leader")
    await one.passes(LATE)
    assert one.running is not None
    with pytest.raises(Fenced, match="gpu-leader was deleted"):
        await one.running


async def test_deleted_under_its_holder_it_is_not_made_anew_before_that_one_knows(
    start: Start, cluster: Cluster
) -> None:
    one, two = await start("one"), await start("two")
    await together(20, one, two)
    await crashes(one)
    cluster.drop("leases", "gpu-leader")
    for _ in range(round(LEASE_SECONDS / STEP)):
        await together_stalled(one, two)
    assert not cluster.objects["leases"]
    await two.passes(LATE + STEP)
    assert holder(cluster) == "two_1"


async def test_deleted_while_the_standby_did_not_look_it_waits_from_now_on(start: Start, cluster: Cluster) -> None:
    one, two = await start("one"), await start("two")
    await together(20, one, two)
    await one.passes(LEASE_SECONDS - 1)  # renewed to the last, unseen by the standby
    await crashes(one)
    cluster.drop("leases", "gpu-leader")
    await two.clock.advance(LEASE_SECONDS - 1)
    await two.settles()
    for _ in range(round(LEASE_SECONDS / STEP)):
        await together_stalled(one, two)
    await two.passes(LATE)
    assert holder(cluster) == "two_1"


async def test_a_label_from_a_person_is_no_loss(start: Start, cluster: Cluster) -> None:
    one = await start()
    cluster._bump("leases", lease(cluster), "MODIFIED")
    await one.passes(30)
    assert one.lease.certain


# ---- an API that does not do what it should -------------------------------------------------------------------------


@pytest.fixture
def away(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Callable[[Fault | None], None]:
    """Every request ends so, until it is None again."""
    now: list[Fault | None] = [None]
    monkeypatch.setattr(cluster, "_fault", lambda _seen: now[0])

    def to(fault: Fault | None) -> None:
        now[0] = fault

    return to


@pytest.mark.parametrize("how", AWAY)
async def test_not_renewed_in_time_nothing_is_sent_until_it_is(
    start: Start,
    cluster: Cluster,
    away: Callable[[Fault | None], None],
    how: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    one = await start()
    await one.passes(20)
    away(AWAY[how])
    await one.passes(RENEW_SECONDS - LATE)
    assert one.lease.certain
    await one.passes(LATE)
    assert not one.lease.certain
    assert one.lease.held
    await one.passes(60)
    (told,) = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert "the Lease gpu-leader could not be renewed: nothing is sent until it is" in told
    if how == "forbidden":
        assert 'cannot patch resource "leases"' in told
        assert "docs/operations.md" in told
    away(None)
    cluster.release()
    await one.passes(10)
    # Nobody led meanwhile: its version, or at least its holder, says so.
    assert one.lease.certain


@pytest.mark.parametrize("how", AWAY)
async def test_an_acquisition_is_patient(
    start: Start,
    cluster: Cluster,
    away: Callable[[Fault | None], None],
    how: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    away(AWAY[how])
    one = await start()
    await one.passes(60)
    assert not one.lease.certain
    told = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert "the Lease gpu-leader cannot be taken, tried again" in told[0]
    if how == "forbidden":
        assert 'cannot patch resource "leases"' in told[0]
    away(None)
    cluster.release()
    await one.passes(10)
    assert one.lease.certain
    assert holder(cluster) == "one_1"


async def test_a_renewal_that_changed_nothing_does_not_count(
    start: Start, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await start()
    monkeypatch.setattr(cluster, "_patch", lambda _collection, thing, _seen: (200, thing))
    await one.passes(RENEW_SECONDS + STEP)
    assert not one.lease.certain


async def test_an_ex_leader_that_could_not_renew_ends_when_it_sees_the_next(
    start: Start, cluster: Cluster, away: Callable[[Fault | None], None]
) -> None:
    one = await start()
    away(AWAY["hangs"])
    await one.passes(30)
    away(None)
    cluster.put("leases", "gpu-leader", spec={"holderIdentity": "two_1"})
    cluster.release()
    await one.passes(8)
    assert one.running is not None
    with pytest.raises(Fenced, match="two_1"):
        await one.running


async def test_an_answer_that_was_lost_is_no_loss(start: Start, cluster: Cluster) -> None:
    one = await start()
    cluster.fault("PATCH", Fault(drop=True, after=True), path="leases")
    await one.passes(30)
    assert one.lease.certain


@pytest.mark.parametrize("code", [401, 403])
async def test_rights_that_go_while_it_ends_stop_no_orderly_end(
    start: Start, away: Callable[[Fault | None], None], code: int
) -> None:
    one = await start()
    one.stop.set()
    away(Fault(code=code, status=status(code, "Forbidden" if code == 403 else "Unauthorized")))
    await one.passes(45)
    assert one.lease.certain


async def test_silence_while_it_ends_is_silence(start: Start, away: Callable[[Fault | None], None]) -> None:
    one = await start()
    one.stop.set()
    away(AWAY["hangs"])
    await one.passes(RENEW_SECONDS + STEP)
    assert not one.lease.certain

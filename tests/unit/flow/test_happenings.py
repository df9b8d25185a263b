"""Kubernetes' events are read seldom, however many tasks wait."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from clearml_k8s.flow.happenings import AGAIN_SECONDS, LONGEST_SECONDS, READS_PER_SECOND, Happenings
from flow_parts import kube_client, make_job
from manual_clock import ManualClock
from scripted_kube import Cluster


@pytest.fixture
async def happenings(cluster: Cluster, clock: ManualClock) -> AsyncIterator[Happenings]:
    async with kube_client(cluster.url, clock) as client:
        yield Happenings(client=client, clock=clock, namespace="ns")


async def test_one_job_is_read_ever_more_seldom(happenings: Happenings, clock: ManualClock) -> None:
    job, waits = make_job(), []
    for _ in range(7):
        assert happenings.due(job) == 0.0
        await happenings.read(job, [])
        waits.append(happenings.due(job))
        await clock.advance(waits[-1])
    assert waits == [AGAIN_SECONDS, 40.0, 80.0, 160.0, LONGEST_SECONDS, LONGEST_SECONDS, LONGEST_SECONDS]


async def test_a_thousand_jobs_are_read_one_after_the_other(
    happenings: Happenings, clock: ManualClock, cluster: Cluster
) -> None:
    """As the work queue does it: each comes back when it was told to."""
    jobs = {f"job-{n}": make_job(uid=f"job-{n}") for n in range(1000)}
    began, looks, read = clock.monotonic(), 0, set()
    coming = dict.fromkeys(jobs, began)
    while len(read) < len(jobs):
        uid = min(coming, key=lambda each: coming[each])
        await clock.advance(max(0.0, coming[uid] - clock.monotonic()))
        looks += 1
        left = happenings.due(jobs[uid])
        if left == 0.0:
            await happenings.read(jobs[uid], [])
            read.add(uid)
            left = happenings.due(jobs[uid])
        coming[uid] = clock.monotonic() + left
    seconds = clock.monotonic() - began
    reads = len(cluster.of("GET", "/events"))
    assert reads <= READS_PER_SECOND * seconds + 1
    assert looks <= 3 * reads, "each comes in vain once before a read, those that were read once more"


async def test_what_is_over_is_forgotten(happenings: Happenings) -> None:
    job = make_job()
    await happenings.read(job, [])
    happenings.due(make_job(uid="another"))
    happenings.forget([])
    assert happenings.of(job) == ()
    assert happenings._read == {}
    assert happenings._turns == {}

"""Sequences of several hands that once broke what is promised, as a review found them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from clearml_k8s import names
from clearml_k8s.clearml import queues, tasks
from clearml_k8s.config import QueueConfig, QueueSettings
from clearml_k8s.config.file import parse_yaml
from clearml_k8s.errors import KubeConflict
from clearml_k8s.flow import poll
from clearml_k8s.kube.slim import slim_job
from clearml_k8s.kube.watch import Gone, Listed, Upsert
from clearml_server.process import DevServer, wait_for
from flow_parts import GRACE, Side, make_config
from reconcile_loop import Loop
from scripted_kube import Cluster, Fault, status

QUOTA = status(403, "Forbidden", 'jobs.batch "x" is forbidden: exceeded quota: few, requested: count/jobs.batch=1')


async def until(what: Any) -> None:
    async with asyncio.timeout(5):
        while not what():
            await asyncio.sleep(0.005)


async def test_a_create_that_answers_after_its_job_was_deleted_blocks_no_task(
    side: Side, cluster: Cluster, server: DevServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """POST jobs is carried out, its answer is slow; the watch shows the Job, the user aborts, the Job is deleted, the
    watch shows that; then the answer comes."""
    loop = Loop(side)
    task = server.create_task(queue="default")
    real = side.client.create

    async def slow(resource: Any, body: Any, **arguments: Any) -> Any:
        made = await real(resource, body, **arguments)
        if resource.plural == "jobs" and not arguments.get("dry_run"):
            side.jobs.apply(Upsert(item=slim_job(made)))
            await asyncio.to_thread(server.call, "tasks.stopped", task=task, force=True)
            await loop.looks(task)
            assert loop.jobs() == set()
            side.jobs.apply(Gone(item=slim_job(made)))
        return made

    with monkeypatch.context() as patch:
        patch.setattr(side.client, "create", slow)
        await side.poll()
    await side.book.flush()
    await loop.looks(task)
    assert side.jobs.of_task(task) == ()  # a ghost: in no cluster, in our store
    server.call("tasks.enqueue", task=task, queue_name="default")
    await side.rest()
    assert len(side.created(task)) == 2


async def test_an_end_frees_what_it_puts_back_before_it_puts_it_in_order(
    side: Side, cluster: Cluster, server: DevServer
) -> None:
    """Moving to the front is one call after the other; with a slow server the time for the end is over first."""
    ids = server.bulk_tasks(5, queue="default")
    cluster.fault("POST", *[Fault(code=403, status=QUOTA)] * 5, path="jobs")
    server.add_fault(kind="delay", endpoint="^queues.move_task_to_front$", seconds=30)
    polling = asyncio.create_task(side.poll())
    await asyncio.to_thread(wait_for, lambda: server.faults()[0]["hits"] == 1, timeout=5)
    assert sorted(server.entries(server.queue_id("default"))) == sorted(ids)
    assert {side.mark(task) for task in ids} == {None}
    assert side.stored() == {}
    polling.cancel()
    await asyncio.wait([polling])


async def test_a_list_older_than_a_create_passes_no_limit(new_side: Any, cluster: Cluster, server: DevServer) -> None:
    """The watch lists anew (410); a Job is created while the list is on its way; the stream does not open at once."""
    side = await new_side(cluster, config=make_config(api_server=server.url, max_pods=1))
    server.bulk_tasks(2, queue="default")
    listed = Listed(items=(), version=str(cluster.version))
    assert await side.poll() == 1
    side.jobs.apply(listed)
    await side.poll()
    assert len(cluster.objects["jobs"]) == 1


async def test_a_grace_that_ends_before_its_batch(side: Side, cluster: Cluster, server: DevServer) -> None:
    """One task of a batch is in doubt, the other waits for the API; the grace ends before the batch does."""
    ids = server.bulk_tasks(2, queue="default")
    cluster.fault("POST", Fault(drop=True), path="jobs")
    cluster.fault("POST", *[Fault(code=429, status=status(429, "TooManyRequests", "slow down"))] * 4, path="jobs")
    side.clock.auto = False
    polling = asyncio.create_task(side.poll())
    await until(lambda: len(side.graces) == 1 and side.clock.sleepers == 1)
    (doubtful,) = [held.task for held in side.graces]
    await side.recovery.step()
    await side.clock.advance(GRACE + 1)
    await until(lambda: side.clock.sleepers == 1)
    await side.recovery.step()
    assert doubtful in side.graces  # its batch still has it
    assert side.book.under_way(doubtful)
    async with asyncio.timeout(20):
        while not polling.done():
            await side.clock.advance(1.0)
            await asyncio.sleep(0.01)
    side.clock.auto = True
    # The quota is used up when it goes on: it is put back, as any other.
    cluster.fault("POST", *[Fault(code=403, status=QUOTA)] * 2, path="jobs")
    await side.rest()
    assert [len(side.created(task)) for task in ids] == [1, 1]


async def test_a_doubt_of_a_queue_that_is_not_served_any_more(
    new_side: Any, cluster: Cluster, server: DevServer
) -> None:
    """Killed between take and create; the upgrade has taken the queue out of the values."""
    side = await new_side(cluster)
    task = server.create_task(queue="default")
    server.call("queues.create", name="other")
    cluster.fault("POST", Fault(drop=True), path="jobs")
    await side.poll()
    again = await new_side(cluster, config=make_config(api_server=server.url, queue="other", max_pods=1))
    await again.rest()
    assert again.room().limits["pods"].left == 1
    assert server.entries(server.queue_id("default")) == [task]


async def test_an_end_with_another_releases_job_in_the_way(new_side: Any, cluster: Cluster, server: DevServer) -> None:
    """Two releases in one namespace: the other keeps the Job of the task's last attempt for a while; we are
    uninstalled meanwhile. Nothing is in doubt."""
    side = await new_side(cluster)
    task = server.create_task(queue="default")
    cluster.put("jobs", names.job_name(task), metadata={"labels": {names.LABEL_TASK_ID: task}, "annotations": {}})
    await side.poll()
    side.stop.set()
    await side.claims.release()
    await side.book.flush()
    assert server.entries(server.queue_id("default")) == [task]
    assert side.mark(task) is None


async def test_an_end_while_lost_tasks_are_being_marked(
    side: Side, server: DevServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recovery is cancelled at the end (process._until), not finished as the poller's claims are. One task's mark was
    answered, another's is under way: of the first nothing is remembered, so its mark stays for good."""
    ids = server.bulk_tasks(2, queue="default")
    for _ in ids:
        server.call("queues.get_next_task", queue=server.queue_id("default"))
    await side.clock.advance(365 * 86400)
    await side.recovery.sweep()
    await side.recovery.step()
    await side.clock.advance(GRACE + 1)
    server.add_fault(kind="delay", endpoint="^tasks.edit_hyper_params$", task=ids[1], count=1, seconds=1)
    answered: list[str] = []
    call = side.session.call

    async def noted(endpoint: str, *arguments: Any, **options: Any) -> Any:
        data = await call(endpoint, *arguments, **options)
        answered.append(endpoint)
        return data

    monkeypatch.setattr(side.session, "call", noted)
    stepping = asyncio.create_task(side.recovery.step())
    await until(lambda: "tasks.edit_hyper_params" in answered)
    stepping.cancel()
    await asyncio.wait([stepping])
    side.stop.set()
    await side.claims.release()
    assert side.mark(ids[0]) is None


@pytest.mark.parametrize("asked", ["1", "3600"])
async def test_an_end_does_not_wait_as_long_as_the_cluster_asks(
    side: Side, cluster: Cluster, server: DevServer, asked: str
) -> None:
    task = server.create_task(queue="default")
    fault = Fault(code=429, status=status(429, "TooManyRequests", "no"), headers={"Retry-After": asked})
    cluster.fault("POST", *[fault] * 50, path="jobs")
    side.clock.auto = False
    polling = asyncio.create_task(side.poll())
    await until(lambda: side.clock.sleepers == 1)
    side.stop.set()
    for _ in range(40):  # process.STOP_SECONDS
        await until(lambda: polling.done() or side.clock.sleepers > 0)
        await side.clock.advance(1.0)
    try:
        assert polling.done()
        assert server.entries(server.queue_id("default")) == [task]
    finally:
        polling.cancel()
        await asyncio.wait([polling])


@pytest.mark.parametrize("then", ["well", "hangs", "refused"])
async def test_what_is_only_marked_at_the_end_is_freed_at_once(
    side: Side, cluster: Cluster, server: DevServer, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    """Told to end while the record is written: before anything else, as time for it may be short later."""
    ids = server.bulk_tasks(50, queue="default")
    if then == "refused":
        cluster.fault("PATCH", *[Fault(code=403, status=status(403, "Forbidden", "no"))] * 50, path="configmaps")
    add = side.record.add

    async def told_to_end(claims: Any) -> None:
        try:
            await add(claims)
        finally:
            assert {bool(side.mark(task)) for task in ids} == {True}
            side.stop.set()
            if then == "hangs":
                cluster.fault("PATCH", *[Fault(stall=True)] * 50, path="configmaps")
                cluster.fault("GET", *[Fault(stall=True)] * 200, path="configmaps")

    monkeypatch.setattr(side.record, "add", told_to_end)
    await side.poll()
    assert {side.mark(task) for task in ids} == {None}
    assert sorted(server.entries(server.queue_id("default"))) == sorted(ids)
    assert await side.poll() == 0
    assert {side.mark(task) for task in ids} == {None}, "nothing is marked after the order to end"
    cluster.release()


@pytest.mark.parametrize("hangs", [False, True])
async def test_marks_go_at_the_end_while_kubernetes_hangs(
    side: Side, cluster: Cluster, server: DevServer, hangs: bool
) -> None:
    """Of tasks that are only marked, as those that wait for another controller to give way."""
    ids, queue = server.bulk_tasks(50, queue="default"), server.queue_id("default")
    for task in ids:
        attempt = server.task(task)["status_changed"]
        mark = names.mark_value(attempt=attempt, instance="this")
        await tasks.set_properties(side.session, task, {names.mark_key(side.controller): mark})
        side.book.marked(task, attempt=attempt, queue=queue)
    if hangs:
        cluster.fault("PATCH", *[Fault(stall=True)] * 50, path="configmaps")
        cluster.fault("GET", *[Fault(stall=True)] * 200, path="configmaps")
    side.stop.set()
    await side.claims.release()
    cluster.release()
    assert [task for task in ids if side.mark(task)] == []


@pytest.mark.parametrize("hangs", [False, True])
async def test_an_end_does_not_wait_for_the_show(side: Side, cluster: Cluster, server: DevServer, hangs: bool) -> None:
    """All taken; then ClearML hangs, and the end comes. Kubernetes is well: the Jobs could be made."""
    ids = server.bulk_tasks(40, queue="default")
    if hangs:
        server.add_fault(kind="delay", endpoint="^queues.add_task$", count=40, seconds=6)
    side.clock.auto = False
    polling = asyncio.create_task(side.poll())
    await until(lambda: server.entries(server.queue_id("default")) == [])
    if hangs:
        await asyncio.to_thread(wait_for, lambda: server.faults()[0]["hits"] > 0, timeout=5)
    side.stop.set()
    for _ in range(40):  # process.STOP_SECONDS
        await side.clock.advance(1.0)
        await asyncio.sleep(0.03)
    done = polling.done()
    polling.cancel()
    await asyncio.wait([polling])
    assert sum(len(side.created(task)) for task in ids) == 40
    assert done


def limited(server: DevServer, **keys: int | None) -> Any:
    return {key: QueueConfig(name=key, settings=QueueSettings(max_pods=limit)) for key, limit in keys.items()}


async def test_a_queue_named_twice_keeps_its_limit(new_side: Any, cluster: Cluster, server: DevServer) -> None:
    """Once by name, with a limit, once by id: neither refused nor limited."""
    served = limited(server, **{"default": 1, server.queue_id("default"): None})
    side = await new_side(cluster, config=make_config(api_server=server.url, queues=served))
    server.bulk_tasks(3, queue="default")
    await side.poll()
    await side.poll()
    assert len(cluster.objects.get("jobs", {})) <= 1


@pytest.mark.parametrize("text", ["a: 2024-02-30", "a: ="])
def test_text_that_helm_writes_plain_is_read_or_named(text: str) -> None:
    """Go's YAML quotes neither: no date, no number to it. PyYAML raises ValueError for the first."""
    parse_yaml(text, source="config.yaml")


async def test_absence_is_proven_after_the_read_that_decides(
    side: Side, server: DevServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address names another server, then ours, then the other (old and new endpoints of a Service)."""
    loop = Loop(side)
    task = await loop.launched()
    real_tasks, real_queues = tasks.get_many, queues.get_queues
    witnesses = 0

    async def other_tasks(session: Any, ids: Any, *, fields: Any = tasks.FIELDS, **rest: Any) -> Any:
        ours = fields is not tasks.STATE_FIELDS and witnesses < 2
        return await real_tasks(session, ids, fields=fields, **rest) if ours else {}

    async def other_queues(*arguments: Any, **rest: Any) -> Any:
        nonlocal witnesses
        witnesses += 1
        return await real_queues(*arguments, **rest) if witnesses < 2 else []

    monkeypatch.setattr(tasks, "get_many", other_tasks)
    monkeypatch.setattr(queues, "get_queues", other_queues)
    for _ in range(4):
        await loop.look(task)
        await side.clock.advance(5)
    assert witnesses >= 2
    assert loop.jobs() != set()


async def test_a_queue_whose_jobs_conflict_for_ever_blocks_no_other(
    new_side: Any, cluster: Cluster, server: DevServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An admission webhook may answer any code; 409 and 429 are waited out without end, nor is the queue paused, so
    the queue's tasks take all places in flight (5 here for 200)."""
    server.call("queues.create", name="bad")
    server.call("queues.create", name="good")
    served = limited(server, bad=None, good=None)
    side = await new_side(cluster, config=make_config(api_server=server.url, queues=served))
    real = side.client.create

    async def create(resource: Any, body: Any, **arguments: Any) -> Any:
        if body["metadata"].get("labels", {}).get(names.LABEL_QUEUE_NAME) == "bad" and not arguments.get("dry_run"):
            raise KubeConflict("POST jobs", 409, "Conflict", "admission webhook denied the request")
        return await real(resource, body, **arguments)

    monkeypatch.setattr(side.client, "create", create)
    monkeypatch.setattr(poll, "MAX_IN_FLIGHT", 5)
    poller = poll.Poller(
        config=side.config, session=side.session, served=side.served, claims=side.claims, book=side.book,
        counting=side.counting, needs=side.needs, teller=side.teller, may_take=lambda: True,
    )  # fmt: skip
    bad = server.bulk_tasks(10, queue="bad")
    side.clock.auto = False
    try:
        await poller._poll()
        await until(lambda: side.clock.sleepers >= 5)
        good = server.create_task(queue="good")
        for _ in range(120):  # two minutes
            await side.clock.advance(1.0)
            await asyncio.sleep(0.01)
            await poller._poll()
        assert len(side.created(good)) == 1
        assert bad
    finally:
        for running in poller._running:
            running.cancel()
        await asyncio.gather(*poller._running, return_exceptions=True)

"""A mark that means nothing any more is in the way of other controllers: it is let go of, but never beside a Job."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from clearml_k8s import names
from clearml_server.process import DevServer
from flow_parts import GRACE, Side, make_config
from scripted_kube import Cluster, Fault, status

MARK, TAKE, UNMARK = "tasks.edit_hyper_params", "queues.remove_task", "tasks.delete_hyper_params"
AWAY = status(503, "ServiceUnavailable", "etcd is away")


async def grace(side: Side) -> None:
    await side.recovery.step()
    await side.clock.advance(GRACE + 1)
    await side.recovery.step()
    await side.book.flush()


def fill(side: Side) -> None:
    """From now on it has no room."""
    side.counting._config = dataclasses.replace(side.config, max_pods=0)


def queued(server: DevServer, task: str) -> bool:
    return task in server.entries(server.queue_id("default"))


async def in_doubt(side: Side, server: DevServer) -> str:
    """A task whose mark was set by a call without an answer."""
    task = server.create_task(queue="default")
    server.add_fault(kind="error_after_commit", endpoint=f"^{MARK}$", count=1)
    assert await side.poll() == 0
    assert side.mark(task) is not None
    return task


async def test_without_room_another_controller_takes_the_task(
    side: Side, new_side: Any, new_cluster: Any, server: DevServer
) -> None:
    task = await in_doubt(side, server)
    fill(side)
    await side.recovery.step()
    await side.clock.advance(GRACE / 2)
    await side.recovery.step()
    assert side.mark(task) is not None, "what was sent may still land"
    await grace(side)
    assert side.mark(task) is None
    assert queued(server, task)
    other = await new_side(await new_cluster(), worker_id="worker-b")
    assert await other.poll() == 1


async def test_with_room_the_mark_stays_and_the_task_is_taken(side: Side, server: DevServer) -> None:
    task = await in_doubt(side, server)
    await grace(side)
    assert side.mark(task) is not None
    assert await side.poll() == 1
    assert len(side.created(task)) == 1


async def test_the_mark_of_a_former_life_is_found_without_room(
    new_side: Any, cluster: Cluster, server: DevServer
) -> None:
    task = await in_doubt(await new_side(cluster), server)
    config = make_config(api_server=server.url, max_pods=0)
    side = await new_side(cluster, config=config)
    await side.clock.advance(365 * 86400)
    await side.recovery.sweep()
    await grace(side)
    assert side.mark(task) is None
    assert queued(server, task)


async def test_a_mark_beside_a_job_that_came_unseen_stays(side: Side, cluster: Cluster, server: DevServer) -> None:
    """A create without an answer made the Job, and a slow enqueue put a second entry in."""
    task = server.create_task(queue="default")
    cluster.fault("POST", Fault(drop=True, after=True), path="jobs")
    assert await side.poll() == 0
    assert len(side.created(task)) == 1
    server.call("queues.add_task", queue=server.queue_id("default"), task=task)
    fill(side)
    await grace(side)
    assert side.stored() == {}, "with its entry there, its record means nothing"
    await side.clock.advance(365 * 86400)
    await side.recovery.sweep()
    assert task in side.graces
    await grace(side)
    assert side.mark(task) is not None
    side.stop.set()
    await side.claims.release()
    assert side.mark(task) is not None, "nor at the end"


async def test_a_mark_stays_while_its_job_cannot_be_looked_for(side: Side, cluster: Cluster, server: DevServer) -> None:
    task = await in_doubt(side, server)
    fill(side)
    cluster.fault("GET", *[Fault(code=503, status=AWAY)] * 20, path="jobs")
    await grace(side)
    assert side.mark(task) is not None
    assert task in side.graces
    cluster.faults.clear()
    await grace(side)
    await grace(side)
    assert side.mark(task) is None


@pytest.mark.parametrize("doubt", [MARK, TAKE], ids=["marked", "recorded"])
async def test_a_queue_that_is_not_served_any_more(side: Side, server: DevServer, doubt: str) -> None:
    """Renamed, for one: nothing finds its tasks but what we remember and the record."""
    task = server.create_task(queue="default")
    queue = server.queue_id("default")
    server.add_fault(kind="error_after_commit" if doubt == MARK else "error_before", endpoint=f"^{doubt}$", count=1)
    assert await side.poll() == 0
    assert side.mark(task) is not None
    server.call("queues.update", queue=queue, name="renamed")
    await side.served.refresh()
    await grace(side)
    assert side.mark(task) is None
    assert side.stored() == {}
    assert task in server.entries(queue)


async def test_the_record_finds_a_mark_that_could_not_be_taken_away(
    new_side: Any, cluster: Cluster, server: DevServer
) -> None:
    """The queue is not served, so the record goes last: the next life knows of the mark by it alone."""
    first = await new_side(cluster)
    task = server.create_task(queue="default")
    server.add_fault(kind="error_before", endpoint=f"^{TAKE}$", count=1)
    assert await first.poll() == 0
    queue = server.queue_id("default")
    server.create_queue("other")
    config = make_config(api_server=server.url, queue="other")
    second = await new_side(cluster, config=config)
    server.add_fault(kind="error_before", endpoint=f"^{UNMARK}$", count=1)
    await grace(second)
    assert second.mark(task) is not None
    assert task in second.stored()
    third = await new_side(cluster, config=config)
    await grace(third)
    assert third.mark(task) is None
    assert third.stored() == {}
    assert task in server.entries(queue)


async def test_a_task_in_no_queue_is_told_of_where_its_queue_is_not_served_any_more(
    side: Side, server: DevServer, caplog: pytest.LogCaptureFixture
) -> None:
    task = server.create_task(queue="default")
    queue = server.queue_id("default")
    server.call("queues.get_next_task", queue=queue)
    await side.clock.advance(365 * 86400)
    await side.recovery.sweep()
    assert task in side.graces
    server.call("queues.update", queue=queue, name="renamed")
    await side.served.refresh()
    await grace(side)
    assert "task left as it is: its queue is not served" in caplog.text
    assert side.mark(task) is None


async def test_what_stands_in_its_queue_is_shown_no_more(side: Side, server: DevServer) -> None:
    """Put back into a queue that is not served any more, and shown by a call that came late."""
    task = server.create_task(queue="default")
    assert await side.poll() == 1
    pending, elsewhere = server.queue_id(names.PENDING_QUEUE), server.create_queue("elsewhere")
    assert server.entries(pending) == [task]
    server.call("queues.add_task", queue=elsewhere, task=task)
    await side.recovery.sweep()
    assert server.entries(pending) == []
    assert server.entries(elsewhere) == [task]

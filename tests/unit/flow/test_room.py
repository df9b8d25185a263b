"""The limit holds beside doubts: what the model of two tasks (tests/model/room_model.py) found."""

from __future__ import annotations

from typing import Any

import pytest
from clearml_k8s.flow.capacity import Room
from clearml_server.process import DevServer
from flow_parts import GRACE, Side, make_config, mark_as
from reconcile_loop import start
from scripted_kube import Cluster, Fault, status


async def one_place(new_side: Any, cluster: Cluster, server: DevServer) -> Side:
    side: Side = await new_side(cluster, config=make_config(api_server=server.url, max_pods=1))
    return side


async def one_job_unseen(new_side: Any, cluster: Cluster, server: DevServer) -> tuple[Side, str, str]:
    """Of two tasks one runs: the answer to its Job's create was lost, and the watch has not shown the Job."""
    side = await one_place(new_side, cluster, server)
    first, second = server.bulk_tasks(2, queue="default")
    cluster.fault("POST", Fault(drop=True, after=True), path="jobs")
    assert await side.poll() == 0
    start(server, first, worker=f"worker-a:{first}")
    return side, first, second


async def test_a_job_that_nobody_saw_takes_its_place_though_its_task_runs(
    new_side: Any, cluster: Cluster, server: DevServer
) -> None:
    """The connection to Kubernetes breaks: the answer to a create is lost, and the watch shows nothing for long."""
    side, first, second = await one_job_unseen(new_side, cluster, server)
    await side.rest()
    assert [len(side.created(task)) for task in (first, second)] == [1, 0]
    assert side.stored() == {}


async def test_a_record_is_kept_while_its_job_cannot_be_read(
    new_side: Any, cluster: Cluster, server: DevServer
) -> None:
    side, first, second = await one_job_unseen(new_side, cluster, server)
    await side.recovery.step()
    await side.clock.advance(GRACE + 1)
    cluster.fault("GET", Fault(code=403, status=status(403, "Forbidden", "no role")), path="jobs")
    await side.recovery.step()
    await side.book.flush()
    assert list(side.stored()) == [first]
    assert await side.poll() == 0
    await side.rest()
    assert side.stored() == {}
    assert [len(side.created(task)) for task in (first, second)] == [1, 0]


async def test_a_task_that_is_perhaps_recorded_takes_a_place(
    new_side: Any, cluster: Cluster, server: DevServer
) -> None:
    """It was found in no queue: its Job comes after the grace, without a look at the room."""
    side = await one_place(new_side, cluster, server)
    first, second = server.bulk_tasks(2, queue="default")
    server.call("queues.get_next_task", queue=server.queue_id("default"))
    await side.clock.advance(365 * 86400)
    await side.recovery.sweep()
    await side.recovery.step()
    await side.clock.advance(GRACE + 1)
    cluster.fault("PATCH", Fault(drop=True, after=True), path="configmaps")
    await side.recovery.step()
    assert list(side.stored()) == [first]
    assert await side.poll() == 0
    await side.clock.advance(GRACE + 1)
    await side.recovery.step()
    assert side.mark(first) is not None, "the place that is its own is not in its way"
    await side.rest()
    assert [len(side.created(task)) for task in (first, second)] == [1, 0]


async def test_a_look_of_recovery_counts_the_places_no_more_often_for_more_tasks(
    new_side: Any, new_cluster: Any, server: DevServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counting reads all Jobs and pods; after an outage hundreds of graces end in one look."""

    async def counted(tasks: int) -> tuple[int, int]:
        """How often in a sweep, and in the look in which all graces end."""
        server.reset()
        side = await one_place(new_side, await new_cluster(), server)
        for task in server.bulk_tasks(tasks, queue="default"):
            mark_as(server, task, side.controller)
        server.bulk_tasks(tasks, queue="default")
        for _ in range(tasks):
            server.call("queues.get_next_task", queue=server.queue_id("default"))
        await side.clock.advance(365 * 86400)
        count, room = 0, side.recovery._room

        def counting() -> Room:
            nonlocal count
            count += 1
            return room()

        monkeypatch.setattr(side.recovery, "_room", counting)
        await side.recovery.sweep()
        swept, count = count, 0
        await side.recovery.step()
        assert count == 0
        await side.clock.advance(GRACE + 1)
        await side.recovery.step()
        return swept, count

    assert await counted(1) == await counted(5) == (1, 2)

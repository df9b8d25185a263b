"""Limits from the queue to the Job: what does not fit is not touched, and goes on by itself."""

from __future__ import annotations

import asyncio
import logging
from decimal import Decimal
from typing import Any

import pytest
from clearml_k8s.config import MonitoredResources, QueueConfig, QueueSettings
from clearml_k8s.flow.capacity import MONITORED, PENDING, UNDECIDED
from clearml_k8s.flow.counting import UNDECIDED_SECONDS
from clearml_k8s.flow.poll import UNKNOWN_SECONDS, Poller
from clearml_k8s.kube.quota import QuotaRecord
from clearml_k8s.kube.slim import Condition
from clearml_k8s.kube.watch import Listed, Upsert
from clearml_server.process import DevServer
from flow_parts import Side, make_config
from reconcile_loop import Loop
from scripted_kube import Cluster

QUEUES = ("default", "other")


def configured(server: DevServer, *, template: dict[str, Any] | None = None, **settings: Any) -> dict[str, Any]:
    """Two queues, the first one with a template and settings."""
    server.call("queues.create", name="other")
    first = QueueConfig(name="default", template_overrides=template or {}, settings=QueueSettings(**settings))
    return {"api_server": server.url, "queues": {"default": first, "other": QueueConfig(name="other")}}


def entries(server: DevServer, queue: str = "default") -> list[str]:
    return list(server.entries(server.queue_id(queue)))


def poller(side: Side) -> Poller:
    return Poller(
        config=side.config,
        session=side.session,
        served=side.served,
        claims=side.claims,
        book=side.book,
        counting=side.counting,
        needs=side.needs,
        teller=side.teller,
        may_take=lambda: not side.unknown,
    )


async def test_what_does_not_fit_keeps_its_place(new_side: Any, cluster: Cluster, server: DevServer) -> None:
    gpus = {"resources": {"limits": {"nvidia.com/gpu": 2}}}
    side = await new_side(cluster, config=make_config(**configured(server, template=gpus, max_gpus=5)))
    ids = server.bulk_tasks(5, queue="default")
    before = server.last_call()
    assert await side.poll() == 2
    assert entries(server) == ids[2:]
    touched = {call["task"] for call in server.calls(since=before) if call["task"]}
    assert touched <= set(ids[:2])
    await side.book.flush()
    assert await side.poll() == 0
    job = side.jobs.of_task(ids[0])[0]
    assert job.uses.gpus == 2, "also of what the create answered, before any watch"
    del cluster.objects["jobs"][job.name]
    side.relist()
    assert await side.poll() == 1
    assert [len(side.created(task)) for task in ids] == [1, 1, 1, 0, 0]


async def test_claims_under_way_hold_what_they_will_use(new_side: Any, cluster: Cluster, server: DevServer) -> None:
    """Also those in doubt: their Jobs may be there."""
    monitored = MonitoredResources(max_resources=2)
    gpus = {"resources": {"limits": {"nvidia.com/gpu": "1"}}}
    config = make_config(**configured(server, template=gpus), monitored_resources=monitored)
    side = await new_side(cluster, config=config)
    first = server.create_task(queue="default")
    server.add_fault(kind="error_after_commit", endpoint="^queues.remove_task$", count=1)
    assert await side.poll() == 0
    assert first in side.book.in_flight()
    assert side.room().limits[MONITORED].used == 1
    ids = server.bulk_tasks(3, queue="default")
    assert await side.poll() <= 1
    await side.rest()
    assert sum(len(side.created(task)) for task in (first, *ids)) == 2


async def test_a_worker_id_template_costs_no_queue_its_tasks(
    new_side: Any, cluster: Cluster, server: DevServer
) -> None:
    """What a task costs is read from a Job of its queue's template, in which the parts of our worker id may stand."""
    config = make_config(**configured(server), task_worker_id="{worker_id_parts[1]}:{task_id}")
    side = await new_side(cluster, config=config, worker_id="k8s:gpu:me")
    server.create_task(queue="default")
    assert side.room().closed == {}
    assert await side.poll() == 1


async def test_pods_that_nobody_schedules_stop_their_own_queue_alone(
    new_side: Any, cluster: Cluster, server: DevServer
) -> None:
    """A scheduler that there is none of: no pod of it ever gets a word about its node."""
    side = await new_side(cluster, config=make_config(**configured(server), max_pending_pods=3))
    server.bulk_tasks(5, queue="default")
    assert await side.poll() == 3
    await side.book.flush()
    server.bulk_tasks(2, queue="other")
    assert await side.poll() == 0
    await side.clock.advance(UNDECIDED_SECONDS + 1)
    assert await side.poll() == 2
    assert len(entries(server)) == 2
    assert entries(server, "other") == []


async def test_a_webhook_that_fails_stops_its_own_queue_alone(
    new_side: Any, cluster: Cluster, server: DevServer
) -> None:
    side = await new_side(cluster, config=make_config(**configured(server), max_pending_pods=1))
    loop = Loop(side)
    side.events = loop.reconciler.events
    task = server.create_task(queue="default")
    assert await side.poll() == 1
    await side.book.flush()
    server.create_task(queue="other")
    assert await side.poll() == 0
    refuses(cluster, side.jobs.of_task(task)[0], 'Internal error occurred: failed calling webhook "x"')
    await loop.look(task)
    await side.clock.advance(30)
    await loop.look(task)
    assert await side.poll() == 1


# ---- a quota --------------------------------------------------------------------------------------------------------


def refuses(cluster: Cluster, job: Any, text: str = "exceeded quota: team, requested: pods=1") -> None:
    cluster.put(
        "events", f"refused-{job.uid}", involvedObject={"uid": job.uid, "kind": "Job"}, reason="FailedCreate",
        message=f'Error creating: pods "{job.name}-abcde" is forbidden: {text}', type="Warning",
        lastTimestamp="2026-01-15T07:05:00Z",
    )  # fmt: skip


async def test_a_refused_pod_pauses_its_queue_until_it_is_there(
    new_side: Any, cluster: Cluster, server: DevServer, caplog: pytest.LogCaptureFixture
) -> None:
    side = await new_side(cluster, config=make_config(**configured(server)))
    loop = Loop(side)
    side.events = loop.reconciler.events
    caplog.set_level(logging.INFO)
    task = await loop.launched()
    refuses(cluster, loop.job(task))
    await loop.look(task)
    await side.clock.advance(5.1)
    await loop.look(task)
    polling = poller(side)
    waits, other = server.create_task(queue="default"), server.create_task(queue="other")
    await polling._poll()
    await polling.stop()
    assert entries(server) == [waits]
    assert len(side.created(other)) == 1, "the other queue goes on"
    standing = {one.queue: one for one in polling.usage().standings}
    assert standing["default"].why.startswith("quota: Kubernetes does not take the pod: exceeded quota: team")
    assert (standing["default"].left, standing["other"].why) == (0, "")
    assert (standing["default"].closed, standing["other"].closed) == (True, False)
    await polling._poll()
    assert [r.getMessage() for r in caplog.records].count("nothing is taken from queue") == 1
    # The Job controller tries again by itself, and the pod is there.
    loop.pod(task, node=None)
    await polling._poll()
    await polling.stop()
    assert [len(side.created(task)) for task in (waits,)] == [1]
    assert [r.getMessage() for r in caplog.records].count("queue goes on") == 1


async def test_a_queue_goes_on_when_the_refused_job_is_gone(new_side: Any, cluster: Cluster, server: DevServer) -> None:
    side = await new_side(cluster, config=make_config(**configured(server)))
    loop = Loop(side)
    side.events = loop.reconciler.events
    task = await loop.launched()
    job = loop.job(task)
    refuses(cluster, job)
    await loop.look(task)
    await side.clock.advance(5.1)
    await loop.look(task)
    waits = server.create_task(queue="default")
    assert await side.poll() == 0
    server.call("tasks.stopped", task=task, force=True)
    del cluster.objects["jobs"][job.name]
    side.relist()
    assert await side.poll() == 1
    assert len(side.created(waits)) == 1


async def test_what_a_quota_has_no_room_for_is_not_taken(new_side: Any, cluster: Cluster, server: DevServer) -> None:
    side = await new_side(cluster, config=make_config(**configured(server)))
    hard, used = {"pods": Decimal(3)}, {"pods": Decimal(1)}
    record = QuotaRecord(uid="u", name="team", resource_version="1", hard=hard, used=used)
    side.quotas.apply(Listed(items=(record,)))
    ids = server.bulk_tasks(5, queue="default")
    assert await side.poll() == 2
    assert await side.poll() == 0, "the pods of both are still to come"
    assert entries(server) == ids[2:]
    why = side.room().why(server.queue_id("default"))
    assert why == "limit of 3 pods in the namespace is reached (ResourceQuota team)"
    more = QuotaRecord(uid="u", name="team", resource_version="2", hard={"pods": Decimal(4)}, used=used)
    side.quotas.apply(Upsert(item=more))
    assert await side.poll() == 1


# ---- unknown --------------------------------------------------------------------------------------------------------


async def test_nothing_is_taken_while_the_cluster_is_not_known(side: Side, server: DevServer) -> None:
    server.create_task(queue="default")
    side.unknown = "the pods of the namespace are not listed yet"
    assert await side.poll() == 0
    (standing,) = poller(side).usage().standings
    assert (standing.left, standing.why) == (0, side.unknown)
    side.unknown = ""
    assert await side.poll() == 1


async def test_that_it_is_not_known_is_logged_once_when_it_lasts(side: Side, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    looking = poller(side)
    side.unknown = "nothing was heard of the Jobs"
    for _ in range(4):
        looking._tell_unknown()
        await side.clock.advance(UNKNOWN_SECONDS / 2)
    side.unknown = ""
    looking._tell_unknown()
    said = [(r.levelname, r.getMessage()) for r in caplog.records if r.name == "clearml_k8s.flow.poll"]
    assert said == [
        ("WARNING", "nothing is taken from any queue"),
        ("INFO", "what exists in the cluster is known again"),
    ]


# ---- the pace -------------------------------------------------------------------------------------------------------


def unschedulable() -> tuple[Condition, ...]:
    return (Condition(type="PodScheduled", status="False", reason="Unschedulable", message="Insufficient cpu"),)


async def test_a_flood_waits_in_the_queue_and_follows_the_cluster(
    new_side: Any, cluster: Cluster, server: DevServer
) -> None:
    side = await new_side(cluster, config=make_config(**configured(server), max_pending_pods=None))
    loop = Loop(side)
    ids = server.bulk_tasks(120, queue="default")
    other = server.create_task(queue="other")
    assert await side.poll() == 30
    assert await side.poll() == 0
    left = [task for task in ids if task in entries(server)]
    assert len(left) == 120 - 29
    assert left == ids[29:], "in their order"
    assert len(side.created(other)) == 1
    # The cluster has got to all of them within a moment.
    for task in (*ids[:29], other):
        loop.pod(task, uid=f"pod-{task}", node="node-1", phase="Running")
    await side.clock.advance(1.0)
    assert await side.poll() == 30
    for task in ids[29:59]:
        loop.pod(task, uid=f"pod-{task}", node="node-1", phase="Running")
    await side.clock.advance(1.0)
    side.room()
    assert side.room().limits[UNDECIDED].most == 60, "so many in the last ten seconds"
    assert await side.poll() == 50  # a batch


async def test_pods_without_a_node_hold_their_own_queue_alone(
    new_side: Any, cluster: Cluster, server: DevServer
) -> None:
    side = await new_side(cluster, config=make_config(**configured(server, max_pending_pods=3), max_pending_pods=None))
    loop = Loop(side)
    ids = server.bulk_tasks(9, queue="default")
    assert await side.poll() == 3
    for task in ids[:3]:
        loop.pod(task, uid=f"pod-{task}", node=None, conditions=unschedulable())
    more = server.bulk_tasks(40, queue="other")
    assert await side.poll() == 30
    assert entries(server) == ids[3:]
    assert side.created(more[29])
    usage = poller(side).usage()
    (own,) = [limit for limit in usage.limits if (limit.queue, limit.name) == ("default", PENDING)]
    assert (usage.places[server.queue_id("default")], own.used, own.most) == (3, 3, 3)
    standing = {one.queue: one for one in usage.standings}
    assert "pods that wait for a node is reached" in standing["default"].why


async def test_while_kubernetes_is_behind_it_is_looked_at_often(side: Side, server: DevServer) -> None:
    """Without a call to the ClearML server, as nothing could be taken."""
    side.counting._config = make_config(api_server=server.url, max_pending_pods=1)
    server.bulk_tasks(2, queue="default")
    polling = poller(side)
    assert await polling._poll() == 1
    await polling.stop()
    before = server.last_call()
    assert await polling._poll() == 0
    assert polling._behind
    assert server.calls(since=before) == []
    await asyncio.sleep(0)


# ---- order ----------------------------------------------------------------------------------------------------------


async def test_priority_and_weight_are_those_of_the_config(new_side: Any, cluster: Cluster, server: DevServer) -> None:
    names = ("low", "high", "heavy")
    settings = {"low": {}, "high": {"priority": 1}, "heavy": {"weight": 3}}
    for name in names:
        server.call("queues.create", name=name)
    queues = {name: QueueConfig(name=name, settings=QueueSettings(**settings[name])) for name in names}
    side = await new_side(cluster, config=make_config(api_server=server.url, queues=queues, max_pods=10))
    ids = {name: server.bulk_tasks(20, queue=name) for name in ("low", "heavy")} | {
        "high": server.bulk_tasks(2, queue="high")
    }
    assert await side.poll() == 10
    made = {name: sum(len(side.created(task)) for task in tasks) for name, tasks in ids.items()}
    assert made == {"high": 2, "heavy": 6, "low": 2}


async def test_what_is_kept_for_another_queue_is_told(new_side: Any, cluster: Cluster, server: DevServer) -> None:
    large = {"resources": {"limits": {"nvidia.com/gpu": 4}}}
    given = configured(server, template=large, priority=1)
    small = QueueConfig(name="other", template_overrides={"resources": {"limits": {"nvidia.com/gpu": 1}}})
    given["queues"]["other"] = small
    config = make_config(**given, monitored_resources=MonitoredResources(max_resources=6))
    side = await new_side(cluster, config=config)
    server.bulk_tasks(2, queue="default")
    server.create_task(queue="other")
    polling = poller(side)
    assert await polling._poll() == 1
    await polling.stop()
    assert await polling._poll() == 0
    why = {one.queue: one.why for one in polling.usage().standings}
    assert {one.queue: one.left for one in polling.usage().standings} == {"default": 0, "other": 0}
    assert why["other"] == "what is left is kept for queue default, whose task needs more"
    assert why["default"].startswith("a task needs 4, and 2 of 6 monitored resources are left")

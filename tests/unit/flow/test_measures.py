"""What the flow counts: launched, failed and put back by reason, and how long it took; how long the queues are."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest
from clearml_k8s.config import QueueConfig
from clearml_k8s.flow.diagnosis import Category
from clearml_k8s.flow.launch import Launch
from clearml_k8s.flow.lengths import FRESH_SECONDS, SEEN, QueueLengths
from clearml_k8s.flow.served import State
from clearml_k8s.flow.starts import SPARE, Starts
from clearml_k8s.kube.slim import Condition, JobRecord, PodRecord
from clearml_k8s.kube.store import Store
from clearml_k8s.kube.watch import Gone, Listed, Upsert
from clearml_server.process import DevServer
from flow_parts import Side, make_config, make_container, make_job, make_pod
from reconcile_loop import ENDED, Loop, start
from scripted_kube import Cluster, Fault, status

RUNNING = make_container(running=True, started_at="2026-01-15T06:22:20Z")


def value(side: Side, name: str, **labels: str) -> float | None:
    return side.metrics.registry.get_sample_value(f"clearml_k8s_{name}", {"queue": "default", **labels})


def launches(side: Side) -> dict[str, float]:
    found = {how.value: value(side, "launches_total", result=how.value) for how in Launch}
    assert None not in found.values(), "from 0"
    return {key: number for key, number in found.items() if number}


async def test_a_launch_and_how_long_it_took(side: Side, server: DevServer) -> None:
    assert launches(side) == {}
    server.create_task(queue="default")
    real = side.client.create

    async def slowly(*given: Any, **named: Any) -> Any:
        await side.clock.advance(3.0)
        return await real(*given, **named)

    side.client.create = slowly  # type: ignore[method-assign]
    assert await side.poll() == 1
    assert launches(side) == {"created": 1}
    assert value(side, "take_to_job_seconds_count") == 1
    assert value(side, "take_to_job_seconds_sum") == 3


@pytest.mark.parametrize(
    ("fault", "result"),
    [
        (Fault(code=403, status=status(403, "Forbidden", "exceeded quota: q")), "not-now"),
        (Fault(drop=True), "doubt"),
        (Fault(drop=True, after=True), "doubt"),
    ],
)
async def test_a_launch_that_fails_says_how(side: Side, server: DevServer, fault: Fault, result: str) -> None:
    side.cluster.fault("POST", fault, path="jobs")
    server.create_task(queue="default")
    await side.poll()
    assert launches(side) == {result: 1}
    assert value(side, "take_to_job_seconds_count") == 0
    await side.rest()
    side.relist()
    assert launches(side) == {result: 1, "created": 1}
    # Of what goes on after a doubt nobody knows when it began.
    assert value(side, "take_to_job_seconds_count") == (1 if result == "not-now" else 0)


async def test_a_task_that_cannot_be_launched(side: Side, server: DevServer) -> None:
    server.create_task(queue="default", container={"arguments": "-e 'A=B"})
    await side.poll()
    assert launches(side) == {"impossible": 1}
    assert value(side, "tasks_failed_total", reason="cannot-be-launched") == 1


async def test_a_failed_task_has_its_category(side: Side, server: DevServer) -> None:
    loop = Loop(side)
    task = await loop.launched()
    start(server, task, worker=f"worker-a:{task}")
    loop.pod(task, ENDED, phase="Failed")
    await loop.looks(task)
    assert server.task(task)["status"] == "failed"
    assert value(side, "tasks_failed_total", reason="oom-killed") == 1


async def test_a_failure_that_its_agent_did_not_know_the_reason_of(side: Side, server: DevServer) -> None:
    loop = Loop(side)
    task = await loop.launched()
    start(server, task, worker=f"worker-a:{task}")
    server.call("tasks.failed", task=task, status_reason="exit code -9")
    loop.pod(task, ENDED, phase="Failed")
    await loop.looks(task)
    assert server.task(task)["status_message"].startswith("Kubernetes: ")
    assert value(side, "tasks_failed_total", reason="oom-killed") == 1


async def test_put_back_is_not_failed(side: Side, server: DevServer) -> None:
    side.config = dataclasses.replace(side.config, max_requeues={"evicted": 1})
    loop = Loop(side)
    task = await loop.launched()
    assert value(side, "tasks_requeued_total", reason="evicted") == 0
    start(server, task, worker=f"worker-a:{task}")
    evicted = (Condition(type="DisruptionTarget", status="True", reason="EvictionByEvictionAPI"),)
    loop.pod(task, ENDED, phase="Failed", conditions=evicted)
    await loop.reads.refresh([task])
    await loop.looks(task)
    assert server.task(task)["status"] == "queued"
    assert value(side, "tasks_requeued_total", reason="evicted") == 1
    assert value(side, "tasks_failed_total", reason="evicted") == 0


async def test_a_queue_that_is_not_served(side: Side) -> None:
    side.measures.failed("id-of-another", Category.CRASHED)
    side.measures.failed(None, Category.CRASHED)
    assert value(side, "tasks_failed_total", queue="", reason="crashed") == 2


# ---- starts -----------------------------------------------------------------------------------------------------


class Watched:
    """Two stores that tell of each change, as the process has them."""

    def __init__(self, side: Side) -> None:
        self.side = side

        def changed(task: str) -> None:
            self.starts.changed(task)

        self.jobs: Store[JobRecord] = Store(dirty=changed)
        self.pods: Store[PodRecord] = Store(dirty=changed)
        self.starts = Starts(jobs=self.jobs, pods=self.pods, measures=side.measures)
        self.queue = side.served.all_found()[0].id

    def listed(self, *, jobs: tuple[JobRecord, ...] = (), pods: tuple[PodRecord, ...] = ()) -> None:
        self.jobs.apply(Listed(items=jobs))
        self.pods.apply(Listed(items=pods))

    def job(self, task: str, **fields: Any) -> JobRecord:
        return make_job(task, uid=f"job-{task}", queue=self.queue, **fields)

    def pod(self, task: str, *containers: Any, **fields: Any) -> PodRecord:
        return make_pod(task, *containers, **{"uid": f"pod-{task}", "job_uid": f"job-{task}", **fields})

    def counts(self) -> tuple[float | None, float | None, float | None, float | None]:
        """Number and sum of both waits."""
        both = ("job_to_running_seconds", "queued_to_running_seconds")
        return tuple(value(self.side, f"{name}_{what}") for name in both for what in ("count", "sum"))  # type: ignore[return-value]


@pytest.fixture
def watched(side: Side) -> Watched:
    return Watched(side)


def test_a_start_is_measured_once_by_the_servers_times(watched: Watched) -> None:
    watched.listed()
    watched.jobs.note(watched.job("a"))
    watched.pods.apply(Upsert(item=watched.pod("a")))
    assert watched.counts() == (0, 0, 0, 0)
    for version in ("2", "3"):
        watched.pods.apply(Upsert(item=watched.pod("a", RUNNING, resource_version=version)))
    # Enqueued at 06:22:11.065, its Job made at 06:22:12, its container run at 06:22:20.
    count, seconds, others, waited = watched.counts()
    assert (count, seconds, others) == (1, 8, 1)
    assert waited == pytest.approx(8.935)


def test_a_pod_that_is_over_when_it_is_seen_has_started(watched: Watched) -> None:
    watched.listed()
    over = make_container(terminated="Completed", started_at="2026-01-15T06:22:20Z", exit_code=0)
    watched.pods.apply(Upsert(item=watched.pod("a", over)))
    watched.jobs.note(watched.job("a"))
    assert watched.counts()[:2] == (1, 8)


def test_init_containers_do_not_count_nor_pods_of_others(watched: Watched) -> None:
    watched.listed()
    watched.jobs.note(watched.job("a"))
    init = make_container("prepare", init=True, running=True, started_at="2026-01-15T06:22:14Z")
    watched.pods.apply(Upsert(item=watched.pod("a", init)))
    watched.pods.apply(Upsert(item=watched.pod("a", RUNNING, uid="other", job_uid="older-job")))
    assert watched.counts() == (0, 0, 0, 0)


def test_clocks_that_differ_make_no_negative_wait(watched: Watched) -> None:
    watched.listed()
    watched.jobs.note(watched.job("a", created="2026-01-15T06:22:25Z", attempt="not a time"))
    watched.pods.apply(Upsert(item=watched.pod("a", RUNNING)))
    assert watched.counts() == (1, 0, 0, 0)


def test_what_ran_before_was_measured_by_another(watched: Watched) -> None:
    watched.listed(jobs=(watched.job("a"), watched.job("b")), pods=(watched.pod("a", RUNNING), watched.pod("b")))
    assert watched.counts() == (0, 0, 0, 0)
    for task in ("b", "a"):
        watched.pods.apply(Upsert(item=watched.pod(task, RUNNING, resource_version="2")))
    assert watched.counts()[0] == 1
    assert launches(watched.side) == {}


@pytest.mark.parametrize("first", ["jobs", "pods"])
def test_whatever_is_listed_first(watched: Watched, first: str) -> None:
    listed = {
        "jobs": lambda: watched.jobs.apply(Listed(items=(watched.job("a"),))),
        "pods": lambda: watched.pods.apply(Listed(items=(watched.pod("a", RUNNING),))),
    }
    for name in sorted(listed, key=lambda name: name != first):
        listed[name]()
    assert watched.counts() == (0, 0, 0, 0)
    watched.jobs.note(watched.job("b"))
    watched.pods.apply(Upsert(item=watched.pod("b", RUNNING)))
    assert watched.counts()[0] == 1
    assert launches(watched.side) == {"created": 1}


def test_nothing_piles_up(watched: Watched) -> None:
    watched.listed()
    for number in range(3 * SPARE):
        task = f"task-{number}"
        watched.jobs.note(watched.job(task))
        watched.pods.apply(Upsert(item=watched.pod(task, RUNNING)))
        watched.pods.apply(Gone(item=watched.pod(task, RUNNING)))
        watched.jobs.apply(Gone(item=watched.job(task)))
    assert watched.counts()[0] == 3 * SPARE
    assert len(watched.starts._seen) <= SPARE + 2


# ---- lengths ------------------------------------------------------------------------------------------------------


@pytest.fixture
async def two_queues(new_side: Any, cluster: Cluster, server: DevServer) -> Side:
    for name in ("long", "empty"):
        server.create_queue(name)
    queues = {name: QueueConfig(name=name) for name in ("long", "empty", "missing")}
    found: Side = await new_side(cluster, config=make_config(api_server=server.url, queues=queues))
    return found


async def test_lengths_of_all_queues(two_queues: Side, server: DevServer) -> None:
    lengths = QueueLengths(session=two_queues.session, served=two_queues.served)
    assert lengths.known() == {}
    server.bulk_tasks(SEEN + 50, queue="long")
    before = len(server.calls(endpoint=r"^queues\."))
    await lengths.look()
    found = lengths.known()
    assert {key: length.entries for key, length in found.items()} == {"long": SEEN + 50, "empty": 0}
    assert found["empty"].oldest is None
    oldest = found["long"].oldest
    assert oldest is not None and oldest.tzinfo is not None
    assert len(server.calls(endpoint=r"^queues\.")) - before == 2, "one for all, one for the long one"


async def test_lengths_are_forgotten_when_they_are_old(two_queues: Side) -> None:
    lengths = QueueLengths(session=two_queues.session, served=two_queues.served)
    await lengths.look()
    await two_queues.clock.advance(FRESH_SECONDS - 1)
    assert lengths.known() != {}
    await two_queues.clock.advance(2)
    assert lengths.known() == {}


async def test_a_queue_that_goes_during_the_look(two_queues: Side, server: DevServer) -> None:
    lengths = QueueLengths(session=two_queues.session, served=two_queues.served)
    server.bulk_tasks(SEEN, queue="long")
    server.add_fault(kind="error_before", endpoint="^queues.get_num_entries$", status=400, subcode=701)
    await lengths.look()
    assert set(lengths.known()) == {"empty"}
    server.call("queues.delete", queue=server.queue_id("empty"))
    server.clear_faults()
    await lengths.look()
    assert set(lengths.known()) == {"long"}


# ---- the state of a queue -----------------------------------------------------------------------------------------


async def test_the_kind_of_each_problem(cluster: Cluster, server: DevServer) -> None:
    server.create_queue("good")
    twice = server.queue_id("good")
    queues = {name: QueueConfig(name=name) for name in ("good", "missing", twice)}
    side = Side(server=server, cluster=cluster, config=make_config(api_server=server.url, queues=queues))
    try:
        assert {side.served.state_of(key) for key in queues} == {State.NOT_LOOKED_UP}
        await side.start()
        found = {key: side.served.state_of(key) for key in queues}
        assert found["good"] is State.SERVED
        assert found["missing"] is State.MISSING
        assert found[twice] is State.NAMED_TWICE
        side.served.pause(side.served.all_found()[0], "quota")
        assert side.served.state_of("good") is State.PAUSED
        await side.clock.advance(60)
        assert side.served.state_of("good") is State.SERVED
    finally:
        await asyncio.shield(side.close())


@pytest.mark.parametrize(
    ("fault", "state"),
    [
        (Fault(code=422, status=status(422, "Invalid", "spec.template: no")), State.TEMPLATE_INVALID),
        (Fault(code=403, status=status(403, "Forbidden", "jobs is forbidden")), State.JOBS_REFUSED),
        (Fault(code=403, status=status(403, "Forbidden", "exceeded quota: q")), State.SERVED),
        (Fault(drop=True), State.TEMPLATE_UNCHECKED),
    ],
)
async def test_the_kind_of_what_kubernetes_refuses(
    server: DevServer, cluster: Cluster, fault: Fault, state: State
) -> None:
    side = Side(server=server, cluster=cluster)
    cluster.fault("POST", fault, path="jobs")
    try:
        await side.start()
        assert side.served.state_of("default") is state
        await side.served.refresh()
        assert side.served.state_of("default") is State.SERVED
    finally:
        await side.close()


async def test_a_queue_that_may_not_be_made(server: DevServer, cluster: Cluster) -> None:
    queues = {"new": QueueConfig(name="new")}
    side = Side(
        server=server, cluster=cluster, config=make_config(api_server=server.url, queues=queues, create_queues=True)
    )
    server.add_fault(kind="error_before", endpoint="^queues.create$", status=403, subcode=20)
    try:
        await side.start()
        assert side.served.state_of("new") is State.NOT_CREATED
    finally:
        await side.close()

"""A task in several pods: counted as so many, told of as one, given back together, ended together."""

from __future__ import annotations

import dataclasses
from collections import Counter
from decimal import Decimal
from typing import Any

import pytest
from clearml_k8s.config import QueueConfig, QueueSettings
from clearml_k8s.config.multi_node import MultiNodeConfig
from clearml_k8s.flow.decide import SIGTERM_REASON, Step, decide
from clearml_k8s.flow.diagnosis import Category, ranks
from clearml_k8s.flow.ending import ended, interrupted, out_of_memory, started_at
from clearml_k8s.flow.happenings import PODS_READ, _to_explain
from clearml_k8s.flow.pending import pending
from clearml_k8s.flow.places import Known, counted, places
from clearml_k8s.kube.events import EventRecord
from clearml_k8s.kube.quota import QuotaRecord
from clearml_k8s.kube.slim import Condition, ContainerRecord, PodRecord, slim_job, slim_pod
from clearml_k8s.kube.uses import Uses
from clearml_k8s.kube.watch import Gone, Listed, Upsert
from clearml_server.process import DevServer
from flow_parts import LATER, Side, make_config, make_container, make_job, make_pod, make_task
from reconcile_loop import Loop, start
from scripted_kube import Cluster, Fault

TWO = make_job(pods=2, ranked=True)
RUNS = make_container(running=True, started_at="2026-01-15T07:00:00Z")
UNSCHEDULED = (Condition(type="PodScheduled", status="False", reason="Unschedulable", message="0/1 nodes: no room"),)
WORKER = "w:task"


def died(code: int = 3, reason: str = "Error", at: str = "2026-01-15T07:10:00Z") -> ContainerRecord:
    return make_container(terminated=reason, exit_code=code, finished_at=at)


def pod(rank: int, *containers: ContainerRecord, **fields: Any) -> PodRecord:
    return make_pod("t", *containers, **{"rank": rank, "uid": f"pod-{rank}", **fields})


def nowhere(rank: int) -> PodRecord:
    return pod(rank, node=None, conditions=UNSCHEDULED)


# ---- what is read ------------------------------------------------------------------------------------------


def test_ranks_are_read_of_an_indexed_job_alone() -> None:
    meta = {"uid": "u", "name": "clearml-id-t"}
    spec = {"completionMode": "Indexed", "parallelism": 3, "completions": 3}
    assert (slim_job({"metadata": meta, "spec": spec}).pods, slim_job({"metadata": meta, "spec": spec}).ranked) == (
        3,
        True,
    )
    plain = slim_job({"metadata": meta, "spec": {"parallelism": 3}})
    assert (plain.pods, plain.ranked) == (1, False)
    index = "batch.kubernetes.io/job-completion-index"
    assert slim_pod({"metadata": {**meta, "labels": {index: "2"}}}).rank == 2
    assert slim_pod({"metadata": {**meta, "annotations": {index: "4"}}}).rank == 4
    assert slim_pod({"metadata": {**meta, "labels": {index: "x"}}}).rank == 0


def test_of_each_rank_the_newest_pod() -> None:
    old = pod(1, uid="old", created="2026-01-15T06:00:00Z")
    assert [one.uid for one in ranks([pod(2), old, pod(1), pod(0)])] == ["pod-0", "pod-1", "pod-2"]


# ---- why it waits ------------------------------------------------------------------------------------------


def why(*pods: PodRecord, **fields: Any) -> tuple[Category, str] | None:
    found = pending(job=dataclasses.replace(TWO, **fields), pods=pods)
    return None if found is None else (found.category, found.summary)


def test_why_several_pods_wait() -> None:
    lacking = "No node takes the pod: 0/1 nodes: no room"
    assert why(pod(0, RUNS), pod(1, RUNS)) is None
    assert why(pod(0, RUNS), nowhere(1)) == (
        Category.UNSCHEDULABLE,
        f"1 of 2 pods have a node. Rank 1 of 2: {lacking}",
    )
    assert why(pod(0), pod(1, RUNS)) == (Category.STARTING, "Rank 0 of 2: The pod is starting")
    assert why(pod(0), nowhere(1)) == (Category.UNSCHEDULABLE, f"1 of 2 pods have a node. Rank 1 of 2: {lacking}")
    assert why(pod(0, RUNS)) == (Category.NO_POD, "1 of 2 pods have a node. Kubernetes has not made the pod yet")
    assert why() == (Category.NO_POD, "Kubernetes has not made the pod yet")
    assert why(suspend=True) == (Category.SUSPENDED, "The Job is suspended")


def test_what_ends_the_task_first_is_told() -> None:
    bad = pod(0, make_container(waiting="InvalidImageName"))
    found = pending(job=TWO, pods=[bad, nowhere(1)])
    assert found is not None
    assert (found.category, found.rank, found.patience) == (Category.IMAGE_NAME, 0, 0)
    assert (
        decide(task=make_task(), job=TWO, pods=[bad, nowhere(1)], worker=WORKER, together=60.0).step
        is Step.FAIL_WAITING
    )


@pytest.mark.parametrize(
    ("pods", "step", "patience"),
    [
        ([pod(0, RUNS), nowhere(1)], Step.GIVE_BACK, 60.0),
        ([pod(0, RUNS)], Step.GIVE_BACK, 60.0),
        ([nowhere(0), nowhere(1)], Step.TELL, None),  # nothing is held
        ([pod(0), pod(1)], Step.TELL, None),
        ([pod(0, RUNS), pod(1, RUNS)], Step.NOTHING, None),
    ],
)
def test_when_pods_hold_nodes_in_vain(pods: list[PodRecord], step: Step, patience: float | None) -> None:
    found = decide(task=make_task(), job=TWO, pods=pods, worker=WORKER, together=60.0)
    assert found.step is step
    if found.diagnosis is not None:
        assert found.diagnosis.patience == patience


def test_without_a_limit_they_wait_as_long_as_it_takes() -> None:
    assert decide(task=make_task(), job=TWO, pods=[pod(0, RUNS), nowhere(1)], worker=WORKER).step is Step.TELL


def trouble(rank: int, reason: str) -> EventRecord:
    return EventRecord(
        uid=f"{reason}-{rank}",
        about=f"pod-{rank}",
        kind="Pod",
        reason=reason,
        message="Multi-Attach",
        warning=True,
        last="1",
    )


@pytest.mark.parametrize("reason", ["FailedAttachVolume", "FailedCreatePodSandBox"])
@pytest.mark.parametrize("others", [(RUNS,), ()])
def test_when_one_that_has_a_node_cannot_start(reason: str, others: tuple[ContainerRecord, ...]) -> None:
    """As a volume that one node alone may have: the others would hold theirs for ever."""
    given: dict[str, Any] = {"task": make_task(), "pods": [pod(0, *others), pod(1)], "worker": WORKER}
    given["events"] = [trouble(1, reason)]
    found = decide(job=TWO, **given, together=60.0)
    assert (found.step, found.diagnosis and found.diagnosis.patience) == (Step.GIVE_BACK, 60.0)
    assert decide(job=TWO, **given).step is Step.TELL
    assert decide(job=make_job(), **{**given, "pods": [pod(1)]}, together=60.0).step is Step.TELL, "one pod alone"
    sooner = {Category.VOLUME: 30.0, Category.SANDBOX: 30.0}
    assert decide(job=TWO, **given, together=60.0, patience=sooner).step is Step.FAIL_WAITING


def test_events_are_read_of_a_few_pods() -> None:
    many = [pod(0, RUNS), *(pod(rank) for rank in range(1, 20))]
    assert [one.rank for one in _to_explain(many)] == list(range(1, 1 + PODS_READ))
    assert _to_explain([pod(0, RUNS)]) == [pod(0, RUNS)]


# ---- how it ended --------------------------------------------------------------------------------------------

FOLLOWS = pod(0, died(143, at="2026-01-15T07:10:02Z"), phase="Failed", deleted="2026-01-15T07:10:31Z", grace_seconds=30)


@pytest.mark.parametrize(
    ("cause", "category", "text"),
    [
        (
            pod(1, died(), phase="Failed"),
            Category.CRASHED,
            "Rank 1 of 2: Container task ended with exit code 3 (Error)",
        ),
        (pod(1, died(137, "OOMKilled"), phase="Failed"), Category.OOM_KILLED, "Rank 1 of 2: Container task was killed"),
        (pod(1, died(75), phase="Failed"), Category.NOT_STARTED, "Rank 1 of 2: The pod could not ask the ClearML"),
        (
            pod(1, phase="Failed", reason="Evicted", message="disk"),
            Category.EVICTED,
            "Rank 1 of 2: The pod was evicted",
        ),
        (
            pod(
                1,
                died(143, at="2026-01-15T07:09:59Z"),
                phase="Failed",
                deleted="2026-01-15T07:10:28Z",
                grace_seconds=30,
            ),
            Category.DELETED,
            "Rank 1 of 2: The pod was deleted",
        ),
    ],
)
@pytest.mark.parametrize("gone", [False, True])
def test_the_rank_that_ended_all_is_named(cause: PodRecord, category: Category, text: str, gone: bool) -> None:
    shown = {"pods": [FOLLOWS], "gone": [cause]} if gone else {"pods": [FOLLOWS, cause]}
    for found in (ended(job=TWO, **shown), interrupted(job=TWO, **shown)):  # type: ignore[arg-type]
        assert (found.category, found.rank) == (category, 1)
        assert found.summary.startswith(text)
    task = make_task("stopped", status_reason=SIGTERM_REASON, status_message="Changed by clearml_agent w:0")
    step = decide(task=task, job=TWO, worker=WORKER, **shown).step  # type: ignore[arg-type]
    assert step is (Step.DISRUPTED if category is Category.EVICTED else Step.FAIL_ENDED)


def test_of_rank_0_itself_it_is_as_of_a_task_in_one_pod() -> None:
    deleted = pod(0, RUNS, phase="Running", deleted="2026-01-15T07:10:30Z", grace_seconds=30)
    task = make_task("stopped", status_reason=SIGTERM_REASON)
    found = decide(task=task, job=TWO, pods=[deleted, pod(1, RUNS)], worker=WORKER)
    assert (found.step, found.diagnosis and found.diagnosis.category) == (Step.EXPLAIN_STOP, Category.DELETED)


def test_memory_of_any_rank() -> None:
    found = out_of_memory([pod(0, RUNS), pod(1, died(137, "OOMKilled"))])
    assert found is not None
    assert found.summary.startswith("Rank 1 of 2: ")


def test_the_time_that_it_runs_begins_with_the_first_pod() -> None:
    late = make_container(running=True, started_at="2026-01-15T07:30:00Z")
    found = started_at([pod(0, late), pod(1, RUNS)])
    assert found is not None
    assert found.isoformat() == "2026-01-15T07:00:00+00:00"


@pytest.mark.parametrize("worker", [None, WORKER, f"{WORKER}:rank1"])
def test_whichever_rank_reported_last_is_ours(worker: str | None) -> None:
    task = make_task("in_progress", changed=LATER, last_worker=worker)
    assert (
        decide(task=task, job=TWO, pods=[pod(0, RUNS), pod(1, died(), phase="Failed")], worker=WORKER).step
        is Step.FAIL_ENDED
    )


def test_a_rank_beyond_its_pods_is_somebody_else() -> None:
    task = make_task("in_progress", changed=LATER, last_worker=f"{WORKER}:rank2")
    assert decide(task=task, job=TWO, pods=[pod(1, died(), phase="Failed")], worker=WORKER).step is Step.DELETE_LATER


# ---- places ----------------------------------------------------------------------------------------------------


def stages(*pods: PodRecord, job: Any = TWO, **given: Any) -> Counter[str]:
    found = places(jobs=[job], pods=pods, **{"in_flight": {}, **given})
    return Counter(place.stage.value for place in found)


def test_each_rank_takes_a_place() -> None:
    assert stages() == {"undecided": 2}
    assert stages(pod(0), nowhere(1)) == {"placed": 1, "waiting": 1}
    assert stages(pod(0)) == {"placed": 1, "undecided": 1}
    assert stages(pod(0), pod(1)) == {"placed": 2}
    assert stages(job=dataclasses.replace(TWO, suspend=True)) == {"held": 2}


def test_a_rank_that_ended_gives_its_place_back() -> None:
    assert stages(pod(0), pod(1, phase="Succeeded")) == {"placed": 1}
    assert stages(pod(0, phase="Succeeded"), pod(1)) == {"placed": 1}


def test_pods_that_end_after_their_job_keep_their_places() -> None:
    over = dataclasses.replace(TWO, conditions=(Condition(type="Failed", status="True"),))
    assert stages(pod(0, phase="Running"), pod(1, phase="Running"), job=over) == {"placed": 2}


def test_a_task_on_its_way_counts_as_its_pods() -> None:
    uses = Uses(gpus=Decimal(4))
    found = places(jobs=[], pods=[], in_flight={"t": "q"}, needs=lambda _queue, _task: (uses, 3))
    (count,) = (count for queue, count in counted(found).items() if queue == "q")
    assert (count.pods, count.uses.gpus) == (3, 12)
    ((_, alike),) = count.demands.items()
    assert (alike.podless, alike.jobless) == (3, 1), "one Job comes"


def test_what_was_found_is_kept_for_the_next_count() -> None:
    known: Known = {}
    steps = [[], [pod(0)], [pod(0), nowhere(1)], [pod(0), pod(1)], [pod(0), pod(1, phase="Succeeded")], []]
    for pods in steps:
        given: dict[str, Any] = {"jobs": [TWO], "pods": pods, "in_flight": {}}
        assert Counter(places(**given, known=known)) == Counter(places(**given))


# ---- taking ----------------------------------------------------------------------------------------------------


def several(server: DevServer, *, limits: dict[str, Any] | None = None, **settings: Any) -> dict[str, Any]:
    template = {"resources": {"limits": limits}} if limits else {}
    own = QueueConfig(name="default", template_overrides=template, settings=QueueSettings(**settings))
    return {"api_server": server.url, "queues": {"default": own}, "multi_node": MultiNodeConfig()}


def ask(server: DevServer, request: str, **properties: str) -> str:
    given = {"multi_node_request": request, **properties}
    items = {name: {"section": "properties", "name": name, "value": value} for name, value in given.items()}
    task: str = server.create_task("several nodes", queue="default", hyperparams={"properties": items})
    return task


async def told(side: Side, task: str) -> str:
    await side.teller.flush()
    text: str = side.server.console(task)
    return text


@pytest.mark.parametrize(
    ("limit", "fits"),
    [
        ({"max_pods": 3}, True),
        ({"max_pods": 2}, False),
        ({"max_gpus": 6}, True),
        ({"max_gpus": 5.5}, False),
    ],
)
async def test_all_pods_or_none(
    new_side: Any, cluster: Cluster, server: DevServer, limit: dict[str, Any], fits: bool
) -> None:
    side = await new_side(cluster, config=make_config(**several(server, **limit)))
    ask(server, "[2, 3]")
    assert await side.poll() == fits


async def test_places_left_are_counted_in_pods(new_side: Any, cluster: Cluster, server: DevServer) -> None:
    side = await new_side(cluster, config=make_config(**several(server, max_pods=4)))
    first = ask(server, "[1, 3]")
    assert await side.poll() == 1
    await side.book.flush()
    second = ask(server, "[1, 2]")
    assert await side.poll() == 0, "one place is left"
    (job,) = side.jobs.of_task(first)
    del cluster.objects["jobs"][job.name]
    side.relist()
    assert await side.poll() == 1
    assert side.created(second)[0]["spec"]["parallelism"] == 2


async def test_after_a_restart_one_that_is_taken_counts_as_its_pods(
    new_side: Any, cluster: Cluster, server: DevServer
) -> None:
    """Its Job may have been sent, and come late: nobody may have its places meanwhile."""
    config = make_config(**several(server, max_pods=4))
    side = await new_side(cluster, config=config)
    several_nodes = ask(server, "[0, 3]")
    cluster.fault("POST", Fault(drop=True), path="jobs")
    assert await side.poll() == 0
    assert several_nodes in side.book.in_flight()
    small = [server.create_task(queue="default") for _ in range(2)]
    again = await new_side(cluster, config=config)
    assert await again.poll() == 1, "three of the four places are taken"
    assert [len(again.created(task)) for task in small] == [1, 0]
    await again.rest()
    assert len(again.created(several_nodes)) == 1
    assert [len(again.created(task)) for task in small] == [1, 0]


async def test_the_queues_own_request_counts(new_side: Any, cluster: Cluster, server: DevServer) -> None:
    given = several(server, limits={"nvidia.com/gpu": 2}, multi_node=(4, 2), max_gpus=8)
    side = await new_side(cluster, config=make_config(**given))
    for _ in range(2):
        server.create_task(queue="default")
    assert await side.poll() == 1, "each has six GPUs"


async def test_quotas_count_pods_and_one_job(new_side: Any, cluster: Cluster, server: DevServer) -> None:
    side = await new_side(cluster, config=make_config(**several(server)))
    hard = {"pods": Decimal(5), "count/jobs.batch": Decimal(2), "requests.nvidia.com/gpu": Decimal(4)}
    side.quotas.apply(
        Listed(
            items=(QuotaRecord(uid="q", name="q", resource_version="1", hard=hard, used={}, scopes=()),), version="1"
        )
    )
    for _ in range(3):
        ask(server, "[1, 2]")
    assert await side.poll() == 2, "four GPUs, two Jobs, four pods"


async def test_one_that_never_fits_is_passed_over_and_told(new_side: Any, cluster: Cluster, server: DevServer) -> None:
    side = await new_side(cluster, config=make_config(**several(server, max_pods=2)))
    large, small = ask(server, "[0, 3]"), ask(server, "[0, 2]")
    assert await side.poll() == 1
    assert (side.created(large), len(side.created(small))) == ([], 1)


async def test_more_pods_than_may_be_pending_are_taken_alone(
    new_side: Any, cluster: Cluster, server: DevServer
) -> None:
    """That is about time, not about how large a task may be."""
    side = await new_side(cluster, config=make_config(**several(server, max_pending_pods=2)))
    ask(server, "[0, 5]")
    ask(server, "[0, 1]")
    assert await side.poll() == 1
    await side.book.flush()
    assert await side.poll() == 0


async def test_a_bad_request_fails_its_task_with_the_reason(new_side: Any, cluster: Cluster, server: DevServer) -> None:
    side = await new_side(cluster, config=make_config(**several(server)))
    bad, good = ask(server, "two nodes"), ask(server, "[0, 2]")
    await side.poll()
    assert server.task(bad)["status"] == "failed"
    assert "the task's property multi_node_request: found 'two nodes'" in await told(side, bad)
    assert len(side.created(good)) == 1


# ---- giving back -------------------------------------------------------------------------------------------


@pytest.fixture
async def loop(new_side: Any, cluster: Cluster, server: DevServer) -> Loop:
    config = several(server)
    config["multi_node"] = MultiNodeConfig(start_timeout_minutes=10, max_give_backs=1)
    return Loop(await new_side(cluster, config=make_config(**config)))


async def test_what_is_held_in_vain_is_given_back_where_it_was_switched_off_meanwhile(
    loop: Loop, new_side: Any, cluster: Cluster, server: DevServer
) -> None:
    task = ask(server, "[0, 2]")
    assert await loop.side.poll() == 1
    config = dataclasses.replace(loop.side.config, multi_node=None)
    off = Loop(await new_side(cluster, config=config))
    attempt, clock = off.job(task).attempt, off.side.clock
    await half(off, task)
    began = clock.monotonic()
    while server.task(task)["status_changed"] == attempt and clock.monotonic() < began + 3600:
        await clock.advance((await off.look(task) or 60.0) + 0.001)
    assert clock.monotonic() < began + 60 * MultiNodeConfig().start_timeout_minutes + 100
    assert server.entries(server.queue_id("default")) == [task]


async def half(loop: Loop, task: str) -> None:
    """One of its pods has a node, and the other none."""
    job = loop.job(task)
    for one in (pod(0, RUNS, phase="Running"), nowhere(1)):
        loop.pods.apply(Upsert(item=dataclasses.replace(one, task=task, job_uid=job.uid, uid=f"{job.uid}-{one.rank}")))
    await loop.reads.refresh([task])


async def test_what_is_held_in_vain_is_given_back_and_then_fails(loop: Loop, server: DevServer) -> None:
    task, clock = ask(server, "[0, 2]"), loop.side.clock
    assert await loop.side.poll() == 1
    attempt = loop.job(task).attempt
    await half(loop, task)
    began = clock.monotonic()
    while server.task(task)["status_changed"] == attempt and clock.monotonic() < began + 3600:
        await clock.advance((await loop.look(task) or 0.0) + 0.001)
    assert 600 <= clock.monotonic() - began < 700
    assert server.task(task)["status"] == "queued"
    console = await told(loop.side, task)
    assert "Waiting: 1 of 2 pods have a node. Rank 1 of 2: No node takes the pod: 0/1 nodes: no room" in console
    assert "Not all of its pods had a node after 10 minutes. 1 of 2 pods have a node." in console
    assert console.count("Put back to the front of its queue, time 1 of 1") == 1
    await loop.looks(task)
    assert loop.jobs() == set(), "all pods go"
    for job in loop.side.jobs.of_task(task):
        loop.side.jobs.apply(Gone(item=job))
    loop.pod_goes(task)
    loop.pods.forget(task)

    assert await loop.side.poll() == 1
    await half(loop, task)
    while server.task(task)["status"] == "queued" and clock.monotonic() < began + 3600:
        await clock.advance((await loop.look(task) or 0.0) + 0.001)
    found = server.task(task)
    assert found["status"] == "failed"
    assert found["status_message"].startswith("Not all of its pods had a node after 10 minutes.")
    assert loop.jobs() == set()


async def test_what_waits_for_one_that_cannot_start_is_given_back(
    loop: Loop, cluster: Cluster, server: DevServer
) -> None:
    task, clock = ask(server, "[0, 2]"), loop.side.clock
    assert await loop.side.poll() == 1
    job = loop.job(task)
    for one in (pod(0, RUNS, phase="Running"), pod(1)):
        loop.pods.apply(Upsert(item=dataclasses.replace(one, task=task, job_uid=job.uid, uid=f"{job.uid}-{one.rank}")))
    about = {"kind": "Pod", "uid": f"{job.uid}-1"}
    event = {
        "type": "Warning",
        "reason": "FailedAttachVolume",
        "message": "Multi-Attach error",
        "involvedObject": about,
    }
    cluster.put("events", "e", lastTimestamp="2026-01-15T06:30:00Z", **event)
    await loop.reads.refresh([task])
    began = clock.monotonic()
    while server.task(task)["status_changed"] == job.attempt and clock.monotonic() < began + 3600:
        await clock.advance((await loop.look(task) or 0.0) + 0.001)
    assert 600 <= clock.monotonic() - began < 700
    assert server.task(task)["status"] == "queued"
    why = "Not all of its pods could start after 10 minutes. Rank 1 of 2: A volume is not there: Multi-Attach error"
    assert why in await told(loop.side, task)


async def both_run(loop: Loop, server: DevServer) -> str:
    """A task both of whose pods run, which has not begun."""
    task = ask(server, "[0, 2]")
    assert await loop.side.poll() == 1
    job = loop.job(task)
    for one in (pod(0, RUNS, phase="Running"), pod(1, RUNS, phase="Running")):
        loop.pods.apply(Upsert(item=dataclasses.replace(one, task=task, job_uid=job.uid, uid=f"{job.uid}-{one.rank}")))
    await loop.reads.refresh([task])
    return task


async def test_pods_that_run_and_do_not_begin_are_told_of(loop: Loop, server: DevServer) -> None:
    """As a NetworkPolicy or a name server may keep them from each other, which nothing in the cluster says."""
    task, clock = await both_run(loop, server), loop.side.clock
    job = loop.job(task)
    assert await loop.look(task) == 300
    await clock.advance(299)
    assert await loop.look(task) == 1
    assert "have not begun" not in await told(loop.side, task)
    message = server.task(task).get("status_message")
    await clock.advance(1)
    for _ in range(2):
        assert await loop.look(task) is None
    console = await told(loop.side, task)
    assert console.count("Waiting: all of its 2 pods run, and have not begun together") == 1
    assert f"kubectl -n ns logs --prefix -l batch.kubernetes.io/controller-uid={job.uid}" in console
    assert server.task(task).get("status_message") == message, "they may begin at any moment"
    assert (server.task(task)["status"], loop.jobs()) == ("queued", {job.name})


async def test_pods_that_begin_in_time_are_not_told_of(loop: Loop, server: DevServer) -> None:
    task, clock = await both_run(loop, server), loop.side.clock
    await loop.look(task)
    await clock.advance(299)
    start(server, task, worker=f"worker-a:{task}")
    await loop.reads.refresh([task])
    await clock.advance(600)
    assert await loop.look(task) is None
    assert "have not begun" not in await told(loop.side, task)


async def test_all_placed_in_time_go_on(loop: Loop, server: DevServer) -> None:
    task, clock = ask(server, "[0, 2]"), loop.side.clock
    assert await loop.side.poll() == 1
    await half(loop, task)
    await loop.look(task)
    await clock.advance(599)
    job = loop.job(task)
    there = pod(1, RUNS, phase="Running", job_uid=job.uid, uid=f"{job.uid}-1")
    loop.pods.apply(Upsert(item=dataclasses.replace(there, task=task)))
    await loop.look(task)
    await clock.advance(600)
    assert await loop.look(task) is None
    assert server.task(task)["status"] == "queued"
    assert loop.jobs() == {job.name}


async def test_a_rank_that_fails_fails_the_task_with_its_name(loop: Loop, server: DevServer) -> None:
    task = ask(server, "[0, 2]")
    assert await loop.side.poll() == 1
    job = loop.job(task)
    start(server, task, worker=f"worker-a:{task}")
    for one in (pod(0, RUNS, phase="Running"), pod(1, died(), phase="Failed")):
        loop.pods.apply(Upsert(item=dataclasses.replace(one, task=task, job_uid=job.uid, uid=f"{job.uid}-{one.rank}")))
    await loop.reads.refresh([task])
    for _ in range(5):
        again = await loop.look(task)
        await loop.side.clock.advance((again or 0.0) + 0.001)
        if server.task(task)["status"] == "failed":
            break
    found = server.task(task)
    assert (found["status"], found["status_reason"]) == ("failed", "Kubernetes: crashed")
    assert found["status_message"] == "Rank 1 of 2: Container task ended with exit code 3 (Error)"

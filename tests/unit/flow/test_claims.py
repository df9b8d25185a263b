"""The claim as a whole, with the development ClearML server: whatever a call ends in, a task is launched once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from clearml_k8s import names
from clearml_k8s.errors import Fenced
from clearml_k8s.flow.choose import Candidate
from clearml_k8s.flow.served import FIRST_PAUSE
from clearml_k8s.kube import record
from clearml_server.process import DevServer, wait_for
from flow_parts import GRACE, Side, make_config, mark_as, mark_of
from scripted_kube import Cluster, Fault, status

MARK, TAKE, SHOW = "tasks.edit_hyper_params", "queues.remove_task", "queues.add_task"
KINDS: list[dict[str, Any]] = [
    {"kind": "error_before"},
    {"kind": "error_after_commit"},
    {"kind": "drop_before"},
    {"kind": "drop_reply"},
    {"kind": "late", "seconds": 0.2},
]


def once(side: Side, task: str) -> None:
    """Launched exactly once, for its present attempt, in no queue, with nothing left over."""
    (job,) = side.created(task)
    server = side.server
    assert job["metadata"]["annotations"][names.ANNOTATION_ATTEMPT] == server.task(task)["status_changed"]
    assert task not in server.entries(server.queue_id("default"))
    assert task not in side.stored()
    assert side.book.in_flight() == {}
    assert len(side.graces) == 0


async def test_a_queued_task_becomes_a_job(side: Side, server: DevServer) -> None:
    task = server.create_task(queue="default")
    assert await side.poll() == 1
    await side.book.flush()
    once(side, task)
    assert server.entries(server.queue_id(names.PENDING_QUEUE)) == [task]
    assert names.marked_attempt(side.mark(task) or "") == server.task(task)["status_changed"]
    await side.teller.flush()
    assert "taken from queue default by worker-a" in server.console(task)


async def test_a_batch_costs_three_calls_a_task(side: Side, server: DevServer) -> None:
    server.bulk_tasks(40, queue="default")
    before = server.last_call()
    assert await side.poll() == 40
    assert len(server.calls(since=before)) == 3 * 40 + 3  # mark, take, show; the queue and two reads for all


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind["kind"])
@pytest.mark.parametrize("endpoint", [MARK, TAKE, SHOW])
@pytest.mark.parametrize("restart", [False, True], ids=["goes on", "restarts"])
async def test_a_doubt_ends_in_one_launch(
    new_side: Any, cluster: Cluster, server: DevServer, endpoint: str, kind: dict[str, Any], restart: bool
) -> None:
    side = await new_side(cluster)
    task = server.create_task(queue="default")
    server.add_fault(endpoint=f"^{endpoint}$", count=1, **kind)
    await side.poll()
    if endpoint != SHOW:
        assert side.created(task) == []
        assert task in side.graces
        assert await side.poll() == 0  # hands off, whatever the queue shows
    if restart:
        side = await new_side(cluster)
    wait_for(lambda: server.counters()["in_flight"] == 0, timeout=5)
    await side.rest()
    once(side, task)


@pytest.mark.parametrize("endpoint", [MARK, TAKE, SHOW])
async def test_a_crash_with_a_call_under_way(new_side: Any, cluster: Cluster, server: DevServer, endpoint: str) -> None:
    side = await new_side(cluster)
    task = server.create_task(queue="default")
    server.add_fault(kind="delay", endpoint=f"^{endpoint}$", count=1, seconds=0.3)
    polling = asyncio.create_task(side.poll())
    await asyncio.to_thread(wait_for, lambda: server.faults()[0]["hits"] == 1, timeout=5)
    polling.cancel()
    await asyncio.wait([polling])
    wait_for(lambda: server.counters()["in_flight"] == 0, timeout=5)
    again = await new_side(cluster)
    await again.rest()
    once(again, task)


@pytest.mark.parametrize(
    ("method", "path", "fault"),
    [
        ("POST", "jobs", Fault(drop=True)),
        ("POST", "jobs", Fault(drop=True, after=True)),
        ("POST", "jobs", Fault(code=500)),
        ("POST", "jobs", Fault(code=429, headers={"Retry-After": "1"})),
        ("POST", "jobs", Fault(code=409, status=status(409, "Conflict", "Operation cannot be fulfilled on quota"))),
        ("PATCH", "configmaps", Fault(drop=True)),
        ("PATCH", "configmaps", Fault(drop=True, after=True)),
        ("PATCH", "configmaps", Fault(code=409, status=status(409, "Conflict", "modified"))),
        ("PATCH", "configmaps", Fault(code=403, status=status(403, "Forbidden", "no"))),
    ],
)
async def test_a_fault_of_kubernetes_ends_in_one_launch(
    side: Side, cluster: Cluster, server: DevServer, method: str, path: str, fault: Fault
) -> None:
    task = server.create_task(queue="default")
    cluster.fault(method, fault, path=path)
    await side.poll()
    await side.rest()
    once(side, task)


async def test_nothing_is_taken_without_the_record(side: Side, cluster: Cluster, server: DevServer) -> None:
    task = server.create_task(queue="default")
    cluster.fault("PATCH", Fault(code=403, status=status(403, "Forbidden", "no")), path="configmaps")
    before = server.last_call()
    assert await side.poll() == 0
    assert server.calls(since=before, endpoint=TAKE) == []
    assert server.entries(server.queue_id("default")) == [task]


async def test_a_full_record_takes_nothing(side: Side, server: DevServer, monkeypatch: pytest.MonkeyPatch) -> None:
    task = server.create_task(queue="default")
    with monkeypatch.context() as patch:
        patch.setattr(record, "MAX_BYTES", 10)
        assert await side.poll() == 0
    assert server.entries(server.queue_id("default")) == [task]
    await side.rest()
    once(side, task)


async def test_who_is_fenced_stops(new_side: Any, cluster: Cluster, server: DevServer) -> None:
    old = await new_side(cluster)
    new = await new_side(cluster)
    task = server.create_task(queue="default")
    with pytest.raises(Fenced):
        await old.poll()
    assert server.entries(server.queue_id("default")) == [task]
    await new.rest()
    once(new, task)


# ---- others ---------------------------------------------------------------------------------------------------------


async def test_a_foreign_mark_is_respected(side: Side, server: DevServer) -> None:
    task = server.create_task(queue="default")
    mark_as(server, task, "0000000000")
    await side.rest()
    assert side.created(task) == []
    assert side.mark(task) is None
    assert server.entries(server.queue_id("default")) == [task]


async def test_the_mark_of_an_older_attempt_means_nothing(side: Side, server: DevServer) -> None:
    task = server.create_task(queue="default")
    mark_as(server, task, "0000000000")
    server.call("tasks.dequeue", task=task)
    server.call("tasks.enqueue", task=task, queue_name="default")
    assert await side.poll() == 1


@pytest.mark.parametrize("other", ["0000000000", "zzzzzzzzzz"], ids=["lower", "higher"])
async def test_our_mark_beside_anothers_after_a_restart(side: Side, server: DevServer, other: str) -> None:
    """The higher id takes its mark away, also when it knows nothing of it any more."""
    task = server.create_task(queue="default")
    mark_as(server, task, other)
    mark_as(server, task, side.controller)
    await side.rest()
    assert side.created(task) == []
    assert (side.mark(task) is None) == (other < side.controller)
    assert mark_of(server, task, other) is not None


@pytest.mark.parametrize("other", ["0000000000", "zzzzzzzzzz"], ids=["lower", "higher"])
async def test_another_mark_that_comes_between_mark_and_read(side: Side, server: DevServer, other: str) -> None:
    task = server.create_task(queue="default")
    server.add_fault(kind="delay", endpoint="^tasks.get_all$", nth=2, count=1, seconds=0.5)
    polling = asyncio.create_task(side.poll())
    await asyncio.to_thread(wait_for, lambda: side.mark(task) is not None, timeout=5)
    await asyncio.to_thread(mark_as, server, task, other)
    assert await polling == 0
    assert side.created(task) == []
    assert (side.mark(task) is None) == (other < side.controller)
    assert server.entries(server.queue_id("default")) == [task]


@pytest.mark.parametrize("workers", [("worker-a", "worker-b"), ("the-same", "the-same")])
async def test_two_controllers_share_a_queue(
    new_side: Any, new_cluster: Any, server: DevServer, workers: tuple[str, str]
) -> None:
    one = await new_side(await new_cluster(), worker_id=workers[0], namespace_uid="uid-one")
    two = await new_side(await new_cluster(), worker_id=workers[1], namespace_uid="uid-two")
    ids = server.bulk_tasks(20, queue="default")
    await asyncio.gather(one.poll(), two.poll())
    for _ in range(6):
        await asyncio.gather(one.rest(rounds=1), two.rest(rounds=1))
    assert [len(one.created(task)) + len(two.created(task)) for task in ids] == [1] * 20
    assert server.entries(server.queue_id("default")) == []


async def test_an_agent_that_was_faster_keeps_the_task(side: Side, server: DevServer) -> None:
    task = server.create_task(queue="default")
    queue = server.queue_id("default")
    server.add_fault(kind="delay", endpoint=f"^{TAKE}$", count=1, seconds=0.5, task=task)
    polling = asyncio.create_task(side.poll())
    await asyncio.to_thread(wait_for, lambda: server.faults()[0]["hits"] == 1, timeout=5)
    await asyncio.to_thread(server.call, "queues.get_next_task", queue=queue)
    assert await polling == 0
    server.call("workers.status_report", worker="agent:0", task=task, timestamp=int(side.clock.now().timestamp()))
    await side.rest()
    assert side.created(task) == []
    assert side.stored() == {}


# ---- tasks in no queue ----------------------------------------------------------------------------------------------


async def test_a_task_in_no_queue_waits_two_graces(side: Side, server: DevServer) -> None:
    task = server.create_task(queue="default")
    server.call("queues.get_next_task", queue=server.queue_id("default"))
    server.advance_clock(0)
    await side.clock.advance(365 * 86400)  # only tasks that were enqueued a grace ago are looked for
    await side.recovery.sweep()
    assert task in side.graces
    await side.recovery.step()
    await side.clock.advance(41)
    await side.recovery.step()
    assert task in side.stored()
    assert side.created(task) == []
    await side.recovery.step()
    await side.clock.advance(41)
    await side.recovery.step()
    await side.book.flush()
    once(side, task)


async def test_a_task_in_no_queue_waits_for_room(new_side: Any, cluster: Cluster, server: DevServer) -> None:
    side = await new_side(cluster, config=make_config(api_server=server.url, max_pods=0))
    task = server.create_task(queue="default")
    server.call("queues.get_next_task", queue=server.queue_id("default"))
    await side.clock.advance(365 * 86400)
    await side.rest()
    assert side.created(task) == []
    assert side.stored() == {}


# ---- what the cluster refuses ---------------------------------------------------------------------------------------

QUOTA = status(403, "Forbidden", 'jobs.batch "x" is forbidden: exceeded quota: few, requested: count/jobs.batch=1')


async def test_quota_gives_the_task_back_to_the_front(side: Side, cluster: Cluster, server: DevServer) -> None:
    first, second = server.create_task(queue="default"), None
    cluster.fault("POST", Fault(code=403, status=QUOTA), path="jobs")
    server.add_fault(kind="delay", endpoint=f"^{TAKE}$", count=1, seconds=0.2)
    polling = asyncio.create_task(side.poll())
    await asyncio.to_thread(wait_for, lambda: server.faults()[0]["hits"] == 1, timeout=5)
    second = await asyncio.to_thread(server.create_task, queue="default")
    assert await polling == 0
    assert server.entries(server.queue_id("default")) == [first, second]
    assert server.entries(server.queue_id(names.PENDING_QUEUE)) == []
    assert side.stored() == {}
    assert side.mark(first) is None
    assert server.task(first)["status"] == "queued"
    assert side.served.active() == ()
    await side.clock.advance(31)
    await side.served.refresh()
    assert await side.poll() == 2


async def test_the_mark_stays_until_the_record_is_forgotten(side: Side, cluster: Cluster, server: DevServer) -> None:
    """Else a crash between the two leaves a record of a task that another controller has by then."""
    task = server.create_task(queue="default")
    cluster.fault("POST", Fault(code=403, status=QUOTA), path="jobs")
    cluster.fault("PATCH", Fault(), Fault(code=500), path="configmaps")  # stored, then not forgotten
    assert await side.poll() == 0
    assert task in side.stored()
    assert side.mark(task) is not None


async def test_a_task_aborted_meanwhile_is_not_given_back(side: Side, cluster: Cluster, server: DevServer) -> None:
    task = server.create_task(queue="default")
    cluster.fault("POST", Fault(code=403, status=QUOTA), path="jobs")
    server.add_fault(kind="delay", endpoint=f"^{SHOW}$", count=1, seconds=0.3)
    polling = asyncio.create_task(side.poll())
    await asyncio.to_thread(wait_for, lambda: server.faults()[0]["hits"] == 1, timeout=5)
    await asyncio.to_thread(server.call, "tasks.stopped", task=task)
    assert await polling == 0
    assert server.entries(server.queue_id("default")) == []
    assert server.task(task)["status"] == "stopped"


INVALID = status(422, "Invalid", "Job is invalid", causes=[{"field": "spec.x", "message": "must be less"}])
DENIED = status(403, "Forbidden", "admission webhook denied the request: image not allowed")


@pytest.mark.parametrize("answer", [INVALID, DENIED], ids=["invalid", "denied"])
async def test_a_job_that_is_refused_by_itself_fails_its_task(
    side: Side, cluster: Cluster, server: DevServer, answer: dict[str, Any]
) -> None:
    task = server.create_task(queue="default")
    fault = Fault(code=answer["code"], status=answer)
    cluster.fault("POST", fault, Fault(), fault, path="jobs")  # the dry run of the template between them is taken
    assert await side.poll() == 0
    await side.book.flush()
    await side.teller.flush()
    found = server.task(task)
    assert found["status"] == "failed"
    assert "Kubernetes refuses the Job" in found["status_message"]
    assert "cannot be launched" in server.console(task)
    assert server.entries(server.queue_id(names.PENDING_QUEUE)) == []
    assert side.stored() == {}
    assert len(side.served.active()) == 1


async def test_a_refusal_that_passed_fails_no_task(side: Side, cluster: Cluster, server: DevServer) -> None:
    task = server.create_task(queue="default")
    cluster.fault("POST", Fault(code=403, status=DENIED), path="jobs")
    assert await side.poll() == 1
    await side.book.flush()
    once(side, task)


async def test_a_refused_template_pauses_its_queue(side: Side, cluster: Cluster, server: DevServer) -> None:
    task = server.create_task(queue="default")
    fault = Fault(code=422, status=INVALID)
    cluster.fault("POST", fault, fault, path="jobs")
    assert await side.poll() == 0
    assert server.task(task)["status"] == "queued"
    assert server.entries(server.queue_id("default")) == [task]
    assert side.served.active() == ()


async def test_an_older_attempts_job_ends_first(side: Side, cluster: Cluster, server: DevServer) -> None:
    task = server.create_task(queue="default")
    assert await side.poll() == 1
    server.call("tasks.dequeue", task=task)
    server.call("tasks.enqueue", task=task, queue_name="default")
    assert await side.poll() == 0
    assert server.entries(server.queue_id("default")) == [task]
    cluster.drop("jobs", names.job_name(task))
    side.relist()
    await side.clock.advance(6)
    assert await side.poll() == 1
    assert len(side.created(task)) == 2


async def test_an_entry_beside_its_job_is_taken_out(side: Side, server: DevServer) -> None:
    task = server.create_task(queue="default")
    assert await side.poll() == 1
    server.call(SHOW, queue=server.queue_id("default"), task=task)
    assert await side.poll() == 0
    assert server.entries(server.queue_id("default")) == []
    assert len(side.created(task)) == 1


async def test_what_is_not_queued_is_passed_over(side: Side, server: DevServer) -> None:
    aborted = server.create_task(queue="default")
    server.call("tasks.stopped", task=aborted)
    server.call(SHOW, queue=server.queue_id("default"), task="0123456789abcdef0123456789abcdef")
    task = server.create_task(queue="default")
    assert await side.poll() == 1
    await side.book.flush()
    once(side, task)
    assert side.created(aborted) == []
    assert side.book.skipped == 2


async def test_no_memory_of_launched_tasks_is_kept(side: Side, server: DevServer) -> None:
    server.bulk_tasks(10, queue="default")
    assert await side.poll() == 10
    await side.book.flush()
    await side.clock.advance(10)
    assert side.book.skipped == 0
    assert side.book.in_flight() == {}
    assert (side.book.idle_marks(), side.book._forgotten) == ({}, set())


async def test_after_a_half_way_failure_nothing_more_is_taken(side: Side, server: DevServer) -> None:
    ids = server.bulk_tasks(40, queue="default")
    server.elasticsearch(probability=1)
    assert await side.poll() < 40
    before = len(server.entries(server.queue_id("default")))
    assert before >= 40 - 16  # those under way when the first failed
    server.elasticsearch()
    await side.rest()
    assert [len(side.created(task)) for task in ids] == [1] * 40


async def test_one_tasks_trouble_is_its_own(side: Side, server: DevServer, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = server.bulk_tasks(5, queue="default")
    launch = side.launcher.launch

    async def broken(task: Any, **arguments: Any) -> Any:
        if task.id == ids[2]:
            raise ValueError("boom")
        return await launch(task, **arguments)

    with monkeypatch.context() as patch:
        patch.setattr(side.launcher, "launch", broken)
        assert await side.poll() == 4
    assert ids[2] in side.graces
    await side.rest()
    assert [len(side.created(task)) for task in ids] == [1] * 5


# ---- the end: helm uninstall takes the rights away while claims are under way ---------------------------------------

GONE_RIGHTS = {
    "role": status(403, "Forbidden", "jobs.batch is forbidden: RBAC: role not found"),
    "account": status(401, "Unauthorized", "Unauthorized"),
}


def take_rights_away(cluster: Cluster, how: str) -> None:
    answer = GONE_RIGHTS[how]
    for method in ("POST", "PATCH", "GET"):
        cluster.fault(method, *[Fault(code=answer["code"], status=answer)] * 2000)


def free(side: Side, ids: list[str]) -> None:
    """Every task is in its queue, once and in order, with nothing of ours on it."""
    server = side.server
    assert server.entries(server.queue_id("default")) == ids
    assert server.entries(server.queue_id(names.PENDING_QUEUE)) == []
    assert {side.mark(task) for task in ids} == {None}
    assert {server.task(task)["status"] for task in ids} == {"queued"}
    assert [task for task in ids if side.created(task)] == []


@pytest.mark.parametrize("how", GONE_RIGHTS)
@pytest.mark.parametrize("call", [MARK, TAKE, SHOW])
async def test_an_uninstall_in_the_middle_of_claims_leaves_no_task_behind(
    new_side: Any, new_cluster: Any, cluster: Cluster, server: DevServer, how: str, call: str
) -> None:
    side = await new_side(cluster)
    ids = server.bulk_tasks(12, queue="default")
    server.add_fault(kind="delay", endpoint=f"^{call}$", count=1, seconds=0.5, task=ids[5])
    polling = asyncio.create_task(side.poll())
    await asyncio.to_thread(wait_for, lambda: server.faults()[0]["hits"] == 1, timeout=5)
    take_rights_away(cluster, how)
    side.stop.set()
    assert await polling == 0
    await side.claims.release()
    free(side, ids)
    # Whoever else serves the queue goes on with them at once, and a later installation does not do so again.
    other = await new_side(await new_cluster(), worker_id="worker-b")
    assert await other.poll() == 12
    cluster.faults.clear()
    again = await new_side(cluster)
    await again.rest()
    assert [len(again.created(task)) + len(other.created(task)) for task in ids] == [1] * 12
    assert again.stored() == {}


@pytest.mark.parametrize(("call", "launched"), [(MARK, 0), (SHOW, 12)], ids=["marked", "taken"])
async def test_an_end_with_all_rights_launches_what_is_taken_and_takes_nothing_more(
    side: Side, server: DevServer, call: str, launched: int
) -> None:
    ids = server.bulk_tasks(12, queue="default")
    server.add_fault(kind="delay", endpoint=f"^{call}$", count=1, seconds=0.5, task=ids[5])
    polling = asyncio.create_task(side.poll())
    await asyncio.to_thread(wait_for, lambda: server.faults()[0]["hits"] == 1, timeout=5)
    side.stop.set()
    assert await polling == launched
    await side.claims.release()
    await side.book.flush()
    assert sum(len(side.created(task)) for task in ids) == launched
    assert side.stored() == {}
    if not launched:
        free(side, ids)


async def test_a_mark_that_waits_for_another_to_give_way_is_taken_back_at_the_end(
    side: Side, server: DevServer
) -> None:
    task = server.create_task(queue="default")
    server.add_fault(kind="delay", endpoint="^tasks.get_all$", nth=2, count=1, seconds=0.5)
    polling = asyncio.create_task(side.poll())
    await asyncio.to_thread(wait_for, lambda: side.mark(task) is not None, timeout=5)
    await asyncio.to_thread(mark_as, server, task, "zzzzzzzzzz")
    assert await polling == 0
    assert side.mark(task) is not None
    side.stop.set()
    await side.claims.release()
    assert side.mark(task) is None


@pytest.mark.parametrize("answer", [GONE_RIGHTS["role"], QUOTA], ids=["role", "quota"])
async def test_a_job_that_came_unseen_is_not_given_back(
    side: Side, cluster: Cluster, server: DevServer, answer: dict[str, Any]
) -> None:
    """After a doubt the Job may be there though the watch has not shown it: what is refused then is no proof."""
    task = server.create_task(queue="default")
    cluster.fault("POST", Fault(drop=True, after=True), path="jobs")
    assert await side.poll() == 0
    await side.recovery.step()
    await side.clock.advance(GRACE + 1)
    cluster.fault("POST", *[Fault(code=403, status=answer)] * 3, path="jobs")
    await side.recovery.step()
    assert server.entries(server.queue_id("default")) == []
    assert len(side.created(task)) == 1
    await side.rest()
    once(side, task)


async def test_the_order_of_what_is_given_back_is_kept(side: Side, cluster: Cluster, server: DevServer) -> None:
    ids = server.bulk_tasks(30, queue="default")
    cluster.fault("POST", *[Fault(code=403, status=QUOTA)] * 30, path="jobs")
    assert await side.poll() == 0
    free(side, ids)


async def test_batches_that_end_out_of_order_are_put_back_in_order(
    side: Side, cluster: Cluster, server: DevServer
) -> None:
    ids = server.bulk_tasks(12, queue="default")
    cluster.fault("POST", *[Fault(code=403, status=QUOTA)] * 30, path="jobs")
    queue = side.served.by_name("default")
    assert queue is not None
    batches = [[Candidate(task=task, queue=queue) for task in ids[start : start + 4]] for start in (0, 4, 8)]
    for batch in batches:
        side.book.begin(batch)
    server.add_fault(kind="delay", endpoint=f"^{TAKE}$", count=1, seconds=0.3, task=ids[1])
    assert await asyncio.gather(*(side.claims.claim(batch) for batch in batches)) == [0, 0, 0]
    free(side, ids)


async def test_a_record_without_our_mark_is_nothing_of_ours(side: Side, cluster: Cluster, server: DevServer) -> None:
    """Its mark was taken away when it could not be written any more; the task may be another's by now."""
    task = server.create_task(queue="default")
    changed = server.task(task)["status_changed"]
    server.call("queues.get_next_task", queue=server.queue_id("default"))
    claim = record.Claim(
        task=task,
        queue=server.queue_id("default"),
        mark=names.mark_value(attempt=changed, instance="gone"),
        controller=side.controller,
    )
    await side.record.add([claim])
    await side.recovery.step()
    await side.clock.advance(GRACE + 1)
    await side.recovery.step()
    assert side.created(task) == []
    await side.book.flush()
    assert side.stored() == {}


# ---- a cluster that answers with errors ------------------------------------------------------------------------------

WEBHOOK = status(500, "InternalError", 'failed calling webhook "policy.example.com": connection refused')


async def test_a_cluster_that_errs_on_every_job_is_told_and_pauses_the_queue(
    side: Side, cluster: Cluster, server: DevServer
) -> None:
    """A failing admission webhook: nobody knows whether the Job is there, so the task stays ours, and says why."""
    first = server.create_task(queue="default")
    cluster.fault("POST", *[Fault(code=500, status=WEBHOOK)] * 50, path="jobs")
    assert await side.poll() == 0
    assert side.served.active() == ()
    for _ in range(2):
        await side.recovery.step()
        await side.clock.advance(GRACE + 1)
        await side.recovery.step()
    await side.served.refresh()
    assert "policy.example.com" in side.served.states["default"].problem
    await side.teller.flush()
    assert server.console(first).count("policy.example.com") == 1
    cluster.faults.clear()
    await side.rest()
    once(side, first)
    await side.served.refresh()
    assert len(side.served.active()) == 1


async def test_an_error_that_passes_leaves_the_queue_alone_for_a_moment(
    side: Side, cluster: Cluster, server: DevServer
) -> None:
    first, second = server.create_task(queue="default"), None
    cluster.fault("POST", Fault(code=500, status=WEBHOOK), path="jobs")  # the dry run that follows is taken
    assert await side.poll() == 0
    assert side.served.states["default"].problem == ""
    assert side.served.active() == ()
    second = server.create_task(queue="default")
    await side.clock.advance(FIRST_PAUSE)
    assert await side.poll() == 1
    await side.rest()
    assert [len(side.created(task)) for task in (first, second)] == [1, 1]


async def test_an_end_keeps_the_mark_of_what_has_a_job(
    new_side: Any, new_cluster: Any, cluster: Cluster, server: DevServer
) -> None:
    """The answer to its create was lost and its grace is over; its pod waits for a node, so the task is queued still.
    Without our mark, and as the pending queue does not show it, it would be nobody's to any other controller."""
    side = await new_side(cluster)
    task = server.create_task(queue="default")
    server.add_fault(kind="error_before", endpoint=f"^{SHOW}$", count=1, status=403)
    cluster.fault("POST", Fault(drop=True, after=True), path="jobs")
    await side.poll()
    side.relist()
    await side.recovery.step()
    await side.clock.advance(GRACE + 1)
    await side.recovery.step()
    await side.book.flush()
    once(side, task)
    side.stop.set()
    await side.claims.release()
    assert side.mark(task) is not None
    other = await new_side(await new_cluster(), worker_id="worker-b")
    await other.clock.advance(365 * 86400)
    await other.rest()
    assert other.created(task) == []

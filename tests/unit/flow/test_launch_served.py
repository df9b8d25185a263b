"""Creating a Job, whatever Kubernetes answers; queues with their troubles, each for itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from clearml_k8s import names
from clearml_k8s.config import QueueConfig, QueueSettings, ResolvedQueue
from clearml_k8s.config.conditions import ConditionalTemplate
from clearml_k8s.errors import HookUnavailable, SpecError, Unreachable
from clearml_k8s.flow.edits import Edits
from clearml_k8s.flow.launch import MOST_FAILURES, OUR_MISTAKE, Launch
from clearml_k8s.flow.served import FIRST_PAUSE, LONGEST_PAUSE
from clearml_server.process import DevServer
from flow_parts import LATER, TASK, Side, make_config, make_queue, make_task
from scripted_kube import Cluster, Fault, status

QUEUE = make_queue("default")
NAME = names.job_name(TASK)


@pytest.fixture
async def side(server: DevServer, cluster: Cluster) -> AsyncIterator[Side]:
    side = Side(server=server, cluster=cluster)
    yield side
    await side.close()


async def launch(side: Side, **fields: Any) -> tuple[Launch, str]:
    found = await side.launcher.launch(make_task(**fields), queue=QUEUE)
    return found.how, found.why


async def test_created_and_known_at_once(side: Side) -> None:
    assert await launch(side) == (Launch.CREATED, "")
    (job,) = side.jobs
    assert (job.name, job.controller) == (NAME, side.controller)


async def test_a_projects_name_is_read_for_the_worker_ids_that_hold_it(side: Side, server: DevServer) -> None:
    project = server.call("projects.create", name="vision/one", description="")["id"]
    queue = ResolvedQueue(
        config=QueueConfig(name="default", settings=QueueSettings(worker_id_template="k8s:{project}:{task_id}")),
        id="id-default",
        name="default",
    )
    found = await side.launcher.launch(make_task(project=project), queue=queue)
    assert found.how is Launch.CREATED
    (job,) = side.jobs
    assert job.reports_as == f"k8s:vision/one:{TASK}"
    assert len(server.calls(endpoint="projects.get_all")) == 1
    before = server.last_call()
    await launch(side, task="0" * 32, project=project)
    assert server.calls(since=before, endpoint="projects.get_all") == []


async def test_a_task_is_read_as_a_whole_where_a_template_names_it(side: Side, server: DevServer) -> None:
    task = server.create_task("train")
    queue = ResolvedQueue(
        config=QueueConfig(name="default", template_overrides={"labels": {"name": "${CLEARML_TASK.name}"}}),
        id="id-default",
        name="default",
    )
    fault = server.add_fault(kind="error_before", endpoint="tasks.get_by_id", status=500)
    found = await side.launcher.launch(make_task(task=task), queue=queue)
    assert found.how is Launch.NOT_NOW
    assert found.why.startswith("the task cannot be read for its pod template: ")
    server.clear_faults(fault)
    found = await side.launcher.launch(make_task(task=task), queue=queue)
    assert found.how is Launch.CREATED
    (job,) = side.created(task)
    assert job["metadata"]["labels"]["name"] == "train"
    before = server.last_call()
    await launch(side, task="0" * 32)
    assert server.calls(since=before, endpoint="tasks.get_by_id") == []
    gone = await side.launcher.launch(make_task(task="1" * 32), queue=queue)
    assert gone.how is Launch.IMPOSSIBLE
    assert gone.why.startswith("the task is not there any more: ")


class Module:
    """In place of a template module's process."""

    def __init__(self, **changes: Any) -> None:
        self.changes, self.seen = changes, []

    async def __call__(self, *, template: Any, task: Any, queue: str, queue_name: str) -> Any:
        self.seen.append((task["id"], queue_name))
        if error := self.changes.get("error"):
            raise error
        return {**template, **self.changes}


def with_module(side: Side, module: Module) -> None:
    edits = Edits(config=side.config, module=module, worker_id=side.worker_id)
    side.launcher._edits = side.served._edits = edits


async def test_a_template_module_sees_the_whole_task(side: Side, server: DevServer) -> None:
    task = server.create_task("train")
    module = Module(metadata={"labels": {"by": "module"}})
    with_module(side, module)
    assert await launch(side, task=task) == (Launch.CREATED, "")
    assert module.seen == [(task, "default")]
    (job,) = side.created(task)
    assert job["metadata"]["labels"]["by"] == "module"


async def test_a_template_module_that_fails_fails_the_task_alone(side: Side, server: DevServer) -> None:
    task = server.create_task("train")
    with_module(side, Module(error=SpecError("the template module x: it raised KeyError")))
    assert await launch(side, task=task) == (Launch.IMPOSSIBLE, "the template module x: it raised KeyError")
    problem, _ = await side.served.template_problem(QUEUE)
    assert problem == "", "it may want what only a real task has"
    with_module(side, Module(error=HookUnavailable("it is at other tasks")))
    assert await launch(side, task=task) == (Launch.NOT_NOW, "it is at other tasks")


async def test_templates_are_tried_as_the_module_makes_them(side: Side, cluster: Cluster) -> None:
    with_module(side, Module(metadata={"labels": {"by": "module"}}))
    before = len(cluster.seen)
    assert (await side.served.template_problem(QUEUE))[0] == ""
    (probe,) = [seen.body for seen in cluster.seen[before:] if seen.body]
    assert probe["metadata"]["labels"]["by"] == "module"


async def test_a_mistake_of_ours_keeps_no_task_and_its_place(
    side: Side, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def mistaken(**_: Any) -> Any:
        raise KeyError("x")

    monkeypatch.setattr("clearml_k8s.flow.launch.build_job", mistaken)
    assert await launch(side) == (Launch.IMPOSSIBLE, OUR_MISTAKE)
    assert "no Job can be made of the task" in caplog.text


@pytest.mark.parametrize(
    "faults",
    [
        [Fault(code=429, headers={"Retry-After": "3"})],
        [Fault(code=401), Fault(code=401)],
        [Fault(code=409, status=status(409, "Conflict", "quota was modified"))],
        [Fault(code=429)] * (MOST_FAILURES - 1),
    ],
)
async def test_tried_until_it_is_there(side: Side, faults: list[Fault]) -> None:
    side.cluster.fault("POST", *faults, path="jobs")
    assert await launch(side) == (Launch.CREATED, "")
    assert len(side.created(TASK)) == 1
    assert len(side.jobs) == 1


@pytest.mark.parametrize(
    "fault",
    [
        Fault(drop=True),
        Fault(drop=True, after=True),
        Fault(code=500),
        Fault(code=503, headers={"Retry-After": "2"}),
    ],
)
async def test_a_doubt_is_not_tried_again(side: Side, fault: Fault) -> None:
    """The first request may land when the second one's Job has come, run and gone."""
    side.cluster.fault("POST", fault, path="jobs")
    how, why = await launch(side)
    assert how is Launch.DOUBT
    assert why
    assert len(side.created(TASK)) <= 1


async def test_what_the_server_asks_to_wait_is_waited(side: Side) -> None:
    side.cluster.fault("POST", Fault(code=429, headers={"Retry-After": "3"}), path="jobs")
    await launch(side)
    assert max(side.clock.slept) >= 3


async def test_what_is_refused_for_long_is_given_up(side: Side) -> None:
    side.cluster.fault("POST", *[Fault(code=429)] * (MOST_FAILURES + 3), path="jobs")
    how, why = await launch(side)
    assert how is Launch.NOT_NOW
    assert "does not take the Job" in why
    assert len(side.cluster.of("POST", "jobs")) == MOST_FAILURES


async def test_an_api_that_cannot_be_reached_is_waited_for_and_the_user_is_told(
    side: Side, server: DevServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = server.create_task()
    real, tries = side.client.create, 0

    async def away(*arguments: Any, **rest: Any) -> Any:
        nonlocal tries
        tries += 1
        if tries <= MOST_FAILURES + 3:
            raise Unreachable("Kubernetes", "https://kube.example.com", "connection refused")
        return await real(*arguments, **rest)

    monkeypatch.setattr(side.client, "create", away)
    assert (await launch(side, task=task))[0] is Launch.CREATED
    await side.teller.flush()
    assert server.console(task).count("Waiting: the Kubernetes API does not take the Job") == 1


async def test_its_own_job_is_success(side: Side) -> None:
    await launch(side)
    side.jobs._records.clear()
    assert await launch(side) == (Launch.CREATED, "")
    assert len(side.jobs) == 1


async def test_a_job_of_another_attempt_is_in_the_way(side: Side) -> None:
    await launch(side)
    how, why = await launch(side, changed=LATER)
    assert how is Launch.IN_THE_WAY
    assert NAME in why


async def test_a_job_of_another_controller_is_in_the_way(side: Side, server: DevServer, cluster: Cluster) -> None:
    other = Side(server=server, cluster=cluster, worker_id="other")
    await launch(other)
    await other.close()
    how, why = await launch(side)
    assert how is Launch.IN_THE_WAY
    assert f"kubectl -n ns delete job {NAME}" in why


async def test_a_job_that_was_there_and_is_gone_is_a_doubt(side: Side) -> None:
    side.cluster.fault("POST", Fault(code=409, status=status(409, "AlreadyExists", "exists")), path="jobs")
    how, why = await launch(side)
    assert how is Launch.DOUBT
    assert "is gone" in why


@pytest.mark.parametrize(
    ("answer", "how"),
    [
        (status(422, "Invalid", "bad"), Launch.IMPOSSIBLE),
        (status(400, "BadRequest", "bad"), Launch.IMPOSSIBLE),
        (status(403, "Forbidden", "admission webhook denied"), Launch.IMPOSSIBLE),
        (status(413, "RequestEntityTooLarge", "too large"), Launch.IMPOSSIBLE),
        (status(403, "Forbidden", "exceeded quota: few"), Launch.NOT_NOW),
    ],
)
async def test_refused(side: Side, answer: dict[str, Any], how: Launch) -> None:
    side.cluster.fault("POST", Fault(code=answer["code"], status=answer), path="jobs")
    found, why = await launch(side)
    assert found is how
    assert answer["message"] in why
    assert len(side.jobs) == 0


# ---- queues ---------------------------------------------------------------------------------------------------------


async def test_one_queues_trouble_stops_no_other(server: DevServer, cluster: Cluster) -> None:
    broken = QueueConfig(name="broken", template_overrides={"containers": "no list"})
    queues = {"default": QueueConfig(name="default"), "missing": QueueConfig(name="missing"), "broken": broken}
    server.create_queue("broken")
    side = Side(server=server, cluster=cluster, config=make_config(api_server=server.url, queues=queues))
    await side.served.refresh()
    assert [queue.name for queue in side.served.active()] == ["default"]
    states = side.served.states
    assert "agentk8sglue.createQueues" in states["missing"].problem
    assert "the key containers is not known" in states["broken"].problem
    await side.close()


async def test_a_template_that_kubernetes_refuses_is_named(side: Side, cluster: Cluster) -> None:
    cluster.fault("POST", Fault(code=422, status=status(422, "Invalid", "bad template")), path="jobs")
    await side.served.refresh()
    assert side.served.active() == ()
    assert "templateOverrides" in side.served.states["default"].problem
    await side.served.refresh()
    assert len(side.served.active()) == 1


async def test_every_conditional_template_is_tried_and_a_bad_one_stops_its_queue_alone(
    server: DevServer, cluster: Cluster
) -> None:
    good = ConditionalTemplate(when={"type": "a"}, template={"nodeSelector": {"a": "good"}}, place="the good one")
    bad = ConditionalTemplate(when={"type": "b"}, template={"nodeSelector": {"a": "bad"}}, place="the bad one")
    impossible = ConditionalTemplate(when={"type": "c"}, template={"nonsense": 1}, place="the impossible one")
    queues = {
        "default": QueueConfig(name="default"),
        "refused": QueueConfig(name="refused", conditional_templates=(bad,)),
        "broken": QueueConfig(name="broken", conditional_templates=(impossible,)),
    }
    for name in ("refused", "broken"):
        server.create_queue(name)
    config = make_config(api_server=server.url, queues=queues, conditional_templates=(good,))
    side = Side(server=server, cluster=cluster, config=config)
    real = side.client.create

    async def create(kind: Any, manifest: Any, **rest: Any) -> Any:
        if manifest["spec"]["template"]["spec"].get("nodeSelector") == {"a": "bad"}:
            cluster.fault("POST", Fault(code=422, status=status(422, "Invalid", "no such pool")), path="jobs")
        return await real(kind, manifest, **rest)

    side.client.create = create  # type: ignore[method-assign]
    await side.served.refresh()
    assert [queue.name for queue in side.served.active()] == ["default"]
    states = side.served.states
    assert states["refused"].problem == "Kubernetes refuses its pod template (the bad one): no such pool"
    assert states["broken"].problem.startswith("its pod template cannot be used (the impossible one): ")
    dry_runs = [seen for seen in cluster.of("POST", "jobs") if "dryRun" in seen.query]
    assert len(dry_runs) == 2 + 2 + 1  # the queue's own and the good one; own, and refused; own, and none
    await side.close()


async def test_a_task_gets_the_template_whose_condition_it_meets(side: Side, server: DevServer) -> None:
    task = server.create_task("train")
    found = ConditionalTemplate(when={"name": "train"}, template={"priorityClassName": "high"}, place="p")
    config = QueueConfig(name="default", conditional_templates=(found,))
    queue = ResolvedQueue(config=config, id="id-default", name="default")
    assert (await side.launcher.launch(make_task(task=task), queue=queue)).how is Launch.CREATED
    (job,) = side.created(task)
    assert job["spec"]["template"]["spec"]["priorityClassName"] == "high"


async def test_missing_queues_are_made_when_they_may(server: DevServer, cluster: Cluster) -> None:
    queues = {"new": QueueConfig(name="new")}
    config = make_config(api_server=server.url, queues=queues, create_queues=True)
    side = Side(server=server, cluster=cluster, config=config)
    await side.served.refresh()
    (queue,) = side.served.active()
    assert server.queue_id("new") == queue.id == (side.served.by_name("new") or QUEUE).id
    await side.close()


async def test_a_pending_queue_that_may_not_be_made_stops_nothing(side: Side, server: DevServer) -> None:
    server.add_fault(kind="error_before", endpoint="^queues.create$", status=403, subcode=20)
    await side.served.refresh()
    assert side.served.pending_queue is None
    assert len(side.served.active()) == 1
    server.clear_faults()
    await side.served.refresh()
    assert side.served.pending_queue == server.queue_id(names.PENDING_QUEUE)


async def test_a_key_may_be_an_id(server: DevServer, cluster: Cluster) -> None:
    ids = {server.queue_id("default")}
    queues = {key: QueueConfig(name=key) for key in ids}
    side = Side(server=server, cluster=cluster, config=make_config(api_server=server.url, queues=queues))
    await side.served.refresh()
    assert {queue.id for queue in side.served.active()} == ids
    await side.close()


async def test_a_paused_queue_is_checked_before_it_is_served_again(side: Side, cluster: Cluster) -> None:
    await side.served.refresh()
    (queue,) = side.served.active()
    side.served.pause(queue, "quota")
    assert side.served.active() == ()
    assert side.served.by_id(queue.id) == queue
    await side.clock.advance(31)
    dry_runs = len([seen for seen in cluster.of("POST", "jobs") if "dryRun" in seen.query])
    await side.served.refresh()
    assert len([seen for seen in cluster.of("POST", "jobs") if "dryRun" in seen.query]) == dry_runs + 1
    assert side.served.active() == (queue,)


async def test_pauses_grow_until_a_job_is_made(side: Side) -> None:
    await side.served.refresh()
    (queue,) = side.served.active()

    async def pause() -> float:
        began = side.clock.monotonic()
        side.served.pause(queue, "quota")
        side.served.pause(queue, "quota")  # of another task of the same batch
        until = side.served.states["default"].paused_until
        await side.clock.advance(until - began)
        assert side.served.active() == (queue,)
        return until - began

    pauses = [await pause() for _ in range(40)]
    assert pauses[0] <= FIRST_PAUSE
    assert LONGEST_PAUSE / 2 < max(pauses) <= LONGEST_PAUSE
    side.served.goes_on(queue)
    assert await pause() <= FIRST_PAUSE


async def test_what_a_recheck_finds_stands_until_a_refresh_finds_it_mended(side: Side, cluster: Cluster) -> None:
    await side.served.refresh()
    (queue,) = side.served.active()
    assert await side.served.recheck(queue)
    cluster.fault("POST", Fault(code=500), path="jobs")
    assert not await side.served.recheck(queue)
    assert not await side.served.recheck(queue)  # not asked again
    assert side.served.active() == ()
    assert side.served.troubled
    await side.served.refresh()
    assert side.served.active() == (queue,)
    assert not side.served.troubled


async def test_a_queue_that_is_deleted_and_comes_back(side: Side, server: DevServer) -> None:
    await side.served.refresh()
    server.call("queues.delete", queue=server.queue_id("default"), force=True)
    await side.served.refresh()
    assert side.served.active() == side.served.all_found() == ()
    server.create_queue("default")
    await side.served.refresh()
    assert len(side.served.active()) == 1


async def test_a_dry_run_leaves_no_job(side: Side, cluster: Cluster) -> None:
    await side.served.refresh()
    assert cluster.objects.get("jobs", {}) == {}

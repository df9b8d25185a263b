"""Tasks that say themselves what they need: taken by that, in their order, and never over a limit."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from clearml_k8s.config import QueueConfig, QueueSettings
from clearml_k8s.config.conditions import ConditionalTemplate
from clearml_k8s.config.policy import TaskPolicy
from clearml_k8s.flow import needs
from clearml_k8s.flow.needs import FRESH_SECONDS
from clearml_k8s.flow.poll import WAY_OUT, Poller
from clearml_k8s.kube.quota import QuotaRecord, Scope
from clearml_k8s.kube.watch import Listed
from clearml_server.process import DevServer
from flow_parts import Side, make_config
from scripted_kube import Cluster

POLICY = TaskPolicy(max_gpus=8, max_cpus=16)
ONE_GPU = {"resources": {"limits": {"nvidia.com/gpu": 1}}}


def configured(server: DevServer, *, policy: TaskPolicy = POLICY, **settings: Any) -> dict[str, Any]:
    server.call("queues.create", name="other")
    own = QueueConfig(
        name="default", template_overrides=ONE_GPU, settings=QueueSettings(task_policy=policy, **settings)
    )
    return {"api_server": server.url, "queues": {"default": own, "other": QueueConfig(name="other")}}


def ask(server: DevServer, gpus: int | str, *, queue: str = "default", task: str = "") -> str:
    """A waiting task that asks for so many GPUs."""
    task = task or server.create_task("asks")
    item = {"section": "properties", "name": "k8s-gpus", "value": str(gpus)}
    server.call("tasks.edit_hyper_params", task=task, hyperparams=[item], replace_hyperparams="none")
    if server.task(task)["status"] == "created":
        server.call("tasks.enqueue", task=task, queue=server.queue_id(queue))
    return task


def entries(server: DevServer) -> list[str]:
    return list(server.entries(server.queue_id("default")))


def gpus_of(side: Side, task: str) -> Any:
    (job,) = side.created(task)
    return job["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"]


def poller(side: Side) -> Poller:
    return Poller(
        config=side.config, session=side.session, served=side.served, claims=side.claims, book=side.book,
        counting=side.counting, needs=side.needs, teller=side.teller, may_take=lambda: True,
    )  # fmt: skip


async def test_each_costs_what_it_asks_for(new_side: Any, cluster: Cluster, server: DevServer) -> None:
    side = await new_side(cluster, config=make_config(**configured(server, max_gpus=8)))
    first, second, third = ask(server, 2), ask(server, 5), server.create_task(queue="default")
    assert await side.poll() == 3
    assert [gpus_of(side, task) for task in (first, second, third)] == [2, 5, 1]
    fourth = ask(server, 1)
    await side.book.flush()
    assert await side.poll() == 0
    del cluster.objects["jobs"][side.jobs.of_task(first)[0].name]
    side.relist()
    assert await side.poll() == 1
    assert gpus_of(side, fourth) == 1


async def test_halves_of_gpus_fill_a_limit_by_halves(new_side: Any, cluster: Cluster, server: DevServer) -> None:
    """As ClearML's documentation writes them: counted alike before a task is taken, and of the Jobs that are there."""
    half = {"resources": {"limits": {"nvidia.com/gpu": 1, "clear.ml/fraction-1": "0.5"}}}
    queue = QueueConfig(name="default", template_overrides=half, settings=QueueSettings(max_gpus=1))
    side = await new_side(cluster, config=make_config(api_server=server.url, queues={"default": queue}))
    for _ in range(3):
        server.create_task(queue="default")
    assert await side.poll() == 2
    side.relist()
    assert await side.poll() == 0
    assert len(entries(server)) == 1


async def test_the_order_of_the_queue_stays(new_side: Any, cluster: Cluster, server: DevServer) -> None:
    """A large task is not overtaken by small ones that would fit."""
    side = await new_side(cluster, config=make_config(**configured(server, max_gpus=8)))
    ask(server, 6)
    assert await side.poll() == 1
    large, small = ask(server, 4), ask(server, 1)
    await side.book.flush()
    assert await side.poll() == 0
    assert entries(server) == [large, small]
    loop = poller(side)
    await loop._poll()
    standing = next(one for one in loop.usage().standings if one.queue == "default")
    assert standing.why.startswith("a task needs 4, and 2 of 8 GPUs are left (agentk8sglue.queues.default.")
    assert standing.left == 0


async def test_what_never_fits_is_passed_over_and_told(new_side: Any, cluster: Cluster, server: DevServer) -> None:
    side = await new_side(cluster, config=make_config(**configured(server, max_gpus=4)))
    large, small = ask(server, 8), ask(server, 1)
    loop = poller(side)
    for _ in range(2):
        await loop._poll()
        await loop.stop()
        await side.book.flush()
    assert len(side.created(small)) == 1
    assert entries(server) == [large]
    assert server.task(large)["status"] == "queued"
    await side.teller.flush()
    told = [line for line in server.console(large).splitlines() if "passed over" in line]
    assert len(told) == 1
    assert "a task needs 8 GPUs, and the limit is 4" in told[0]
    assert told[0].endswith(WAY_OUT)


async def test_many_that_never_fit_hide_nobody(new_side: Any, cluster: Cluster, server: DevServer) -> None:
    """The look at a queue goes as deep as there is room, and deeper by what is passed over."""
    side = await new_side(cluster, config=make_config(**configured(server, max_gpus=4, max_pods=1)))
    for _ in range(3):
        ask(server, 8)
    small = ask(server, 1)
    loop = poller(side)
    for _ in range(5):
        await loop._poll()
        await loop.stop()
        await side.book.flush()
    assert len(side.created(small)) == 1


async def test_who_asks_for_less_while_waiting_is_heard(new_side: Any, cluster: Cluster, server: DevServer) -> None:
    side = await new_side(cluster, config=make_config(**configured(server, max_gpus=4)))
    ask(server, 3)
    assert await side.poll() == 1
    task = ask(server, 4)
    await side.book.flush()
    assert await side.poll() == 0
    ask(server, 1, task=task)
    await side.clock.advance(FRESH_SECONDS + 1)
    assert await side.poll() == 1
    assert gpus_of(side, task) == 1


async def test_who_asks_for_more_at_the_last_moment_is_chosen_anew(
    new_side: Any, cluster: Cluster, server: DevServer
) -> None:
    side = await new_side(cluster, config=make_config(**configured(server, max_gpus=4)))
    ask(server, 3)
    assert await side.poll() == 1
    await side.book.flush()
    task = ask(server, 1)
    look = side.needs.look

    async def then_it_asks_for_more(*args: Any, **kwargs: Any) -> None:
        await look(*args, **kwargs)
        ask(server, 4, task=task)

    side.needs.look = then_it_asks_for_more  # type: ignore[method-assign]
    assert await side.poll() == 0
    assert entries(server) == [task]
    assert side.created(task) == []
    side.needs.look = look  # type: ignore[method-assign]
    await side.clock.advance(1)
    assert await side.poll() == 0


async def test_what_is_in_doubt_counts_as_what_it_asked_for(new_side: Any, cluster: Cluster, server: DevServer) -> None:
    side = await new_side(cluster, config=make_config(**configured(server, max_gpus=8)))
    task = ask(server, 3)
    server.add_fault(kind="error_after_commit", endpoint="^queues.remove_task$", count=1)
    assert await side.poll() == 0
    assert task in side.book.in_flight()

    def used() -> Decimal:
        return next(limit.used for limit in side.room().limits.values() if limit.name == "gpus")

    assert used() == 3
    # After a restart nobody has read it yet.
    side.needs._read.clear()
    assert used() == 8


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize(("asks", "launched"), [(2, True), (3, True), (4, False)])
async def test_who_asks_for_more_during_a_grace_is_chosen_anew(
    new_side: Any, cluster: Cluster, server: DevServer, asks: int, launched: bool, restarted: bool
) -> None:
    """Taken, in doubt, and perhaps of another life: within the limit it is launched as it is now, else put back."""
    side = await new_side(cluster, config=make_config(**configured(server, max_gpus=8)))
    first, task = ask(server, 5), ask(server, 2)
    assert await side.poll() == 2
    await side.book.flush()
    taken = ask(server, 1)
    server.add_fault(kind="error_after_commit", endpoint="^queues.remove_task$", count=1)
    del cluster.objects["jobs"][side.jobs.of_task(task)[0].name]
    side.relist()
    assert await side.poll() == 0
    assert entries(server) == []
    ask(server, asks, task=taken)
    if restarted:
        side.needs._read.clear()
    await side.rest()
    assert [len(side.created(one)) for one in (first, taken)] == [1, launched]
    if launched:
        assert gpus_of(side, taken) == asks
    else:
        assert entries(server) == [taken]
        assert await side.poll() == 0
        await side.teller.flush()
        assert "it asks for more by now than there is room for" in server.console(taken)


async def test_a_wrong_property_fails_the_task_and_stops_nobody(
    new_side: Any, cluster: Cluster, server: DevServer
) -> None:
    side = await new_side(cluster, config=make_config(**configured(server, max_gpus=8)))
    wrong, right = ask(server, "many"), ask(server, 1)
    assert await side.poll() == 1
    assert len(side.created(right)) == 1
    assert server.task(wrong)["status"] == "failed"
    assert "k8s-gpus: found 'many'" in server.task(wrong)["status_message"]


async def test_quotas_count_what_each_asks_for(new_side: Any, cluster: Cluster, server: DevServer) -> None:
    side = await new_side(cluster, config=make_config(**configured(server)))
    hard = {"requests.nvidia.com/gpu": Decimal(6)}
    side.quotas.apply(
        Listed(items=(QuotaRecord(name="q", uid="q", resource_version="1", hard=hard, used={}, scopes=()),))
    )
    ask(server, 4), ask(server, 1), ask(server, 2)
    assert await side.poll() == 2
    (limit,) = (one for one in side.room().limits.values() if one.setting == "ResourceQuota q")
    assert limit.used == 5
    await side.book.flush()
    assert await side.poll() == 0


async def test_a_task_that_nobody_has_read_counts_as_the_most_that_it_may(
    new_side: Any, cluster: Cluster, server: DevServer
) -> None:
    """As the sweep finds one: it is not taken by what its queue takes at least."""
    side = await new_side(cluster, config=make_config(**configured(server, max_gpus=8)))
    queue = side.served.active()[0]
    ask(server, 2)
    assert await side.poll() == 1
    await side.book.flush()
    room = side.room()
    assert dict(room.costs_of(queue.id, "unread"))[f"gpus of {queue.id}"] == 8
    assert not room.fits(queue.id, "unread")
    assert room.of(queue.id) > 0


async def test_by_a_quota_too_a_task_that_nobody_has_read_takes_the_most(
    new_side: Any, cluster: Cluster, server: DevServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind those that a look at the queue reads."""
    monkeypatch.setattr(needs, "LOOK_AT", 1)
    side = await new_side(cluster, config=make_config(**configured(server)))
    hard = {"requests.nvidia.com/gpu": Decimal(8)}
    side.quotas.apply(
        Listed(items=(QuotaRecord(name="q", uid="q", resource_version="1", hard=hard, used={}, scopes=()),))
    )
    first, second = ask(server, 2), ask(server, 8)
    assert await side.poll() == 1
    assert len(side.created(first)) == 1
    await side.book.flush()
    assert await side.poll() == 0
    assert entries(server) == [second]


async def test_the_scope_of_a_quota_goes_by_the_tasks_own_priority_class(
    new_side: Any, cluster: Cluster, server: DevServer
) -> None:
    policy = TaskPolicy(priority_classes=("high",))
    side = await new_side(cluster, config=make_config(**configured(server, policy=policy)))
    scope = Scope(name="PriorityClass", operator="In", values=("high",))
    few = QuotaRecord(name="few", uid="few", resource_version="1", hard={"pods": Decimal(2)}, used={}, scopes=(scope,))
    side.quotas.apply(Listed(items=(few,)))
    tasks = [server.create_task("high") for _ in range(3)]
    for task in tasks:
        item = {"section": "properties", "name": "k8s-priority-class", "value": "high"}
        server.call("tasks.edit_hyper_params", task=task, hyperparams=[item], replace_hyperparams="none")
        server.call("tasks.enqueue", task=task, queue=server.queue_id("default"))
    usual = server.create_task(queue="default")
    assert await side.poll() == 2
    (limit,) = (one for one in side.room().limits.values() if one.setting == "ResourceQuota few")
    assert limit.used == 2
    del cluster.objects["jobs"][side.jobs.of_task(tasks[0])[0].name]
    side.relist()
    await side.book.flush()
    assert await side.poll() == 2, "the third of them, and one that the quota is not for"
    assert len(side.created(usual)) == 1


async def test_tasks_that_ask_for_the_same_are_measured_once(
    new_side: Any, cluster: Cluster, server: DevServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    side = await new_side(cluster, config=make_config(**configured(server, max_gpus=1)))
    built: list[str] = []
    build = needs.build_job

    def counted(**arguments: Any) -> Any:
        built.append(arguments["task"].id)
        return build(**arguments)

    monkeypatch.setattr(needs, "build_job", counted)
    for _ in range(20):
        ask(server, 1)
    await side.poll()
    assert len(built) <= 2


async def test_without_permission_the_task_fails_and_nothing_more_is_read(
    new_side: Any, cluster: Cluster, server: DevServer
) -> None:
    side = await new_side(cluster, config=make_config(**configured(server, policy=TaskPolicy(), max_gpus=8)))
    await side.poll()
    before = server.last_call()
    await side.needs.look([(side.served.active()[0], "0" * 32)], under_way=())
    assert server.calls(since=before) == []
    task = ask(server, 2)
    assert await side.poll() == 0
    assert server.task(task)["status"] == "failed"
    assert "(taskPolicy.maxGpus)" in server.task(task)["status_message"]


async def test_a_task_with_needs_of_its_own_costs_the_most_of_its_queues_templates(
    new_side: Any, cluster: Cluster, server: DevServer
) -> None:
    given = configured(server, max_gpus=8)
    template = {"resources": {"requests": {"cpu": 6}, "limits": {"nvidia.com/gpu": 3}}}
    big = ConditionalTemplate(when={"type": "training"}, template=template, place="p")
    config = make_config(**given, conditional_templates=(big,))
    side = await new_side(cluster, config=config)
    (queue,) = [queue for queue in side.served.active() if queue.name == "default"]
    task = ask(server, 2)
    await side.needs.look([(queue, task)], under_way=())
    own = side.needs.own(queue)
    assert own is not None
    uses = own.tasks[task].uses
    assert (uses.gpus, uses.cpus) == (2, 6)

"""No limit is passed at any time, by the API server's own log; the big run is marked `long`."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest
from audited_limits import Seen, most, most_pending, most_undecided, paced, refused_pods, seen
from chaos_counts import check, shown, statuses, until
from chaos_kube import MERGE_PATCH, Kube
from chaos_quota import set_quota
from chaos_scene import Scene
from clearml_k8s.flow.graces import GRACE_SECONDS
from clearml_k8s.flow.pace import LEAST

LABEL = "required-resources"
FIELD = f"metadata|labels|{LABEL}"
GPUS_OF_A_NODE = 64
RELEASE = "limits"


@dataclass(frozen=True, kw_only=True)
class Limited:
    """One queue: its settings, what is changed in the template, and how many tasks it gets; ``never``: no node takes
    its pods. ``gpus``, ``cpus`` and ``share`` (of the monitored resources) of each task."""

    tasks: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    gpus: int = 0
    cpus: str = "0"
    share: str = "0"
    deadline: bool = False
    never: bool = False

    def template(self, base: Mapping[str, Any]) -> dict[str, Any]:
        limits = {"nvidia.com/gpu": self.gpus} if self.gpus else {}
        return {
            **({"resources": {"requests": {"cpu": self.cpus}, "limits": limits}} if self.gpus or self.cpus else {}),
            **({"labels": {LABEL: self.share}} if self.share != "0" else {}),
            **({"activeDeadlineSeconds": 3600} if self.deadline else {}),
            **({"nodeSelector": {**base["nodeSelector"], "type": "nowhere"}} if self.never else {}),
        }


SMALL = {
    "pods": Limited(tasks=10, settings={"maxPods": 3}),
    "gpus": Limited(tasks=8, settings={"maxGpus": 5, "priority": 2}, gpus=2),
    "cpus": Limited(tasks=10, settings={"maxCpus": 1.6}, cpus="500m"),
    "half": Limited(tasks=12, settings={"weight": 3}, share="0.5"),
    "whole": Limited(tasks=6, share="1"),
    "quota": Limited(tasks=8, deadline=True),
    "nowhere": Limited(tasks=6, settings={"maxPendingPods": 2}, never=True),
}


def big(draw: random.Random) -> dict[str, Limited]:
    """20 queues with 100 tasks each, with all kinds of limits."""
    queues: dict[str, Limited] = {}
    for number in range(20):
        kinds = {
            0: Limited(tasks=100, settings={"maxPods": draw.randint(1, 12)}),
            1: Limited(tasks=100, settings={"maxGpus": draw.randint(4, 24)}, gpus=draw.randint(1, 4)),
            2: Limited(tasks=100, settings={"maxCpus": draw.randint(2, 9)}, cpus=f"{draw.randint(200, 900)}m"),
            3: Limited(
                tasks=100, settings={"weight": draw.randint(1, 4)}, share=draw.choice(["0.25", "0.5", "1", "2"])
            ),
            4: Limited(tasks=100, settings={"priority": draw.randint(-2, 2)}, deadline=True),
        }
        queues[f"queue-{number}"] = kinds[number % 5]
    queues["queue-0"] = Limited(tasks=100, settings={"maxPendingPods": 4}, never=True)
    return queues


async def give_gpus(kube: Kube) -> None:
    for node in (await kube.request("GET", "/api/v1/nodes?labelSelector=type%3Dkwok"))["items"]:
        room = {"nvidia.com/gpu": str(GPUS_OF_A_NODE)}
        body = {"status": {"capacity": room, "allocatable": room}}
        await kube.request("PATCH", f"/api/v1/nodes/{node['metadata']['name']}/status", body=body, kind=MERGE_PATCH)


def largest(found: Sequence[Seen], queues: Mapping[str, Limited]) -> dict[str, Decimal]:
    """What was used of each limit at most, by its name."""
    every = {name: [one for one in found if one.queue == name] for name in queues}
    used = {"maxPods": most(found, lambda _: 1), "monitored": most(found, lambda one: one.label(LABEL))}
    used["undecided"] = most_undecided(found)
    used["quota"] = most([one for one in found if queues[one.queue].deadline], lambda _: 1)
    for name, queue in queues.items():
        for setting in queue.settings:
            match setting:
                case "maxPods":
                    used[f"{name}.{setting}"] = most(every[name], lambda _: 1)
                case "maxGpus":
                    used[f"{name}.{setting}"] = most(every[name], lambda one: one.amount("nvidia.com/gpu"))
                case "maxCpus":
                    used[f"{name}.{setting}"] = most(every[name], lambda one: one.amount("cpu"))
                case "maxPendingPods":
                    used[f"{name}.{setting}"] = most_pending(every[name])
    return used


@pytest.mark.parametrize(
    ("queues", "max_pods", "monitored", "pending", "quota"),
    [
        pytest.param(SMALL, 14, 2.5, 6, 2, id="small"),
        pytest.param(
            big(random.Random(6)), 40, 12.5, 40, 11, id="big", marks=[pytest.mark.long, pytest.mark.timeout(3600)]
        ),
    ],
)
async def test_no_limit_is_passed(
    scene: Scene,
    capsys: pytest.CaptureFixture[str],
    queues: dict[str, Limited],
    max_pods: int,
    monitored: float,
    pending: int,
    quota: int,
) -> None:
    kube, server, namespace, began = scene.kube, scene.server, scene.namespaces[0], time.monotonic()
    await give_gpus(kube)
    await set_quota(kube, namespace, pods=quota)
    tasks: dict[str, list[str]] = {}
    for name, queue in queues.items():
        server.call("queues.create", name=name)
        tasks[name] = server.bulk_tasks(queue.tasks, queue=name)
    never = [task for name, queue in queues.items() if queue.never for task in tasks[name]]
    everything = [task for ids in tasks.values() for task in ids]
    base = {"nodeSelector": {"type": "kwok"}}
    controller = scene.controller(
        RELEASE,
        limits={"": max_pods},
        grace_seconds=GRACE_SECONDS,
        monitoredResources={"maxResources": monitored, "minResourcesFieldName": FIELD, "maxResourcesFieldName": FIELD},
        maxPendingPods=pending,
        queues={
            name: {"templateOverrides": queue.template(base), "queueSettings": dict(queue.settings)}
            for name, queue in queues.items()
        },
    )
    runs = [task for task in everything if task not in set(never)]

    def done() -> bool:
        return all(status == "completed" for status in statuses(server, runs).values())

    async with scene.agents() as agents, controller:
        await until(done, lambda: f"{Counter(statuses(server, runs).values())}", limit=90 + len(runs))
        # Those that no node takes have held nobody up, and their user gives up.
        held_back = [
            task for name, queue in queues.items() if queue.never for task in server.entries(server.queue_id(name))
        ]
        for task in never:
            server.call("tasks.stop", task=task, force=True)
        await scene.settled(
            everything, releases={RELEASE: namespace}, agents=agents, aborted=never, limit=90 + len(runs)
        )
    found = seen(scene.audit.events(), aborted=never)
    counts = scene.count(everything, agents=agents, aborted=never)
    limits: dict[str, float] = {"maxPods": max_pods, "monitored": monitored, "undecided": pending, "quota": quota}
    limits |= {
        f"{name}.{setting}": number
        for name, queue in queues.items()
        for setting, number in queue.settings.items()
        if setting.startswith("max")
    }
    used = largest(found, queues)
    with capsys.disabled():
        facts = {"time": f"{time.monotonic() - began:.0f} s"}
        facts["most used of each limit"] = ", ".join(f"{name} {used[name]} of {limits[name]}" for name in sorted(used))
        print(shown("LIMITS", facts, counts))
    assert used.keys() == limits.keys()
    passed = {name: (used[name], number) for name, number in limits.items() if used[name] > Decimal(str(number))}
    assert passed == {}
    idle = {name for name in used if used[name] == 0}
    assert idle == set(), "each limit was in use"
    assert refused_pods(scene.audit.events()) == 0, "no pod was sent for which the quota had no room"
    assert len(held_back) == len(never) - limits[next(n for n in limits if n.endswith(".maxPendingPods"))]
    check(counts, limits={"": max_pods})


async def test_the_pace_is_that_of_the_cluster(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a setting: Kubernetes has before it no more than the least until it got to more. The seconds in which it
    must have are not asked of a busy machine, but of a clock of ours (tests/unit/flow/test_pace.py)."""
    tasks, began = scene.server.bulk_tasks(120, queue="alpha"), time.monotonic()
    queues = {"alpha": {"templateOverrides": {"nodeSelector": {"type": "kwok"}}}}
    # With the real time limits: a create that is cut off is answered after all, and is then not written down whole.
    controller = scene.controller(RELEASE, limits={}, maxPendingPods=None, queues=queues, grace_seconds=GRACE_SECONDS)
    async with scene.agents() as agents, controller:
        await scene.settled(tasks, releases={RELEASE: scene.namespaces[0]}, agents=agents, limit=330)
    found = paced(seen(scene.audit.events()))
    with capsys.disabled():
        facts = {"time": f"{time.monotonic() - began:.0f} s"}
        facts["most before Kubernetes at one time"] = str(max(before for before, _ in found))
        print(shown("PACE", facts, scene.count(tasks, agents=agents)))
    # The log lacks a Job now and then, of which the watch tells.
    assert len(found) >= 0.9 * len(tasks)
    assert max(got_to for _, got_to in found) > LEAST
    assert [(before, got_to) for before, got_to in found if before > max(LEAST, got_to)] == []


async def test_a_refusal_by_quota_pauses_its_queue_alone(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    """Where quotas are not watched: the Job's FailedCreate event stops the queue, and its pod lets it go on."""
    kube, server, namespace, began = scene.kube, scene.server, scene.namespaces[0], time.monotonic()
    await set_quota(kube, namespace, pods=2)
    tasks = {name: server.bulk_tasks(count, queue=name) for name, count in (("alpha", 8), ("beta", 8))}
    go_on = asyncio.Event()

    async def work(task: str) -> None:
        if task in tasks["alpha"]:
            await go_on.wait()

    controller = scene.controller(
        RELEASE,
        limits={},
        respectResourceQuotas=False,
        maxPendingPods=3,
        queues={"alpha": {"templateOverrides": {"activeDeadlineSeconds": 3600}}, "beta": {}},
    )
    everything = [*tasks["alpha"], *tasks["beta"]]

    def log() -> list[str]:
        return controller.log.read_text().splitlines()

    async with scene.agents(work=work) as agents, controller:
        await until(
            lambda: any("nothing is taken from queue" in line and "exceeded quota: team" in line for line in log()),
            "the queue is paused, with the reason",
            limit=90,
        )
        await until(
            lambda: set(statuses(server, tasks["beta"]).values()) == {"completed"}, "the other goes on", limit=60
        )
        assert len(server.entries(server.queue_id("alpha"))) == 8 - 2 - 3, "two run, three had been made"
        go_on.set()
        await scene.settled(everything, releases={RELEASE: namespace}, agents=agents, limit=240)
        said = log()
    counts = scene.count(everything, agents=agents)
    with capsys.disabled():
        facts = {"time": f"{time.monotonic() - began:.0f} s", "pods refused": refused_pods(scene.audit.events())}
        print(shown("QUOTA WITHOUT A WATCH", facts, counts))
    assert any("queue goes on" in line and "alpha" in line for line in said)
    assert not any("nothing is taken" in line and "beta" in line for line in said)
    assert refused_pods(scene.audit.events()) > 0
    check(counts, limits={})

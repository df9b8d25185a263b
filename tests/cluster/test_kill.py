"""The controller is killed 63 times, inside each step of the claim, while tasks flow and users abort some of them.

None is lost or starts twice, and no limit is passed, with the pods counted that are still ending.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from chaos_agent import Agents, ClearML
from chaos_controller import ControllerProcess, config
from chaos_counts import check, count, settled, shown, statuses, until
from chaos_kube import Access, AuditLog, Kube, plain_kubeconfig
from chaos_proxy import STEPS, Fate, Proxy, Request, Steps
from clearml_server.process import DevServer

FIRST, TASKS = 60, 240  # tasks that wait at the beginning, and all: the others come as the kills go on
LIMITS = {"alpha": 30, "beta": 20, "": 40}
ENDED, ABORTED = 150, 40  # tasks that end, and are aborted, while the controller is killed; the others fill the places
AT_ONCE = 8  # aborted at the end, in a queue that is full and in which more tasks wait
DELETE_AFTER = "3s"  # how long a deleted pod stays: longer than the controller needs to find its place free
MOMENTS = ("sent, lands after the kill", "sent, never lands", "done, answer lost")
ENDPOINTS = {"mark": "tasks.edit_hyper_params", "take": "queues.remove_task", "show": "queues.add_task"}


@dataclass
class Trap:
    """Holds the first request of a step until the controller is dead."""

    step: str = ""
    moment: str = ""
    task: str | None = None
    armed: bool = False

    def __post_init__(self) -> None:
        self.caught = asyncio.Event()
        self.killed = asyncio.Event()

    def set(self, step: str, moment: str) -> None:
        self.step, self.moment, self.armed = step, moment, True
        self.caught, self.killed = asyncio.Event(), asyncio.Event()

    async def before(self, request: Request) -> Fate:
        moment = self.moment  # of this kill: when it is over, the trap is set for the next
        if not self.armed or request.step != self.step or moment == MOMENTS[2]:
            return Fate.PASS
        await self._hold(request)
        return Fate.PASS if moment == MOMENTS[0] else Fate.DROP_BEFORE

    async def after(self, request: Request) -> None:
        if self.armed and request.step == self.step and self.moment == MOMENTS[2]:
            await self._hold(request)

    async def _hold(self, request: Request) -> None:
        self.armed, self.task = False, request.task
        self.caught.set()
        await self.killed.wait()


@pytest.mark.parametrize("rounds", [1, pytest.param(3, marks=pytest.mark.long)])
async def test_kills_in_every_step_lose_no_task_and_start_none_twice(
    rounds: int,
    kube: Kube,
    kube_access: Access,
    namespaces: tuple[str, str],
    audit: AuditLog,
    server: DevServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    namespace, draw = namespaces[0], random.Random(63)
    sources = {name: server.create_queue(name) for name in ("alpha", "beta")}
    pending = server.create_queue("k8s_scheduler", system_tags=["k8s-glue"])
    tasks: list[str] = []
    queue_of: dict[str, str] = {}
    running: set[str] = set()
    aborted: set[str] = set()
    # Running tasks end as the kills go on, so that work is left for each of them.
    places = {name: asyncio.Semaphore(0) for name in sources}

    async def work(task: str) -> None:
        running.add(task)
        try:
            await places[queue_of[task]].acquire()
        finally:
            running.discard(task)

    def some_queue() -> str:
        return draw.choices(("alpha", "beta"), (0.6, 0.4))[0]

    def enqueue(number: int, *, queue: str | None = None) -> None:
        for _ in range(number):
            name = queue or some_queue()
            made = server.bulk_tasks(1, queue=name)
            tasks.extend(made)
            queue_of.update(dict.fromkeys(made, name))

    def end(number: int) -> None:
        for _ in range(number):
            places[some_queue()].release()

    def abort(number: int) -> None:
        """As users do it: half of them tasks that run, half of them tasks that wait, wherever these are by now."""
        for _ in range(number):
            waiting = [task for task, status in statuses(server, tasks).items() if status == "queued"]
            there = sorted(running - aborted)
            if there and (not waiting or draw.random() < 0.5):
                aborted.add(task := draw.choice(there))
                server.call("tasks.stopped", task=task)
            elif waiting:
                aborted.add(task := draw.choice(sorted(waiting)))
                server.call("tasks.stop", task=task)

    def full() -> bool:
        """As many run as may: in all, or of each queue that still has entries."""
        now = Counter(queue_of[task] for task in running)
        waiting = {name for name, queue in sources.items() if server.entries(queue)}
        return len(running) == LIMITS[""] or all(now[name] == LIMITS[name] for name in waiting)

    trap, kills = Trap(), Counter[tuple[str, str]]()
    late: list[tuple[str, str, float]] = []  # endpoint, task, time of the kill
    async with (
        Proxy(server.url) as to_clearml,
        Proxy(kube_access.server, tls=kube_access.tls) as to_kube,
        ClearML(server, name="agent") as clearml,
        Agents(kube=kube, clearml=clearml, namespace=namespace, work=work) as agents,
    ):
        kubeconfig = tmp_path / "kubeconfig"
        kubeconfig.write_text(plain_kubeconfig(to_kube.url))
        for proxy in (to_clearml, to_kube):
            proxy.decide, proxy.after = trap.before, trap.after
        controller = ControllerProcess(
            document=config(
                release="killed",
                namespace=namespace,
                api_server=to_clearml.url,
                queues={"alpha": LIMITS["alpha"], "beta": LIMITS["beta"]},
                max_pods=LIMITS[""],
                delete_after=DELETE_AFTER,
            ),
            folder=tmp_path,
            kubeconfig=kubeconfig,
            access_key=server.access_key,
            secret_key=server.secret_key,
        )
        began = time.monotonic()
        plan = [(step, moment) for step in STEPS for moment in MOMENTS] * rounds
        draw.shuffle(plan)
        share = partial(_share, of=len(plan))

        async def start() -> None:
            to_clearml.steps = to_kube.steps = Steps(sources=frozenset(sources.values()), pending=pending)
            await controller.start()

        try:
            enqueue(FIRST)
            for number, (step, moment) in enumerate(plan):
                trap.set(step, moment)
                await start()
                if number % 2:
                    abort(share(ABORTED, number))
                await until(_caught(trap, agents, controller), lambda: f"step {trap.step!r} comes", limit=60)
                await controller.kill()
                kills[step, moment] += 1
                if moment == MOMENTS[0] and trap.task and step in ENDPOINTS:
                    late.append((ENDPOINTS[step], trap.task, time.time()))
                await asyncio.sleep(draw.choice((0.0, 0.0, 0.3, 0.8)) if moment == MOMENTS[0] else 0.0)
                trap.killed.set()
                if not number % 2:
                    abort(share(ABORTED, number))
                end(share(ENDED, number))
                enqueue(share(TASKS - FIRST, number))
            killing = time.monotonic() - began
            await start()
            await until(full, lambda: f"the places are full: {len(running)} run", limit=60)
            # One queue alone is full, and there is room in all: its own limit is all that holds its tasks back.
            for _ in tasks:
                places["alpha"].release()
            enqueue(LIMITS["beta"] + AT_ONCE, queue="beta")

            def beta_alone() -> bool:
                there = Counter(queue_of[task] for task in running - aborted)
                return there == {"beta": LIMITS["beta"]} and not server.entries(sources["alpha"])

            await until(beta_alone, lambda: f"queue beta alone is full: {len(running)} run", limit=60)
            # Some of those ended at once, by places that had been given up before.
            enqueue(AT_ONCE, queue="beta")
            assert len(server.entries(sources["beta"])) >= AT_ONCE
            at_once = sorted(running - aborted)[:AT_ONCE]
            aborted.update(at_once)
            for task in at_once:
                server.call("tasks.stopped", task=task)
            await until(beta_alone, lambda: f"queue beta is full again: {len(running)} run", limit=60)
            for _ in tasks:
                places["beta"].release()
            await settled(
                server=server,
                tasks=tasks,
                kube=kube,
                releases={"killed": namespace},
                agents=[agents],
                aborted=aborted,
            )
        finally:
            await controller.kill()
    counts = count(server=server, tasks=tasks, audit=audit, agents=[agents], aborted=aborted)
    landed = sum(any(call["time"] >= at for call in server.calls(endpoint=what, task=task)) for what, task, at in late)
    per_step = Counter(step for step, _ in kills.elements())
    with capsys.disabled():
        facts = {
            "kills": f"{kills.total()} in {killing:.0f} s, all in {time.monotonic() - began:.0f} s",
            "inside each step": ", ".join(f"{step} {per_step[step]}" for step in STEPS),
            "at each moment": ", ".join(f"{m}: {sum(n for (_, k), n in kills.items() if k == m)}" for m in MOMENTS),
            "aborted": f"{len(aborted)}, {counts.aborted} of them before they could go on",
            "landed after their sender's death": f"{landed} of {len(late)} marks, takes and shows (server's call log)",
        }
        print(shown("SIGKILL", facts, counts))
    assert landed == len(late)
    assert set(kills.values()) == {rounds}
    assert len(kills) == len(STEPS) * len(MOMENTS)
    check(counts, limits=LIMITS)
    assert counts.aborted > AT_ONCE
    assert len(tasks) - len(aborted) <= counts.jobs <= len(tasks)


def _caught(trap: Trap, agents: Agents, controller: ControllerProcess) -> Callable[[], bool]:
    def caught() -> bool:
        agents.check()
        assert controller.running, f"the controller ended by itself before step {trap.step!r}"
        return trap.caught.is_set()

    return caught


def _share(whole: int, number: int, *, of: int) -> int:
    """The part of ``whole`` that falls to one kill; the parts of all kills make the whole."""
    return whole * (number + 1) // of - whole * number // of

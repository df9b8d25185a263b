"""The whole process against both servers, with its time under the test's hand."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from answered_steps import AnsweredSteps
from clearml_k8s import logs, metrics
from clearml_k8s.app import process
from clearml_k8s.app.connect import clearml_session
from clearml_k8s.app.heartbeat import LIMIT_SECONDS, Heartbeats
from clearml_k8s.app.parts import Parts
from clearml_k8s.app.process import Controller, lease_of
from clearml_k8s.clearml.keys import Credentials
from clearml_k8s.config import Config, QueueConfig, QueueSettings
from clearml_k8s.config.dashboard import CpuDiscovery, DashboardConfig, GpuDiscovery
from clearml_k8s.config.kueue import KueueConfig
from clearml_k8s.config.pod_commands import PodCommandsConfig
from clearml_k8s.config.sessions import SessionsConfig
from clearml_k8s.flow.book import ClaimBook
from clearml_k8s.flow.marking import Marking
from clearml_k8s.flow.poll import Poller
from clearml_k8s.flow.reads import TaskReads
from clearml_k8s.flow.reconcile import Reconciler
from clearml_k8s.flow.recover import Recovery
from clearml_k8s.flow.served import ServedQueues
from clearml_k8s.flow.tell import Teller
from clearml_k8s.kube.client import KubeClient
from clearml_k8s.kube.lease import Lease
from clearml_k8s.kube.watch import Watch
from clearml_k8s.settings import Settings
from clearml_server.process import DevServer
from flow_parts import make_config
from living import runs
from manual_clock import ManualClock
from scripted_kube import Cluster, Fault, status

Start = Callable[..., Awaitable["Running"]]


class Running:
    """One controller; its time goes on only by `until` and `passes`."""

    def __init__(self, *, config: Config, server: DevServer, session_port: int, pod: str | None) -> None:
        self.pod = pod
        self.clock = ManualClock()
        self.heartbeats = Heartbeats(clock=self.clock)
        self.config = config
        self.port = session_port
        self.stop = asyncio.Event()
        self.credentials = Credentials(access_key=server.access_key, secret_key=server.secret_key, source="the test")
        self.task: asyncio.Task[int] | None = None

    async def run(self, kubeconfig: str) -> int:
        clock = self.heartbeats.clock
        keeper = await KubeClient.connect(clock=clock, kubeconfig=kubeconfig, context=None)
        self.lease = lease = lease_of(self.config, client=keeper, pod=self.pod)
        client = await KubeClient.connect(clock=clock, kubeconfig=kubeconfig, context=None, guard=lease.guard)
        redact = logs.Redactor()
        session = clearml_session(
            self.config, credentials=self.credentials, clock=clock, learn=redact.add, guard=lease.guard
        )
        async with keeper, client, session:
            controller = Controller(
                config=self.config,
                settings=Settings(port=self.port),
                lease=lease,
                session=session,
                client=client,
                instruments=metrics.create(),
                redact=redact,
                heartbeats=self.heartbeats,
            )
            self.controller = controller
            return await controller.run(self.stop)

    @property
    def parts(self) -> Parts | None:
        return self.controller._parts

    async def until(self, condition: Callable[[], Any], *, step: float = 0.1) -> None:
        """Let the time go on until the condition holds (at most 30 s of the test's own)."""
        async with asyncio.timeout(30):
            while not condition():
                await self.clock.advance(step)
                await asyncio.sleep(0.005)
                if self.task is not None and self.task.done():
                    await self.task

    async def passes(self, seconds: float) -> None:
        """Let the time go on, and look at /healthz all along."""
        for _ in range(int(seconds / 5)):
            await self.clock.advance(5)
            await asyncio.sleep(0.001)
            await self.on_time()
        assert await self.get("healthz") == (200, "ok\n")

    async def on_time(self) -> None:
        """No loop is late, once what is under way on real sockets has come in: this clock runs ahead of these."""
        end = time.monotonic() + 5
        while (late := self.heartbeats.late()) and time.monotonic() < end:
            await asyncio.sleep(0.005)
        assert late == {}

    async def get(self, path: str) -> tuple[int, str]:
        url = f"http://127.0.0.1:{self.port}/{path}"
        async with aiohttp.ClientSession() as http, http.get(url) as reply:
            return reply.status, await reply.text()

    async def serving(self) -> None:
        async with asyncio.timeout(30):
            while "controller: serving" not in (await self.get("readyz"))[1]:
                await self.clock.advance(0.1)
                await asyncio.sleep(0.005)


@pytest.fixture
async def start(
    server: DevServer, cluster: Cluster, kubeconfig: str, unused_tcp_port_factory: Callable[[], int]
) -> AsyncIterator[Start]:
    async with contextlib.AsyncExitStack() as stack:

        async def begin(config: Config | None = None, *, pod: str | None = None) -> Running:
            running = Running(
                pod=pod,
                config=config or make_config(api_server=server.url),
                server=server,
                session_port=unused_tcp_port_factory(),
            )
            running.task = asyncio.create_task(running.run(kubeconfig))
            stack.push_async_callback(asyncio.wait, [running.task])
            stack.callback(running.task.cancel)
            async with asyncio.timeout(10):
                while True:
                    with contextlib.suppress(aiohttp.ClientConnectionError):
                        await running.get("healthz")
                        return running
                    await asyncio.sleep(0.01)

        yield begin


def told(caplog: pytest.LogCaptureFixture, level: int, text: str) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno == level and text in r.getMessage()]


async def test_a_task_is_launched_and_the_stop_is_orderly(start: Start, server: DevServer, cluster: Cluster) -> None:
    running = await start()
    await running.serving()
    task = server.create_task(queue="default")
    await running.until(lambda: cluster.objects.get("jobs"))
    assert list(cluster.objects["jobs"]) == [f"clearml-id-{task}"]
    running.stop.set()
    assert running.task is not None
    await running.until(running.task.done)
    assert running.task.result() == 0


async def test_an_idle_controller_logs_nothing(
    start: Start, server: DevServer, caplog: pytest.LogCaptureFixture
) -> None:
    running = await start()
    await running.serving()
    caplog.set_level(logging.INFO)
    async with asyncio.timeout(30):
        while "queue default: served" not in (await running.get("readyz"))[1]:
            await running.clock.advance(0.1)
            await asyncio.sleep(0.005)
    caplog.clear()
    seen, at = server.last_call(), running.clock.monotonic()
    await running.until(lambda: running.clock.monotonic() > at + 60)
    polls = [call for call in server.calls(since=seen) if call["endpoint"] == "queues.get_all"]
    assert len(polls) > 5
    assert [r.getMessage() for r in caplog.records if r.name.startswith("clearml_k8s")] == []


async def test_the_status_tells_why_a_task_waits_and_shows_no_secret(
    start: Start, server: DevServer, cluster: Cluster
) -> None:
    running = await start(make_config(api_server=server.url, max_pods=1))
    await running.serving()
    task = server.create_task(queue="default")
    await running.until(lambda: cluster.objects.get("jobs"))
    job = cluster.objects["jobs"][f"clearml-id-{task}"]["metadata"]
    short = f"0/1 nodes are available: 1 Insufficient nvidia.com/gpu. {server.secret_key}"
    scheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": short}
    cluster.put(
        "pods",
        "p",
        metadata={"labels": job["labels"], "ownerReferences": [{"kind": "Job", "uid": job["uid"]}]},
        status={"phase": "Pending", "conditions": [scheduled]},
    )
    found: dict[str, Any] = {"waiting": []}
    async with asyncio.timeout(30):
        # The queue's length is looked at now and then.
        while [one["category"] for one in found["waiting"]] != ["unschedulable"] or found["queues"][0]["waiting"] != 0:
            await running.clock.advance(0.1)
            await asyncio.sleep(0.005)
            found = json.loads((await running.get("status"))[1])
    assert found["state"] == "serving"
    assert found["clearml"] == {"address": server.url, "state": "healthy", "reason": ""}
    (queue,) = found["queues"]
    assert {key: queue[key] for key in ("key", "waiting", "pending", "running", "placesLeft", "problem", "reason")} == {
        "key": "default",
        "waiting": 0,
        "pending": 1,
        "running": 0,
        "placesLeft": 0,
        "problem": False,
        "reason": "limit of 1 pods is reached (agentk8sglue.maxPods)",
    }
    assert {"limit": "pods", "setting": "agentk8sglue.maxPods", "most": 1.0, "used": 1.0} in found["limits"]
    assert [one["used"] for one in queue["limits"] if one["limit"] == "pending-pods"] == [1.0]
    assert found["waiting"][0]["task"] == task
    assert "Insufficient nvidia.com/gpu" in found["waiting"][0]["why"]
    assert server.secret_key not in json.dumps(found)
    # What is quoted of Kubernetes stands in both pages.
    assert running.parts is not None
    queue_state = running.parts.served
    queue_state.pause(queue_state.all_found()[0], f"Kubernetes refuses the Job: {server.secret_key}")
    for path in ("status", "readyz"):
        page = (await running.get(path))[1]
        assert "Kubernetes refuses the Job: ********" in page
        assert server.secret_key not in page


# ---- the queues -----------------------------------------------------------------------------------------------------


async def test_a_lookup_that_fails_as_a_whole_is_a_warning(
    start: Start, server: DevServer, caplog: pytest.LogCaptureFixture
) -> None:
    running = await start()
    await running.serving()
    server.add_fault(kind="error_before", endpoint="^queues.get_all$", status=403, subcode=20)
    await running.until(lambda: told(caplog, logging.WARNING, "looking the queues up failed"), step=1.0)
    assert "403/20" in told(caplog, logging.WARNING, "looking the queues up failed")[0]


# ---- metrics --------------------------------------------------------------------------------------------------------


async def test_what_prometheus_sees_of_a_task(start: Start, server: DevServer, cluster: Cluster) -> None:
    running = await start()
    await running.serving()
    tasks = server.bulk_tasks(3, queue="default")
    await running.until(lambda: len(cluster.objects.get("jobs", {})) == 3)

    async def shown() -> dict[str, float]:
        text = (await running.get("metrics"))[1]
        assert not any(task in text for task in tasks)
        lines = (line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")
        return {name: float(number) for name, number in lines}

    async with asyncio.timeout(30):
        while (found := await shown()).get('clearml_k8s_queue_entries{queue="default"}') != 0:
            await running.clock.advance(1.0)
            await asyncio.sleep(0.005)
    names = {name.partition("{")[0].removeprefix("clearml_k8s_") for name in found}
    bases = {re.sub("_(total|created|bucket|count|sum)$", "", name) for name in names}
    assert bases - {metric.name.removeprefix(metrics.PREFIX) for metric in metrics.ALL} == set()
    assert found['clearml_k8s_launches_total{queue="default",result="created"}'] == 3
    assert found['clearml_k8s_take_to_job_seconds_count{queue="default"}'] == 3
    assert found['clearml_k8s_queue_places_used{queue="default"}'] == 3
    assert found['clearml_k8s_jobs_not_running{queue="default",state="starting"}'] == 3
    assert found["clearml_k8s_leader"] == found['clearml_k8s_api_healthy{api="kubernetes"}'] == 1
    assert found["clearml_k8s_last_poll_timestamp_seconds"] > 0


async def test_the_last_poll_goes_on_without_room_and_stands_still_without_a_server(
    start: Start, server: DevServer, cluster: Cluster
) -> None:
    running = await start(make_config(api_server=server.url, max_pods=1))
    await running.serving()
    server.bulk_tasks(2, queue="default")
    await running.until(lambda: len(cluster.objects.get("jobs", {})) == 1)

    async def last() -> float:
        text = (await running.get("metrics"))[1]
        return float(re.findall(r"^clearml_k8s_last_poll_timestamp_seconds (\S+)$", text, flags=re.MULTILINE)[0])

    async def goes_on(*, seconds: int = 30) -> bool:
        before = await last()
        for _ in range(5 * seconds):  # slowly: answers come in real time
            await running.clock.advance(0.2)
            await asyncio.sleep(0.005)
        return await last() > before

    assert await goes_on()
    server.down(mode="503")
    async with asyncio.timeout(30):
        while "clearml: healthy" in (await running.get("readyz"))[1]:
            await running.clock.advance(1.0)
            await asyncio.sleep(0.005)
    assert not await goes_on()
    document = json.loads((await running.get("status"))[1])
    assert document["secondsSinceLastPoll"] >= 30
    server.up()
    async with asyncio.timeout(30):
        while not await goes_on(seconds=5):
            pass
    assert json.loads((await running.get("status"))[1])["secondsSinceLastPoll"] < 30


# ---- two instances --------------------------------------------------------------------------------------------------


async def both(one: Running, two: Running, condition: Callable[[], Any], *, step: float = 0.1) -> None:
    """The same time passes for both; never do both lead."""
    async with asyncio.timeout(30):
        while not condition():
            for running in (one, two):
                await running.clock.advance(step)
            await asyncio.sleep(0.005)
            assert not (one.lease.certain and two.lease.certain)


async def test_the_second_of_one_release_stands_by_and_takes_over(
    start: Start, server: DevServer, cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    one = await start(pod="pod-1")
    await one.serving()
    two = await start(pod="pod-2")
    assert one.task is not None
    await both(one, two, lambda: told(caplog, logging.INFO, "standby"))
    assert f"controller: standby: {one.lease.holder} leads" in (await two.get("readyz"))[1]
    assert (await two.get("healthz"))[0] == (await two.get("readyz"))[0] == 200
    assert "clearml_k8s_leader 1.0" in (await one.get("metrics"))[1]
    assert "clearml_k8s_leader 0.0" in (await two.get("metrics"))[1]
    assert 'clearml_k8s_queue_state{queue="default",state="served"} 1.0' in (await one.get("metrics"))[1]
    assert "clearml_k8s_queue_state{" not in (await two.get("metrics"))[1]
    # It did nothing: the first one's record is as it was, and a task is that one's.
    assert cluster.objects["configmaps"]["gpu-clearml-agent-claims"]["metadata"]["annotations"] == {
        "clearml-k8s.io/holder": one.lease.holder
    }
    first = server.create_task(queue="default")
    await both(one, two, lambda: f"clearml-id-{first}" in cluster.objects.get("jobs", {}))
    one.stop.set()
    await both(one, two, lambda: one.task is not None and one.task.done())
    assert one.task.result() == 0
    await both(one, two, lambda: two.lease.certain)
    second = server.create_task(queue="default")
    await both(one, two, lambda: f"clearml-id-{second}" in cluster.objects["jobs"])
    assert "controller: serving" in (await two.get("readyz"))[1]


async def test_a_standby_stops_at_once(start: Start, cluster: Cluster) -> None:
    one = await start()
    await one.serving()
    two = await start()
    two.stop.set()
    assert two.task is not None
    assert await two.task == 0
    assert cluster.objects["leases"]["gpu-clearml-agent-leader"]["spec"]["holderIdentity"] == one.lease.holder


@pytest.mark.parametrize("how", ["another", "deleted"])
async def test_the_loss_of_the_lease_ends_the_process(
    start: Start, server: DevServer, cluster: Cluster, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    running = await start()
    await running.serving()
    if how == "another":
        cluster.put("leases", "gpu-clearml-agent-leader", spec={"holderIdentity": "pod-2_1"})
    else:
        cluster.drop("leases", "gpu-clearml-agent-leader")
    assert running.task is not None
    await running.until(running.task.done)
    assert running.task.result() == 1
    (message,) = told(caplog, logging.ERROR, "another process serves")
    assert "release 'gpu' in namespace 'ns' now: this one ends" in message
    assert ("held by pod-2_1" if how == "another" else "was deleted") in message
    # The claims under way ended without a word of their own.
    assert [r for r in caplog.records if r.exc_info] == []
    if how == "another":
        assert cluster.objects["leases"]["gpu-clearml-agent-leader"]["spec"] == {"holderIdentity": "pod-2_1"}


async def test_without_a_certain_lease_nothing_is_begun(
    start: Start, server: DevServer, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_lease(seen: Any) -> Fault | None:
        return Fault(code=500) if "/leases" in seen.path else None

    running = await start()
    await running.serving()
    there = server.create_task(queue="default")
    await running.until(lambda: cluster.objects.get("jobs"))
    monkeypatch.setattr(cluster, "_fault", no_lease)
    await running.until(lambda: not running.lease.certain)
    server.call("tasks.dequeue", task=there)
    last, seen = server.last_call(), len(cluster.seen)
    task = server.create_task(queue="default")
    at = running.clock.monotonic()
    await running.until(lambda: running.clock.monotonic() > at + 20)
    assert "controller: serving: nothing is sent, as the Lease cannot be renewed" in (await running.get("readyz"))[1]
    assert {s.method for s in cluster.seen[seen:] if "/leases" not in s.path} <= {"GET"}
    begun = {call["endpoint"] for call in server.calls(since=last)} - {"tasks.create", "tasks.enqueue"}
    assert {endpoint for endpoint in begun if ".get_" not in endpoint} == set()
    assert list(cluster.objects["jobs"]) == [f"clearml-id-{there}"]
    monkeypatch.undo()
    await running.until(lambda: list(cluster.objects["jobs"]) == [f"clearml-id-{task}"])


async def test_two_of_different_names_serve_one_namespace(start: Start, server: DevServer, cluster: Cluster) -> None:
    runnings = []
    for name in ("lab", "team"):
        queues = {name: QueueConfig(name=name)}
        server.create_queue(name)
        config = make_config(api_server=server.url, queues=queues)
        runnings.append(await start(dataclasses.replace(config, release_name=name, fullname=name)))
        await runnings[-1].serving()
    tasks = {name: server.create_task(queue=name) for name in ("lab", "team")}
    for running, task in zip(runnings, tasks.values(), strict=True):
        await running.until(lambda task=task: f"clearml-id-{task}" in cluster.objects.get("jobs", {}))
    jobs = cluster.objects["jobs"]
    found = {name: jobs[f"clearml-id-{task}"]["metadata"]["labels"] for name, task in tasks.items()}
    assert {name: labels["app.kubernetes.io/instance"] for name, labels in found.items()} == {n: n for n in tasks}
    assert len({labels["clearml-k8s.io/controller"] for labels in found.values()}) == 2
    assert set(cluster.objects["configmaps"]) == {"lab-claims", "team-claims"}
    assert not any(running.task.done() for running in runnings if running.task)


async def test_a_clash_of_worker_ids_is_told(
    start: Start, server: DevServer, cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    running = await start(dataclasses.replace(make_config(api_server=server.url), worker_id="lab"))
    await running.serving()
    task = server.create_task(queue="default")
    await running.until(lambda: cluster.objects.get("jobs"))
    server.call("workers.status_report", worker=f"lab:{task}", task=task, timestamp=1)
    other = server.create_task()
    server.call("workers.status_report", worker=f"lab:{other}", task=other, timestamp=1)
    await running.until(lambda: told(caplog, logging.WARNING, "worker id 'lab'"), step=1.0)
    (message,) = told(caplog, logging.WARNING, "worker id 'lab'")
    assert other in message
    assert task not in message
    assert f"worker id: {message}" in (await running.get("readyz"))[1]


# ---- the user's hand ------------------------------------------------------------------------------------------------

END_SECONDS = 5.0


def call(endpoint: str, **data: Any) -> Callable[[DevServer, str], object]:
    return lambda server, task: server.call(endpoint, task=task, **data)


def stop_and_enqueue(server: DevServer, task: str) -> None:
    server.call("tasks.stopped", task=task, force=True)
    server.call("tasks.enqueue", task=task, queue_name="default")


BOTH: Mapping[str, Callable[[DevServer, str], object]] = {
    "reset": call("tasks.reset", force=True),
    "delete": call("tasks.delete", force=True),
    "dequeue": call("tasks.dequeue"),
    "stop and enqueue": stop_and_enqueue,
}
PENDING = {**BOTH, "abort": call("tasks.stop"), "move": call("tasks.enqueue", queue_name="other")}
RUNNING = {**BOTH, "abort": call("tasks.stopped")}
"""A running task cannot be moved; of `tasks.stop` its agent makes `tasks.stopped`."""


@pytest.mark.parametrize(
    ("begun", "how"),
    [*(("pending", how) for how in PENDING), *(("running", how) for how in RUNNING)],
)
async def test_the_end_of_its_pod_begins_within_five_seconds(
    start: Start, server: DevServer, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, begun: str, how: str
) -> None:
    """The status changes at the worst moment: right after a look at all states."""
    server.create_queue("other")
    steps = AnsweredSteps(monkeypatch)
    running = await start()
    await running.serving()
    task = server.create_task(queue="default")
    await running.until(lambda: cluster.objects.get("jobs"))
    if begun == "running":
        server.call("tasks.dequeue", task=task, new_status="in_progress")
        server.call("tasks.started", task=task, force=True)
    looks = steps.looks
    while steps.looks < looks + 2:
        await steps.step(running.clock)
    assert cluster.of("DELETE", "/jobs/") == []
    (RUNNING if begun == "running" else PENDING)[how](server, task)
    end = running.clock.monotonic() + END_SECONDS
    while not cluster.of("DELETE", "/jobs/") and running.clock.monotonic() < end:
        await steps.step(running.clock)
    (sent,) = cluster.of("DELETE", "/jobs/")
    assert sent.path.endswith(f"/clearml-id-{task}")
    # With its pod, which gets the grace period of its own.
    assert sent.body["propagationPolicy"] == "Background"
    assert "gracePeriodSeconds" not in sent.body


# ---- signs of life --------------------------------------------------------------------------------------------------

LONG = 10 * LIMIT_SECONDS


async def hang(*_: Any, **__: Any) -> None:
    """In place of a method: a wait that nothing ends."""
    await asyncio.Event().wait()


@pytest.mark.parametrize("mode", ["refuse", "close", "503", "hang"])
async def test_the_absence_of_clearml_is_no_reason_to_restart(start: Start, server: DevServer, mode: str) -> None:
    running = await start()
    await running.serving()
    # Something to do for every loop: a claim, whose Job is to be reconciled.
    server.create_task(queue="default")
    if mode == "hang":
        server.add_fault(kind="delay", seconds=3600)
    else:
        server.down(mode=mode)
    try:
        await running.passes(LONG)
    finally:
        server.up()
        server.clear_faults()
    await running.serving()


async def test_a_clearml_server_that_never_was_there_is_no_reason_to_restart(
    start: Start, unused_tcp_port: int
) -> None:
    running = await start(make_config(api_server=f"http://127.0.0.1:{unused_tcp_port}"))
    await running.passes(LONG)


async def hold(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """No request is answered any more."""
    if how == "gone":
        await cluster.server.close()
        return
    fault = {"hang": Fault(stall=True), "5xx": Fault(code=503, status={}), "forbidden": Fault(code=403, status={})}[how]
    monkeypatch.setattr(cluster, "_fault", lambda _seen: fault)
    cluster.end_watches()


@pytest.mark.parametrize("how", ["gone", "hang", "5xx", "forbidden"])
async def test_the_absence_of_kubernetes_is_no_reason_to_restart(
    start: Start, server: DevServer, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    running = await start()
    await running.serving()
    server.create_task(queue="default")
    await running.until(lambda: cluster.objects.get("jobs"))
    server.create_task(queue="default")
    await hold(cluster, monkeypatch, how)
    await running.passes(LONG)


@pytest.mark.parametrize("how", ["gone", "hang", "5xx"])
async def test_a_start_without_kubernetes_is_patient(
    start: Start, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    await hold(cluster, monkeypatch, how)
    running = await start()
    await running.passes(LONG)
    code, text = await running.get("readyz")
    assert code == 503
    assert text.startswith("not ready: Jobs and pods ")
    assert "controller: starting" in text


async def test_lists_that_never_come_are_waited_for(
    start: Start, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(seen: Any) -> Fault | None:
        return Fault(code=403, status={}) if seen.path.endswith("/pods") else None

    monkeypatch.setattr(cluster, "_fault", refuse)
    running = await start()
    await running.passes(LONG)
    code, text = await running.get("readyz")
    assert code == 503
    assert text.startswith("not ready: Jobs and pods cannot be listed: ")
    assert not cluster.objects.get("leases"), "who cannot list them never leads"
    assert "controller: starting" in text
    monkeypatch.undo()
    await running.serving()
    assert (await running.get("readyz"))[0] == 200


@pytest.mark.parametrize(
    ("loop", "owner", "method"),
    [
        ("watch of jobs", Watch, "_list"),
        ("queues", ServedQueues, "refresh"),
        ("take", Poller, "_poll"),
        ("recovery", Recovery, "step"),
        ("record", ClaimBook, "flush"),
        ("reconcile 1", Reconciler, "worker"),
        ("task states", TaskReads, "refresh"),
        ("console", Teller, "flush"),
        ("start", process, "identity_of"),
        ("lease", Lease, "_try"),
        ("lease", Lease, "_renew"),
    ],
)
async def test_a_loop_that_hangs_is_named(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, loop: str, owner: Any, method: str
) -> None:
    monkeypatch.setattr(owner, method, hang)
    running = await start()
    await running.until(lambda: loop in running.heartbeats.late(), step=1.0)
    code, text = await running.get("healthz")
    assert code == 500
    (line,) = [line for line in text.splitlines() if f"loop {loop!r}" in line]
    seconds = int(line.split(" for ")[1].split()[0])
    assert LIMIT_SECONDS <= seconds < LIMIT_SECONDS + 60
    await running.clock.advance(60)
    assert (await running.get("healthz"))[0] == 500
    assert len(told(caplog, logging.ERROR, f"loop {loop!r}")) == 1


async def test_one_reconcile_worker_that_hangs_is_named(
    start: Start, server: DevServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others go on, and would hide it."""
    works = Reconciler._reconcile
    held = server.create_task(queue="default")

    async def reconcile(self: Reconciler, task: str) -> float | None:
        if task == held:
            await hang()
        return await works(self, task)

    monkeypatch.setattr(Reconciler, "_reconcile", reconcile)
    running = await start()
    await running.until(running.heartbeats.late, step=1.0)
    (name,) = running.heartbeats.late()
    assert name.startswith("reconcile ")


async def test_a_claim_that_hangs_is_named(start: Start, server: DevServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Marking, "marked", hang)
    task = server.create_task(queue="default")
    running = await start()
    await running.until(lambda: f"claim of {task}" in running.heartbeats.late(), step=1.0)


async def test_a_loop_that_hangs_is_logged_where_nobody_probes(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ServedQueues, "refresh", hang)
    running = await start()
    await running.until(lambda: told(caplog, logging.ERROR, "loop 'queues'"), step=1.0)


# ---- limits ---------------------------------------------------------------------------------------------------------


async def report_has(running: Running, line: str) -> None:
    async with asyncio.timeout(30):
        while line not in (await running.get("readyz"))[1].splitlines():
            await running.clock.advance(0.1)
            await asyncio.sleep(0.005)


async def test_a_limit_that_is_reached_is_reported(start: Start, server: DevServer, cluster: Cluster) -> None:
    running = await start(make_config(api_server=server.url, max_pods=1))
    await running.serving()
    await report_has(running, "queue default: served")
    first, second = server.bulk_tasks(2, queue="default")
    await report_has(
        running, "queue default: served; nothing is taken now: limit of 1 pods is reached (agentk8sglue.maxPods)"
    )
    await running.until(lambda: cluster.objects.get("jobs"))
    assert list(cluster.objects["jobs"]) == [f"clearml-id-{first}"]
    assert server.entries(server.queue_id("default")) == [second]


async def test_a_quota_is_watched_before_anything_is_taken(start: Start, server: DevServer, cluster: Cluster) -> None:
    cluster.put("resourcequotas", "team", spec={"hard": {"pods": "1"}}, status={"used": {"pods": "1"}})
    task = server.create_task(queue="default")
    running = await start()
    await running.serving()
    why = "limit of 1 pods in the namespace is reached (ResourceQuota team)"
    await report_has(running, f"queue default: served; nothing is taken now: {why}")
    assert server.entries(server.queue_id("default")) == [task]
    assert not cluster.objects.get("jobs")
    cluster.put("resourcequotas", "team", spec={"hard": {"pods": "1"}}, status={"used": {"pods": "0"}})
    await running.until(lambda: cluster.objects.get("jobs"))


FORBIDDEN = status(403, "Forbidden", 'resourcequotas is forbidden: User "x" cannot list resource "resourcequotas"')


async def test_quotas_that_may_not_be_seen_stop_nobody(
    start: Start, server: DevServer, cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.fault("GET", *[Fault(code=403, status=FORBIDDEN)] * 1000, path="resourcequotas")
    server.create_task(queue="default")
    running = await start()
    await running.serving()
    await running.until(lambda: cluster.objects.get("jobs"))
    await report_has(running, "quotas: not seen, as this account may not list and watch resourcequotas")
    asked = len(cluster.of("GET", "resourcequotas"))
    await running.until(lambda: len(cluster.of("GET", "resourcequotas")) > asked + 2, step=1.0)
    assert len(told(caplog, logging.ERROR, "may not list and watch resourcequotas")) == 1


async def test_while_quotas_are_not_known_nothing_is_taken(start: Start, server: DevServer, cluster: Cluster) -> None:
    away = status(503, "ServiceUnavailable", "etcd is away")
    cluster.fault("GET", *[Fault(code=503, status=away)] * 1000, path="resourcequotas")
    server.create_task(queue="default")
    running = await start()
    await running.serving()
    async with asyncio.timeout(30):
        while "the ResourceQuotas of the namespace are not listed yet: " not in (await running.get("readyz"))[1]:
            await running.clock.advance(0.1)
            await asyncio.sleep(0.005)
    await running.passes(60)
    assert not cluster.objects.get("jobs")
    cluster.faults.clear()
    await running.until(lambda: cluster.objects.get("jobs"), step=1.0)


async def test_quotas_are_not_asked_for_where_they_do_not_count(
    start: Start, server: DevServer, cluster: Cluster
) -> None:
    server.create_task(queue="default")
    running = await start(make_config(api_server=server.url, respect_resource_quotas=False))
    await running.serving()
    await running.until(lambda: cluster.objects.get("jobs"))
    assert cluster.of("GET", "resourcequotas") == []


def with_kueue(server: DevServer, **changes: Any) -> Config:
    managed = QueueConfig(name="default", settings=QueueSettings(kueue=KueueConfig(queue_name="team")))
    return make_config(api_server=server.url, **{"queues": {"default": managed}, **changes})


async def test_without_kueue_nothing_is_taken_for_it_until_it_comes(
    start: Start, server: DevServer, cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    server.call("queues.create", name="plain")
    queues = {**with_kueue(server).queues, "plain": QueueConfig(name="plain")}
    waits, goes = server.create_task(queue="default"), server.create_task(queue="plain")
    running = await start(with_kueue(server, queues=queues))
    await running.serving()
    await running.until(lambda: cluster.objects.get("jobs"))
    missing = "Kueue is not installed in this cluster: install it, or leave kueue.queueName out"
    why = f"Kueue: the Workloads of the namespace are not listed yet: {missing}"
    await report_has(running, f"queue default: served; nothing is taken now: {why}")
    await running.passes(60)
    assert set(cluster.objects["jobs"]) == {f"clearml-id-{goes}"}
    assert server.entries(server.queue_id("default")) == [waits]
    assert len(told(caplog, logging.ERROR, missing)) == 1
    assert not told(caplog, logging.WARNING, "watch restarts")
    cluster.groups["kueue.x-k8s.io"] = ("v1beta1",)
    await running.until(lambda: len(cluster.objects["jobs"]) == 2, step=1.0)
    job = cluster.objects["jobs"][f"clearml-id-{waits}"]
    assert job["spec"]["suspend"] is True
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team"
    listed = [seen.path for seen in cluster.of("GET", "/workloads")]
    assert set(listed) == {"/apis/kueue.x-k8s.io/v1beta1/namespaces/ns/workloads"}


async def test_what_kueue_says_reaches_the_task(start: Start, server: DevServer, cluster: Cluster) -> None:
    cluster.groups["kueue.x-k8s.io"] = ("v1beta1", "v1beta2")
    task = server.create_task(queue="default")
    running = await start(with_kueue(server))
    await running.serving()
    await running.until(lambda: cluster.objects.get("jobs"))
    job = cluster.objects["jobs"][f"clearml-id-{task}"]
    said = {"type": "QuotaReserved", "status": "False", "reason": "Inadmissible", "message": "LocalQueue team is gone"}
    cluster.put(
        "workloads",
        "job-x",
        metadata={"ownerReferences": [{"kind": "Job", "uid": job["metadata"]["uid"]}]},
        spec={"podSets": [{"template": {"metadata": {"labels": {"clearml-task-id": task}}}}]},
        status={"conditions": [said]},
    )
    await running.until(lambda: "LocalQueue team is gone" in server.task(task)["status_message"])


async def test_kueue_is_not_looked_for_where_no_queue_has_it(start: Start, server: DevServer, cluster: Cluster) -> None:
    server.create_task(queue="default")
    running = await start()
    await running.serving()
    await running.until(lambda: cluster.objects.get("jobs"))
    assert not [seen for seen in cluster.seen if seen.path == "/apis" or "workloads" in seen.path]
    assert "suspend" not in next(iter(cluster.objects["jobs"].values()))["spec"]


async def test_sessions_are_followed(start: Start, server: DevServer, cluster: Cluster) -> None:
    task = server.create_task(queue="default", system_tags=["interactive"])
    sessions = SessionsConfig(service_type="ClusterIP")
    running = await start(make_config(api_server=server.url, sessions=sessions))
    await running.serving()
    await running.until(
        lambda: "k8s-gateway-address" in server.task(task).get("hyperparams", {}).get("properties", {}), step=1.0
    )
    assert list(cluster.objects["services"]) == [f"session-{task}"]
    await running.passes(60)
    cluster.fault("GET", Fault(code=500), path="services")
    await running.passes(60)
    assert len(cluster.of("POST", "services")) == 1


async def test_no_services_are_asked_for_where_no_session_is_reached(
    start: Start, server: DevServer, cluster: Cluster
) -> None:
    server.create_task(queue="default", system_tags=["interactive"])
    running = await start(make_config(api_server=server.url))
    await running.serving()
    await running.until(lambda: cluster.objects.get("jobs"))
    await running.passes(30)
    assert cluster.of("GET", "services") + cluster.of("POST", "services") == []


def around(**commands: str) -> PodCommandsConfig:
    """With a limit that this clock, which runs ahead of real processes, does not reach."""
    return PodCommandsConfig(timeout_seconds=300.0, **commands)


async def test_commands_around_a_pod_are_run(
    start: Start, server: DevServer, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In real shells, by the loop of the process."""
    monkeypatch.chdir(tmp_path)
    task = server.create_task(queue="default")
    commands = around(
        pre_apply="echo 1 >>ran", post_apply="echo 2 {pod_number} >>ran", post_delete="echo {pod_name} >>ran"
    )
    running = await start(make_config(api_server=server.url, pod_commands=commands))
    await running.serving()
    ran = tmp_path / "ran"
    await running.until(lambda: ran.exists() and ran.read_text() == "1\n2 1\n")
    cluster.drop("jobs", f"clearml-id-{task}")
    await running.until(lambda: ran.read_text() == f"1\n2 1\nclearml-id-{task}\n")
    await running.until(lambda: not cluster.objects["configmaps"]["gpu-clearml-agent-claims"].get("data"))
    await running.on_time()


async def test_a_command_ends_with_the_process(
    start: Start, server: DevServer, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it was at is owed still; another life without commands drops that."""
    monkeypatch.chdir(tmp_path)
    task = server.create_task(queue="default")
    commands = around(post_apply="sleep 600 & echo $! >pid; wait")
    running = await start(make_config(api_server=server.url, pod_commands=commands))
    await running.serving()
    pid = tmp_path / "pid"
    await running.until(lambda: pid.exists() and pid.read_text())
    running.stop.set()
    assert running.task is not None
    await running.until(running.task.done)
    while runs(int(pid.read_text())):
        await asyncio.sleep(0.01)
    record = cluster.objects["configmaps"]["gpu-clearml-agent-claims"]
    assert list(record["data"]) == [f"owed.{task}"]
    await (await start()).until(lambda: not record.get("data"))


# ---- what the server is told ----------------------------------------------------------------------------------------

REPORTS = DashboardConfig(
    report_type="global", report_seconds=60, gpu_discovery=GpuDiscovery(enabled=True), cpu_discovery=CpuDiscovery()
)


def gpu_node(gpus: str = "8", **labels: str) -> dict[str, Any]:
    return {
        "metadata": {
            "labels": {
                "kubernetes.io/os": "linux",
                "nvidia.com/gpu.present": "true",
                "nvidia.com/gpu.count": gpus,
                **labels,
            }
        },
        "status": {"conditions": [{"type": "Ready", "status": "True"}], "capacity": {"cpu": "64"}},
    }


def on_page(server: DevServer) -> dict[str, list[str]]:
    """The workers that the server knows, each with the ids of its queues."""
    found = server.call("workers.get_all")["workers"]
    return {worker["id"]: [queue["id"] for queue in worker["queues"]] for worker in found}


async def test_the_controller_is_a_worker_as_long_as_it_serves(start: Start, server: DevServer) -> None:
    running = await start()
    worker = "clearml-agent-gpu-12345678"
    await running.until(lambda: on_page(server) == {worker: [server.queue_id("default")]})
    before = server.last_call()
    await running.until(lambda: server.calls(since=before, endpoint="workers.status_report"), step=1.0)
    running.stop.set()
    assert running.task is not None
    await running.until(running.task.done)
    assert on_page(server) == {}


async def test_a_standby_is_no_worker_and_takes_none_off_the_page(start: Start, server: DevServer) -> None:
    one = await start(pod="pod-1")
    await one.until(lambda: on_page(server))
    two = await start(pod="pod-2")
    before = server.last_call()
    for _ in range(20):
        await two.clock.advance(0.5)
        await one.clock.advance(0.5)
        await asyncio.sleep(0.005)
    two.stop.set()
    assert two.task is not None
    await both(one, two, two.task.done)
    assert server.calls(since=before, endpoint="workers.unregister") == []
    assert list(on_page(server)) == ["clearml-agent-gpu-12345678"]


async def test_a_server_without_a_dashboard_is_told_once_and_served(
    start: Start, server: DevServer, cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    dashboard = DashboardConfig(report_type="aggregate", report_seconds=5, max_gpus=2)
    running = await start(make_config(api_server=server.url, dashboard=dashboard))
    await running.serving()
    task = server.create_task(queue="default")
    await running.until(lambda: cluster.objects.get("jobs"))
    await running.until(lambda: told(caplog, logging.WARNING, "this server has no Orchestration Dashboard"))
    await running.passes(60)
    assert list(cluster.objects["jobs"]) == [f"clearml-id-{task}"]
    assert len(told(caplog, logging.WARNING, "this server has no Orchestration Dashboard")) == 1
    assert "dashboard: this server has no Orchestration Dashboard" in (await running.get("readyz"))[1]
    assert server.calls(endpoint="workers.cluster_") == []
    running.stop.set()
    assert running.task is not None
    await running.until(running.task.done)
    assert running.task.result() == 0


@pytest.fixture(scope="module")
def enterprise() -> Iterator[DevServer]:
    with DevServer(edition="enterprise") as server:
        yield server


async def test_nodes_are_followed_and_reported(
    start: Start, enterprise: DevServer, cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.put("nodes", "a", **gpu_node())
    template = {"resources": {"limits": {"amd.com/gpu": 1}}}
    config = make_config(api_server=enterprise.url, cluster_access=True, dashboard=REPORTS, base_pod_template=template)
    running = await start(config)
    worker = "k8s:clearml-agent-gpu-12345678"

    def gpus() -> int | None:
        found = enterprise.cluster_reports().get("k8s", {}).get(worker)
        return found["properties"]["max_gpus"] if found else None

    await running.until(lambda: gpus() == 8, step=0.5)
    assert "nodes: 1 nodes; 8 GPUs on 1 nodes" in (await running.get("readyz"))[1]
    assert "dashboard: reported as the total of category k8s: 8 GPUs" in (await running.get("readyz"))[1]
    assert "queue default: served; asks for amd.com/gpu: 1, which no node of" in (await running.get("readyz"))[1]
    cluster.put("nodes", "b", **gpu_node("4"))
    await running.until(lambda: gpus() == 12, step=2.0)
    cluster.put("nodes", "a", **gpu_node(**{"nvidia.com/gpu.present": "false"}))
    await running.until(lambda: gpus() == 4, step=2.0)
    cluster.drop("nodes", "b")
    await running.until(lambda: gpus() == 0, step=2.0)
    lists = [seen for seen in cluster.of("GET", "/nodes") if seen.path == "/api/v1/nodes"]
    assert len(lists) == 1, "from the watch, not from a list for each report"
    running.stop.set()
    assert running.task is not None
    await running.until(running.task.done)
    assert enterprise.cluster_reports() == {}
    assert on_page(enterprise) == {}


async def test_nodes_that_may_not_be_read(
    start: Start, enterprise: DevServer, cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    enterprise.reset()
    no = Fault(code=403, status=status(403, "Forbidden", "nodes is forbidden"))
    cluster.fault("GET", *[no] * 1000, path="/nodes")
    running = await start(make_config(api_server=enterprise.url, cluster_access=True, dashboard=REPORTS))
    await running.serving()
    await running.until(lambda: told(caplog, logging.ERROR, "may not list and watch nodes"))
    await running.passes(60)
    assert len(told(caplog, logging.ERROR, "may not list and watch nodes")) == 1
    report = (await running.get("readyz"))[1]
    assert "controller: serving" in report
    assert "nodes: this account may not list and watch nodes of the cluster: agentk8sglue.serviceAccount" in report
    assert "dashboard: the nodes are not known: this account may not list and watch nodes" in report
    assert enterprise.cluster_reports() == {}
    task = enterprise.create_task(queue="default")
    await running.until(lambda: f"clearml-id-{task}" in cluster.objects.get("jobs", {}))

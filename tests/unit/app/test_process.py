"""The whole process against both servers, with its time under the test's hand."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any

import aiohttp
import pytest
from answered_steps import AnsweredSteps
from clearml_k8s import logs, metrics
from clearml_k8s.app import process
from clearml_k8s.app.connect import clearml_session
from clearml_k8s.app.heartbeat import LIMIT_SECONDS, Heartbeats
from clearml_k8s.app.process import Controller, lease_of
from clearml_k8s.clearml.keys import Credentials
from clearml_k8s.config import Config, QueueConfig
from clearml_k8s.config.dashboard import CpuDiscovery, DashboardConfig, GpuDiscovery
from clearml_k8s.flow.book import ClaimBook
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
        session = clearml_session(self.config, credentials=self.credentials, clock=clock, guard=lease.guard)
        async with keeper, client, session:
            controller = Controller(
                config=self.config,
                settings=Settings(port=self.port),
                lease=lease,
                session=session,
                client=client,
                instruments=metrics.create(),
                redact=logs.Redactor(),
                heartbeats=self.heartbeats,
            )
            return await controller.run(self.stop)

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


# ---- the queues -----------------------------------------------------------------------------------------------------


async def test_a_lookup_that_fails_as_a_whole_is_a_warning(
    start: Start, server: DevServer, caplog: pytest.LogCaptureFixture
) -> None:
    running = await start()
    await running.serving()
    server.add_fault(kind="error_before", endpoint="^queues.get_all$", status=403, subcode=20)
    await running.until(lambda: told(caplog, logging.WARNING, "looking the queues up failed"), step=1.0)
    assert "403/20" in told(caplog, logging.WARNING, "looking the queues up failed")[0]


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


async def test_lists_that_never_come_are_waited_for(
    start: Start, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(seen: Any) -> Fault | None:
        return Fault(code=403, status={}) if seen.path.endswith("/pods") else None

    monkeypatch.setattr(cluster, "_fault", refuse)
    running = await start()
    await running.passes(LONG)
    assert "controller: starting" in (await running.get("readyz"))[1]


@pytest.mark.parametrize(
    ("loop", "owner", "method"),
    [
        ("watch of jobs", Watch, "_list"),
        ("queues", ServedQueues, "refresh"),
        ("take", Poller, "_poll"),
        ("recovery", Recovery, "step"),
        ("record", ClaimBook, "flush"),
        ("reconcile", Reconciler, "_worker"),
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


async def test_a_loop_that_hangs_is_logged_where_nobody_probes(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ServedQueues, "refresh", hang)
    running = await start()
    await running.until(lambda: told(caplog, logging.ERROR, "loop 'queues'"), step=1.0)


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

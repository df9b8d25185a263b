"""One round each of the controller and of a bare client, on the same servers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from clearml_k8s import names
from clearml_k8s.clearml.tasks import TaskView
from clearml_k8s.clock import SystemClock
from clearml_k8s.config import ResolvedQueue
from clearml_k8s.config.file import load_config_file
from clearml_k8s.errors import KubeUnanswered
from clearml_k8s.flow.batch import CONCURRENCY
from clearml_k8s.flow.poll import BATCH
from clearml_k8s.flow.room import MAX_IN_FLIGHT
from clearml_k8s.kube.client import KubeClient
from clearml_k8s.kube.resources import JOBS, NAMESPACES, PODS, Resource
from clearml_k8s.spec.job import build_job
from clearml_server.process import DevServer

QUEUE, WORKER_ID = "bench", "bench"
REQUESTS = CONCURRENCY * (MAX_IN_FLIGHT // BATCH)
"""Requests that the controller has under way at most, and so the bare client too."""

LIMIT_SECONDS = 300.0
FLUSHED_SECONDS = 2.0
"""After the last Job: the console lines and the record are written, and nobody is told yet that a pod waits."""


@dataclass(frozen=True, kw_only=True)
class Bare:
    """``seconds`` from the first request to the last answer."""

    jobs: int
    seconds: float

    @property
    def rate(self) -> float:
        return self.jobs / self.seconds


@dataclass(frozen=True, kw_only=True)
class Launched(Bare):
    """``seconds`` from the tasks being in the queue to the last Job being there; CPU of the controller's process."""

    calls: dict[str, int]
    cpu_seconds: float
    peak_kib: int

    @property
    def calls_per_task(self) -> float:
        return sum(self.calls.values()) / self.jobs

    @property
    def cpu_ms_per_task(self) -> float:
        return self.cpu_seconds * 1000 / self.jobs


def config_file(folder: Path, *, server: DevServer, namespace: str) -> Path:
    """A config that lets no node run the pods, and all may wait: what is measured is the way to the Job."""
    document: dict[str, Any] = {
        "workerId": WORKER_ID,
        "releaseName": "bench",
        "fullname": "bench",
        "namespace": namespace,
        "clearml": {
            "apiServer": server.url,
            "taskCredentials": {"secretName": "bench", "accessKeyKey": "a", "secretKeyKey": "s"},
        },
        "queuePollFrequencySeconds": 0.2,
        "maxPendingPods": 1_000_000,
        "queues": {QUEUE: {}},
        "basePodTemplate": {"nodeSelector": {"clearml-k8s.io/bench": "nowhere"}},
    }
    path = folder / f"{namespace}.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


async def bare(client: KubeClient, config: Path, *, jobs: int) -> Bare:
    """Create the Jobs that the controller would, with as many requests under way, and nothing else."""
    loaded = load_config_file(config)
    queue = ResolvedQueue(config=loaded.queues[QUEUE], id="0" * 32, name=QUEUE)
    manifests = [
        build_job(
            config=loaded,
            queue=queue,
            task=TaskView(id=f"{number:032x}", name="bench", status="queued"),
            attempt="2026-01-15T06:22:11.065000+00:00",
            worker_id=WORKER_ID,
            controller_id=names.controller_id(namespace_uid="bare", release=loaded.release_name),
        ).manifest
        for number in range(jobs)
    ]
    gate = asyncio.Semaphore(REQUESTS)

    async def create(manifest: dict[str, Any]) -> None:
        async with gate:
            await client.create(JOBS, manifest, namespace=loaded.namespace)

    began = time.monotonic()
    await asyncio.gather(*(create(manifest) for manifest in manifests))
    return Bare(jobs=jobs, seconds=time.monotonic() - began)


async def launched(
    client: KubeClient, config: Path, *, server: DevServer, jobs: int, log: Path, profile: Path | None = None
) -> Launched:
    """Have a controller of its own process launch tasks that are all in the queue at one time."""
    namespace = load_config_file(config).namespace
    async with _controller(config, server=server, log=log, profile=profile) as process:
        since = server.last_call()
        cpu = _cpu_seconds(process.pid)
        await asyncio.to_thread(server.bulk_tasks, jobs, queue=QUEUE)
        began = time.monotonic()
        while await _count(client, JOBS, namespace) < jobs:
            if process.poll() is not None or time.monotonic() - began > LIMIT_SECONDS:
                raise RuntimeError(
                    f"only {await _count(client, JOBS, namespace)} of {jobs} were launched:\n{_tail(log)}"
                )
            await asyncio.sleep(0.05)
        seconds = time.monotonic() - began
        await asyncio.sleep(FLUSHED_SECONDS)
        used = _cpu_seconds(process.pid) - cpu
        peak = _peak_kib(process.pid)
        calls: dict[str, int] = {}
        for call in await asyncio.to_thread(server.calls, since=since):
            if call["client"] != "test":
                calls[call["endpoint"]] = calls.get(call["endpoint"], 0) + 1
    return Launched(jobs=jobs, seconds=seconds, calls=calls, cpu_seconds=used, peak_kib=peak)


@contextlib.asynccontextmanager
async def _controller(
    config: Path, *, server: DevServer, log: Path, profile: Path | None
) -> AsyncIterator[subprocess.Popen[bytes]]:
    port = _free_port()
    environment = {
        **os.environ,
        "CLEARML_API_ACCESS_KEY": server.access_key,
        "CLEARML_API_SECRET_KEY": server.secret_key,
        "CLEARML_K8S_PORT": str(port),
    }
    profiler = ["-m", "cProfile", "-o", str(profile)] if profile else []
    command = [sys.executable, *profiler, "-m", "clearml_k8s.cli", "run", "--config", str(config)]
    with log.open("ab") as stderr:
        process = subprocess.Popen(command, env=environment, stderr=stderr, stdin=subprocess.DEVNULL)
    try:
        await asyncio.to_thread(_ready, process, port, log)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            await asyncio.to_thread(process.wait, 40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError), opener.open(f"http://127.0.0.1:{port}/readyz", timeout=5) as reply:
            text = reply.read().decode()
            if "controller: serving" in text and f"queue {QUEUE}: served" in text:
                return
        time.sleep(0.1)
    raise RuntimeError(f"the controller did not come up:\n{_tail(log)}")


async def _count(client: KubeClient, resource: Resource, namespace: str) -> int:
    found = await client.request("GET", resource.path(namespace=namespace), params={"limit": 1})
    return len(found["items"]) + int(found["metadata"].get("remainingItemCount") or 0)


@contextlib.asynccontextmanager
async def namespace(client: KubeClient) -> AsyncIterator[str]:
    """A namespace for one round. Its Jobs are gone at the end, so that the next round finds the cluster at rest."""
    name = f"bench-{uuid.uuid4().hex[:8]}"
    await client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    try:
        yield name
    finally:
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        until = time.monotonic() + LIMIT_SECONDS
        while await _count(client, JOBS, name) + await _count(client, PODS, name) and time.monotonic() < until:
            with contextlib.suppress(KubeUnanswered):  # it goes on, as long as it lasts
                await client.request("DELETE", JOBS.path(namespace=name), body=options)
            await asyncio.sleep(0.5)
        found = await client.get(NAMESPACES, name)
        await client.delete(NAMESPACES, name, uid=found["metadata"]["uid"])


async def connect(kubeconfig: str) -> KubeClient:
    return await KubeClient.connect(clock=SystemClock(), kubeconfig=kubeconfig)


@contextlib.contextmanager
def stopped(pid: int | None) -> Iterator[None]:
    """The process (the cluster's controller manager) does nothing meanwhile."""
    if pid is None:
        yield
        return
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-20:])


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _peak_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

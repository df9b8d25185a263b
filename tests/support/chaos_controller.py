"""The controller as a process of its own, started, killed and started again."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from ci.paths import ROOT

GRACE_SECONDS = 2.5

_WATCHED = """
import gc, os, signal, sys
from clearml_k8s.cli import main
from clearml_k8s.kube import store

store.LATELY = 100

def tell(number, frame):
    gc.collect()
    with open(sys.argv[0] + ".new", "w") as file:
        file.write(str(sys.getallocatedblocks()))
    os.replace(sys.argv[0] + ".new", sys.argv[0])

sys.argv.pop(0)
signal.signal(signal.SIGUSR1, tell)
sys.exit(main(sys.argv[1:]))
"""
"""The controller, which at SIGUSR1 writes how many blocks of memory it holds.

What it remembers of deleted objects has a bound, far above what a test deletes; here a low one, or it would grow.
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def config(
    *,
    release: str,
    namespace: str,
    api_server: str,
    queues: dict[str, int | None],
    max_pods: int | None,
    delete_after: str = "0s",
) -> dict[str, Any]:
    """A release on kwok nodes, whose pods end when the agent says so; ``queues``: name -> maxPods.

    ``delete_after``: how long a deleted pod stays, as a Go duration.
    """
    return {
        "releaseName": release,
        "fullname": f"{release}-clearml-agent",
        "namespace": namespace,
        "clearml": {"apiServer": api_server, "taskCredentials": {"secretName": "clearml"}},
        "queuePollFrequencySeconds": 1,
        "maxPods": max_pods,
        "basePodTemplate": {
            "nodeSelector": {"type": "kwok"},
            "tolerations": [{"key": "kwok.x-k8s.io/node", "operator": "Exists"}],
            "annotations": {
                "kwok.clearml-k8s.io/complete-after": "24h",
                "kwok.clearml-k8s.io/delete-after": delete_after,
            },
        },
        "queues": {
            name: {"queueSettings": {} if limit is None else {"maxPods": limit}} for name, limit in queues.items()
        },
    }


class ControllerProcess:
    """One release's controller; all its output goes to ``log``."""

    def __init__(
        self,
        *,
        document: dict[str, Any],
        folder: Path,
        kubeconfig: Path,
        access_key: str,
        secret_key: str,
        grace_seconds: float = GRACE_SECONDS,
        pod: str = "",
        variables: Mapping[str, str] | None = None,
    ) -> None:
        """``pod``: the name of its pod, by which it knows the Lease of its earlier life; ``variables``: further ones of
        its environment."""
        self.pod = pod or f"{document['releaseName']}-0"
        self.log = folder / f"{self.pod}.log"
        self._config = folder / f"{self.pod}.yaml"
        self._config.write_text(yaml.safe_dump(document))
        self._kubeconfig = kubeconfig
        paths = [str(ROOT / "controller/src"), *filter(None, [os.environ.get("PYTHONPATH")])]
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("CLEARML_")},
            "PYTHONPATH": os.pathsep.join(paths),
            "CLEARML_API_ACCESS_KEY": access_key,
            "CLEARML_API_SECRET_KEY": secret_key,
            "CLEARML_K8S_GRACE_SECONDS": str(grace_seconds),
            "CLEARML_K8S_LOG_LEVEL": "INFO",
            "CLEARML_K8S_POD_NAME": self.pod,
            **(variables or {}),
        }
        self._blocks = folder / f"{self.pod}.blocks"
        self._process: asyncio.subprocess.Process | None = None
        self.port = 0  # of probes and metrics, of its present life

    async def __aenter__(self) -> ControllerProcess:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.kill()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    def resident_kib(self) -> int:
        """Its memory now; 0 when it does not run."""
        if self._process is None or not self.running:
            return 0
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")), 0)

    def cpu_seconds(self) -> float:
        """CPU time that it has used; it runs."""
        assert self._process is not None
        after_name = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")

    async def blocks(self) -> int:
        """How many blocks of memory hold its Python objects, garbage apart: exact, where the resident memory is not."""
        self._blocks.unlink(missing_ok=True)
        self.signal(signal.SIGUSR1)
        async with asyncio.timeout(10):
            while not self._blocks.exists():
                await asyncio.sleep(0.05)
        return int(self._blocks.read_text())

    async def start(self) -> None:
        """A new process; returns at once."""
        self.port = free_port()
        with self.log.open("ab") as sink:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", _WATCHED, str(self._blocks), "run"),
                *("--config", str(self._config), "--kubeconfig", str(self._kubeconfig)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                env={**self._environment, "CLEARML_K8S_PORT": str(self.port)},
            )

    async def kill(self) -> None:
        """SIGKILL; returns when it is dead."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)
            await self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        """SIGSTOP, SIGCONT: returns at once."""
        assert self._process is not None
        self._process.send_signal(number)

    async def ended(self) -> int:
        """Its exit code, once it has ended by itself."""
        assert self._process is not None
        return await asyncio.wait_for(self._process.wait(), 40)

    async def stop(self) -> int:
        """SIGTERM; its exit code."""
        self.signal(signal.SIGTERM)
        return await self.ended()


@asynccontextmanager
async def kept_running(controller: ControllerProcess) -> AsyncIterator[list[int]]:
    """As the kubelet does it; the exit codes of the lives that ended by themselves."""
    codes: list[int] = []

    async def keep() -> None:
        while True:
            await asyncio.sleep(0.5)
            if not controller.running:
                codes.append(await controller.ended())
                await controller.start()

    keeping = asyncio.create_task(keep())
    try:
        yield codes
    finally:
        keeping.cancel()
        ended = await asyncio.gather(keeping, return_exceptions=True)
    assert isinstance(ended[0], asyncio.CancelledError), ended[0]

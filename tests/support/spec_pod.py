"""A task's pod without Kubernetes: the real start script, a real HTTP server, and a stand-in for the agent."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from clearml_k8s.spec.script import start_check, start_script
from spec_clearml_login import ACCESS_KEY, SECRET_KEY, TOKEN, LoginServer, login_server
from spec_support import ATTEMPT, TASK_ID

LIMIT = 60
FAKE_AGENT = """
import json, os, pathlib, signal, sys, time

record = pathlib.Path(os.environ["RECORD"])

def stop(*_):
    record.with_suffix(".term").touch()
    sys.exit(0)

signal.signal(signal.SIGTERM, stop)
names = ("EXPORTED", "CLEARML_K8S_SETUP_SCRIPT")
seen = {"pid": os.getpid(), "argv": sys.argv[1:], "env": {name: os.environ.get(name) for name in names}}
seen["environ"] = dict(os.environ)
record.write_text(json.dumps(seen))
print("agent is running", flush=True)
while os.environ.get("AGENT_WAITS"):
    time.sleep(0.05)
sys.exit(int(os.environ.get("AGENT_ENDS") or 0))
"""


@dataclass
class Pod:
    """Runs the script as a container would; looks for secrets in all output."""

    folder: Path
    server: LoginServer
    shell: list[str]
    env: dict[str, str] = field(default_factory=dict)
    further: tuple[str, ...] = ()
    """What the command has behind our own texts."""

    @property
    def record(self) -> Path:
        return self.folder / "record.json"

    def agent(self) -> dict[str, Any] | None:
        """What the stand-in saw; None if it was not started."""
        return json.loads(self.record.read_text()) if self.record.exists() else None

    def popen(self, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self.shell, "-c", start_script(), "clearml-k8s", start_check(), *self.further],
            env={**self.env, **env},
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, **env: str) -> tuple[int, str]:
        process = self.popen(**env)
        output, _ = process.communicate(timeout=LIMIT)
        assert not [secret for secret in (SECRET_KEY, TOKEN, ACCESS_KEY) if secret in output]
        return process.returncode, output


@pytest.fixture
def server() -> Iterator[LoginServer]:
    with login_server() as running:
        running.task = {"id": TASK_ID, "status": "queued", "status_changed": ATTEMPT}
        yield running


#: Of Debian, of most images, of Alpine.
SHELLS = ("dash", "bash", "busybox")


@pytest.fixture(params=SHELLS)
def pod(request: pytest.FixtureRequest, tmp_path: Path, server: LoginServer) -> Pod:
    shell = shutil.which(request.param)
    assert shell, f"{request.param} is needed for this test: run ci/tools/apt.sh tests (Debian)"
    package = tmp_path / "modules" / "clearml_agent"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(FAKE_AGENT)
    env = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "PYTHONPATH": str(package.parent),
        "RECORD": str(tmp_path / "record.json"),
        "CLEARML_K8S_TASK_ID": TASK_ID,
        "CLEARML_K8S_ATTEMPT": ATTEMPT,
        "CLEARML_API_HOST": server.url,
        "CLEARML_API_ACCESS_KEY": ACCESS_KEY,
        "CLEARML_API_SECRET_KEY": SECRET_KEY,
        "CLEARML_AGENT_SKIP_CONTAINER_APT": "1",
        "no_proxy": "localhost",
    }
    return Pod(folder=tmp_path, server=server, shell=[shell, "ash"] if request.param == "busybox" else [shell], env=env)


def wait_for_line(process: subprocess.Popen[str], text: str) -> str:
    """Reads until a line holds `text`; the process is killed when none comes within the limit."""
    assert process.stdout is not None
    killer = threading.Timer(LIMIT, process.kill)
    killer.start()
    seen = ""
    for line in process.stdout:
        seen += line
        if text in line:
            killer.cancel()
            return seen
    raise AssertionError(f"{text!r} never came; seen: {seen}")


def unused_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port

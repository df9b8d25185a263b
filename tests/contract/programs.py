"""Run the real SDK and the real agent as programs of their own, configured by environment alone."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

LIMIT_SECONDS = 120.0


def environment(home: Path, server: tuple[str, str, str]) -> dict[str, str]:
    """No ``~/clearml.conf``, no settings of this machine's shell.

    A real server's files server is guessed by the SDK, or named by ``CLEARML_CONTRACT_FILES_URL``.
    """
    url, access_key, secret_key = server
    foreign = ("CLEARML", "TRAINS", "ALG")
    files = os.environ.get("CLEARML_CONTRACT_FILES_URL")
    if not files and not os.environ.get("CLEARML_CONTRACT_URL"):
        files = f"{url}/_files"
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(foreign)},
        **({"CLEARML_FILES_HOST": files} if files else {}),
        "HOME": str(home),
        "CLEARML_CONFIG_FILE": os.devnull,
        "CLEARML_API_HOST": url,
        "CLEARML_WEB_HOST": url,
        "CLEARML_API_ACCESS_KEY": access_key,
        "CLEARML_API_SECRET_KEY": secret_key,
        "CLEARML_AGENT_SKIP_PYTHON_ENV_INSTALL": "1",
        "CLEARML_AGENT_QUEUE_POLL_FREQ_SEC": "1",
        "CLEARML_AGENT_PROPAGATE_EXITCODE": "1",
        "PYTHONUNBUFFERED": "1",
    }


def run_python(source: str, *, home: Path, server: tuple[str, str, str]) -> str:
    """What the program printed; it must end well."""
    script = home / "script.py"
    script.write_text(source)
    done = subprocess.run(
        [sys.executable, str(script)],
        check=False,
        cwd=home,
        env=environment(home, server),
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@contextmanager
def agent(*arguments: str, home: Path, server: tuple[str, str, str]) -> Iterator[subprocess.Popen[str]]:
    """A running ``clearml-agent``, its output in ``home/agent.log``; ended on the way out, nothing of it is left."""
    with (home / "agent.log").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "clearml_agent", *arguments],
            cwd=home,
            env=environment(home, server),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(30)
        # At SIGTERM the agent leaves its task's script running; in a pod it would end with the container.
        _end_all(home)
        process.wait(10)


def _end_all(home: Path) -> None:
    """Kill what was started with this home; AssertionError names what is there still."""
    end = time.monotonic() + 10
    while left := list(_started_with(home)):
        assert time.monotonic() < end, f"these processes of the agent run on: {[process.info for process in left]}"
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=1)


def _started_with(home: Path) -> Iterator[psutil.Process]:
    for process in psutil.process_iter(["pid", "cmdline", "environ", "status"]):
        environment = process.info.pop("environ") or {}  # None: not ours to read
        if environment.get("HOME") == str(home) and process.info["status"] != psutil.STATUS_ZOMBIE:
            yield process

"""Run the development server in a process of its own, from synchronous tests.

    with DevServer() as server:
        task = server.create_task("my task", queue="default")
        fault = server.add_fault(kind="drop_reply", endpoint="queues.remove_task", count=1)
        ...
        assert server.calls(endpoint="queues.remove_task")[0]["summary"] == {"removed": 1}

Only the standard library is used here; the process itself needs aiohttp.
"""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import urllib.parse
from pathlib import Path
from types import TracebackType
from typing import IO

from .remote import CallFailed, RemoteServer, wait_for
from .settings import DEFAULT_ACCESS_KEY, DEFAULT_SECRET_KEY, Edition

__all__ = ["CallFailed", "DevServer", "ServerNotReady", "wait_for"]

_LISTENING = re.compile(r"listening on (http://\S+) \(\w+ edition\), control (http://\S+)")


class ServerNotReady(Exception):
    """The process ended or did not listen in time; the text ends with its output."""


class DevServer(RemoteServer):
    """One server process. Use it as a context manager, or :meth:`start` and :meth:`stop` it.

    ``host``: the address to listen on; ``0.0.0.0`` for all, then give ``public_host`` as the name others reach it by.
    ``port`` 0: any free port. ``log``: file for the server's own output (default: this process' stderr).
    ``python``: an interpreter that has aiohttp.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        public_host: str | None = None,
        edition: Edition = "basic",
        role: str = "user",
        access_key: str = DEFAULT_ACCESS_KEY,
        secret_key: str = DEFAULT_SECRET_KEY,
        log: Path | None = None,
        python: str = sys.executable,
    ) -> None:
        super().__init__(access_key=access_key, secret_key=secret_key)
        self.url = ""
        self._host, self._port, self._public_host = host, port, public_host
        self._edition, self._role = edition, role
        self._log, self._python = log, python
        self._process: subprocess.Popen[str] | None = None

    def start(self, *, timeout: float = 20.0) -> DevServer:
        """Returns when the server answers. A server that was stopped starts again on the same port, empty."""
        package_parent = str(Path(__file__).resolve().parent.parent)
        paths = [package_parent, *filter(None, [os.environ.get("PYTHONPATH")])]
        stderr: IO[str] | None = self._log.open("a") if self._log else None
        try:
            self._process = subprocess.Popen(
                [
                    *(self._python, "-m", "clearml_server", "--control-port", "0"),
                    *("--host", self._host, "--port", str(self._port)),
                    *("--edition", self._edition, "--role", self._role),
                ],
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(paths),
                    "CLEARML_DEV_ACCESS_KEY": self.access_key,
                    "CLEARML_DEV_SECRET_KEY": self.secret_key,
                },
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        finally:
            if stderr is not None:
                stderr.close()
        self._read_addresses(timeout)
        return self

    def _read_addresses(self, timeout: float) -> None:
        assert self._process is not None and self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], timeout)
        line = self._process.stdout.readline() if ready else ""
        found = _LISTENING.search(line)
        if found is None:
            self.stop()
            raise ServerNotReady(f"clearml_server did not start within {timeout} s; it said: {line!r}")
        self._port = urllib.parse.urlsplit(found[1]).port or 0
        host = self._public_host or ("127.0.0.1" if self._host in ("0.0.0.0", "::") else self._host)
        self.url = f"http://{host}:{self._port}"
        self.control_url = found[2]

    def stop(self) -> None:
        """SIGTERM, then SIGKILL. All data is gone. Stopping twice does nothing."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
        if process.stdout is not None:
            process.stdout.close()

    def __enter__(self) -> DevServer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Of the running server process."""
        if self._process is None:
            raise ServerNotReady("clearml_server is not running")
        return self._process.pid

    def environment(self) -> dict[str, str]:
        """What the SDK and the agent need to use this server, and nothing of this machine's ``clearml.conf``."""
        return {
            "CLEARML_API_HOST": self.url,
            "CLEARML_WEB_HOST": self.url,
            "CLEARML_FILES_HOST": f"{self.url}/_files",
            "CLEARML_API_ACCESS_KEY": self.access_key,
            "CLEARML_API_SECRET_KEY": self.secret_key,
            "CLEARML_CONFIG_FILE": os.devnull,
        }

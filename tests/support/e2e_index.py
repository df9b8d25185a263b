"""A package index of our own: wheels that are fetched once into the cache, served over HTTP as PEP 503 has it.

Task pods install from it, so that tests need no package index that pods can reach.
"""

from __future__ import annotations

import hashlib
import html
import re
import subprocess
import sys
import tempfile
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self

from ci.locks import locked
from ci.paths import ROOT, cache_dir

PACKAGE = "humanize"
"""A small pure package that the task image lacks."""

LOCK = ROOT / "tests/e2e/wheels.lock"
"""What tasks may ask for, with hashes."""

FETCH_SECONDS = 300.0


class WheelsNotFetched(Exception):
    """The wheels could not be fetched; the text ends with pip's own words."""


def fetch_wheels(lock: Path = LOCK) -> Path:
    """The folder of the locked wheels; downloads them once, from the package index that pip is set to."""
    folder = cache_dir() / "wheels" / hashlib.sha256(lock.read_bytes()).hexdigest()[:12]
    with locked(folder.parent / ".lock", "the download of the wheels"):
        if folder.is_dir():
            return folder
        with tempfile.TemporaryDirectory(prefix=".download.", dir=folder.parent) as temporary:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
            command += [
                "--disable-pip-version-check",
                "--require-hashes",
                "--dest",
                f"{temporary}/wheels",
                "-r",
                str(lock),
            ]
            done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_SECONDS, check=False)
            if done.returncode != 0:
                tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-10:])
                raise WheelsNotFetched(f"pip could not download what {lock} names:\n{tail}")
            whole = Path(temporary) / "wheels"
            whole.rename(folder)
    return folder


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


class PackageIndex:
    """Serves a folder of wheels, or sources, below ``/simple/``; a context manager. ``port`` 0: any free port."""

    def __init__(self, folder: Path, *, host: str, port: int = 0) -> None:
        self.requests: list[str] = []
        """Paths asked for, in order."""
        wheels: dict[str, list[str]] = {}
        for wheel in sorted([*folder.glob("*.whl"), *folder.glob("*.tar.gz")]):
            wheels.setdefault(_normal(wheel.name.partition("-")[0]), []).append(wheel.name)
        requests = self.requests

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                path = urllib.parse.unquote(self.path.partition("?")[0])
                requests.append(path)
                parts = [part for part in path.split("/") if part]
                match parts:
                    case ["simple"]:
                        self._page(sorted(wheels), slash="/")
                    case ["simple", name] if _normal(name) in wheels:
                        self._page([f"../../wheels/{wheel}" for wheel in wheels[_normal(name)]])
                    case ["wheels", name] if any(name in names for names in wheels.values()):
                        self._answer(200, (folder / name).read_bytes(), "application/octet-stream")
                    case _:
                        self._answer(404, b"not here\n", "text/plain")

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self._answer(405, b"<html>not allowed</html>\n", "text/html")

            def _page(self, links: list[str], *, slash: str = "") -> None:
                names = {link: html.escape(link.rpartition("/")[2]) for link in links}
                lines = [f'<a href="{html.escape(link + slash)}">{name}</a>' for link, name in names.items()]
                body = f"<!DOCTYPE html><html><body>\n{'<br>'.join(lines)}\n</body></html>\n"
                self._answer(200, body.encode(), "text/html")

            def _answer(self, status: int, body: bytes, kind: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's own name
                """The list of requests is the log."""

        self._server = ThreadingHTTPServer((host, port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="package index", daemon=True)
        self.host = host
        self.url = f"http://{host}:{self._server.server_port}/simple/"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def environment(self) -> list[dict[str, str]]:
        """Variables for task pods, in the form of a pod template's ``env``."""
        return [{"name": "PIP_INDEX_URL", "value": self.url}, {"name": "PIP_TRUSTED_HOST", "value": self.host}]

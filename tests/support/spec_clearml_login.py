"""The two calls of the pod's start check, answered by a real HTTP server in a thread."""

from __future__ import annotations

import base64
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ACCESS_KEY = "ACCESS0123"
SECRET_KEY = "s3cr3t-never-shown"
TOKEN = "t0ken-never-shown"


class LoginServer(ThreadingHTTPServer):
    """Answers auth.login and tasks.get_all; `task` is what the second one finds (None: nothing)."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.task: dict[str, str] | None = None
        self.failures: list[int] = []
        """HTTP codes to answer with before anything else, one per request."""
        self.redirect_to: str | None = None
        self.calls: list[tuple[str, Any]] = []
        self.scheme = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://localhost:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: LoginServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.calls.append((self.path, body))
        authorization = self.headers["Authorization"]
        if self.server.failures:
            return self._answer(self.server.failures.pop(0), {})
        if self.server.redirect_to:
            return self._answer(302, {})
        if self.path == "/auth.login":
            if authorization != "Basic " + base64.b64encode(f"{ACCESS_KEY}:{SECRET_KEY}".encode()).decode():
                return self._answer(401, {}, subcode=22, message="Unauthorized (invalid credentials)")
            return self._answer(200, {"token": TOKEN})
        assert self.path == "/tasks.get_all"
        assert authorization == f"Bearer {TOKEN}"
        found = [self.server.task] if self.server.task and self.server.task["id"] in body["id"] else []
        return self._answer(200, {"tasks": found})

    def _answer(self, code: int, data: dict[str, Any], *, subcode: int = 0, message: str = "OK") -> None:
        meta = {"result_code": code, "result_subcode": subcode, "result_msg": message}
        payload = json.dumps({"meta": meta, "data": data}).encode()
        self.send_response(code)
        if code == 302:
            self.send_header("Location", str(self.server.redirect_to))
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def login_server(*, certificate: Path | None = None) -> Iterator[LoginServer]:
    """The server, running; with TLS when `certificate` (certificate and key in one PEM file) is given."""
    server = LoginServer()
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.scheme = "https"
    # A refused TLS handshake is part of the tests and not worth a traceback on stderr.
    server.handle_error = lambda request, address: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

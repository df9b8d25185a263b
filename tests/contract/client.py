"""A bare HTTP client for the contract suite: it hides nothing of what the server answers."""

from __future__ import annotations

import base64
import http.client
import json
import urllib.parse
import weakref
from dataclasses import dataclass
from typing import Any

_TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Answer:
    status: int
    body: dict[str, Any]

    @property
    def meta(self) -> dict[str, Any]:
        found = self.body["meta"]
        assert isinstance(found, dict)
        return found

    @property
    def data(self) -> dict[str, Any]:
        found = self.body["data"]
        assert isinstance(found, dict)
        return found

    @property
    def code(self) -> str:
        """``<status>/<subcode>``, as the reference writes it."""
        assert self.meta["result_code"] == self.status, "result_code must always equal the HTTP status"
        return f"{self.status}/{self.meta['result_subcode']}"


class Client:
    """Keeps its connections open until it is collected; threads may share it.

    Calls authenticate with a token taken at construction.
    """

    def __init__(self, url: str, access_key: str, secret_key: str) -> None:
        self.url = url.rstrip("/")
        self.access_key, self.secret_key = access_key, secret_key
        self._parts = urllib.parse.urlsplit(self.url)
        self._idle: list[http.client.HTTPConnection] = []
        weakref.finalize(self, _close_all, self._idle)
        self.token: str = self.request("POST", "auth.login", headers=self.basic()).data["token"]

    def basic(self) -> dict[str, str]:
        pair = base64.b64encode(f"{self.access_key}:{self.secret_key}".encode()).decode()
        return {"Authorization": f"Basic {pair}"}

    def bearer(self, token: str | None = None) -> dict[str, str]:
        return {"Authorization": f"Bearer {token or self.token}"}

    def request(
        self, method: str, path: str, *, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """No authentication but what ``headers`` holds."""
        try:
            connection = self._idle.pop()
        except IndexError:
            secure = self._parts.scheme == "https"
            make = http.client.HTTPSConnection if secure else http.client.HTTPConnection
            connection = make(self._parts.netloc, timeout=_TIMEOUT_SECONDS)
        headers = {"X-Client-Name": "contract", **(headers or {})}
        try:
            connection.request(method, f"{self._parts.path}/{path}", body=body, headers=headers)
            response = connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            raise
        self._idle.append(connection)
        return Answer(status=response.status, body=json.loads(text))

    def post(self, endpoint: str, /, *, version: str | None = None, **data: Any) -> Answer:
        path = f"v{version}/{endpoint}" if version else endpoint
        headers = {**self.bearer(), "Content-Type": "application/json"}
        return self.request("POST", path, body=json.dumps(data).encode(), headers=headers)

    def post_lines(self, endpoint: str, events: list[dict[str, Any]]) -> Answer:
        body = "\n".join(map(json.dumps, events)).encode()
        headers = {**self.bearer(), "Content-Type": "application/json-lines"}
        return self.request("POST", endpoint, body=body, headers=headers)

    def ok(self, endpoint: str, /, *, version: str | None = None, **data: Any) -> dict[str, Any]:
        """``data`` of an answer that must be 200."""
        answer = self.post(endpoint, version=version, **data)
        assert answer.code == "200/0", f"{endpoint}: {answer.code} {answer.meta['result_msg']}"
        return answer.data

    def code(self, endpoint: str, /, *, version: str | None = None, **data: Any) -> str:
        return self.post(endpoint, version=version, **data).code

    # ---- short forms

    def task(self, task_id: str) -> dict[str, Any]:
        found = self.ok("tasks.get_by_id", task=task_id)["task"]
        assert isinstance(found, dict)
        return found

    def status(self, task_id: str) -> str:
        return str(self.task(task_id)["status"])

    def entries(self, queue_id: str) -> list[str]:
        return [entry["task"] for entry in self.ok("queues.get_by_id", queue=queue_id)["queue"]["entries"]]

    def claims(self, token: str | None = None) -> dict[str, Any]:
        payload = (token or self.token).split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        assert isinstance(claims, dict)
        return claims


def _close_all(connections: list[http.client.HTTPConnection]) -> None:
    for connection in connections:
        connection.close()

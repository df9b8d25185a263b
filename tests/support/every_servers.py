"""Both servers without sockets: a call is a function, and time the manual clock's."""

from __future__ import annotations

import asyncio
import base64
import copy
import json
import time
from collections.abc import Callable, Coroutine, Mapping
from types import MappingProxyType
from typing import Any

from clearml_server.app import Server
from clearml_server.envelope import envelope
from clearml_server.errors import ApiError
from clearml_server.process import CallFailed
from clearml_server.registry import Call
from clearml_server.remote import RemoteServer
from manual_clock import ManualClock
from scripted_kube import Cluster, Seen

ADDRESS = "http://servers.invalid"


def drive(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine of the development server to its end at once: it only ever lets others run."""
    try:
        while True:
            coroutine.send(None)
    except StopIteration as end:
        return end.value


class LocalClearML(RemoteServer):
    """The development server as tests ask it, in this process; its time is the manual clock's."""

    def __init__(self, app: Server, clock: ManualClock) -> None:
        super().__init__(access_key=app.settings.access_key, secret_key=app.settings.secret_key)
        self.url = ADDRESS
        self.app = app
        self._clock = clock
        app.reset()

    def perform(
        self,
        endpoint: str,
        payload: bytes,
        *,
        authorization: str | None,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> tuple[int, bytes]:
        """HTTP status and body of the answer."""
        self.app.clock.offset = self._clock.now().timestamp() - time.time()
        data: dict[str, Any] | None = None
        error: ApiError | None = None
        version = None
        try:
            spec, handler, version = self.app.registry.find(endpoint)
            auth = self.app.auth
            if authorization is None:
                identity = next(iter(auth.credentials.values())).identity
            else:
                identity = auth.identify({**headers, "Authorization": authorization})
            lines = [json.loads(line) for line in payload.splitlines()] if spec.batch else None
            found = {} if spec.batch else json.loads(payload or b"{}")
            spec.check(found)
            made = handler(Call(endpoint=spec.name, version=version, data=found, batch=lines, identity=identity))
            data = drive(made) if asyncio.iscoroutine(made) else made
        except ApiError as failed:
            error = failed
        body = envelope(endpoint=endpoint, requested=version, actual=version, data=data, error=error)
        return (error.code if error else 200), body

    def call(
        self, endpoint: str, /, *, timeout: float = 30.0, keys: tuple[str, str] | None = None, **data: Any
    ) -> dict[str, Any]:
        """As somebody else's call: no fault touches it."""
        pair = None if keys is None else "Basic " + base64.b64encode(":".join(keys).encode()).decode()
        code, body = self.perform(endpoint, json.dumps(data).encode(), authorization=pair)
        answer = json.loads(body)
        if code != 200:
            raise CallFailed(endpoint, code, answer["meta"]["result_subcode"], answer["meta"]["result_msg"])
        found: dict[str, Any] = answer["data"]
        return found


class LocalCluster(Cluster):
    """The scripted API server in this process. ``rules`` see each request first, and may answer it."""

    url = ADDRESS

    def __init__(self) -> None:
        super().__init__()
        self.rules: list[Callable[[Seen], tuple[int, dict[str, Any]] | None]] = []

    def perform(self, seen: Seen) -> tuple[int, dict[str, Any]]:
        self.seen.append(seen)
        for rule in self.rules:
            if (answer := rule(seen)) is not None:
                return answer
        code, answer = self._answer(seen)
        return code, copy.deepcopy(answer)

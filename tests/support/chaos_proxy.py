"""A proxy in front of either API that can hold, drop or answer any request, and cut watches or let them fall silent; it
knows the steps of the claim.

It goes on with a request whose client has died, so what a killed controller had sent can still land late.
"""

from __future__ import annotations

import asyncio
import enum
import json
import re
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import aiohttp
from aiohttp import web
from yarl import URL

STEPS = ("mark", "read back", "record", "take", "show", "create", "forget")
# Those of one connection, and compression: what passes is read here.
_HOP = {"host", "connection", "transfer-encoding", "content-length", "keep-alive", "accept-encoding"}


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request as it came in; ``step`` is that of the claim, None for all others."""

    method: str
    path: str
    body: Any
    step: str | None
    task: str | None

    @property
    def watch(self) -> bool:
        return "watch=" in self.path.partition("?")[2]

    @property
    def name(self) -> str:
        """What is asked for, without names: "watch jobs", "GET pods/log", "tasks.get_all"."""
        parts = [part for part in self.path.partition("?")[0].split("/") if part]
        if not self.path.startswith(("/api/", "/apis/")):
            return parts[-1] if parts else ""
        parts = parts[3 if parts[0] == "apis" else 2 :]
        parts = parts[2:] if parts[:1] == ["namespaces"] and len(parts) > 2 else parts
        kind = "watch" if self.watch else self.method
        return f"{kind} {'/'.join([*parts[:1], *parts[2:]])}"


class Steps:
    """Tells the steps of the claim from the requests of one controller process; made anew for each process."""

    def __init__(self, *, sources: frozenset[str], pending: str) -> None:
        self._sources, self._pending = sources, pending
        self._marked: set[str] = set()

    def of(self, method: str, path: str, body: Any) -> tuple[str | None, str | None]:
        """(step, task)."""
        if not isinstance(body, dict):
            return None, None
        task = str(body.get("task"))
        endpoint = path.rpartition("/")[2].partition("?")[0]
        match endpoint:
            case "tasks.edit_hyper_params":
                self._marked.add(task)
                return "mark", task
            case "tasks.get_all":
                back = sorted(self._marked & set(body.get("id") or ()))
                self._marked -= set(back)
                return ("read back", back[0]) if back else (None, None)
            case "queues.remove_task" if body["queue"] in self._sources:
                return "take", task
            case "queues.add_task" if body["queue"] == self._pending:
                return "show", task
            case "jobs" if method == "POST" and "dryRun" not in path:
                return "create", body["metadata"]["labels"]["clearml-task-id"]
        if method == "PATCH" and "/configmaps/" in path and body.get("data"):
            added = [name for name, value in body["data"].items() if value is not None]
            return ("record", added[0]) if added else ("forget", next(iter(body["data"])))
        return None, None


class Fate(enum.Enum):
    """What becomes of a request."""

    PASS = "goes through"
    DROP_BEFORE = "the connection is closed, nothing is done"
    DROP_AFTER = "done, then the connection is closed"
    ERROR_BEFORE = "answered 503, nothing is done"
    ERROR_AFTER = "done, then answered 500"
    LATE = "the connection is closed, and it is done a while later"
    THROTTLE = "answered 429 with Retry-After, nothing is done"
    EXPIRED = "answered 410"
    EXPIRED_EVENT = "a watch that begins, and says in an event that its version is too old"
    CUT = "a watch that is cut off in the middle of a line"
    SILENT = "a watch that is open and says nothing, whatever happens"


LATE_SECONDS = 1.5
RETRY_AFTER_SECONDS = 1
CUT_AFTER = 12
"""Lines of a watch that pass before it is cut."""

_ENDED_AS_TOO_OLD = re.compile(rb'"type": ?"ERROR".*"code": ?410')

TOO_OLD = {
    "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": 410,
    "message": "too old resource version: 1 (2)",
}  # fmt: skip

Decide = Callable[[Request], Awaitable[Fate]]
"""Called before a request goes on, whatever it is; it may wait."""

After = Callable[[Request], Awaitable[None]]
"""Called when the other side has answered, before the client is told; it may wait."""


async def _pass(request: Request) -> Fate:
    return Fate.PASS


async def _nothing(request: Request) -> None:
    return None


async def _later() -> None:
    await asyncio.sleep(LATE_SECONDS)


class Proxy:
    """One listener on a free port of 127.0.0.1."""

    def __init__(self, target: str, *, tls: ssl.SSLContext | None = None) -> None:
        self.url = ""
        self.steps: Steps | None = None
        self.decide: Decide = _pass
        self.after: After = _nothing
        self.see: After = _nothing
        """Called for every request as it comes, also one of no step; it may wait."""
        self.late: Callable[[], Awaitable[object]] = _later
        """Returns when what is LATE is done."""
        self.silent = 0
        """How many watches that say nothing are open."""
        self.expired: Counter[str] = Counter()
        """How many watches the other side itself ended with 410, by their name."""
        self._target, self._tls = target, tls
        self._runner: web.ServerRunner | None = None
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Proxy:
        connector = aiohttp.TCPConnector(limit=0, ssl=self._tls if self._tls is not None else True)
        self._http = aiohttp.ClientSession(
            connector=connector, skip_auto_headers=["Accept-Encoding"], timeout=aiohttp.ClientTimeout(total=None)
        )
        # A handler goes on when its client is gone: that is what makes calls land late.
        self._runner = web.ServerRunner(web.Server(self._handle, handler_cancellation=False), shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._runner is not None
        assert self._http is not None
        await self._runner.cleanup()
        await self._http.close()

    async def _handle(self, incoming: web.BaseRequest) -> web.StreamResponse:
        assert self._http is not None
        raw = await incoming.read()
        request = self._seen(incoming, raw)
        await self.see(request)
        fate = await self.decide(request)
        if fate is Fate.SILENT:
            return await self._silence(incoming)
        if (answer := _at_once(incoming, fate)) is not None:
            return answer
        if fate is Fate.LATE:
            _drop(incoming)
            await self.late()
        headers = {k: v for k, v in incoming.headers.items() if k.lower() not in _HOP}
        try:
            async with self._http.request(
                incoming.method, URL(self._target + incoming.raw_path, encoded=True), data=raw or None, headers=headers
            ) as reply:
                if request.watch and reply.status == 200:
                    return await self._stream(incoming, reply, request, cut=fate is Fate.CUT)
                self.expired[request.name] += request.watch and reply.status == 410
                answer = web.Response(status=reply.status, body=await reply.read())
                for name in ("Content-Type", "Retry-After", "Location"):
                    if name in reply.headers:
                        answer.headers[name] = reply.headers[name]
        except aiohttp.ClientError:
            return _drop(incoming)
        await self.after(request)
        if fate in (Fate.DROP_AFTER, Fate.LATE):
            return _drop(incoming)
        if fate is Fate.ERROR_AFTER:
            return web.Response(status=500, text="Internal Server Error")
        return answer

    async def _silence(self, incoming: web.BaseRequest) -> web.StreamResponse:
        """Until the client goes."""
        answer = web.StreamResponse(headers={"Content-Type": "application/json"})
        self.silent += 1
        try:
            await answer.prepare(incoming)
            while incoming.transport is not None and not incoming.transport.is_closing():
                await asyncio.sleep(0.2)
        finally:
            self.silent -= 1
        return answer

    async def _stream(
        self, incoming: web.BaseRequest, reply: aiohttp.ClientResponse, request: Request, *, cut: bool
    ) -> web.StreamResponse:
        answer = web.StreamResponse(status=reply.status, headers={"Content-Type": reply.headers["Content-Type"]})
        lines = 0
        try:
            await answer.prepare(incoming)
            async for chunk in reply.content.iter_any():
                self.expired[request.name] += _ENDED_AS_TOO_OLD.search(chunk) is not None
                lines += chunk.count(b"\n")
                if cut and lines > CUT_AFTER:
                    await answer.write(chunk[: len(chunk) // 2])
                    return _drop(incoming)
                await answer.write(chunk)
            await answer.write_eof()
        except (ConnectionError, aiohttp.ClientError):
            return _drop(incoming)  # either side is gone
        return answer

    def _seen(self, incoming: web.BaseRequest, raw: bytes) -> Request:
        path = incoming.raw_path
        try:
            body = json.loads(raw) if raw else None
        except ValueError:
            body = None
        step, task = self.steps.of(incoming.method, path, body) if self.steps is not None else (None, None)
        return Request(method=incoming.method, path=path, body=body, step=step, task=task)


def _drop(incoming: web.BaseRequest) -> web.Response:
    if incoming.transport is not None:
        incoming.transport.abort()
    return web.Response()


def _at_once(incoming: web.BaseRequest, fate: Fate) -> web.StreamResponse | None:
    """The answer of a fate in which the other side has no part."""
    match fate:
        case Fate.DROP_BEFORE:
            return _drop(incoming)
        case Fate.ERROR_BEFORE:
            return web.Response(status=503, text="Service Unavailable")
        case Fate.THROTTLE:
            after = {"Retry-After": str(RETRY_AFTER_SECONDS)}
            return web.Response(status=429, text="Too many requests, please try again later.", headers=after)
        case Fate.EXPIRED:
            return web.json_response(TOO_OLD, status=410)
        case Fate.EXPIRED_EVENT:
            line = json.dumps({"type": "ERROR", "object": TOO_OLD}).encode() + b"\n"
            return web.Response(body=line, content_type="application/json")
    return None

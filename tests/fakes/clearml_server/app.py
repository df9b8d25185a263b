"""HTTP: from a request to a service method and back, with the faults on the way."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import time
from typing import Any

from aiohttp import web

from . import errors
from .auth import Auth, AuthService
from .calllog import CallLog, summarize
from .clock import Clock
from .dev import DevApi
from .downtime import Downtime
from .envelope import envelope
from .errors import ApiError
from .events import EventService
from .faults import Facts, Faults, Plan
from .files import FileStore
from .metrics_sink import MetricsSink
from .projects import ModelService, ProjectService
from .queue_service import QueueOperations, QueueService
from .registry import Call, Endpoint, Handler, Registry, Version
from .server_service import ServerService
from .settings import Settings
from .store import Store
from .task_flow import TaskFlow
from .task_params import TaskParams
from .task_service import TaskService
from .task_status import StatusChanger
from .workers import WorkerService

_log = logging.getLogger(__name__)


class Server:
    """All parts, put together. ``handle`` is the request handler for :class:`aiohttp.web.Server`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.clock = Clock()
        self.store = Store(self.clock)
        self.auth = Auth(settings, self.clock)
        self.sink = MetricsSink()
        self.faults = Faults()
        self.log = CallLog()
        self.downtime = Downtime()
        changer = StatusChanger(self.store, self.clock)
        queues = QueueOperations(self.store, self.sink, changer)
        self.task_service = TaskService(self.store, self.clock)
        self.registry = Registry(
            [
                AuthService(self.auth),
                ServerService(settings, self.store, self.auth),
                QueueService(self.store, queues, self.sink),
                self.task_service,
                TaskFlow(self.store, self.clock, changer, queues),
                TaskParams(self.store, self.clock),
                EventService(self.store, self.clock),
                WorkerService(self.store, self.clock, self.sink),
                ProjectService(self.store, self.clock),
                ModelService(self.store, self.clock),
            ],
            enterprise=settings.edition == "enterprise",
        )
        self._files = FileStore(self.store)
        self._dev = DevApi(self)
        self._landing: set[asyncio.Task[None]] = set()
        self.control_port: int | None = None

    def _came_by_control_port(self, request: web.BaseRequest) -> bool:
        if self.control_port is None or request.transport is None:
            return False
        return bool(request.transport.get_extra_info("sockname")[1] == self.control_port)

    def reset(self) -> None:
        """As freshly started, but for the clock and the tokens, which stay.

        A call in flight ends on the new data, a late one never lands.
        """
        self.store.reset()
        self.auth.reset()
        self.faults.clear()
        self.sink.configure(probability=0.0, delay=(0.0, 0.0), remaining=None)
        self.log.clear()
        for landing in self._landing:
            landing.cancel()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path.strip("/")
        if path.startswith("_dev/"):
            return await self._dev.handle(request, path.removeprefix("_dev/"))
        if self.downtime.active and not self._came_by_control_port(request):
            return self.downtime.refuse(request)
        if path.startswith("_files"):
            return await self._files.handle(request, path.removeprefix("_files"))
        exchange = _Exchange(self, request, path)
        self.log.under_way.add(exchange)
        try:
            return await exchange.run()
        finally:
            self.log.under_way.discard(exchange)

    def land_later(self, exchange: _Exchange, seconds: float) -> asyncio.Task[None]:
        task = asyncio.create_task(exchange.land(seconds))
        self._landing.add(task)
        self.log.under_way.add(task)  # so that a test can wait for it
        task.add_done_callback(self._landed)
        return task

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._landing.discard(task)
        self.log.under_way.discard(task)


class _Exchange:
    """One request."""

    def __init__(self, server: Server, request: web.BaseRequest, path: str) -> None:
        self._server = server
        self._request = request
        self._path = path
        self._arrived = time.time()
        self._began = time.perf_counter()
        self._name = path.rpartition("/")[2]
        self._spec: Endpoint | None = None
        self._handler: Handler | None = None
        self._version: Version | None = None
        self._data: dict[str, Any] = {}
        self._batch: list[dict[str, Any]] | None = None
        self._plan: Plan | None = None
        self._user: str | None = None
        headers = request.headers
        self._worker = headers.get("X-ClearML-Worker") or headers.get("X-Trains-Worker")
        self._client = headers.get("X-Client-Name") or headers.get("X-ClearML-Agent") or headers.get("X-ClearML-Client")

    async def run(self) -> web.StreamResponse:
        try:
            self._spec, self._handler, self._version = self._server.registry.find(self._path)
            await self._read_body()
        except ApiError as error:
            return self._finish(error=error, done=False)
        plan = self._plan = self._server.faults.plan(self._facts()) if self._server.faults.rules else None
        if plan is None:
            return await self._perform()
        if plan.delay:
            await asyncio.sleep(plan.delay)
        if plan.before is not None:
            return self._refuse(plan)
        if plan.late is not None:
            landing = self._server.land_later(self, plan.late.seconds)
            if plan.late.hang:
                await asyncio.wait([landing])
            return self._drop()
        response = await self._perform()
        if plan.after is None:
            return response
        if plan.after.kind == "drop_reply":
            return self._drop()
        return self._response(plan.after.error())

    async def land(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._perform()

    async def _perform(self) -> web.StreamResponse:
        """Do what was asked for and write it into the log."""
        try:
            assert self._spec is not None and self._handler is not None and self._version is not None
            call = self._authorized_call(self._spec, self._version)
            result = self._handler(call)
            if inspect.isawaitable(result):
                result = await result
        except ApiError as error:
            return self._finish(error=error, done=True)
        except Exception as error:
            _log.exception("%s failed", self._name)
            return self._finish(error=ApiError(500, 0, "General error", reason=repr(error)), done=True)
        return self._finish(data=result, done=True)

    def _authorized_call(self, spec: Endpoint, version: Version) -> Call:
        auth = self._server.auth
        identity = auth.identify(self._request.headers) if spec.authorize else auth.anonymous
        self._user = identity.user or None
        if spec.roles is not None and identity.role not in spec.roles:
            raise errors.role_not_allowed(identity.role)
        spec.check(self._data)
        return Call(
            endpoint=spec.name,
            version=version,
            data=self._data,
            batch=self._batch,
            identity=identity,
            remote=self._request.remote or "",
            gap=self._gap if self._plan is not None and self._plan.steps else None,
        )

    async def _gap(self, name: str) -> None:
        assert self._plan is not None
        await asyncio.sleep(0)
        for rule in self._plan.steps.get(name, ()):
            if rule.kind == "step_error":
                raise rule.error()
            await asyncio.sleep(rule.seconds)

    async def _read_body(self) -> None:
        """JSON, JSON lines for batch endpoints, or a query string; any of them with GET and with POST."""
        assert self._spec is not None
        query = self._request.query
        for name in query:
            values = query.getall(name)
            self._data[name] = values[0] if len(values) == 1 else list(values)
        body = await self._request.read()
        if not body.strip():
            self._batch = [] if self._spec.batch else None
            return
        try:
            if self._spec.batch:
                self._batch = [json.loads(line) for line in body.splitlines() if line.strip()]
                return
            data = json.loads(body)
        except ValueError as error:
            raise errors.bad_request("failed parsing json request data", reason=str(error)) from error
        if not isinstance(data, dict):
            raise errors.bad_request("failed parsing json request data", reason="not an object")
        self._data.update(data)

    def _text(self, name: str) -> str | None:
        value = self._data.get(name)
        if value is None and self._batch:
            first = self._batch[0]
            value = first.get(name) if isinstance(first, dict) else None
        return value if isinstance(value, str) else None

    def _facts(self) -> Facts:
        return Facts(
            endpoint=self._name,
            task=self._text("task"),
            queue=self._text("queue"),
            worker=self._text("worker") or self._worker,
            client=self._client,
        )

    def _refuse(self, plan: Plan) -> web.StreamResponse:
        rule = plan.before
        assert rule is not None
        if rule.kind == "drop_before":
            self._record(code=0, subcode=0, done=False, summary=None)
            return self._drop()
        if rule.kind == "http":
            self._record(code=rule.status, subcode=0, done=False, summary=None)
            return web.Response(status=rule.status, text=rule.body, headers=rule.headers)
        return self._finish(error=rule.error(), done=False)

    def _drop(self) -> web.StreamResponse:
        """Close the connection; the response that aiohttp wants to have is never sent."""
        if self._request.transport is not None:
            self._request.transport.abort()
        return web.Response()

    def _finish(
        self, *, data: dict[str, Any] | None = None, error: ApiError | None = None, done: bool
    ) -> web.StreamResponse:
        self._record(
            code=error.code if error else 200,
            subcode=error.subcode if error else 0,
            done=done,
            summary=summarize(data) if data else None,
        )
        return self._response(error, data)

    def _response(self, error: ApiError | None, data: dict[str, Any] | None = None) -> web.Response:
        body = envelope(
            endpoint=self._name,
            requested=self._version,
            actual=self._spec.min_version if self._spec else None,
            data=data,
            error=error,
        )
        return web.Response(status=error.code if error else 200, body=body, content_type="application/json")

    def _record(self, *, code: int, subcode: int, done: bool, summary: dict[str, Any] | None) -> None:
        version = self._version
        self._server.log.add(
            time=self._arrived,
            duration=time.perf_counter() - self._began,
            endpoint=self._name,
            version=f"{version[0]}.{version[1]}" if version else "",
            task=self._text("task"),
            queue=self._text("queue"),
            worker=self._text("worker") or self._worker,
            client=self._client,
            user_agent=self._request.headers.get("User-Agent"),
            user=self._user,
            code=code,
            subcode=subcode,
            done=done,
            fault=",".join(self._plan.kinds) if self._plan else None,
            summary=summary,
        )

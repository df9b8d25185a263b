"""Everything below ``/_dev/``: faults, call log, downtime, clock, bulk data. Not part of the ClearML API."""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from aiohttp import web

from .auth import make_identity
from .downtime import MODES
from .envelope import to_json
from .errors import ApiError
from .faults import BadRule
from .settings import COMPANY_ID
from .task_documents import new_task, requested_fields

if TYPE_CHECKING:
    from .app import Server

# a page is made without letting other calls run: keep it short
_MAX_CALLS = 10_000


class DevApi:
    """Plain JSON in and out; 400 with ``{"error": text}`` for a bad request, 404 for an unknown path."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._routes: dict[tuple[str, str], Callable[[web.BaseRequest, dict[str, Any]], Awaitable[dict[str, Any]]]] = {
            ("GET", "calls"): self._calls,
            ("DELETE", "calls"): self._clear_calls,
            ("POST", "calls/limit"): self._limit_calls,
            ("GET", "counters"): self._counters,
            ("GET", "state"): self._state,
            ("GET", "cluster_reports"): self._cluster_reports,
            ("GET", "faults"): self._list_faults,
            ("POST", "faults"): self._add_fault,
            ("DELETE", "faults"): self._clear_faults,
            ("POST", "elasticsearch"): self._elasticsearch,
            ("POST", "down"): self._down,
            ("POST", "up"): self._up,
            ("POST", "reset"): self._reset,
            ("POST", "clock"): self._clock,
            ("POST", "revoke"): self._revoke,
            ("POST", "credentials"): self._credentials,
            ("POST", "vaults"): self._vaults,
            ("POST", "bulk_tasks"): self._bulk_tasks,
        }

    async def handle(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        route = self._routes.get((request.method, path))
        if route is None:
            known = ", ".join(f"{method} /_dev/{name}" for method, name in self._routes)
            return _answer(404, {"error": f"no {request.method} /_dev/{path}; known: {known}"})
        try:
            body = await request.json() if request.can_read_body else {}
            if not isinstance(body, dict | list):
                raise ValueError("the body must be an object")
            return _answer(200, await route(request, body if isinstance(body, dict) else {"rules": body}))
        except (ValueError, TypeError, KeyError, BadRule, ApiError, re.error) as error:
            return _answer(400, {"error": f"{type(error).__name__}: {error}"})

    async def _calls(self, request: web.BaseRequest, body: dict[str, Any]) -> dict[str, Any]:
        query = request.query
        return self._server.log.select(
            since=int(query.get("since", 0)),
            endpoint=query.get("endpoint"),
            task=query.get("task"),
            limit=min(int(query.get("limit", _MAX_CALLS)), _MAX_CALLS),
        )

    async def _clear_calls(self, request: web.BaseRequest, body: dict[str, Any]) -> dict[str, Any]:
        self._server.log.clear()
        return {}

    async def _limit_calls(self, request: web.BaseRequest, body: dict[str, Any]) -> dict[str, Any]:
        limit = body.get("limit")
        self._server.log.limit = None if limit is None else int(limit)
        return {}

    async def _counters(self, request: web.BaseRequest, body: dict[str, Any]) -> dict[str, Any]:
        return {**self._server.log.counters(), "metrics_failures": self._server.sink.failures}

    async def _state(self, request: web.BaseRequest, body: dict[str, Any]) -> dict[str, Any]:
        store = self._server.store
        return {
            "edition": self._server.settings.edition,
            "tasks": store.tasks.count_by_status(),
            "queues": {
                queue.name: {"id": queue.id, "entries": len(queue.entries), "system_tags": queue.system_tags}
                for queue in store.queues
            },
            "workers": sorted(store.workers),
            "in_flight": len(self._server.log.under_way),
            "down": self._server.downtime.mode,
            "faults": len(self._server.faults.rules),
            "clock_offset": self._server.clock.offset,
        }

    async def _cluster_reports(self, request: web.BaseRequest, body: dict[str, Any]) -> dict[str, Any]:
        now = self._server.clock.now()
        valid = {
            key: {
                worker: report
                for worker, report in reports.items()
                if (now - report["received"]).total_seconds() <= report.get("timeout", math.inf)
            }
            for key, reports in self._server.store.cluster_reports.items()
        }
        return {"reports": {key: reports for key, reports in valid.items() if reports}}

    async def _list_faults(self, request: web.BaseRequest, body: dict[str, Any]) -> dict[str, Any]:
        return {"rules": [asdict(rule) for rule in self._server.faults.rules]}

    async def _add_fault(self, request: web.BaseRequest, body: dict[str, Any]) -> dict[str, Any]:
        """One rule, or a list of them, of which all or none are taken."""
        specs = body.get("rules", [body])
        added: list[int] = []
        try:
            for spec in specs:
                added.append(self._server.faults.add(spec).id)
        except BadRule:
            for rule_id in added:
                self._server.faults.clear(rule_id)
            raise
        return {"ids": added}

    async def _clear_faults(self, request: web.BaseRequest, body: dict[str, Any]) -> dict[str, Any]:
        rule_id = request.query.get("id")
        return {"removed": self._server.faults.clear(int(rule_id) if rule_id else None)}

    async def _elasticsearch(self, request: web.BaseRequest, body: dict[str, Any]) -> dict[str, Any]:
        """Section 7 of the API contract. ``{"probability": 1}``: down; ``{"delay": [0, 0.3]}``: slow; ``{}``: well."""
        low, high = body.get("delay") or (0.0, 0.0)
        count = body.get("count")
        self._server.sink.configure(
            probability=float(body.get("probability", 0.0)),
            delay=(float(low), float(high)),
            remaining=None if count is None else int(count),
            seed=int(body.get("seed", 0)),
        )
        return {}

    async def _down(self, request: web.BaseRequest, body: dict[str, Any]) -> dict[str, Any]:
        mode = body.get("mode", "refuse")
        if mode not in MODES:
            raise ValueError(f"mode: found {mode!r}, expected one of {', '.join(MODES)}")
        seconds = body.get("seconds")
        await self._server.downtime.begin(mode=mode, seconds=None if seconds is None else float(seconds))
        return {}

    async def _up(self, request: web.BaseRequest, body: dict[str, Any]) -> dict[str, Any]:
        await self._server.downtime.end()
        return {}

    async def _reset(self, request: web.BaseRequest, body: dict[str, Any]) -> dict[str, Any]:
        self._server.reset()
        return {}

    async def _clock(self, request: web.BaseRequest, body: dict[str, Any]) -> dict[str, Any]:
        self._server.clock.advance(float(body["advance"]))
        return {"offset": self._server.clock.offset, "now": self._server.clock.now()}

    async def _revoke(self, request: web.BaseRequest, body: dict[str, Any]) -> dict[str, Any]:
        """``{"tokens": "all"}``, ``{"token": ...}`` or ``{"access_key": ...}``: refused before their time."""
        auth = self._server.auth
        if body.get("tokens") == "all":
            auth.revoke_all_tokens()
        if "token" in body:
            auth.revoke_token(body["token"])
        if "access_key" in body:
            del auth.credentials[body["access_key"]]
        return {}

    async def _credentials(self, request: web.BaseRequest, body: dict[str, Any]) -> dict[str, Any]:
        identity = make_identity(
            user=str(body.get("user", "developer")),
            role=str(body.get("role", "user")),
            protected=bool(body.get("protected", False)),
            company=str(body.get("company", COMPANY_ID)),
            service_account_type=int(body.get("service_account_type", 0)),
        )
        access_key, secret_key = self._server.auth.add_credential(identity)
        return {"access_key": access_key, "secret_key": secret_key}

    async def _vaults(self, request: web.BaseRequest, body: dict[str, Any]) -> dict[str, Any]:
        self._server.auth.vaults[str(body["user"])] = [str(text) for text in body["vaults"]]
        return {}

    async def _bulk_tasks(self, request: web.BaseRequest, body: dict[str, Any]) -> dict[str, Any]:
        """``count`` tasks, enqueued to ``queue`` (id or name; made if there is none) as tasks.enqueue leaves them."""
        server = self._server
        count, name = int(body["count"]), body.get("queue")
        queue = (server.store.queues.get(name) or server.store.queues.by_name(name)) if name else None
        if name and queue is None:
            queue = server.store.queues.create(name)
        fields = requested_fields({"name": "bulk task", "type": "training", **(body.get("task") or {})})
        ids: list[str] = []
        for number in range(count):
            now = server.clock.stored_now()
            task = new_task({**fields, "name": f"{fields['name']} {number}"}, user="developer", now=now)
            if queue is not None:
                task.update(status="queued", enqueue_status="created")
                task["execution"]["queue"] = queue.id
                server.store.queues.push(queue, task["id"])
            server.store.tasks.add(task)
            ids.append(task["id"])
        return {"ids": ids, "queue": queue.id if queue else None}


def _answer(status: int, data: dict[str, Any]) -> web.Response:
    return web.Response(status=status, body=to_json(data), content_type="application/json")

"""``workers.*``: who is alive and what it runs; cluster reports of the Enterprise edition."""

from __future__ import annotations

from typing import Any

from . import errors
from .clock import Clock
from .metrics_sink import MetricsSink
from .registry import Call, endpoint
from .settings import WORKER_TIMEOUT_SECONDS
from .store import Document, Store, new_id


class WorkerService:
    def __init__(self, store: Store, clock: Clock, sink: MetricsSink) -> None:
        self._store = store
        self._clock = clock
        self._sink = sink

    def _register(self, call: Call, worker: str, *, timeout: int, queues: list[str], tags: list[str]) -> Document:
        now = self._clock.stored_now()
        entry: Document = {
            "id": worker,
            "key": f"worker_{call.identity.company}_{call.identity.user}_{worker}_{new_id()[:8]}",
            "user": {"id": call.identity.user, "name": call.identity.user_name},
            "company": {"id": call.identity.company, "name": call.identity.company_name},
            "ip": call.remote,
            "register_time": now,
            "register_timeout": timeout,
            "last_activity_time": now,
            "last_report_time": None,
            "queues": queues,
            "tags": tags,
            "task": None,
            "project": None,
        }
        self._store.workers[worker] = entry
        return entry

    @endpoint("workers.register", since="2.4", worker="!str", timeout="int", queues="strings", tags="strings")
    def register(self, call: Call) -> dict[str, Any]:
        timeout = call.data.get("timeout", WORKER_TIMEOUT_SECONDS)
        if timeout is not None and timeout <= 0:
            raise errors.worker_registration_failed("invalid timeout", timeout=timeout, worker=call.data["worker"])
        queues = call.data.get("queues") or []
        for queue_id in queues:
            if self._store.queues.get(queue_id) is None:
                raise errors.invalid_queue_id(queue_id)
        self._register(
            call,
            call.data["worker"],
            timeout=timeout or WORKER_TIMEOUT_SECONDS,
            queues=queues,
            tags=call.data.get("tags") or [],
        )
        return {}

    @endpoint("workers.unregister", since="2.4", worker="!str")
    def unregister(self, call: Call) -> dict[str, Any]:
        self._store.workers.pop(call.data["worker"], None)
        return {}

    @endpoint(
        "workers.status_report",
        since="2.4",
        worker="!str",
        timestamp="!number",
        task="str",
        queue="str",
        queues="strings",
        machine_stats="dict",
        tags="strings",
    )
    async def status_report(self, call: Call) -> dict[str, Any]:
        data = call.data
        name = data["worker"]
        worker = self._store.workers.get(name) or self._register(
            call, name, timeout=WORKER_TIMEOUT_SECONDS, queues=data.get("queues") or [], tags=data.get("tags") or []
        )
        now = self._clock.stored_now()
        worker.update(last_activity_time=now, last_report_time=now, ip=call.remote, queue=data.get("queue"))
        if data.get("queues") is not None:
            worker["queues"] = data["queues"]
        if data.get("tags") is not None:
            worker["tags"] = data["tags"]
        if data.get("machine_stats"):
            await self._sink.write()
        if not data.get("task"):
            worker["task"] = worker["project"] = None
            return {}
        fields = {"last_worker": name, "last_worker_report": now, "last_update": now}
        if not self._store.tasks.update(data["task"], fields):
            raise errors.invalid_task_id(data["task"])
        task = self._store.tasks.get(data["task"]) or {}
        worker["task"] = {"id": data["task"], "name": task.get("name")}
        project = self._store.projects.get(task.get("project") or "")
        worker["project"] = {"id": project["id"], "name": project["name"]} if project else None
        return {}

    @endpoint("workers.get_all", since="2.4", last_seen="int")
    def get_all(self, call: Call) -> dict[str, Any]:
        now = self._clock.now()
        last_seen = call.data.get("last_seen")
        for name, worker in list(self._store.workers.items()):
            if (now - worker["last_activity_time"]).total_seconds() > worker["register_timeout"]:
                del self._store.workers[name]
        return {
            "workers": [
                self._shown(worker)
                for worker in self._store.workers.values()
                if not last_seen or (now - worker["last_activity_time"]).total_seconds() <= last_seen
            ]
        }

    def _shown(self, worker: Document) -> Document:
        queues = []
        for queue_id in worker["queues"]:
            queue = self._store.queues.get(queue_id)
            if queue is not None:
                first = next(iter(queue.entries), None)
                waiting = {"next_task": {"id": first}} if first else {}
                queues.append({"id": queue.id, "name": queue.name, "num_tasks": len(queue.entries), **waiting})
        return {name: value for name, value in {**worker, "queues": queues}.items() if value is not None}

    @endpoint("workers.get_stats", since="2.4")
    def get_stats(self, call: Call) -> dict[str, Any]:
        return {"workers": []}

    @endpoint("workers.get_runtime_properties", since="2.10", worker="!str")
    def get_runtime_properties(self, call: Call) -> dict[str, Any]:
        return {"runtime_properties": (self._store.workers.get(call.data["worker"]) or {}).get("properties", [])}

    @endpoint("workers.set_runtime_properties", since="2.10", worker="!str", runtime_properties="!list")
    def set_runtime_properties(self, call: Call) -> dict[str, Any]:
        worker = self._store.workers.get(call.data["worker"])
        if worker is not None:
            worker["properties"] = call.data["runtime_properties"]
        return {"added": [item.get("key") for item in call.data["runtime_properties"]], "removed": [], "errors": []}

    @endpoint(
        "workers.cluster_report",
        enterprise=True,
        worker="!str",
        key="!str",
        partial="bool",
        timestamp="number",
        timeout="number",
        resource_groups="strings",
        properties="dict",
    )
    def cluster_report(self, call: Call) -> dict[str, Any]:
        data = call.data
        reports = self._store.cluster_reports.setdefault(data["key"], {})
        if not data.get("partial"):
            reports.clear()  # one for the whole category
        reports[data["worker"]] = {**data, "received": self._clock.stored_now()}
        return {}

    @endpoint("workers.cluster_unregister", enterprise=True, key="!str")
    def cluster_unregister(self, call: Call) -> dict[str, Any]:
        self._store.cluster_reports.pop(call.data["key"], None)
        return {}

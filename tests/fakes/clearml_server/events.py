"""``events.*``: console lines, scalars, plots, debug images."""

from __future__ import annotations

import hashlib
from typing import Any

from . import errors
from .clock import Clock
from .registry import Call, endpoint
from .store import Document, Store

_TYPES = ("log", "training_stats_scalar", "training_stats_vector", "training_debug_image", "plot")
_LOG_BATCH = 5000


def _hash(name: str) -> str:
    """How the server names metrics and variants inside ``last_metrics``."""
    return hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()


class EventService:
    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def _require(self, task_id: str) -> Document:
        task = self._store.tasks.get(task_id)
        if task is None:
            raise errors.invalid_task_id(task_id)
        return task

    @endpoint("events.add")
    def add(self, call: Call) -> dict[str, Any]:
        return self._add(call, [call.data])

    @endpoint("events.add_batch", batch=True)
    def add_batch(self, call: Call) -> dict[str, Any]:
        if not call.batch:
            raise errors.ApiError(400, 17, "Batch request contains no items")
        return self._add(call, call.batch)

    def _add(self, call: Call, events: list[dict[str, Any]]) -> dict[str, Any]:
        """400/131 if none could be added, else how many and how many not."""
        problems: dict[str, int] = {}
        touched: dict[str, list[Document]] = {}
        for event in events:
            problem = self._problem(event)
            if problem:
                problems[problem] = problems.get(problem, 0) + 1
            else:
                event.setdefault("timestamp", int(self._clock.time() * 1000))
                touched.setdefault(event["task"], []).append(event)
        if not touched:
            raise errors.events_not_added(added=0, errors=len(events), errors_info=problems)
        for task_id, added in touched.items():
            self._store.events.setdefault(task_id, []).extend(added)
            self._update_task(call, task_id, added)
        answer: dict[str, Any] = {"added": sum(map(len, touched.values())), "errors": sum(problems.values())}
        if problems:
            answer["errors_info"] = problems
        return answer

    def _problem(self, event: Any) -> str | None:
        if not isinstance(event, dict):
            return "Event is not an object"
        if event.get("type") not in _TYPES:
            return f"Invalid event type {event.get('type')}"
        if not isinstance(event.get("task"), str) or self._store.tasks.get(event["task"]) is None:
            return "Invalid task ids"
        return None

    def _update_task(self, call: Call, task_id: str, events: list[Document]) -> None:
        task = self._require(task_id)
        now = self._clock.now()
        metrics = dict(task["last_metrics"])
        iteration = task["last_iteration"]
        for event in events:
            if event["type"] != "log" and isinstance(event.get("iter"), int):
                iteration = max(iteration, event["iter"])
            if event["type"] == "training_stats_scalar" and isinstance(event.get("value"), int | float):
                metric, variant = str(event.get("metric", "")), str(event.get("variant", ""))
                variants = metrics[_hash(metric)] = dict(metrics.get(_hash(metric), {}))
                before = variants.get(_hash(variant), {})
                variants[_hash(variant)] = {
                    "metric": metric,
                    "variant": variant,
                    "value": event["value"],
                    "min_value": min(event["value"], before.get("min_value", event["value"])),
                    "max_value": max(event["value"], before.get("max_value", event["value"])),
                }
        fields: Document = {"last_update": now, "last_change": now, "last_changed_by": call.identity.user}
        self._store.tasks.update(task_id, {**fields, "last_iteration": iteration, "last_metrics": metrics})

    def _events(self, task_id: str, kind: str | None = None) -> list[Document]:
        return [event for event in self._store.events.get(task_id, ()) if kind is None or event["type"] == kind]

    @endpoint(
        "events.get_task_log",
        task="!str",
        batch_size="int",
        navigate_earlier="bool",
        from_timestamp="number",
        order="str",
        scroll_id="str",
    )
    def get_task_log(self, call: Call) -> dict[str, Any]:
        """By time since API 2.9 (``from_timestamp`` itself excluded), by ``scroll_id`` before."""
        data = call.data
        self._require(data["task"])
        lines = sorted(self._events(data["task"], "log"), key=lambda event: event["timestamp"])
        size = min(max(data.get("batch_size") or _LOG_BATCH, 1), 10000)
        if call.version < (2, 9):
            return self._scroll(data, lines, size)
        start = data.get("from_timestamp")
        if data.get("navigate_earlier") is not False:
            earlier = [event for event in lines if start is None or event["timestamp"] < start]
            page = earlier[-size:] if data.get("order") == "asc" else earlier[-size:][::-1]
        else:
            later = [event for event in lines if start is None or event["timestamp"] > start]
            page = later[:size][::-1] if data.get("order") == "desc" else later[:size]
        return {"events": page, "returned": len(page), "total": len(lines)}

    @staticmethod
    def _scroll(data: dict[str, Any], lines: list[Document], size: int) -> dict[str, Any]:
        if (data.get("order") or "desc") == "desc":
            lines = lines[::-1]
        offset = int(data["scroll_id"]) if str(data.get("scroll_id") or "").isdecimal() else 0
        if not data.get("scroll_id") and data.get("from") == "tail":
            offset = max(0, len(lines) - size)
        page = lines[offset : offset + size]
        return {"events": page, "returned": len(page), "total": len(lines), "scroll_id": str(offset + len(page))}

    @endpoint("events.get_task_events", task="!str", event_type="str", batch_size="int", order="str", scroll_id="str")
    def get_task_events(self, call: Call) -> dict[str, Any]:
        data = call.data
        self._require(data["task"])
        events = sorted(self._events(data["task"], data.get("event_type")), key=lambda event: event["timestamp"])
        return self._scroll({**data, "order": data.get("order") or "asc"}, events, data.get("batch_size") or 500)

    @endpoint("events.scalar_metrics_iter_histogram", task="!str")
    def scalar_metrics_iter_histogram(self, call: Call) -> dict[str, Any]:
        answer: dict[str, Any] = {}
        for event in self._events(call.data["task"], "training_stats_scalar"):
            metric, variant = str(event.get("metric", "")), str(event.get("variant", ""))
            series = answer.setdefault(metric, {}).setdefault(variant, {"name": variant, "x": [], "y": []})
            series["x"].append(event.get("iter", 0))
            series["y"].append(event.get("value"))
        return answer

    @endpoint("events.get_task_latest_scalar_values", task="!str")
    def get_task_latest_scalar_values(self, call: Call) -> dict[str, Any]:
        task = self._require(call.data["task"])
        metrics = []
        for variants in task["last_metrics"].values():
            values = [{"name": item["variant"], "last_value": item["value"]} for item in variants.values()]
            metrics.append({"name": next(iter(variants.values()))["metric"], "variants": values})
        return {"metrics": metrics, "last_iter": task["last_iteration"], "name": task["name"], "status": task["status"]}

    @endpoint("events.get_task_single_value_metrics", tasks="!strings")
    def get_task_single_value_metrics(self, call: Call) -> dict[str, Any]:
        single = -(2**31)
        answer = []
        for task_id in call.data["tasks"]:
            events = [event for event in self._events(task_id, "training_stats_scalar") if event.get("iter") == single]
            values = [
                {name: event.get(name) for name in ("metric", "variant", "value", "timestamp")} for event in events
            ]
            answer.append({"task": task_id, "values": values})
        return {"tasks": answer}

    @endpoint("events.get_task_metrics", tasks="!strings", event_type="str")
    def get_task_metrics(self, call: Call) -> dict[str, Any]:
        kind = call.data.get("event_type")
        return {
            "metrics": [
                {
                    "task": task_id,
                    "metrics": sorted({str(event.get("metric")) for event in self._events(task_id, kind)} - {"None"}),
                }
                for task_id in call.data["tasks"]
            ]
        }

    @endpoint("events.get_task_plots", task="!str")
    def get_task_plots(self, call: Call) -> dict[str, Any]:
        plots = self._events(call.data["task"], "plot")
        return {"plots": plots, "returned": len(plots), "total": len(plots), "scroll_id": ""}

    @endpoint("events.delete_for_task", task="!str")
    def delete_for_task(self, call: Call) -> dict[str, Any]:
        self._require(call.data["task"])
        return {"deleted": len(self._store.events.pop(call.data["task"], []))}

"""``queues.*``, and the queue operations that task endpoints use."""

from __future__ import annotations

from typing import Any

from . import errors, query
from .metrics_sink import MetricsSink
from .registry import Call, endpoint
from .settings import HIDDEN_QUEUE_TAG
from .store import Queue, Store
from .task_status import StatusChanger

_FILTERS: dict[str, tuple[str, ...]] = {
    "patterns": ("name",),
    "lists": ("id", "tags", "system_tags"),
    "ranges": ("created", "last_update"),
}


def checked_name(name: str, *, what: str) -> str:
    """Names are stripped and must then have 3 characters (400/800)."""
    name = name.strip()
    if len(name) < 3:
        raise errors.data_validation(f"{what} name is too short, at least 3 characters: {name!r}")
    return name


class QueueOperations:
    """Each method is a sequence of database operations; other calls run in the gaps between them."""

    def __init__(self, store: Store, sink: MetricsSink, changer: StatusChanger) -> None:
        self._store = store
        self._sink = sink
        self._changer = changer

    def get(self, queue_id: str) -> Queue:
        queue = self._store.queues.get(queue_id)
        if queue is None:
            raise errors.invalid_queue_id(queue_id)
        return queue

    def default(self) -> Queue:
        found = next((queue for queue in self._store.queues if "default" in queue.system_tags), None)
        if found is None:
            raise errors.no_default_queue()
        return found

    def create(
        self, name: str, *, tags: list[str] | None = None, system_tags: list[str] | None = None, **fields: Any
    ) -> Queue:
        name = checked_name(name, what="queue")
        if self._store.queues.by_name(name) is not None:
            raise errors.not_unique(name=name)
        return self._store.queues.create(name, tags=tags, system_tags=system_tags, **fields)

    async def add(self, call: Call, queue_id: str, task_id: str) -> int:
        queue = self.get(queue_id)
        if task_id in queue.entries:
            raise errors.already_queued(task_id)
        await call.step("before_push")
        pushed = self._store.queues.get(queue_id) is queue and self._store.queues.push(queue, task_id)
        await call.step("pushed")
        await self._sink.write()
        if not pushed:
            raise errors.not_in_queue(queue_id, task_id)
        return 1

    async def remove(self, call: Call, queue_id: str, task_id: str, *, update_task_status: bool = False) -> int:
        """1 if this call removed the entry, 0 if another one was faster; 400/703 if it was not there to begin with."""
        queue = self._store.queues.get(queue_id)
        if queue is None or task_id not in queue.entries:
            raise errors.not_in_queue(queue_id, task_id)
        added = queue.entries[task_id]
        await call.step("before_pull")
        removed = self._store.queues.pull(queue, task_id, added)
        if removed and update_task_status:
            self._release(call, queue_id, task_id, f"Task was removed from the queue {queue_id}")
        await call.step("pulled")
        await self._sink.write()
        return int(removed)

    def _release(self, call: Call, queue_id: str, task_id: str, reason: str) -> bool:
        """Back to the status before the enqueue, if the task says that this is its queue."""
        task = self._store.tasks.get(task_id)
        if task is None or task["execution"].get("queue") != queue_id:
            return False
        self._changer.change(
            call,
            task,
            task["status"],
            task.get("enqueue_status") or "created",
            reason=reason,
            message="",
            force=True,
            extra={"enqueue_status": None},
        )
        self._store.tasks.set_execution_queue(task_id, None)
        return True

    def release_all(self, call: Call, queue: Queue, reason: str) -> list[str]:
        return [task for task in queue.entries if self._release(call, queue.id, task, reason)]

    async def pop(self, queue_id: str, *, expected_head: str | None) -> tuple[str, Any] | None:
        queue = self.get(queue_id)
        if expected_head is not None and next(iter(queue.entries), None) != expected_head:
            return None
        entry = self._store.queues.pop(queue, expected_head=expected_head)
        await self._sink.write()
        return entry

    def position(self, queue_id: str, task_id: str) -> tuple[Queue, int]:
        queue = self._store.queues.get(queue_id)
        if queue is None or task_id not in queue.entries:
            raise errors.not_in_queue(queue_id, task_id)
        return queue, list(queue.entries).index(task_id)


class QueueService:
    def __init__(self, store: Store, operations: QueueOperations, sink: MetricsSink) -> None:
        self._store = store
        self._operations = operations
        self._sink = sink

    @endpoint("queues.create", since="2.4", name="!str", display_name="str", tags="strings", system_tags="strings")
    def create(self, call: Call) -> dict[str, Any]:
        data = call.data
        extra = {key: data[key] for key in ("display_name", "metadata") if data.get(key) is not None}
        queue = self._operations.create(
            data["name"], tags=data.get("tags"), system_tags=data.get("system_tags"), **extra
        )
        return {"id": queue.id}

    @endpoint("queues.get_by_id", since="2.4", queue="!str", max_task_entries="int")
    def get_by_id(self, call: Call) -> dict[str, Any]:
        queue = self._operations.get(call.data["queue"])
        return {"queue": queue.document(max_entries=call.data.get("max_task_entries"))}

    @endpoint("queues.get_default", since="2.4")
    def get_default(self, call: Call) -> dict[str, Any]:
        queue = self._operations.default()
        return {"id": queue.id, "name": queue.name}

    @endpoint("queues.get_all", since="2.4", max_task_entries="int", search_hidden="bool", only_fields="strings")
    def get_all(self, call: Call) -> dict[str, Any]:
        found = self._find(call)
        return {"queues": [query.project(queue, call.data.get("only_fields")) for queue in found]}

    @endpoint("queues.get_all_ex", since="2.4", max_task_entries="int", search_hidden="bool", only_fields="strings")
    def get_all_ex(self, call: Call) -> dict[str, Any]:
        found = self._find(call)
        for queue in found:
            for entry in queue["entries"]:
                task = self._store.tasks.get(entry["task"])
                entry["task"] = {"id": entry["task"], **({"name": task["name"]} if task else {})}
            queue["workers"] = [
                {"name": worker["id"], "ip": worker["ip"], "key": worker["key"], "task": worker.get("task")}
                for worker in self._store.workers.values()
                if queue["id"] in worker["queues"]
            ]
        return {"queues": [query.project(queue, call.data.get("only_fields")) for queue in found]}

    def _find(self, call: Call) -> list[dict[str, Any]]:
        data = call.data
        show_hidden = data.get("search_hidden") or data.get("id") or data.get("name")
        queues: list[Queue] = list(self._store.queues)
        ids = data.get("id")
        if isinstance(ids, list) and ids:
            queues = [queue for queue in queues if queue.id in set(ids)]
        documents = [
            queue.document(max_entries=data.get("max_task_entries"))
            for queue in queues
            if show_hidden or HIDDEN_QUEUE_TAG not in queue.system_tags
        ]
        return query.find(documents, data, query.build(data, **_FILTERS))

    @endpoint(
        "queues.update",
        since="2.4",
        queue="!str",
        name="str",
        display_name="str",
        tags="strings",
        system_tags="strings",
    )
    def update(self, call: Call) -> dict[str, Any]:
        queue = self._operations.get(call.data["queue"])
        fields: dict[str, Any] = {}
        if call.data.get("name") is not None:
            fields["name"] = checked_name(call.data["name"], what="queue")
            other = self._store.queues.by_name(fields["name"])
            if other is not None and other is not queue:
                raise errors.not_unique(name=fields["name"])
            queue.name = fields["name"]
        if call.data.get("tags") is not None:
            queue.tags = fields["tags"] = call.data["tags"]
        if call.data.get("system_tags") is not None:
            queue.system_tags = fields["system_tags"] = call.data["system_tags"]
        if call.data.get("display_name") is not None:
            queue.fields["display_name"] = fields["display_name"] = call.data["display_name"]
        return {"updated": int(bool(fields)), "fields": fields}

    @endpoint("queues.delete", since="2.4", queue="!str", force="bool")
    def delete(self, call: Call) -> dict[str, Any]:
        queue = self._operations.get(call.data["queue"])
        if queue.entries:
            if not call.data.get("force"):
                raise errors.queue_not_empty(queue.id)
            self._operations.release_all(call, queue, f"Queue {queue.id} was deleted")
        self._store.queues.delete(queue.id)
        return {"deleted": 1}

    @endpoint("queues.add_task", since="2.4", queue="!str", task="!str", update_execution_queue="bool")
    async def add_task(self, call: Call) -> dict[str, Any]:
        queue_id, task_id = call.data["queue"], call.data["task"]
        added = await self._operations.add(call, queue_id, task_id)
        if call.data.get("update_execution_queue") is not False:
            self._store.tasks.set_execution_queue(task_id, queue_id)
        return {"added": added}

    @endpoint("queues.remove_task", since="2.4", queue="!str", task="!str", update_task_status="bool")
    async def remove_task(self, call: Call) -> dict[str, Any]:
        removed = await self._operations.remove(
            call,
            call.data["queue"],
            call.data["task"],
            update_task_status=bool(call.data.get("update_task_status")),
        )
        return {"removed": removed}

    @endpoint("queues.clear_queue", queue="!str")
    async def clear_queue(self, call: Call) -> dict[str, Any]:
        queue = self._operations.get(call.data["queue"])
        if not queue.entries:
            return {"removed_tasks": []}
        released = self._operations.release_all(call, queue, f"Queue {queue.id} was cleared")
        queue.entries.clear()
        await self._sink.write()
        return {"removed_tasks": released}

    @endpoint("queues.get_next_task", queue="!str", task="str", get_task_info="bool")
    async def get_next_task(self, call: Call) -> dict[str, Any]:
        entry = await self._operations.pop(call.data["queue"], expected_head=call.data.get("task"))
        if entry is None:
            return {}
        task_id, added = entry
        answer: dict[str, Any] = {"entry": {"task": task_id, "added": added}}
        await call.step("popped")
        task = self._store.tasks.get(task_id)
        if task is not None:
            # only the status: status_changed and the rest stay
            self._store.tasks.update_if_status(task_id, "stopped", {"status": "queued"})
            if call.data.get("get_task_info"):
                answer["task_info"] = {"company": task["company"], "user": task["user"]}
        return answer

    @endpoint("queues.peek_task", since="2.15", queue="!str")
    def peek_task(self, call: Call) -> dict[str, Any]:
        return {"task": next(iter(self._operations.get(call.data["queue"]).entries), None)}

    @endpoint("queues.get_num_entries", since="2.15", queue="!str")
    def get_num_entries(self, call: Call) -> dict[str, Any]:
        return {"num": len(self._operations.get(call.data["queue"]).entries)}

    def _move(self, call: Call, *, by: int | None = None, to: int | None = None) -> dict[str, Any]:
        queue, position = self._operations.position(call.data["queue"], call.data["task"])
        last = len(queue.entries) - 1
        target = (last if to == -1 else to) if to is not None else position + (by or 0)
        target = max(0, min(last, target))
        if target != position:
            self._store.queues.move(queue, call.data["task"], target)
        return {"position": target}

    @endpoint("queues.move_task_to_front", since="2.4", queue="!str", task="!str")
    def move_task_to_front(self, call: Call) -> dict[str, Any]:
        return self._move(call, to=0)

    @endpoint("queues.move_task_to_back", since="2.4", queue="!str", task="!str")
    def move_task_to_back(self, call: Call) -> dict[str, Any]:
        return self._move(call, to=-1)

    @endpoint("queues.move_task_forward", since="2.4", queue="!str", task="!str", count="int")
    def move_task_forward(self, call: Call) -> dict[str, Any]:
        return self._move(call, by=-(call.data.get("count") or 1))

    @endpoint("queues.move_task_backward", since="2.4", queue="!str", task="!str", count="int")
    def move_task_backward(self, call: Call) -> dict[str, Any]:
        return self._move(call, by=call.data.get("count") or 1)

    @endpoint("queues.get_queue_metrics", since="2.4")
    def get_queue_metrics(self, call: Call) -> dict[str, Any]:
        return {"queues": []}

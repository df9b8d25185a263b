"""``tasks.*`` endpoints that change a task's status."""

from __future__ import annotations

from typing import Any

from . import errors, transitions
from .clock import Clock
from .errors import ApiError
from .queue_service import QueueOperations
from .registry import Call, endpoint
from .settings import TASK_UPDATE_TIMEOUT_SECONDS
from .store import Document, Store
from .task_status import StatusChanger

_STATUS_FIELDS = {"task": "!str", "status_reason": "str", "status_message": "str", "force": "bool"}


class TaskFlow:
    def __init__(self, store: Store, clock: Clock, changer: StatusChanger, queues: QueueOperations) -> None:
        self._store = store
        self._clock = clock
        self._changer = changer
        self._queues = queues

    def _require(self, task_id: str) -> Document:
        task = self._store.tasks.get(task_id)
        if task is None:
            raise errors.invalid_task_id(task_id)
        return task

    async def _set_status(
        self, call: Call, new: str, *, missing: ApiError | None = None, extra: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        task = self._store.tasks.get(call.data["task"])
        if task is None:
            raise missing or errors.invalid_task_id(call.data["task"])
        current = task["status"]
        await call.step("read")
        return self._changer.change(
            call,
            task,
            current,
            new,
            reason=call.data.get("status_reason"),
            message=call.data.get("status_message"),
            force=bool(call.data.get("force")),
            extra=extra,
        )

    @endpoint("tasks.started", common=_STATUS_FIELDS)
    async def started(self, call: Call) -> dict[str, Any]:
        missing = errors.invalid_id(id=call.data["task"])
        answer = await self._set_status(call, "in_progress", missing=missing)
        task = self._require(call.data["task"])
        if task.get("started") is None:
            self._store.tasks.update(task["id"], {"started": self._clock.now()})
        return {**answer, "started": 1}

    @endpoint("tasks.stopped", common=_STATUS_FIELDS)
    async def stopped(self, call: Call) -> dict[str, Any]:
        return await self._set_status(call, "stopped", extra={"completed": self._clock.now()})

    @endpoint("tasks.failed", common=_STATUS_FIELDS)
    async def failed(self, call: Call) -> dict[str, Any]:
        return await self._set_status(call, "failed")

    @endpoint("tasks.close", common=_STATUS_FIELDS)
    async def close(self, call: Call) -> dict[str, Any]:
        return await self._set_status(call, "closed")

    @endpoint("tasks.completed", since="2.2", publish="bool", common=_STATUS_FIELDS)
    async def completed(self, call: Call) -> dict[str, Any]:
        answer = await self._set_status(call, "completed", extra={"completed": self._clock.now()})
        if call.data.get("publish"):
            published = await self.publish(call)
            answer["published"] = published["updated"]
            answer["fields"]["status"] = "published"
        return answer

    @endpoint("tasks.publish", common=_STATUS_FIELDS)
    async def publish(self, call: Call) -> dict[str, Any]:
        return await self._set_status(call, "published", extra={"published": self._clock.now()})

    @endpoint("tasks.stop", common=_STATUS_FIELDS)
    async def stop(self, call: Call) -> dict[str, Any]:
        """Ends a task at once; if a worker that was heard of lately runs it, only the message says "stopping"."""
        task = self._require(call.data["task"])
        current = task["status"]
        queued = current == "queued"
        if queued or "development" in task["system_tags"] or not self._run_by_worker(task):
            new, message = "stopped", f"Stopped by {call.identity.user_name}"
        else:
            new, message = current, "stopping"
        await call.step("read")
        if queued:
            await self._leave_queue(call, task)
        return self._changer.change(
            call,
            task,
            current,
            new,
            reason=call.data.get("status_reason"),
            message=message,
            force=bool(call.data.get("force")),
        )

    def _run_by_worker(self, task: Document) -> bool:
        if not task.get("last_worker"):
            return False
        silent = self._clock.now() - task["last_update"]
        return bool(silent.total_seconds() < TASK_UPDATE_TIMEOUT_SECONDS)

    async def _leave_queue(self, call: Call, task: Document) -> int:
        """Take a queued task out of ``execution.queue``; 0 if it was not there, or if anything went wrong."""
        queue_id = task["execution"].get("queue")
        if task["status"] != "queued" or not queue_id:
            return 0
        try:
            return await self._queues.remove(call, queue_id, task["id"])
        except ApiError:
            return 0

    @endpoint("tasks.reset", clear_all="bool", common=_STATUS_FIELDS)
    async def reset(self, call: Call) -> dict[str, Any]:
        task = self._require(call.data["task"])
        current, force = task["status"], bool(call.data.get("force"))
        if not force and current == "published":
            raise errors.invalid_task_status(task_id=task["id"], status=current)
        await call.step("read")
        dequeued = await self._leave_queue(call, task)
        self._store.queues.remove_from_all(task["id"])
        await call.step("dequeued")
        if call.data.get("clear_all"):
            execution: Document = {"parameters": {}, "artifacts": []}
        else:
            execution = {name: value for name, value in task["execution"].items() if name != "queue"}
            execution["artifacts"] = [item for item in execution.get("artifacts", []) if item.get("mode") == "input"]
        unset = ("last_worker", "last_worker_report", "started", "completed", "published", "enqueue_status")
        extra: Document = {
            **dict.fromkeys(unset),
            "last_iteration": 0,
            "last_metrics": {},
            "runtime": {},
            "models": {"input": task["models"].get("input", []), "output": []},
            "execution": execution,
        }
        if call.data.get("clear_all"):
            extra["script"] = None
        answer = self._changer.change(
            call, task, current, "created", reason="reset", message="reset", force=force, extra=extra
        )
        answer["fields"] = {name: value for name, value in answer["fields"].items() if name != "execution"}
        self._store.events.pop(task["id"], None)
        return {**answer, "dequeued": {"removed": dequeued}, "deleted_models": 0, "updated_models": 0}

    @endpoint("tasks.dequeue", new_status="str", remove_from_all_queues="bool", common=_STATUS_FIELDS)
    async def dequeue(self, call: Call) -> dict[str, Any]:
        new = call.data.get("new_status")
        if new and new not in transitions.STATUSES:
            raise errors.validation(f"Invalid task status: {new}")
        task = self._store.tasks.get(call.data["task"])
        if task is None:
            self._store.queues.remove_from_all(call.data["task"])
            return {"dequeued": 1, "updated": 0, "fields": {}}
        current, previous = task["status"], task.get("enqueue_status")
        await call.step("read")
        await self._leave_queue(call, task)
        if call.data.get("remove_from_all_queues"):
            self._store.queues.remove_from_all(task["id"])
        if current not in ("queued", "in_progress"):
            return {"dequeued": 1, "updated": 0, "fields": {}}
        await call.step("dequeued")
        answer = self._changer.change(
            call,
            task,
            current,
            new or previous or "created",
            reason=call.data.get("status_reason"),
            message=call.data.get("status_message"),
            force=True,
            extra={"enqueue_status": None},
        )
        return {**answer, "dequeued": 1}

    @endpoint(
        "tasks.enqueue",
        queue="str",
        queue_name="str",
        update_execution_queue="bool",
        verify_watched_queue="bool",
        common=_STATUS_FIELDS,
    )
    async def enqueue(self, call: Call) -> dict[str, Any]:
        """Four separate steps: status, entry, ``execution.queue``, removal from all other queues.

        Gaps for faults, in order: ``read``, ``status_set``, ``before_push``, ``pushed``, (the metrics write),
        ``queue_entered``, ``execution_queue_set``.
        """
        data = call.data
        update_queue = data.get("update_execution_queue") is not False
        if data.get("verify_watched_queue") and not update_queue:
            raise errors.validation("verify_watched_queue cannot be used with update_execution_queue=False")
        if data.get("queue") and data.get("queue_name"):
            raise errors.validation("Either queue id or queue name should be provided")
        task = self._require(data["task"])
        current = task["status"]
        if not update_queue and not (current == "queued" and task["execution"].get("queue")):
            raise errors.validation(
                "Cannot skip setting execution queue for a task "
                "that is not enqueued or does not have execution queue set"
            )
        queue_id = self._target_queue(data.get("queue"), data.get("queue_name"))
        before = task.get("enqueue_status") if current == "queued" else None
        await call.step("read")
        answer = self._changer.change(
            call,
            task,
            current,
            "queued",
            reason=data.get("status_reason"),
            message=data.get("status_message"),
            force=bool(data.get("force")),
            extra={"enqueue_status": before or current},
        )
        await call.step("status_set")
        try:
            await self._queues.add(call, queue_id, task["id"])
        except ApiError:
            self._changer.change(
                call,
                task,
                "queued",
                current,
                reason="failed enqueueing",
                message="",
                force=True,
                extra={"enqueue_status": None},
            )
            raise
        await call.step("queue_entered")
        if update_queue:
            self._store.tasks.set_execution_queue(task["id"], queue_id)
            answer["fields"]["execution.queue"] = queue_id
        await call.step("execution_queue_set")
        self._store.queues.remove_from_all(task["id"], but=queue_id)
        if data.get("verify_watched_queue"):
            answer["queue_watched"] = any(queue_id in worker["queues"] for worker in self._store.workers.values())
        return {**answer, "queued": 1}

    def _target_queue(self, queue_id: str | None, queue_name: str | None) -> str:
        if queue_name:
            found = self._store.queues.by_name(queue_name)
            return (found or self._queues.create(queue_name)).id
        return queue_id or self._queues.default().id

"""The one way in which a task's status is changed: check the transition, then compare and set."""

from __future__ import annotations

from typing import Any

from . import errors, transitions
from .clock import Clock
from .registry import Call
from .store import Document, Store


class StatusChanger:
    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def change(
        self,
        call: Call,
        task: Document,
        current: str,
        new: str,
        *,
        reason: str | None,
        message: str | None,
        force: bool,
        extra: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """``{"updated": 1, "fields": {...}}``; 400/110 if not allowed, 400/121 if the status is no longer ``current``.

        The times in the answer have microseconds, those in the database only milliseconds: as the server's code has it.
        """
        transitions.check(current, new, force=force)
        now = self._clock.now()
        fields: dict[str, Any] = {
            "status": new,
            "status_reason": reason or "",
            "status_message": message or "",
            "status_changed": now,
            "last_update": now,
            "last_change": now,
            "last_changed_by": call.identity.user,
            **(extra or {}),
        }
        if not self._store.tasks.update_if_status(task["id"], current, fields):
            raise errors.failed_changing_status(task_id=task["id"], current_status=current, new_status=new)
        if new == "queued" and "development" in task["system_tags"]:
            task["system_tags"] = [tag for tag in task["system_tags"] if tag != "development"]
        return {"updated": 1, "fields": fields}

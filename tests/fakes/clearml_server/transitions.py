"""The task state machine: which status may follow which without ``force`` (the same status always may)."""

from __future__ import annotations

from . import errors

STATUSES = (
    "created",
    "queued",
    "in_progress",
    "stopped",
    "published",
    "publishing",
    "closed",
    "failed",
    "completed",
    "unknown",
)

ALLOWED: dict[str, frozenset[str]] = {
    "created": frozenset({"queued", "in_progress"}),
    "queued": frozenset({"created", "in_progress", "stopped"}),
    "in_progress": frozenset({"created", "stopped", "failed", "completed"}),
    "stopped": frozenset(
        {"created", "queued", "in_progress", "failed", "completed", "closed", "published", "publishing"}
    ),
    "failed": frozenset({"created", "queued", "stopped", "published"}),
    "completed": frozenset({"created", "in_progress", "published"}),
    "closed": frozenset({"created", "stopped", "failed", "published", "publishing"}),
    "publishing": frozenset({"published"}),
    "published": frozenset(),
    "unknown": frozenset(),
}


def check(current: str, new: str, *, force: bool) -> None:
    """400/110 if ``new`` may not follow ``current``."""
    if force or new == current or new in ALLOWED[current]:
        return
    raise errors.invalid_task_status("Invalid status change", current_status=current, new_status=new)

"""One task on its way through the steps of a claim."""

from __future__ import annotations

from dataclasses import dataclass

from clearml_k8s.clearml.tasks import TaskView
from clearml_k8s.config import ResolvedQueue


@dataclass(frozen=True, kw_only=True, slots=True)
class Taking:
    """``task`` is its latest read, ``queue`` the one whose entry is taken."""

    task: TaskView
    queue: ResolvedQueue
    absent: bool = False
    """Found in no queue: recorded, then left alone for a second grace before its Job is made."""
    resumed: bool = False
    """Goes on after a grace: a Job that an earlier call asked for may be there unseen."""
    taken: str = ""
    """When it was taken out of its queue by this process (ISO 8601)."""

    @property
    def attempt(self) -> str:
        return self.task.status_changed

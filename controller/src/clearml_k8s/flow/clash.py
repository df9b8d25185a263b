"""Whether somebody else works under our worker id: two releases of one `workerIdOverride`, or ClearML's own glue.

The server keeps no owner of a worker id: of two that register one it shows the latter. But the agent in each pod
reports as ``<worker id>:<task id>``, and a task carries the mark of whoever launched it, so such a task without our
mark tells.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from clearml_k8s import names
from clearml_k8s.clearml import tasks, workers
from clearml_k8s.clearml.session import Session
from clearml_k8s.names import MARK_PREFIX, PROPERTIES_SECTION, marked_attempt

log = logging.getLogger(__name__)

AGENT: Final = ""
"""In place of a controller's id: whoever launched the task leaves no marks."""


async def found(
    session: Session, *, worker_id: str, controller: str, deadline: float | None = None
) -> Mapping[str, str]:
    """Who else launched tasks whose agents report under the worker id: controller id (or `AGENT`) -> one such task.

    Errors as `Session.call`.
    """
    prefix = names.task_worker_id(worker_id=worker_id, task_id="")
    everybody = await workers.ids(session, deadline=deadline)
    reporting = [name.removeprefix(prefix) for name in everybody if name.startswith(prefix)]
    views = await tasks.get_many(
        session, reporting, fields=("id", f"hyperparams.{PROPERTIES_SECTION}"), deadline=deadline
    )
    others: dict[str, str] = {}
    for task in sorted(views):
        marks = {
            marked_attempt(value): key.removeprefix(MARK_PREFIX)
            for key, value in views[task].properties.items()
            if key.startswith(MARK_PREFIX)
        }
        # Marks of older attempts stay; times of one server are of one form.
        owner = marks[max(marks)] if marks else AGENT
        if owner != controller:
            others.setdefault(owner, task)
    return others


def told(worker_id: str, others: Mapping[str, str]) -> str:
    """One sentence for people; ``others`` as `found`, not empty."""
    who = " and ".join(
        f"controller {owner} (task {task})" if owner else f"an agent that is none of this chart's (task {task})"
        for owner, task in sorted(others.items())
    )
    return (
        f"worker id {worker_id!r} is also that of {who}: each task runs once all the same, but the server shows the "
        "workers of both as one's. Give each release its own agentk8sglue.workerIdOverride, or leave it out"
    )


class WorkerClash:
    """Looks from time to time; ``problem`` is what was found, "" nothing."""

    def __init__(self, *, session: Session, worker_id: str, controller: str) -> None:
        self._session = session
        self._worker_id = worker_id
        self._controller = controller
        self._known: frozenset[str] = frozenset()
        self.problem = ""

    async def look(self) -> None:
        """Look once; each is told once as long as it lasts. Errors as `Session.call`."""
        others = await found(self._session, worker_id=self._worker_id, controller=self._controller)
        self.problem = told(self._worker_id, others) if others else ""
        if others.keys() - self._known:
            log.warning("%s", self.problem)
        self._known = frozenset(others)

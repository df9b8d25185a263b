"""Whether a task that we took, or took for nobody's, stands in a queue that we did not look at: its user moved it."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from clearml_k8s import names
from clearml_k8s.clearml import queues
from clearml_k8s.clearml.session import Session
from clearml_k8s.clearml.tasks import TaskView
from clearml_k8s.flow.picture import picture


def strange(task: TaskView, *, queue: str, pending: str | None, controller: str) -> bool:
    """Whether an entry of the task may stand in another queue than ``queue`` (an id).

    Not where our mark is of this attempt, as a move would have begun another, unless the task names another queue: it
    may have been moved before it was marked. What else the task names proves nothing: our own late calls set it.
    """
    if task.execution_queue not in (queue, pending):
        return True
    return not picture(task, entry=None).marked_by(controller)


async def entries(session: Session, tasks: Mapping[str, str], *, pending: str | None) -> Mapping[str, str]:
    """Task -> a queue that holds it, other than its own (``tasks``: task -> queue id) and the pending queue; absent
    where there is none. One read of all queues, with all their entries; errors as `queues.all_entries`."""
    if not tasks:
        return {}
    found: dict[str, str] = {}
    for queue in await queues.all_entries(session):
        # By its name, too: our own entries there must not be taken for a move while its id is not known.
        shows = queue.id == pending or queue.name == names.PENDING_QUEUE
        wanted: Collection[str] = () if shows else [entry.task for entry in queue.entries]
        found.update((task, queue.id) for task in wanted if task in tasks and tasks[task] != queue.id)
    return found

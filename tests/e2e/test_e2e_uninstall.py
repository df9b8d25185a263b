"""`helm uninstall` while tasks are being claimed: Role and account go first, and no task stays behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from clearml_k8s import names
from clearml_server.process import DevServer
from e2e_programs import Helm, until, values_for
from e2e_watch import Audit

from ci.cluster.choice import current_chosen

TASKS = 1200
BEFORE = 40
"""Jobs that are there when the release is taken away: by then the claims are under way, and far from done."""


def properties(server: DevServer, task: str) -> dict[str, Any]:
    found: dict[str, Any] = server.task(task).get("hyperparams", {}).get(names.PROPERTIES_SECTION, {})
    return found


def marks(server: DevServer, task: str) -> list[str]:
    """The marks on the task for its present attempt, whoever made them."""
    found = server.task(task)
    return [
        key
        for key, item in properties(server, task).items()
        if key.startswith(names.MARK_PREFIX) and names.marked_attempt(item["value"]) == found["status_changed"]
    ]


@pytest.mark.parametrize("program", ["helm4", "helm3"])
def test_uninstall_in_the_middle_of_claims(program: str, namespaces: Any, server: DevServer, folder: Path) -> None:
    kubectl = namespaces()
    audit = None if current_chosen() else Audit(kubectl)
    queue = f"flood-{program}"
    tasks = server.bulk_tasks(TASKS, queue=queue)
    # A server that takes its time: many claims stand between two steps at any moment.
    server.add_fault(kind="delay", endpoint=r"^queues\.(remove_task|add_task)$", seconds=0.2)
    helm = Helm("flood", kubectl.namespace, program)
    helm.upgrade(
        values_for(
            url=server.url,
            access_key=server.access_key,
            secret_key=server.secret_key,
            queues={queue: {"templateOverrides": {"nodeSelector": {"no-such": "node"}}}},
            maxPendingPods=TASKS,
        ),
        folder,
    )
    until("claims are under way", lambda: len(kubectl.items("jobs")) >= BEFORE, limit=90)
    helm.uninstall()
    until("the controller is gone", lambda: not kubectl.items("pods", helm.controller_selector), limit=120)
    server.clear_faults()

    waiting = server.entries(server.queue_id(queue))
    launched = {job["metadata"]["labels"][names.LABEL_TASK_ID] for job in kubectl.items("jobs")}
    assert len(launched) >= BEFORE
    assert len(waiting) == len(set(waiting)) > 0, "all was launched before the release was taken away"
    assert {server.task(task)["status"] for task in tasks} == {"queued"}
    left = {task for task in tasks if task not in launched and task not in waiting}
    # A server that is too busy answers a create with 504: whether the Job will be there nobody can say at the end, as
    # the account is gone that could look for it (docs/guarantees.md, "What remains"). Such a task keeps our mark.
    unsure = audit.in_doubt() if audit is not None else set()
    doubts = {task for task in left if names.job_name(task) in unsure and marks(server, task)}
    assert left - doubts == set()
    assert launched.isdisjoint(waiting)
    assert [task for task in waiting if marks(server, task)] == []
    assert launched.issuperset(set(server.entries(server.queue_id(names.PENDING_QUEUE))).intersection(tasks))
    # That what was put back stands in front and in order is courtesy, as far as the time of the end allows: unit tests.
    returned = [task for task in waiting if names.PROPERTY_QUEUE in properties(server, task)]
    untouched = [task for task in tasks if task in set(waiting) - set(returned)]
    assert [task for task in waiting if task in set(untouched)] == untouched

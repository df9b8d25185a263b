"""The states of a task without a Job: how its grace ended, and what is left of a Job that somebody else deleted."""

from __future__ import annotations

from collections.abc import Mapping

from clearml_k8s import names
from clearml_k8s.flow.decide import Decision, decide_without_job
from clearml_k8s.flow.picture import Verdict, verdict
from flow_parts import ATTEMPT, LATER, make_container, make_job, make_picture, make_pod
from reconcile_states import TASK, WORKER

ME, OTHER = "m", "a"
MARK = names.mark_value(attempt=ATTEMPT, instance="1")

WHERE: dict[str, dict[str, object]] = {
    "in its queue": {},
    "in its queue, no room": {"takes": False},
    "in no queue, or in the pending queue alone": {"entry": None},
    "in no queue, or in the pending queue alone, no room": {"entry": None, "takes": False},
    "in another queue": {"entry": None, "elsewhere": "q2"},
    "in no queue, and a worker has reported it": {"entry": None, "worker": True},
    "in no queue, and a worker has reported it, no room": {"entry": None, "worker": True, "takes": False},
    "enqueued again since": {"attempt": LATER},
    "queued no more": {"status": "stopped", "entry": None},
    "deleted": {"status": "", "attempt": "", "entry": None, "marks": {}},
}
"""Of a task that the server calls ``queued`` in the attempt of the claim, unless said otherwise. No room: or its queue
is not served; of others it does not matter."""

OURS: dict[str, tuple[dict[str, str], str | None, str | None]] = {
    "recorded, our mark": ({ME: MARK}, MARK, None),
    "recorded, our mark, another's": ({ME: MARK, OTHER: MARK}, MARK, None),
    "recorded, our mark, our Job": ({ME: MARK}, MARK, ATTEMPT),
    "recorded, no mark": ({}, MARK, None),
    "our mark": ({ME: MARK}, None, None),
    "our mark, another's": ({ME: MARK, OTHER: MARK}, None, None),
    "our Job": ({ME: MARK}, None, ATTEMPT),
    "another's mark": ({OTHER: MARK}, None, None),
    "nothing": ({}, None, None),
}
"""What there is of us, or of another controller: marks on the task, the mark in our record, our Job's attempt."""


def after_a_grace(where: str, ours: str) -> Verdict:
    """What `verdict` says of the two."""
    return of_a_claim({"takes": True, **WHERE[where]}, ours)


def of_a_claim(where: Mapping[str, object], ours: str) -> Verdict:
    """The same of a place that is no row of the table."""
    marks, recorded, job = OURS[ours]
    changes = {"marks": marks, **where}
    takes = bool(changes.pop("takes"))
    return verdict(make_picture(**changes), recorded=recorded, controller=ME, job=job, takes=takes)


LEFT: dict[str, dict[str, object]] = {
    "its Job was deleted": {},
    "its Job was deleted, the pod runs on": {"pods": (make_pod("t", make_container(running=True), phase="Running"),)},
    "its Job was deleted after its end": {"job": make_job(finished="Complete")},
    "its Job was deleted, its end was told": {"explained": True},
}
"""What the cluster shows of a task whose Job we did not delete."""


def without_job(task: str, left: str) -> Decision:
    """What `decide_without_job` says of the two."""
    given: dict[str, object] = {"job": make_job(), "pods": (), "explained": False, **LEFT[left]}
    return decide_without_job(task=TASK[task], worker=WORKER, **given)  # type: ignore[arg-type]

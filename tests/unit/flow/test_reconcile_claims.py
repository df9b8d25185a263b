"""The table of tasks without a Job, by hand."""

from __future__ import annotations

import pytest
from clearml_k8s.flow.decide import Step
from clearml_k8s.flow.picture import Verdict
from reconcile_claims import LEFT, OURS, WHERE, after_a_grace, of_a_claim, without_job
from reconcile_states import TASK

CREATE, FORGET, UNMARK, CLAIM, NO = Verdict.CREATE, Verdict.FORGET, Verdict.UNMARK, Verdict.CLAIM, Verdict.NOTHING

# In the order of OURS: recorded with our mark, and another's, and our Job, and no mark; our mark, and another's; our
# Job; another's mark; nothing.
TABLE: dict[str, tuple[Verdict, ...]] = {
    "in its queue": (FORGET, FORGET, FORGET, FORGET, NO, UNMARK, NO, NO, NO),
    "in its queue, no room": (UNMARK, UNMARK, FORGET, FORGET, UNMARK, UNMARK, NO, NO, NO),
    "in no queue, or in the pending queue alone": (CREATE, CREATE, FORGET, FORGET, CLAIM, UNMARK, NO, NO, CLAIM),
    "in no queue, or in the pending queue alone, no room": (CREATE, CREATE, FORGET, FORGET, UNMARK, UNMARK, NO, NO, NO),
    "in another queue": (UNMARK, UNMARK, FORGET, FORGET, UNMARK, UNMARK, NO, NO, NO),
    "in no queue, and a worker has reported it": (FORGET, FORGET, FORGET, FORGET, NO, UNMARK, NO, NO, NO),
    "in no queue, and a worker has reported it, no room": (UNMARK, UNMARK, FORGET, FORGET, UNMARK, UNMARK, NO, NO, NO),
    "enqueued again since": (FORGET, FORGET, FORGET, FORGET, NO, NO, NO, NO, NO),
    "queued no more": (FORGET, FORGET, FORGET, FORGET, NO, NO, NO, NO, NO),
    "deleted": (FORGET, FORGET, FORGET, FORGET, NO, NO, NO, NO, NO),
}


@pytest.mark.parametrize("where", WHERE)
def test_after_a_grace(where: str) -> None:
    assert dict(zip(OURS, TABLE[where], strict=True)) == {ours: after_a_grace(where, ours) for ours in OURS}


@pytest.mark.parametrize("where", ["in another queue", "enqueued again since", "queued no more", "deleted"])
def test_without_room_it_is_the_same(where: str) -> None:
    without = {ours: of_a_claim({**WHERE[where], "takes": False}, ours) for ours in OURS}
    assert without == {ours: after_a_grace(where, ours) for ours in OURS}


STEPS = {
    "in_progress": {"its Job was deleted": Step.FAIL_ENDED},
    "in_progress, stopping": {"its Job was deleted": Step.FAIL_ENDED},
    "stopped, SIGTERM": {"its Job was deleted": Step.EXPLAIN_STOP},
}
"""By task, where it is anything; of all others nothing is due."""


@pytest.mark.parametrize("left", LEFT)
@pytest.mark.parametrize("task", TASK)
def test_a_job_that_somebody_else_deleted(task: str, left: str) -> None:
    assert without_job(task, left).step is STEPS.get(task, {}).get(left, Step.NOTHING)


def test_the_tables_are_whole() -> None:
    assert TABLE.keys() == WHERE.keys()

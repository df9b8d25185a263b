"""Writes docs/reconcile.md: the reconcile tables, asked from the code cell by cell.

python tests/support/reconcile_page.py            write it
python tests/support/reconcile_page.py --check    write nothing; end with 1 when it is out of date
"""

from __future__ import annotations

import sys
from pathlib import Path

from clearml_k8s.flow.decide import Step
from clearml_k8s.flow.picture import Verdict
from reconcile_claims import LEFT, OURS, WHERE, after_a_grace, without_job
from reconcile_states import CLUSTER, TASK, step

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reconcile.md"

SHORT = {
    Step.NOTHING: "-",
    Step.DELETE_JOB: "delete",
    Step.DELETE_LATER: "keep, delete",
    Step.GIVE_TOKEN: "give it",
    Step.TELL: "tell",
    Step.EXPLAIN_STOP: "explain",
    Step.EXPLAIN_FAILURE: "explain it",
    Step.FAIL_WAITING: "wait, fail",
    Step.GIVE_BACK: "wait, give back",
    Step.END_ABORTED: "abort",
    Step.FAIL_LONG: "fail in time",
    Step.FAIL_LOST: "lost, fail",
    Step.FAIL_ENDED: "fail",
    Step.DISRUPTED: "requeue",
}
MEANING = {
    Step.NOTHING: "nothing",
    Step.DELETE_JOB: "delete the Job: its pod gets SIGTERM and its grace period. A pod that runs an older attempt may "
    "end by itself for 20 s",
    Step.DELETE_LATER: "delete the Job once its pod has ended and `completedPodDeletionDelayMinutes` are over "
    "(`failedPodDeletionDelayMinutes` for a failed task)",
    Step.GIVE_TOKEN: "log in as the task's owner and make the Secret with that token, then look again; after a refusal "
    "with growing pauses, the reason told to its user",
    Step.TELL: "tell the task's user why it waits; as long as it takes",
    Step.EXPLAIN_STOP: "its pod was told to end, which reads as a user's abort: tell by whom, then look again",
    Step.EXPLAIN_FAILURE: "its agent reported a failure whose reason the cluster knows: tell it, then look again",
    Step.FAIL_WAITING: "tell why it waits, and fail the task when `patienceSeconds` are over; then delete the Job",
    Step.GIVE_BACK: "tell why it waits; when some of its pods have held nodes for `multiNode.startTimeoutMinutes` and "
    "others have none, or cannot start (a volume, the sandbox), count it on the task and put it back to the front of "
    "its queue, `maxGiveBacks` times; then fail",
    Step.END_ABORTED: "delete the Job when nothing was reported of the task for 150 s: its agent ends it long before",
    Step.FAIL_LONG: "fail the task when `maxRunMinutes` of its queue, if any, are over: its agent sees that and ends",
    Step.FAIL_LOST: "fail the task when the pod's time to end and `patienceSeconds.nodeLost` are over without a report",
    Step.FAIL_ENDED: "fail the task with the reason and the last lines of the pod, then look again",
    Step.DISRUPTED: "count it on the task and put it back to the front of its queue, as often as `maxRequeues` "
    "says; else fail it; then look again",
}
HEADER = """\
# The reconcile table

Built by `make generate` from `flow/decide.py` and `flow/picture.py`, asked for each pair of states in
`tests/support/reconcile_states.py` and `reconcile_claims.py`; what they have to say stands by hand in
`tests/unit/flow/test_decide.py` and `test_reconcile_claims.py`.

## A task with a Job

One task that has a Job of this controller: what ClearML says of the task (columns) against what the cluster shows of
the Job (rows). The one next step follows from how things are, never from what happened. Before a step that ends
something the task is read anew, and the step taken only if it still is the same. A Job that is being deleted, or that
another controller made, is left alone. A Job of an older attempt is one whose task is queued again.
"""
GONE = """
The same of a task whose Job somebody else deleted. One that waits is a claim (below), and gets another Job.
"""
CLAIMS = """
## A task without a Job

What the claim left ([ADR 0002](adr/0002-claim.md)) of a task that was in doubt, found in no queue, or in the record
when the controller started, and that stood unchanged for a whole grace: what ClearML says of the task (rows) against
what there is of this controller (columns). "No room" is: no place for the task, or a queue that is not served (any
more); what is recorded has its place. An entry that nothing is known of is claimed by the next poll. What is created,
claimed or put back goes through the steps of the claim again, each of which looks anew.
"""
VERDICTS = {
    Verdict.CREATE: "create",
    Verdict.FORGET: "forget",
    Verdict.UNMARK: "unmark",
    Verdict.CLAIM: "claim",
    Verdict.NOTHING: "-",
}


def page() -> str:
    """The text of docs/reconcile.md."""
    return "\n".join([*_with_job(), GONE, *_job_gone(), CLAIMS, *_claims()]) + "\n"


def _claims() -> list[str]:
    lines = ["| step | |", "|---|---|", *(f"| {VERDICTS[v]} | {v.value} |" for v in Verdict), ""]
    lines += ["| the task is | " + " | ".join(OURS) + " |", "|---" * (len(OURS) + 1) + "|"]
    return lines + [
        f"| {where} | " + " | ".join(VERDICTS[after_a_grace(where, ours)] for ours in OURS) + " |" for where in WHERE
    ]


def _job_gone() -> list[str]:
    groups: dict[tuple[str, ...], list[str]] = {}
    for task in TASK:
        groups.setdefault(tuple(SHORT[without_job(task, left).step] for left in LEFT), []).append(task)
    lines = ["| the Job | " + " | ".join(", ".join(tasks) for tasks in groups.values()) + " |"]
    lines.append("|---" * (len(groups) + 1) + "|")
    return lines + [
        f"| {left} | " + " | ".join(column[index] for column in groups) + " |" for index, left in enumerate(LEFT)
    ]


def _with_job() -> list[str]:
    groups: dict[tuple[str, ...], list[str]] = {}
    for task in TASK:  # tasks with the same column share it
        groups.setdefault(tuple(SHORT[step(task, cluster).step] for cluster in CLUSTER), []).append(task)
    lines = [HEADER, "| step | |", "|---|---|", *(f"| {SHORT[s]} | {MEANING[s]} |" for s in Step), ""]
    lines.append("| the Job | " + " | ".join(", ".join(tasks) for tasks in groups.values()) + " |")
    lines.append("|---" * (len(groups) + 1) + "|")
    for index, cluster in enumerate(CLUSTER):
        lines.append(f"| {cluster} | " + " | ".join(column[index] for column in groups) + " |")
    return lines


def main() -> int:
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(page(), encoding="utf-8")
        return 0
    found = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    if found != page():
        print("docs/reconcile.md is not what the code says: make generate", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

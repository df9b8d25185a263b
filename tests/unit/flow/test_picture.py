"""The rules of the claim: by hand, and against the model that ADR 0002 was decided with."""

from __future__ import annotations

import itertools

import pytest
from claim_model import NO_REQUEST, SCENARIOS, Agent, Controller, Entry, Model, Rules, State
from clearml_k8s.flow.picture import GONE, Claimable, Picture, Verdict, picture, read_back, verdict
from flow_parts import ATTEMPT, LATER, make_picture, make_task

ME, LOWER, HIGHER = "m", "a", "z"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"marks": {ME: ATTEMPT}}, Claimable.ALONE),
        ({"marks": {ME: ATTEMPT, LOWER: "older"}}, Claimable.ALONE),
        ({"marks": {ME: ATTEMPT, LOWER: ATTEMPT}}, Claimable.GIVES_WAY),
        ({"marks": {ME: ATTEMPT, HIGHER: ATTEMPT}}, Claimable.WAITS),
        ({"marks": {ME: ATTEMPT, LOWER: ATTEMPT, HIGHER: ATTEMPT}}, Claimable.GIVES_WAY),
        ({"marks": {ME: "older"}}, Claimable.GONE_ON),
        ({"marks": {}}, Claimable.GONE_ON),
        ({"marks": {ME: ATTEMPT}, "status": "in_progress"}, Claimable.GONE_ON),
        ({"marks": {ME: LATER}, "attempt": LATER}, Claimable.GONE_ON),
    ],
)
def test_read_back(changes: dict[str, object], expected: Claimable) -> None:
    assert read_back(make_picture(**changes), attempt=ATTEMPT, controller=ME) is expected


NO_ENTRY = {"entry": None}


@pytest.mark.parametrize(
    ("changes", "recorded", "job", "expected"),
    [
        # recorded: ours unless anything speaks against it
        (NO_ENTRY, ATTEMPT, None, Verdict.CREATE),
        (NO_ENTRY, ATTEMPT, "older", Verdict.CREATE),
        (NO_ENTRY, ATTEMPT, ATTEMPT, Verdict.FORGET),
        ({}, ATTEMPT, None, Verdict.FORGET),
        ({**NO_ENTRY, "worker": True}, ATTEMPT, None, Verdict.FORGET),
        ({**NO_ENTRY, "attempt": LATER}, ATTEMPT, None, Verdict.FORGET),
        ({**NO_ENTRY, "status": "stopped"}, ATTEMPT, None, Verdict.FORGET),
        ({**NO_ENTRY, "marks": {ME: ATTEMPT, LOWER: ATTEMPT}}, ATTEMPT, None, Verdict.CREATE),
        # a mark beside another's goes
        ({"marks": {ME: ATTEMPT, LOWER: ATTEMPT}}, None, None, Verdict.UNMARK),
        ({"marks": {ME: ATTEMPT, HIGHER: ATTEMPT}}, None, None, Verdict.UNMARK),
        ({"marks": {LOWER: ATTEMPT}}, None, None, Verdict.NOTHING),
        ({**NO_ENTRY, "marks": {LOWER: ATTEMPT}}, None, None, Verdict.NOTHING),
        # nobody's
        (NO_ENTRY, None, None, Verdict.CLAIM),
        ({**NO_ENTRY, "marks": {ME: ATTEMPT}}, None, None, Verdict.CLAIM),
        ({**NO_ENTRY, "marks": {LOWER: "older"}}, None, None, Verdict.CLAIM),
        ({**NO_ENTRY, "worker": True}, None, None, Verdict.NOTHING),
        (NO_ENTRY, None, ATTEMPT, Verdict.NOTHING),
        # the entry is there: the next poll's
        ({}, None, None, Verdict.NOTHING),
        ({"status": "in_progress", "entry": None}, None, None, Verdict.NOTHING),
    ],
)
def test_verdict(changes: dict[str, object], recorded: str | None, job: str | None, expected: Verdict) -> None:
    assert verdict(make_picture(**changes), recorded=recorded, controller=ME, job=job) is expected


def test_a_task_that_does_not_exist() -> None:
    assert picture(None, entry=None) is GONE
    assert verdict(GONE, recorded=ATTEMPT, controller=ME, job=None) is Verdict.FORGET
    assert verdict(GONE, recorded=None, controller=ME, job=None) is Verdict.NOTHING
    assert read_back(GONE, attempt="", controller=ME) is Claimable.GONE_ON


@pytest.mark.parametrize(
    ("report", "changed", "worker"),
    [
        (None, ATTEMPT, False),
        (ATTEMPT, ATTEMPT, True),
        (LATER, ATTEMPT, True),
        (ATTEMPT, LATER, False),
        ("2026-01-15T06:22:11.065Z", ATTEMPT, True),
        ("2026-01-15T06:22:11", LATER, False),
        (ATTEMPT, "", False),
        ("yesterday", ATTEMPT, True),
    ],
)
def test_whether_a_worker_is_at_the_task(report: str | None, changed: str, worker: bool) -> None:
    assert picture(make_task(changed=changed, last_worker_report=report), entry=None).worker is worker


def test_marks_are_read_from_the_properties() -> None:
    properties = {"k8s-claim-a": "1", "k8s-claim-b": ATTEMPT, "k8s-queue": "default", "other": "x"}
    seen = picture(make_task(properties=properties), entry="t")
    assert seen.marks == {"a": "1", "b": ATTEMPT}
    assert (seen.others("a"), seen.others("b"), seen.marked_by("b")) == (["b"], [], True)


# ---- the model ------------------------------------------------------------------------------------------------------

CHANGED = 2
LABELS = {
    "grace over: the take was ours": Verdict.CREATE,
    "grace over: nothing of ours": Verdict.FORGET,
    "grace over: the Job is there": Verdict.NOTHING,
    "grace over: gives way": Verdict.UNMARK,
    "grace over: the entry is there": Verdict.NOTHING,  # claimed as any entry, by the next poll
    "grace over: nobody's task": Verdict.CLAIM,
    "grace over: nothing to do": Verdict.NOTHING,
    "recovery: the Job is there": Verdict.FORGET,
}


def model_state(*, status: str, entry: bool, marks: tuple[int, ...], worker: int, me: Controller, x: int) -> State:
    controllers = tuple(me if i == x else Controller() for i in range(len(marks)))
    return State(
        status=status, changed=CHANGED, source=Entry(CHANGED, False) if entry else None, pending=False, queue="source",
        marks=marks, worker=worker, launched=(), late=(), producer=NO_REQUEST, user=NO_REQUEST, script=0,
        agent=Agent("idle", 0, 0), controllers=controllers, faults=0, crashes=0,
    )  # fmt: skip


def as_picture(s: State) -> Picture:
    return Picture(
        status=s.status,
        attempt=str(s.changed),
        entry="added" if s.source else None,
        marks={"ab"[y]: str(mark) for y, mark in enumerate(s.marks) if mark},
        worker=s.worker >= s.changed,
    )


STATUSES, TIMES = ("queued", "in_progress", "stopped"), (0, 1, CHANGED)


@pytest.mark.parametrize("x", [0, 1], ids=["lower", "higher"])
def test_the_verdict_is_the_models(x: int) -> None:
    model = Model(SCENARIOS["2c"], Rules())
    compared = set()
    for status, entry, mine, other, worker, record, job in itertools.product(
        STATUSES, (False, True), TIMES, TIMES, TIMES, TIMES, TIMES
    ):
        me = Controller(record=record, job=job)
        marks = (mine, other) if x == 0 else (other, mine)
        s = model_state(status=status, entry=entry, marks=marks, worker=worker, me=me, x=x)
        # With its Job there, the model forgets a record before any grace.
        steps = model.idle(s, x) if record and job == record else model.verdict(s, x)
        (label,) = [label for label, _, _ in steps]
        found = verdict(
            as_picture(s),
            recorded=str(record) if record else None,
            controller="ab"[x],
            job=str(job) if job else None,
        )
        assert found is LABELS[label], (label, s)
        compared.add(label)
    assert compared == LABELS.keys()


@pytest.mark.parametrize("x", [0, 1], ids=["lower", "higher"])
def test_reading_back_is_the_models(x: int) -> None:
    model = Model(SCENARIOS["2c"], Rules())
    labels = {
        "reads: alone": Claimable.ALONE,
        "reads: not this attempt any more": Claimable.GONE_ON,
        "reads: another's mark, gives way": Claimable.GIVES_WAY,
        "reads: another's mark, waits": Claimable.WAITS,
    }
    for status, mine, other, attempt in itertools.product(STATUSES, TIMES, TIMES, (1, CHANGED)):
        me = Controller(step="read", attempt=attempt)
        marks = (mine, other) if x == 0 else (other, mine)
        s = model_state(status=status, entry=True, marks=marks, worker=0, me=me, x=x)
        (label,) = [label for label, _, _ in model.controller(s, x)]
        assert read_back(as_picture(s), attempt=str(attempt), controller="ab"[x]) is labels[label], (label, s)

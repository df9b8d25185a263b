"""The rules of the claim: by hand, and against the model that ADR 0002 was decided with."""

from __future__ import annotations

import itertools

import pytest
from claim_model import Model
from claim_state import NO_MARK, NO_REQUEST, SCENARIOS, Agent, Controller, Entry, Mark, Rules, State
from clearml_k8s import names
from clearml_k8s.flow.picture import GONE, Claimable, Picture, Verdict, picture, read_back, verdict
from flow_parts import ATTEMPT, LATER, make_picture, make_task

ME, LOWER, HIGHER = "m", "a", "z"
MARK, OLDER, OTHER_LIFE = (
    names.mark_value(attempt=a, instance=i) for a, i in ((ATTEMPT, "1"), ("older", "1"), (ATTEMPT, "2"))
)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"marks": {ME: MARK}}, Claimable.ALONE),
        ({"marks": {ME: MARK, LOWER: OLDER}}, Claimable.ALONE),
        ({"marks": {ME: MARK, LOWER: OTHER_LIFE}}, Claimable.GIVES_WAY),
        ({"marks": {ME: MARK, HIGHER: ATTEMPT}}, Claimable.WAITS),
        ({"marks": {ME: MARK, LOWER: OTHER_LIFE, HIGHER: ATTEMPT}}, Claimable.GIVES_WAY),
        ({"marks": {ME: OLDER}}, Claimable.GONE_ON),
        ({"marks": {ME: OTHER_LIFE}}, Claimable.GONE_ON),
        ({"marks": {ME: ATTEMPT}}, Claimable.GONE_ON),
        ({"marks": {}}, Claimable.GONE_ON),
        ({"marks": {ME: MARK}, "status": "in_progress"}, Claimable.GONE_ON),
        ({"marks": {ME: MARK}, "attempt": LATER}, Claimable.GONE_ON),
    ],
)
def test_read_back(changes: dict[str, object], expected: Claimable) -> None:
    assert read_back(make_picture(**changes), mark=MARK, controller=ME) is expected


NO_ENTRY = {"entry": None}
OURS = {"entry": None, "marks": {ME: MARK}}
MOVED = {"elsewhere": "q2"}


@pytest.mark.parametrize(
    ("changes", "recorded", "job", "expected"),
    [
        # recorded: ours unless anything speaks against it
        (OURS, MARK, None, Verdict.CREATE),
        (OURS, MARK, "older", Verdict.CREATE),
        (OURS, MARK, ATTEMPT, Verdict.FORGET),
        ({"marks": {ME: MARK}}, MARK, None, Verdict.FORGET),
        ({**OURS, "worker": True}, MARK, None, Verdict.FORGET),
        ({**OURS, "attempt": LATER}, MARK, None, Verdict.FORGET),
        ({**OURS, "status": "stopped"}, MARK, None, Verdict.FORGET),
        ({**NO_ENTRY, "marks": {ME: MARK, LOWER: ATTEMPT}}, MARK, None, Verdict.CREATE),
        # recorded, and the mark taken away since, perhaps made anew by another life
        (NO_ENTRY, MARK, None, Verdict.FORGET),
        ({**NO_ENTRY, "marks": {ME: OTHER_LIFE}}, MARK, None, Verdict.FORGET),
        # its user moved it to another queue: nothing was taken, and whoever serves that is to have it
        ({**OURS, **MOVED}, MARK, None, Verdict.UNMARK),
        ({**OURS, **MOVED}, None, None, Verdict.UNMARK),
        ({**OURS, **MOVED}, MARK, ATTEMPT, Verdict.FORGET),
        ({**OURS, **MOVED, "attempt": LATER}, MARK, None, Verdict.FORGET),
        ({**NO_ENTRY, **MOVED}, None, None, Verdict.NOTHING),
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
    assert verdict(make_picture(**changes), recorded=recorded, controller=ME, job=job, takes=True) is expected


@pytest.mark.parametrize(
    ("changes", "recorded", "job", "expected"),
    [
        # what was taken gets its Job, or is put back
        (OURS, MARK, None, Verdict.CREATE),
        # whatever else has our mark is let go of
        ({"marks": {ME: MARK}}, MARK, None, Verdict.UNMARK),
        ({"marks": {ME: MARK}}, MARK, ATTEMPT, Verdict.FORGET),
        ({"marks": {ME: ATTEMPT}}, None, None, Verdict.UNMARK),
        ({"marks": {ME: ATTEMPT}}, None, ATTEMPT, Verdict.NOTHING),
        ({"marks": {ME: ATTEMPT, LOWER: ATTEMPT}}, None, None, Verdict.UNMARK),
        ({**NO_ENTRY, "marks": {ME: ATTEMPT}}, None, None, Verdict.UNMARK),
        ({"marks": {ME: "older"}}, None, None, Verdict.NOTHING),
        ({"marks": {ME: ATTEMPT}, "status": "stopped"}, None, None, Verdict.NOTHING),
        # nobody's: whoever has room
        (NO_ENTRY, None, None, Verdict.NOTHING),
        ({}, None, None, Verdict.NOTHING),
    ],
)
def test_verdict_without_room(
    changes: dict[str, object], recorded: str | None, job: str | None, expected: Verdict
) -> None:
    assert verdict(make_picture(**changes), recorded=recorded, controller=ME, job=job, takes=False) is expected


def test_a_task_that_does_not_exist() -> None:
    assert picture(None, entry=None) is GONE
    assert verdict(GONE, recorded=ATTEMPT, controller=ME, job=None, takes=False) is Verdict.FORGET
    assert verdict(GONE, recorded=None, controller=ME, job=None, takes=False) is Verdict.NOTHING
    assert read_back(GONE, mark="", controller=ME) is Claimable.GONE_ON


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
    "grace over: lets go": Verdict.UNMARK,
    "grace over: no room": Verdict.NOTHING,
    "grace over: the entry is there": Verdict.NOTHING,  # claimed as any entry, by the next poll
    "grace over: nobody's task": Verdict.CLAIM,
    "grace over: nothing to do": Verdict.NOTHING,
    "recovery: the Job is there": Verdict.FORGET,
}


def model_state(*, status: str, entry: bool, marks: tuple[Mark, ...], worker: int, me: Controller, x: int) -> State:
    controllers = tuple(me if i == x else Controller() for i in range(len(marks)))
    return State(
        status=status, changed=CHANGED, source=Entry(CHANGED, False) if entry else None, pending=False, queue="source",
        marks=marks, worker=worker, launched=(), late=(), producer=NO_REQUEST, user=NO_REQUEST, script=0,
        agent=Agent("idle", 0, 0), controllers=controllers, faults=0, crashes=0, leavings=0,
    )  # fmt: skip


def value(mark: Mark) -> str:
    return names.mark_value(attempt=str(mark.attempt), instance=str(mark.instance))


def as_picture(s: State) -> Picture:
    return Picture(
        status=s.status,
        attempt=str(s.changed),
        entry="added" if s.source else None,
        marks={"ab"[y]: value(mark) for y, mark in enumerate(s.marks) if mark.attempt},
        worker=s.worker >= s.changed,
    )


STATUSES, TIMES = ("queued", "in_progress", "stopped"), (0, 1, CHANGED)
MARKS = (NO_MARK, Mark(1, 1), Mark(CHANGED, 1), Mark(CHANGED, 2))


@pytest.mark.parametrize("x", [0, 1], ids=["lower", "higher"])
def test_the_verdict_is_the_models(x: int) -> None:
    model = Model(SCENARIOS["2c"], Rules())
    compared = set()
    for status, entry, mine, other, worker, record, job, full in itertools.product(
        STATUSES, (False, True), MARKS, MARKS, TIMES, MARKS, TIMES, (False, True)
    ):
        me = Controller(record=record, job=job, full=full)
        marks = (mine, other) if x == 0 else (other, mine)
        s = model_state(status=status, entry=entry, marks=marks, worker=worker, me=me, x=x)
        # With its Job there, the model forgets a record before any grace.
        steps = model.idle(s, x) if record.attempt and job == record.attempt else model.verdict(s, x)
        (label,) = [label for label, _, _ in steps]
        found = verdict(
            as_picture(s),
            recorded=value(record) if record.attempt else None,
            controller="ab"[x],
            job=str(job) if job else None,
            takes=not full,
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
    for status, mine, other, attempt in itertools.product(STATUSES, MARKS, MARKS, (1, CHANGED)):
        me = Controller(step="read", attempt=attempt)
        marks = (mine, other) if x == 0 else (other, mine)
        s = model_state(status=status, entry=True, marks=marks, worker=0, me=me, x=x)
        (label,) = [label for label, _, _ in model.controller(s, x)]
        assert read_back(as_picture(s), mark=value(Mark(attempt, 1)), controller="ab"[x]) is labels[label], (label, s)

"""Whatever a user does to a task between two calls of the controller, the task ends where the user wants it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from clearml_server.app import Server
from every_play import play
from every_points import POINTS
from every_scenarios import SCENARIOS
from every_user import ACTS, AGAIN, ENDS, acts
from rest_is_long import rest_is_long

GUARANTEES = Path(__file__).parents[3] / "docs" / "guarantees.md"

pytestmark = pytest.mark.usefixtures("quiet")

NEW = frozenset({*AGAIN, "move"})
ABORT = frozenset({"abort"})
CHANGED = frozenset({"reset", "dequeue", "move"})

OWN = {
    "the queue is made first": "there is no task yet",
    "aborted while it is put back": "has a user of its own",
    "another controller has marked it": "its place depends on the other controller",
    "a plain agent is faster": "its place depends on the agent",
    "another controller has our worker id": "its first task is the other controller's",
    "deleted by its user": "there is no task any more",
    "deleted with its queue": "there is no queue any more",
    "an old pod out of memory": "its pod is not ours to end (ADR 0009)",
    "an old pod that cannot begin": "its pod is not ours to end (ADR 0009)",
}
"""Scenarios that are left out, and why."""


@dataclass(frozen=True, kw_only=True)
class LastMoment:
    """What remains where the user acts between our last read and our write; docs/guarantees.md tells of it under
    "What remains", in the paragraph that begins with ``heading``."""

    heading: str
    before: str
    acts: frozenset[str]
    place: str


FAILED = "Between our read of a task and our write to it"
PUT_BACK = "Who acts on a task in the milliseconds"
REMAINS = (
    LastMoment(heading=FAILED, before="returning.fail tasks.failed", acts=NEW, place="failed+queue"),
    LastMoment(heading=FAILED, before="ends.fail tasks.failed", acts=NEW, place="failed: Kubernetes: image-pull+queue"),
    LastMoment(heading=PUT_BACK, before="requeue.requeue tasks.edit_hyper_params", acts=ABORT, place="job"),
    LastMoment(heading=PUT_BACK, before="requeue.requeue tasks.failed", acts=ABORT, place="job"),
    LastMoment(heading=PUT_BACK, before="requeue._enqueue tasks.enqueue", acts=ABORT | CHANGED, place="job"),
)


def allowed(act: str, scenario: str, before: str) -> set[str]:
    """Where the task may be in the end."""
    return _wanted(act, scenario) | {r.place for r in REMAINS if r.before == before and act in r.acts}


def _wanted(act: str, scenario: str) -> set[str]:
    usual = set(SCENARIOS[scenario].ends)
    failed = {place for place in usual if place.startswith("failed")}
    if act in AGAIN:
        return usual | failed | {"job"}
    if act == "move":
        return {"queue"}
    return failed | {"stopped", "created", "deleted", "completed", "failed"}


@pytest.mark.parametrize("act", rest_is_long(ACTS, but=("abort", "reset", "move", "abort and enqueue")))
@pytest.mark.parametrize("scenario", [name for name in SCENARIOS if name not in OWN])
async def test_whatever_the_user_does_between_two_calls(app: Server, scenario: str, act: str) -> None:
    points = dict.fromkeys(point for point, _ in (await play(SCENARIOS[scenario], app)).points)
    wrong = []
    met = 0
    for point in points:
        found = await acts(SCENARIOS[scenario], app, act=ACTS[act], before=point)
        if found.place is None:
            continue
        met += 1
        if found.place not in allowed(act, scenario, point):
            wrong.append(f"{act} before {point}: the task is {found.place}")
        if not set(found.others) <= {*SCENARIOS[scenario].ends, "job", "queue", "completed"}:
            wrong.append(f"{act} before {point}: other tasks are {found.others}")
        wrong += [f"{act} before {point}: {text}" for text in found.wrong]
    assert not wrong, "\n".join(wrong)
    over = scenario in ("completed", "a command when a pod is gone") and act not in ENDS
    assert met or over or act == "move", "the server refused it every time"


def test_what_is_left_out_exists() -> None:
    assert OWN.keys() <= SCENARIOS.keys()
    points = {point for scenario in POINTS.values() for point in scenario.split("\n")}
    text = GUARANTEES.read_text(encoding="utf-8").partition("## What remains")[2]
    for remains in REMAINS:
        assert any(point.strip() == remains.before for point in points)
        assert remains.acts <= ACTS.keys()
        assert f"**{remains.heading}" in text

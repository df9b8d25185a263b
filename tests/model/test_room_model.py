"""Two tasks of one controller: the limit holds, the order stands, and every rule that couples them is needed."""

from __future__ import annotations

from dataclasses import fields

import pytest
from explore import explore
from room_model import Model
from room_state import SCENARIOS, Rules

REMAINS = {"one place, deleted, faults"}
NEEDED = [
    ("in_flight", "one place", "limit"),
    ("doubts", "one place", "limit"),
    ("perhaps", "one place, popped", "limit"),
    ("noted", "one place", "limit"),
    ("pods", "one place, deleted", "limit"),
    ("recheck", "one place", "limit"),
    ("absent_room", "one place", "limit"),
    ("by_name", "one place", "limit"),
    ("record", "one place", "limit"),
    ("fresh_write", "one place, popped", "limit"),
    ("settles", "one place, refused", "limit"),
    ("front", "a batch, refused", "turned"),
    ("in_order", "a batch, refused", "turned"),
]


@pytest.mark.parametrize("scenario", [name for name in SCENARIOS if name not in REMAINS])
def test_no_limit_is_passed_and_no_task_lost_stuck_started_twice_or_turned(scenario: str) -> None:
    result = explore(Model(SCENARIOS[scenario], Rules()))
    assert result.complete, f"cut at {result.states} states"
    assert result.states > 100
    assert result.failures == {}


def test_what_remains_is_a_job_that_somebody_deletes_unseen() -> None:
    """Its create had no answer, and no watch has shown it or its pod for a whole grace."""
    result = explore(Model(SCENARIOS["one place, deleted, faults"], Rules()))
    assert result.complete
    assert set(result.failures) == {"limit"}
    trace = result.failures["limit"]
    assert trace.index("we: create t1: executed, answer lost") < trace.index("cluster: the Job of t1 is deleted")
    assert not [label for label in trace if "the watch shows: t1" in label]


@pytest.mark.parametrize(("rule", "scenario", "failure"), NEEDED)
def test_without_a_rule_it_fails(rule: str, scenario: str, failure: str) -> None:
    result = explore(Model(SCENARIOS[scenario], Rules(**{rule: False})), until=failure)
    assert failure in result.failures


def test_every_rule_is_switched_off() -> None:
    assert {rule for rule, _, _ in NEEDED} == {field.name for field in fields(Rules)}

"""The claim of ADR 0002 holds in its model, and every rule of it is needed."""

from __future__ import annotations

import pytest
from claim_model import Model
from claim_state import SCENARIOS, Rules
from explore import explore
from rest_is_long import rest_is_long

REMAINS = {"stop,enqueue+agent", "uninstall,install,stop"}


HOLDS = [name for name in SCENARIOS if name not in REMAINS]
LARGE = {"room,stop,enqueue", "reset,enqueue"}


@pytest.mark.parametrize("scenario", rest_is_long(HOLDS, but=[name for name in HOLDS if name not in LARGE]))
def test_no_task_is_lost_stuck_or_started_twice(scenario: str) -> None:
    result = explore(Model(SCENARIOS[scenario], Rules()))
    assert result.complete, f"cut at {result.states} states"
    assert result.states > 1_000
    assert result.failures == {}


def test_what_remains_is_the_plain_agents_own_race() -> None:
    """An agent that popped before an abort starts the task after the next enqueue, whoever else serves the queue."""
    result = explore(Model(SCENARIOS["stop,enqueue+agent"], Rules()))
    assert result.complete
    assert set(result.failures) == {"twice"}
    trace = result.failures["twice"]
    assert trace.index("user: stop: stopped") < trace.index("agent: starts the task")


def test_what_remains_of_an_abort_beside_giving_back_is_an_entry() -> None:
    """An abort is several operations: its entry is taken out first, so one that is put back between them stays."""
    result = explore(Model(SCENARIOS["uninstall,install,stop"], Rules()))
    assert result.complete
    assert set(result.failures) == {"leftover"}
    trace = result.failures["leftover"]
    assert trace.index("user: stop: out of the queue") < trace.index("A: give back: done")
    assert trace.index("A: give back: done") < trace.index("user: stop: stopped")


@pytest.mark.parametrize(
    ("rule", "scenario", "failure"),
    [
        ("read_back", "2c", "twice"),
        ("record", "1c", "never at rest"),
        ("grace", "1c", "twice"),
        ("second_grace", "1c", "twice"),
        ("sweep", "stop,enqueue", "lost"),
        ("hold", "stop,enqueue", "twice"),
        ("let_go", "room", "stuck"),
        pytest.param("look", "room,stop,enqueue", "twice", marks=pytest.mark.long),
        ("own_mark", "uninstall,install", "twice"),
        ("release", "uninstall", "stuck"),
    ],
)
def test_without_a_rule_the_claim_fails(rule: str, scenario: str, failure: str) -> None:
    result = explore(Model(SCENARIOS[scenario], Rules(**{rule: False})), until=failure)
    assert failure in result.failures

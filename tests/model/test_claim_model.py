"""The claim of ADR 0002 holds in its model, and every rule of it is needed."""

from __future__ import annotations

import pytest
from claim_model import SCENARIOS, Model, Rules


@pytest.mark.parametrize("scenario", [name for name in SCENARIOS if name != "stop,enqueue+agent"])
def test_no_task_is_lost_stuck_or_started_twice(scenario: str) -> None:
    result = Model(SCENARIOS[scenario], Rules()).explore()
    assert result.complete, f"cut at {result.states} states"
    assert result.states > 1_000
    assert result.failures == {}


def test_what_remains_is_the_plain_agents_own_race() -> None:
    """An agent that popped before an abort starts the task after the next enqueue, whoever else serves the queue."""
    result = Model(SCENARIOS["stop,enqueue+agent"], Rules()).explore()
    assert result.complete
    assert set(result.failures) == {"twice"}
    trace = result.failures["twice"]
    assert trace.index("user: stop: stopped") < trace.index("agent: starts the task")


@pytest.mark.parametrize(
    ("rule", "scenario", "failure"),
    [
        ("read_back", "2c", "twice"),
        ("record", "1c", "never at rest"),
        ("grace", "1c", "twice"),
        ("second_grace", "1c", "twice"),
        ("sweep", "stop,enqueue", "lost"),
        ("hold", "stop,enqueue", "twice"),
    ],
)
def test_without_a_rule_the_claim_fails(rule: str, scenario: str, failure: str) -> None:
    result = Model(SCENARIOS[scenario], Rules(**{rule: False})).explore()
    assert failure in result.failures

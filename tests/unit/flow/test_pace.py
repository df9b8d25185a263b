"""The number of Jobs that Kubernetes has before it follows how many it gets to."""

from __future__ import annotations

from clearml_k8s.flow.pace import LEAST, MOST, WINDOW_SECONDS, Pace
from hypothesis import given, settings
from hypothesis import strategies as st
from manual_clock import ManualClock


def uids(first: int, last: int) -> set[str]:
    return {f"j{number}" for number in range(first, last)}


def test_it_begins_with_what_a_small_control_plane_can_do() -> None:
    """Three Jobs a second. What stood there at the start says nothing of its pace."""
    pace = Pace(clock=ManualClock())
    pace.look(uids(0, 5000))
    assert pace.most == LEAST == 3 * WINDOW_SECONDS


async def test_it_follows_a_fast_one_and_forgets_it() -> None:
    clock = ManualClock()
    pace = Pace(clock=clock)
    pace.look(set())
    for second in range(1, 11):
        await clock.advance(1.0)
        pace.look(uids(0, 20 * second))
    assert pace.most == 200
    await clock.advance(5.0)
    pace.look(uids(0, 200))
    assert LEAST < pace.most < 200
    await clock.advance(WINDOW_SECONDS)
    pace.look(uids(0, 200))
    assert pace.most == LEAST


def test_what_is_gone_is_not_counted_again() -> None:
    pace = Pace(clock=ManualClock())
    pace.look(uids(0, 100))
    pace.look(uids(50, 100))
    assert pace.most == LEAST
    pace.look(uids(60, 140))
    assert pace.most == 40


@settings(deadline=None)
@given(steps=st.lists(st.integers(0, 400), max_size=30))
def test_it_stays_within_bounds(steps: list[int]) -> None:
    pace, seen = Pace(clock=ManualClock()), 0
    for step in steps:
        seen += step
        pace.look(uids(0, seen))
        assert LEAST <= pace.most <= MOST

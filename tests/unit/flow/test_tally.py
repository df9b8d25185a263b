"""How often a task was put back, as it stands on the task."""

from __future__ import annotations

import pytest
from clearml_k8s.flow.tally import Tally

A, B, C = "2026-01-15T06:22:11.065000+00:00", "2026-01-15T07:00:00+00:00", "2026-01-15T08:00:00+00:00"


@pytest.mark.parametrize(
    "tally", [Tally(), Tally(count=1, ended=A), Tally(count=12, ended=A, made=B)], ids=["never", "begun", "done"]
)
def test_what_is_written_is_read(tally: Tally) -> None:
    assert Tally.read(str(tally)) == tally


@pytest.mark.parametrize("text", ["", "3", "many: a -> b", f"1: {A}", f"1: {A} -> {B} -> {C}", "1:  -> x", "x" * 9999])
def test_anything_else_is_the_tally_of_a_task_never_put_back(text: str) -> None:
    assert Tally.read(text) == Tally()


def test_each_end_counts_once_and_the_limit_holds() -> None:
    first = Tally().after(A, most=2)
    assert first == Tally(count=1, ended=A)
    assert first.after(A, most=2) == first
    second = Tally(count=1, ended=A, made=B).after(B, most=2)
    assert second == Tally(count=2, ended=B)
    assert Tally(count=2, ended=B, made=C).after(C, most=2) is None
    assert Tally().after(A, most=0) is None


def test_a_users_own_enqueue_begins_anew() -> None:
    assert Tally(count=5, ended=A, made=B).after(C, most=5) == Tally(count=1, ended=C)


def test_where_nobody_knows_what_was_made_it_counts_on() -> None:
    assert Tally(count=1, ended=A).after(B, most=2) == Tally(count=2, ended=B)

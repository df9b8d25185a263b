"""Slots of clusters on one machine, which come and go while others look for theirs."""

from __future__ import annotations

from pathlib import Path

import pytest

from ci.cluster import slots


def test_one_that_is_given_back_at_this_moment_is_nobodys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "FOLDER", tmp_path)
    # Listed, and not there when it is read.
    (tmp_path / "1").symlink_to(tmp_path / "gone")
    (tmp_path / "2").write_text("mine\n")
    assert slots.find("mine") == 2
    assert slots.find("another") is None
    assert slots.holders() == ["mine"]

"""`make bench` is no part of `make test`; that it still fits the controller is."""

from __future__ import annotations

import pytest
from clearml_k8s.flow import poll, room

from tests.bench import __main__ as bench
from tests.bench import measure


def test_it_has_as_many_requests_under_way_as_the_controller() -> None:
    """The bare client's rate is only comparable so."""
    assert measure.REQUESTS * poll.BATCH == measure.CONCURRENCY * room.MAX_IN_FLIGHT


def test_without_a_cluster_it_says_how_to_run_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setattr("sys.argv", ["bench"])
    assert bench.main() == 2
    assert "use `make bench`" in capsys.readouterr().err

"""Work that is ended after some time of the processor."""

from __future__ import annotations

import re
import signal
import threading

import pytest
from clearml_k8s.spec.search import TooLong, within

ENDLESS = "a" * 100 + "!"


def test_work_that_ends_is_as_without_a_limit() -> None:
    assert within(60.0, lambda: re.search("b", "abc") is not None)
    with pytest.raises(ZeroDivisionError):
        within(60.0, lambda: 1 / 0)
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)


def test_work_that_does_not_end_is_ended_each_time() -> None:
    for _ in range(3):
        with pytest.raises(TooLong):
            within(0.01, lambda: re.search("^(a+)+$", ENDLESS))


def test_a_signal_that_comes_late_ends_nothing() -> None:
    within(60.0, lambda: None)
    signal.raise_signal(signal.SIGVTALRM)
    assert within(60.0, lambda: 1) == 1


def test_in_another_thread_the_work_is_done_without_a_limit() -> None:
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(within(60.0, lambda: 1)))
    thread.start()
    thread.join()
    assert found == [1]

"""Work that a hostile text can make endless, as regular expressions are, ended after some time of the processor."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

T = TypeVar("T")


class TooLong(Exception):
    """The work has taken more than it may."""


def within(seconds: float, work: Callable[[], T]) -> T:
    """What `work` returns. Raises TooLong once it has taken that much of the processor's time, not of the clock's, so
    that a busy machine changes nothing.

    In Python's `re` only a signal ends a search; it looks for one every few thousand steps. Signals are the main
    thread's: in another one there is no limit.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    at_work = True

    def stop(number: int, frame: FrameType | None) -> None:
        if at_work:
            raise TooLong

    signal.signal(signal.SIGVTALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
        return work()
    finally:
        at_work = False
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        # Not the default, by which one that comes late would end the process.
        signal.signal(signal.SIGVTALRM, signal.SIG_IGN)

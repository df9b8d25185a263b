"""The server's time. Tests may move it forward (``POST /_dev/clock``) in place of waiting."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def to_database(moment: datetime) -> datetime:
    """The database keeps milliseconds only."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


class Clock:
    def __init__(self) -> None:
        self.offset = 0.0

    def time(self) -> float:
        """Seconds since the epoch, with what ``advance`` has added."""
        return time.time() + self.offset

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.time(), UTC)

    def stored_now(self) -> datetime:
        return to_database(self.now())

    def advance(self, seconds: float) -> None:
        self.offset += seconds

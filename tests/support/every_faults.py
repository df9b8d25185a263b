"""What may happen to a call: each of these happens to every one of them."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Answer(enum.Enum):
    """What the caller gets."""

    NONE = "it dies"
    LOST = "the connection is lost"
    ERROR = "500"
    REFUSED = "403"
    AWAY = "no connection, for a while"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What happens to one call. ``done``: None never, else after so many seconds, 0 at once."""

    name: str
    done: float | None
    answer: Answer

    def says_more_than(self, *, read: bool) -> bool:
        """Whether it is worth trying: of a read it makes no difference whether and when it is done."""
        return not read or self.done is None


SOON, LATE = 0.032, 19.0
"""Seconds: in the middle of what the next life does first; near the end of the longest request."""
AWAY_SECONDS = 30.0

DIES_BEFORE = Fault(name="dies before", done=None, answer=Answer.NONE)
DIES_AFTER = Fault(name="dies after", done=0.0, answer=Answer.NONE)
REFUSED = Fault(name="refused", done=None, answer=Answer.REFUSED)
LOST_AFTER = Fault(name="lost after", done=0.0, answer=Answer.LOST)

FAULTS = (
    DIES_BEFORE,
    DIES_AFTER,
    Fault(name="dies and it is done soon", done=SOON, answer=Answer.NONE),
    Fault(name="dies and it is done late", done=LATE, answer=Answer.NONE),
    Fault(name="lost before", done=None, answer=Answer.LOST),
    LOST_AFTER,
    Fault(name="lost and it is done soon", done=SOON, answer=Answer.LOST),
    Fault(name="lost and it is done late", done=LATE, answer=Answer.LOST),
    Fault(name="error before", done=None, answer=Answer.ERROR),
    Fault(name="error after", done=0.0, answer=Answer.ERROR),
    REFUSED,
    Fault(name="away", done=None, answer=Answer.AWAY),
)


def of_two(*, read: bool) -> tuple[Fault, ...]:
    """Those of which two meet one run: the process dies there, or a read fails, or the answer to a write is lost."""
    return (DIES_BEFORE, REFUSED) if read else (DIES_AFTER, LOST_AFTER)

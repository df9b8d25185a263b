"""How often a task was put back into its queue, as it stands on the task; pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

_FORM = re.compile(r"(?P<count>\d{1,6}): (?P<ended>\S+) ->(?: (?P<made>\S+))?")


@dataclass(frozen=True, kw_only=True, slots=True)
class Tally:
    """The user property `names.PROPERTY_REQUEUES`: "<count>: <attempt that ended> -> <attempt that this made>".

    ``made`` is "" as long as nobody knows whether the task was put back.
    """

    count: int = 0
    ended: str = ""
    made: str = ""

    @classmethod
    def read(cls, text: str) -> Self:
        """From the property's value; from anything else the tally of a task that was never put back."""
        found = _FORM.fullmatch(text)
        if found is None:
            return cls()
        return cls(count=int(found["count"]), ended=found["ended"], made=found["made"] or "")

    def __str__(self) -> str:
        return f"{self.count}: {self.ended} -> {self.made}".rstrip()

    def begun(self, attempt: str) -> bool:
        """Putting the task back after this attempt was counted, and perhaps not done."""
        return self.ended == attempt

    def after(self, attempt: str, *, most: int) -> Tally | None:
        """The tally with this attempt's end in it; None when the task was put back ``most`` times already.

        An end counts once. A user's own enqueue begins the count anew.
        """
        if self.begun(attempt):
            return self
        count = self.count if self.made in ("", attempt) else 0
        return None if count >= most else Tally(count=count + 1, ended=attempt)

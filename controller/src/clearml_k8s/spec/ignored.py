"""What was asked for and is not done, so that somebody is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Ignored:
    """One setting that the Job does not carry.

    `source` says whom to tell: "task" is the task's user (its console), "template" the administrator (log, `check`).
    `argument` names the setting and never holds a value that may be secret. `changed`: it is done in another way.
    """

    source: Literal["task", "template"]
    argument: str
    why: str
    changed: bool = False

    def __str__(self) -> str:
        return f"{self.argument}: {'changed' if self.changed else 'ignored'}; {self.why}"

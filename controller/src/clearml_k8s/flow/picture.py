"""What a controller sees of a claim, and what it means after a grace: the rules of ADR 0002 as pure functions.

`tests/model/claim_model.py` explores these same rules; a change here is a change there first.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from clearml_k8s.clearml.tasks import TaskView
from clearml_k8s.clock import moment
from clearml_k8s.names import MARK_PREFIX, marked_attempt

QUEUED = "queued"


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """A task as one look shows it. ``attempt`` is its ``status_changed``; ``entry`` is when its entry came into its
    queue, or None; ``marks`` are those that stand on it (`names.mark_value`), by controller id; ``worker`` says that a
    worker reported the task in this attempt; ``elsewhere`` is another queue that holds it (see `flow.elsewhere`)."""

    status: str
    attempt: str
    entry: str | None
    marks: Mapping[str, str]
    worker: bool
    elsewhere: str | None = None

    @property
    def queued(self) -> bool:
        return self.status == QUEUED

    def marked_by(self, controller: str) -> bool:
        """The controller's mark stands for this attempt."""
        return marked_attempt(self.marks.get(controller, "")) == self.attempt

    def others(self, controller: str) -> list[str]:
        """The other controllers whose mark stands for this attempt."""
        return sorted(owner for owner in self.marks if owner != controller and self.marked_by(owner))


GONE = Picture(status="", attempt="", entry=None, marks={}, worker=False)
"""The picture of a task that does not exist."""


def picture(task: TaskView | None, *, entry: str | None, elsewhere: str | None = None) -> Picture:
    """The picture of a task as read; ``entry`` is the ``added`` of its entry, or None."""
    if task is None:
        return GONE
    marks = {
        key.removeprefix(MARK_PREFIX): value for key, value in task.properties.items() if key.startswith(MARK_PREFIX)
    }
    return Picture(
        status=task.status,
        attempt=task.status_changed,
        entry=entry,
        marks=marks,
        worker=_not_before(task.last_worker_report, task.status_changed),
        elsewhere=elsewhere,
    )


class Claimable(enum.Enum):
    """What step 2 of the claim finds."""

    ALONE = "the task is ours to take"
    GIVES_WAY = "another controller with a lower id has marked it: take our mark away"
    WAITS = "another controller with a higher id has marked it: it will give way"
    GONE_ON = "it is not queued in this attempt any more"


def read_back(seen: Picture, *, mark: str, controller: str) -> Claimable:
    """Whether the task with our ``mark`` may be taken (step 2)."""
    if not seen.queued or seen.attempt != marked_attempt(mark) or seen.marks.get(controller) != mark:
        return Claimable.GONE_ON
    others = seen.others(controller)
    if not others:
        return Claimable.ALONE
    return Claimable.GIVES_WAY if others[0] < controller else Claimable.WAITS


class Verdict(enum.Enum):
    """What a picture means that stood unchanged for a whole grace."""

    CREATE = "the take was ours: create the Job"
    FORGET = "nothing of ours: forget the record"
    UNMARK = "our mark stands in others' way: look for its Job; without one, take the mark away and forget the record"
    CLAIM = "in no queue and nobody's: claim it"
    NOTHING = "nothing to do"


def verdict(seen: Picture, *, recorded: str | None, controller: str, job: str | None, takes: bool) -> Verdict:
    """The next step. ``recorded`` is the mark in our record, ``job`` our Job's attempt, each None if there is none;
    ``takes`` says that this controller serves the queue and has room for the task.

    A record counts only while its own mark stands: who had to end without rights took it away and left the record.
    """
    others = seen.others(controller)
    idle = seen.queued and seen.marked_by(controller) and job != seen.attempt
    if seen.elsewhere is not None:
        # Its user moved it, so nothing was taken of this attempt.
        return Verdict.UNMARK if idle else Verdict.NOTHING if recorded is None else Verdict.FORGET
    if recorded is not None:
        attempt = marked_attempt(recorded)
        ours = seen.queued and seen.attempt == attempt and seen.marks.get(controller) == recorded
        free = seen.entry is None and not seen.worker
        if job == attempt:
            return Verdict.FORGET
        if ours and free:
            return Verdict.CREATE
        return Verdict.UNMARK if idle and not takes else Verdict.FORGET
    if not seen.queued or job == seen.attempt:
        return Verdict.NOTHING
    if idle and (others or not takes):
        return Verdict.UNMARK
    nobodys = seen.entry is None and not seen.worker and not others
    return Verdict.CLAIM if nobodys and takes else Verdict.NOTHING


def _not_before(time: str | None, other: str) -> bool:
    """``time`` is at or after ``other`` (server times); False where one says nothing."""
    if not time or not other:
        return False
    left, right = moment(time), moment(other)
    # Times that cannot be read prove nothing: somebody may be at work on the task.
    return left is None or right is None or left >= right

"""The places left, as limits that tasks of a queue cost something of."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from clearml_k8s.kube.quantity import shown

MAX_IN_FLIGHT = 200
"""Claims under way at one time: bounds the claim record, and what a controller that dies leaves in doubt."""

ONE = Decimal(1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """One limit: ``most`` of something, of which ``used`` is.

    ``name``: of what, as metrics have it; ``what``: in words; ``setting``: where it is set. ``queue``: the key of the
    queue whose own it is, "" of one that queues share. ``kept``: what is left is kept for the queue whose turn it is,
    if its task needs more, so that smaller ones do not take it away for ever.
    """

    name: str
    most: Decimal
    used: Decimal
    what: str
    setting: str
    queue: str = ""
    kept: bool = False

    @property
    def left(self) -> Decimal:
        return max(Decimal(0), self.most - self.used)

    def why(self, cost: Decimal) -> str:
        """Why a task that costs so much does not fit."""
        if cost > self.most:
            return f"a task needs {shown(cost)} {self.what}, and the limit is {shown(self.most)} ({self.setting})"
        if self.left == 0:
            return f"limit of {shown(self.most)} {self.what} is reached ({self.setting})"
        left = f"{shown(self.left)} of {shown(self.most)} {self.what}"
        return f"a task needs {shown(cost)}, and {left} are left ({self.setting})"


Costs = tuple[tuple[str, Decimal], ...]
"""Key of a limit, and how much of it one task takes; in the order in which they are told."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Room:
    """The places left. ``costs`` by queue id, at least; ``by_task`` by queue id and task, where tasks have their own,
    and ``at_most`` by queue id, of those that were not read; ``others``: of a queue that is not served; ``closed``: why
    nothing is taken from a queue, whatever is left, by its id."""

    limits: Mapping[str, Limit] = field(default_factory=dict)
    costs: Mapping[str, Costs] = field(default_factory=dict)
    by_task: Mapping[str, Mapping[str, Costs]] = field(default_factory=dict)
    at_most: Mapping[str, Costs] = field(default_factory=dict)
    others: Costs = ()
    closed: Mapping[str, str] = field(default_factory=dict)

    def of(self, queue_id: str) -> int:
        """Places for tasks of this queue; `MAX_IN_FLIGHT` where nothing limits."""
        return self.ledger().places(queue_id)

    def fits(self, queue_id: str, task: str) -> bool:
        """Whether there is a place for this task of the queue."""
        return queue_id not in self.closed and next(self.ledger().lacking(queue_id, task), None) is None

    def why(self, queue_id: str) -> str:
        """In words, why there is no place for a task of the queue; "" when there is one."""
        if queue_id in self.closed:
            return self.closed[queue_id]
        key = next(self.ledger().lacking(queue_id), None)
        return "" if key is None else self.limits[key].why(dict(self.costs_of(queue_id))[key])

    def ledger(self) -> Ledger:
        """To share the places out."""
        return Ledger(self)

    def costs_of(self, queue_id: str, task: str = "") -> Costs:
        """``task``: "" for what every task of the queue costs."""
        least = self.costs.get(queue_id, self.others)
        if not task or queue_id not in self.at_most:
            return least
        return self.by_task[queue_id].get(task, self.at_most[queue_id])

    def too_much(self, tasks: Iterable[tuple[str, str]], *, in_flight: Mapping[str, str]) -> set[str]:
        """Those of these tasks (queue id and task), used already, without which no limit is exceeded by what tasks ask
        for themselves. ``in_flight``: task -> queue id; one that was not read says nothing here."""
        over = {key: limit.used - limit.most for key, limit in self.limits.items()}
        for task, queue_id in in_flight.items():
            if task not in self.by_task.get(queue_id, {}):
                for key, cost in self.at_most.get(queue_id, ()):
                    over[key] -= cost
        found = set()
        for queue_id, task in tasks:
            costs, least = self.by_task.get(queue_id, {}).get(task, ()), dict(self.costs_of(queue_id))
            if any(over[key] > 0 and cost > least.get(key, 0) for key, cost in costs):
                found.add(task)
                for key, cost in costs:
                    over[key] -= cost
        return found


class Blocked(enum.Enum):
    """Why no task of a queue may be taken."""

    NOT = enum.auto()
    ALONE = enum.auto()
    """By what stops this queue alone, or for longer than other tasks of ours last; or its tasks never fit."""
    SHARED = enum.auto()
    """By limits that it shares with other queues, and nothing else."""


class Ledger:
    """What is left of a room while it is shared out."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._left = {key: limit.left for key, limit in room.limits.items()}
        self._kept: dict[str, str] = {}

    def places(self, queue_id: str) -> int:
        """How many tasks of the queue fit."""
        if queue_id in self._room.closed:
            return 0
        fits = [int(self._left[key] // cost) for key, cost in self._room.costs_of(queue_id) if cost > 0]
        return max(0, min([MAX_IN_FLIGHT, *fits]))

    def lacking(self, queue_id: str, task: str = "") -> Iterator[str]:
        """The limits that have no room for the task, or for another one of the queue."""
        return (key for key, cost in self._room.costs_of(queue_id, task) if cost > 0 and cost > self._left[key])

    def blocked(self, queue_id: str, task: str = "") -> Blocked:
        """Whether the task may be taken, now that some limits are kept for others."""
        if queue_id in self._room.closed:
            return Blocked.ALONE
        costs, lacks = dict(self._room.costs_of(queue_id, task)), list(self.lacking(queue_id, task))
        if any(not self._room.limits[key].kept or costs[key] > self._room.limits[key].most for key in lacks):
            return Blocked.ALONE
        return Blocked.SHARED if lacks or self.kept_for(queue_id, task) else Blocked.NOT

    def never(self, queue_id: str, task: str) -> bool:
        """The task asks for more than a limit gives at all; others of its queue need not, so it stops none of them."""
        own = self._room.by_task.get(queue_id, {}).get(task, ())
        least, limits = dict(self._room.costs_of(queue_id)), self._room.limits
        return any(cost > limits[key].most >= least.get(key, 0) for key, cost in own)

    def why(self, queue_id: str, task: str) -> str:
        """In words, which limit a task with a need of its own waits for; "" when there is none."""
        own = dict(self._room.by_task.get(queue_id, {}).get(task, ()))
        key = next(self.lacking(queue_id, task), None) if own else None
        return "" if key is None else self._room.limits[key].why(own[key])

    def kept_for(self, queue_id: str, task: str = "") -> str:
        """The queue that a limit is kept for which this task needs; "" where there is none."""
        if not self._kept:
            return ""
        costs = self._room.costs_of(queue_id, task)
        return next((self._kept[key] for key, cost in costs if cost > 0 and key in self._kept), "")

    def keep(self, queue_id: str, task: str = "", *, name: str) -> None:
        """What is left of the limits that the task waits for is kept for its queue, unless it is kept already."""
        for key in self.lacking(queue_id, task):
            self._kept.setdefault(key, name)

    def spend(self, queue_id: str, task: str = "") -> None:
        """The task is taken."""
        for key, cost in self._room.costs_of(queue_id, task):
            self._left[key] -= cost

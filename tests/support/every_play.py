"""A scenario, and one run of it with one call that goes wrong."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from clearml_server.app import Server
from every_faults import Fault
from every_world import World


@dataclass(frozen=True, kw_only=True)
class Cause:
    """Of these faults (names) at this call, as `numbered` says it, comes the other end; ``why``."""

    call: str
    faults: frozenset[str]
    why: str


@dataclass(frozen=True, kw_only=True)
class Remains:
    """Another end, which docs/guarantees.md tells of under "What remains", by the words it begins with there.

    It comes of the causes, of each of them, and of nothing else.
    """

    heading: str
    ends: dict[str, int]
    causes: tuple[Cause, ...]

    def comes_of(self, fault: Fault, call: str) -> bool:
        return any(call == cause.call and fault.name in cause.faults for cause in self.causes)


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """``prepare`` is what was before, ``act`` what is done while one call goes wrong, ``ends`` where the tasks are in
    the end, as `World.place` says it, with how many they are; ``afterwards`` is what others do before that, ``check``
    what is wrong at that time where no call went wrong."""

    prepare: Callable[[World], Coroutine[Any, Any, None]]
    act: Callable[[World], Coroutine[Any, Any, None]]
    ends: dict[str, int]
    afterwards: Callable[[World], None] = lambda world: None
    check: Callable[[World], list[str]] = lambda world: []
    remains: tuple[Remains, ...] = ()


@dataclass(kw_only=True)
class Outcome:
    """The calls of a run, each with whether it is a read; where the tasks are in the end, and what is wrong then."""

    points: list[tuple[str, bool]]
    places: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def misplaced(self, ends: Mapping[str, int]) -> list[str]:
        """That the tasks are elsewhere."""
        return [] if self.places == Counter(ends) else [f"tasks are here: {dict(self.places)}, not here: {ends}"]


class Unexpected(logging.Handler):
    """Collects what the controller logs as a failure that never should be."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self.found.append(f"{record.getMessage()}: {record.exc_info[1]!r}")


def numbered(points: Sequence[tuple[str, bool]]) -> list[str]:
    """The calls' names, the second one of a name with " (2)" behind it, and so on."""
    met: Counter[str] = Counter()
    found = []
    for point, _ in points:
        met[point] += 1
        found.append(point if met[point] == 1 else f"{point} ({met[point]})")
    return found


async def play(
    scenario: Scenario, app: Server, *, faults: Mapping[int, Fault] | None = None, throughout: bool = False
) -> Outcome:
    """One run: what was before, the scenario with the faults at the calls of these numbers, the rest, and the audit.

    ``throughout``: the calls of the rest count, too.
    """
    world, unexpected = World(app), Unexpected()
    log = logging.getLogger("clearml_k8s")
    log.addHandler(unexpected)
    try:
        await scenario.prepare(world)
        world.wires.count(faults)
        await world.live(scenario.act(world))
        outcome = Outcome(points=world.wires.points)
        if not throughout:
            world.wires.rest()
        scenario.afterwards(world)
        if not faults:
            outcome.problems += scenario.check(world)
        await world.live(world.rest())
        while world.life.dead:
            await world.live(world.rest())
        outcome.problems += unexpected.found
    finally:
        log.removeHandler(unexpected)
    outcome.problems += world.audit()
    outcome.places = world.places()
    return outcome

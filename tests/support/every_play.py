"""A scenario, and one run of it with one call that goes wrong."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from clearml_server.app import Server
from every_faults import Fault
from every_world import World


@dataclass(frozen=True, kw_only=True)
class Remains:
    """Another end, which docs/guarantees.md tells of under "What remains", by the words it begins with there."""

    heading: str
    ends: dict[str, int]


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
    """The calls of a run, each with whether it is a read, and what is wrong in the end."""

    points: list[tuple[str, bool]]
    problems: list[str] = field(default_factory=list)


class Unexpected(logging.Handler):
    """Collects what the controller logs as a failure that never should be."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self.found.append(f"{record.getMessage()}: {record.exc_info[1]!r}")


async def play(scenario: Scenario, app: Server, *, fault: Fault | None = None, at: int = -1) -> Outcome:
    """One run: what was before, the scenario with the fault at call number ``at``, the rest, and the audit."""
    world, unexpected = World(app), Unexpected()
    log = logging.getLogger("clearml_k8s")
    log.addHandler(unexpected)
    try:
        await scenario.prepare(world)
        world.wires.died.clear()
        world.wires.count(fault=fault, at=at)
        await world.live(scenario.act(world))
        outcome = Outcome(points=list(world.wires.points))
        world.wires.rest()
        scenario.afterwards(world)
        if fault is None:
            outcome.problems += scenario.check(world)
        await world.rest()
        outcome.problems += unexpected.found
    finally:
        log.removeHandler(unexpected)
    outcome.problems += world.audit()
    ends = [Counter(scenario.ends), *(Counter(other.ends) for other in scenario.remains if fault)]
    if (places := world.places()) not in ends:
        outcome.problems.append(f"tasks are here: {dict(places)}, not here: {scenario.ends}")
    return outcome

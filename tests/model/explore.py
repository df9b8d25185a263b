"""Breadth-first exploration of a model: every state, the shortest trace of each failure, and what never comes to rest.

A state is a hashable value. A step is (label, next state, whether it must happen sooner or later); a state is at rest
when no step of it must happen.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

S = TypeVar("S")
T = TypeVar("T")
Steps = Iterator[tuple[str, S, bool]]

ENDLESS = "never at rest"


class Explorable(Protocol[S]):
    def initial(self) -> S: ...
    def steps(self, s: S) -> Steps[S]: ...
    def wrong(self, s: S, t: S) -> Iterator[str]:
        """The failures that the step from ``s`` to the new state ``t`` shows."""
        ...

    def at_rest(self, s: S) -> Iterator[str]:
        """The failures that a state at rest shows."""
        ...


@dataclass
class Result:
    states: int
    complete: bool
    failures: dict[str, list[str]] = field(default_factory=dict)


@dataclass
class Explored(Generic[S]):
    """The states by number, with the number and label that led to each first, and all that must happen, backwards."""

    states: list[S]
    parents: list[int] = field(default_factory=lambda: [-1])
    labels: list[str] = field(default_factory=lambda: [""])
    before: list[list[int]] = field(default_factory=lambda: [[]])
    resting: list[int] = field(default_factory=list)

    def trace(self, i: int) -> list[str]:
        found: list[str] = []
        while self.parents[i] >= 0:
            found.append(self.labels[i])
            i = self.parents[i]
        return found[::-1]

    def endless(self) -> int | None:
        """The first state from which what must happen leads to no rest."""
        seen, todo = bytearray(len(self.states)), list(self.resting)
        while todo:
            i = todo.pop()
            if not seen[i]:
                seen[i] = 1
                todo.extend(self.before[i])
        i = seen.find(0)
        return None if i < 0 else i


def explore(model: Explorable[S], *, states: int = 4_000_000, until: str | None = None) -> Result:
    """All states, or as many as are allowed, or those up to the first failure of the kind ``until``."""
    collects = gc.isenabled()
    gc.disable()  # millions of tuples, no cycles
    try:
        return _explore(model, states=states, until=until)
    finally:
        if collects:
            gc.enable()


def _explore(model: Explorable[S], *, states: int, until: str | None) -> Result:
    start = model.initial()
    number, e = {start: 0}, Explored(states=[start])
    found: dict[str, int] = {}
    here = 0
    while here < len(e.states) < states and until not in found:
        s, rests = e.states[here], True
        for label, t, must in model.steps(s):
            new = len(e.states)
            there = number.setdefault(t, new)
            if there == new:
                e.states.append(t)
                e.parents.append(here)
                e.labels.append(label)
                e.before.append([])
                for kind in model.wrong(s, t):
                    found.setdefault(kind, there)
            if must:
                rests = False
                e.before[there].append(here)
        if rests:
            e.resting.append(here)
            for kind in model.at_rest(s):
                found.setdefault(kind, here)
        here += 1
    complete = here == len(e.states)
    endless = e.endless() if complete else None
    if endless is not None:
        found[ENDLESS] = endless
    failures = {kind: e.trace(i) for kind, i in found.items()}
    return Result(states=len(e.states), complete=complete, failures=failures)


def quick(cls: type[T]) -> type[T]:
    """A NamedTuple whose `_replace` takes a third of the time: most of what an exploration costs."""
    index = {name: i for i, name in enumerate(cls._fields)}  # type: ignore[attr-defined]

    def replace(self: T, **changes: Any) -> T:
        items = list(self)  # type: ignore[call-overload]
        for name, value in changes.items():
            items[index[name]] = value
        return tuple.__new__(cls, items)  # type: ignore[type-var]

    cls._replace = replace  # type: ignore[attr-defined]
    return cls


def replaced(items: tuple[T, ...], i: int, item: T) -> tuple[T, ...]:
    return (*items[:i], item, *items[i + 1 :])


def main(
    argv: list[str], *, doc: str | None, scenarios: Mapping[str, Any], make: Callable[[Any, dict[str, bool]], Any]
) -> int:
    """SCENARIO [RULE=VALUE ...]: explore one scenario and print the trace of each failure."""
    if not argv or argv[0] not in scenarios:
        print(doc, "Scenarios:", ", ".join(scenarios))
        return 2
    rules = {name: value not in ("0", "off") for name, value in (arg.split("=") for arg in argv[1:])}
    began = time.process_time()
    result = explore(make(scenarios[argv[0]], rules))
    extent = "complete" if result.complete else "CUT"
    print(f"{argv[0]}: {result.states} states, {extent}, {time.process_time() - began:.0f} s")
    for kind, trace in result.failures.items():
        print(f"-- {kind}", *(f"   {number:2} {label}" for number, label in enumerate(trace, 1)), sep="\n")
    return 1 if result.failures else 0

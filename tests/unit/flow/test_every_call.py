"""Every call that the flow makes, and so every await of it, meets every fault: nothing is lost, doubled or left over.

No sample: a run without faults records the calls of each scenario, which must be those listed here; then the scenario
is run anew for each of them and each fault (half of the faults in `make test-long`). What is written of calls in the
flow's code must stand in some list.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from clearml_server.app import Server
from every_faults import FAULTS, Fault, of_two
from every_play import Outcome, numbered, play
from every_points import ELSEWHERE, POINTS
from every_scenarios import SCENARIOS
from every_site import sites, writes
from every_world import World
from rest_is_long import rest_is_long

GUARANTEES = Path(__file__).parents[3] / "docs" / "guarantees.md"

pytestmark = pytest.mark.usefixtures("quiet")


def listed(scenario: str) -> list[str]:
    return [line.strip() for line in POINTS[scenario].strip().splitlines()]


def names(outcome: Outcome) -> list[str]:
    """The calls in the order of their first time."""
    return list(dict.fromkeys(point for point, _ in outcome.points))


@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_all_calls_are_known(app: Server, scenario: str) -> None:
    outcome = await play(SCENARIOS[scenario], app)
    assert outcome.problems + outcome.misplaced(SCENARIOS[scenario].ends) == []
    found, known = names(outcome), listed(scenario)
    new, gone = [p for p in found if p not in known], [p for p in known if p not in found]
    assert found == known, f"POINTS[{scenario!r}]: add {new}, remove {gone}, in the order of {found}"


USUAL = ("dies before", "dies after", "dies and it is done late", "lost after", "lost and it is done late", "refused")


@pytest.mark.parametrize("fault", rest_is_long(FAULTS, but=USUAL, name="name"), ids=lambda fault: fault.name)
@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_whatever_call_goes_wrong(app: Server, scenario: str, fault: Fault) -> None:
    points = (await play(SCENARIOS[scenario], app)).points
    wrong = []
    for at, call in enumerate(numbered(points)):
        if fault.says_more_than(read=points[at][1]):
            outcome = await play(SCENARIOS[scenario], app, faults={at: fault})
            # Up to the fault it is the same run, or another call than this one went wrong.
            assert outcome.points[: at + 1] == points[: at + 1]
            problems = outcome.problems + outcome.misplaced(ends_after(scenario, fault, call))
            wrong += [f"{fault.name} at call {at}, {call}: {problem}" for problem in problems]
    assert wrong == []


TWICE = "a task is launched"


WRITES = ("marking._mark tasks.edit_hyper_params", "claim._take queues.remove_task", "launch.launch POST jobs")


@pytest.mark.parametrize("first", rest_is_long(listed(TWICE), but=WRITES))
async def test_whatever_two_calls_of_a_launch_go_wrong(app: Server, first: str) -> None:
    """The second is any later call, of the same life or of another, until all is at rest again."""
    scenario, wrong = SCENARIOS[TWICE], []
    points = (await play(scenario, app)).points
    for at in (at for at, (point, _) in enumerate(points) if point == first):
        for fault in of_two(read=points[at][1]):
            later = (await play(scenario, app, faults={at: fault}, throughout=True)).points
            for then in range(at + 1, len(later)):
                call, read = later[then]
                for other in of_two(read=read):
                    outcome = await play(scenario, app, faults={at: fault, then: other}, throughout=True)
                    assert outcome.points[: then + 1] == later[: then + 1]
                    problems = outcome.problems + outcome.misplaced(scenario.ends)
                    wrong += [
                        f"{fault.name} at call {at}, {first}; {other.name} at call {then}, {call}: {problem}"
                        for problem in problems
                    ]
    assert wrong == []


def ends_after(scenario: str, fault: Fault, call: str) -> dict[str, int]:
    """Where the tasks are to be; what remains is another end of its causes, and has to come of each of them."""
    others = [remains.ends for remains in SCENARIOS[scenario].remains if remains.comes_of(fault, call)]
    return others[0] if others else SCENARIOS[scenario].ends


def test_causes_are_of_this_world() -> None:
    for scenario, what in SCENARIOS.items():
        for cause in (cause for remains in what.remains for cause in remains.causes):
            assert cause.call.partition(" (")[0] in listed(scenario)
            assert cause.faults <= {fault.name for fault in FAULTS}
            assert cause.why


def test_every_call_in_the_code_is_in_a_list() -> None:
    known = {point for scenario in POINTS for point in listed(scenario)}
    missing = sites() - known - ELSEWHERE.keys()
    assert missing == set(), "no scenario comes here: write one in tests/support/every_*.py"
    assert ELSEWHERE.keys() <= sites(), "not in the code any more"
    assert ELSEWHERE.keys() & known == set()
    assert {point for point in known if not point.startswith("- ")} <= sites(), "calls that every_site.py does not see"


def test_every_write_is_in_a_list() -> None:
    """By call alone, so that this holds wherever in the flow it is made."""
    known = {point.partition(" ")[2] for scenario in POINTS for point in listed(scenario)}
    assert writes() <= known
    assert {"queues.remove_task", "tasks.failed", "POST jobs", "DELETE jobs", "PATCH configmaps"} <= writes()


def test_what_remains_is_documented() -> None:
    text = GUARANTEES.read_text(encoding="utf-8").partition("## What remains")[2]
    for scenario in SCENARIOS.values():
        for remains in scenario.remains:
            assert f"**{remains.heading}" in text


async def test_the_audit_sees_what_is_wrong(app: Server) -> None:
    """A second Job, one too many, a task in two places, one in none, our mark and our entry in others' way."""
    world = World(app)
    world.config = {"max_pods": 1}
    world.tasks = world.server_tasks(1)
    (task,) = world.tasks
    side = await world.start()
    await side.poll()
    assert world.place(task) == "job"
    await side.book.flush()
    assert world.audit() == []
    world.server.call("queues.add_task", queue=world.server.queue_id("default"), task=task)
    (job,) = world.jobs()
    world.cluster.put("jobs", "another", metadata=dict(job["metadata"], name="another", uid="another"))
    assert world.place(task) == "queue+job+job"
    found = "; ".join(world.audit())
    assert "was started 2 times" in found
    assert "2 Jobs at one time, with maxPods 1" in found
    for name in ("another", job["metadata"]["name"]):
        world.cluster.drop("jobs", name)
    assert world.place(task) == "queue+marked+shown"
    world.server.call("queues.remove_task", queue=world.server.queue_id("default"), task=task)
    world.server.call("queues.remove_task", queue=world.server.queue_id("k8s_scheduler"), task=task)
    assert world.place(task) == "nowhere"

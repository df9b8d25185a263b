"""Every call that the flow makes, and so every await of it, meets every fault: nothing is lost, doubled or left over.

No sample: a run without faults records the calls of each scenario, which must be those listed here; then the scenario
is run anew for each of them and each fault. What is written of calls in the flow's code must stand in some list.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from clearml_server.app import Server
from clearml_server.settings import Settings
from every_call import FAULTS, Fault
from every_scenarios import SCENARIOS
from every_site import sites, writes
from every_world import Outcome, World, play

GUARANTEES = Path(__file__).parents[3] / "docs" / "guarantees.md"

ELSEWHERE = {
    "poll._poll queues.get_all": "a read, before anything is begun; Side.poll does it here",
    "clash.found workers.get_all": "reads for a warning alone (test_clash.py)",
    "clash.found tasks.get_all": "the same",
}

# By scenario, in the order of their first time. "-": not of the flow.
POINTS = {
    "a task is launched": """
        - auth.login
        - GET configmaps
        - POST configmaps
        served.refresh queues.get_all
        served._find_pending_queue queues.get_all
        served._find_pending_queue queues.create
        served.template_problem POST jobs (dry run)
        - queues.get_all
        claim.claim tasks.get_all
        marking._set_mark tasks.edit_hyper_params
        marking.marked tasks.get_all
        claim._recorded PATCH configmaps
        claim._take queues.remove_task
        claim._show queues.add_task
        launch.launch POST jobs
        book.flush PATCH configmaps
        tell.flush events.add_batch
    """,
    "three tasks and a limit of two": """
        - queues.get_all
        claim.claim tasks.get_all
        marking._set_mark tasks.edit_hyper_params
        marking.marked tasks.get_all
        claim._recorded PATCH configmaps
        claim._take queues.remove_task
        claim._show queues.add_task
        launch.launch POST jobs
        book.flush PATCH configmaps
        tell.flush events.add_batch
    """,
    "the queue is made first": """
        - auth.login
        - GET configmaps
        - POST configmaps
        served.refresh queues.get_all
        served._find_pending_queue queues.get_all
        served._find_pending_queue queues.create
        served.refresh queues.create
        served.template_problem POST jobs (dry run)
    """,
    "aborted while it is put back": """
        - queues.get_all
        claim.claim tasks.get_all
        marking._set_mark tasks.edit_hyper_params
        marking.marked tasks.get_all
        claim._recorded PATCH configmaps
        claim._take queues.remove_task
        claim._show queues.add_task
        launch.launch POST jobs
        returning._wanted tasks.get_all
        returning._add queues.add_task
        returning.give_back queues.remove_task
        returning.unmark PATCH configmaps
        returning.unmark tasks.delete_hyper_params
        returning._hide queues.remove_task
        returning._to_front queues.move_task_to_front
        tell.flush events.add_batch
    """,
    "a Job that Kubernetes refuses": """
        - queues.get_all
        claim.claim tasks.get_all
        marking._set_mark tasks.edit_hyper_params
        marking.marked tasks.get_all
        claim._recorded PATCH configmaps
        claim._take queues.remove_task
        claim._show queues.add_task
        launch.launch POST jobs
        served.template_problem POST jobs (dry run)
        returning._wanted tasks.get_all
        returning.fail tasks.failed
        returning._hide queues.remove_task
        book.flush PATCH configmaps
        tell.flush events.add_batch
    """,
    "a quota of one Job": """
        - queues.get_all
        claim.claim tasks.get_all
        marking._set_mark tasks.edit_hyper_params
        marking.marked tasks.get_all
        claim._recorded PATCH configmaps
        claim._take queues.remove_task
        claim._show queues.add_task
        launch.launch POST jobs
        returning._wanted tasks.get_all
        returning._add queues.add_task
        returning.unmark PATCH configmaps
        returning.unmark tasks.delete_hyper_params
        returning._hide queues.remove_task
        returning._to_front queues.move_task_to_front
        tell.flush events.add_batch
    """,
    "an entry beside its Job": """
        - queues.get_all
        claim.claim tasks.get_all
        claim._clean queues.remove_task
    """,
    "another controller has marked it": """
        - queues.get_all
        claim.claim tasks.get_all
        marking._set_mark tasks.edit_hyper_params
        marking.marked tasks.get_all
        returning.unmark tasks.delete_hyper_params
    """,
    "a plain agent is faster": """
        - queues.get_all
        claim.claim tasks.get_all
        marking._set_mark tasks.edit_hyper_params
        marking.marked tasks.get_all
        claim._recorded PATCH configmaps
        claim._take queues.remove_task
    """,
    "recorded and not taken": """
        - auth.login
        - GET configmaps
        - PATCH configmaps
        served.refresh queues.get_all
        served._find_pending_queue queues.get_all
        served.template_problem POST jobs (dry run)
        recover._tidy queues.get_all
        recover.sweep tasks.get_all
        recover.sweep queues.get_all
        graces._pictures queues.get_all
        graces._pictures tasks.get_all
        - queues.get_all
        claim.claim tasks.get_all
        marking._set_mark tasks.edit_hyper_params
        marking.marked tasks.get_all
        claim._recorded PATCH configmaps
        claim._take queues.remove_task
        claim._show queues.add_task
        launch.launch POST jobs
        book.flush PATCH configmaps
        tell.flush events.add_batch
    """,
    "taken and without a Job": """
        - auth.login
        - GET configmaps
        - PATCH configmaps
        served.refresh queues.get_all
        served._find_pending_queue queues.get_all
        served.template_problem POST jobs (dry run)
        recover._tidy queues.get_all
        recover.sweep tasks.get_all
        recover.sweep queues.get_all
        graces._pictures queues.get_all
        graces._pictures tasks.get_all
        launch.launch POST jobs
        - queues.get_all
        book.flush PATCH configmaps
        tell.flush events.add_batch
    """,
    "a Job that nobody saw": """
        - auth.login
        - GET configmaps
        - PATCH configmaps
        served.refresh queues.get_all
        served._find_pending_queue queues.get_all
        served.template_problem POST jobs (dry run)
        graces._pictures queues.get_all
        graces._pictures tasks.get_all
        launch.launch POST jobs
        launch._find GET jobs
        book.flush PATCH configmaps
    """,
    "a Job that is seen late, and the end": """
        - auth.login
        - GET configmaps
        - PATCH configmaps
        served.refresh queues.get_all
        served._find_pending_queue queues.get_all
        served.template_problem POST jobs (dry run)
        graces._pictures queues.get_all
        graces._pictures tasks.get_all
        book.flush PATCH configmaps
    """,
    "a task in no queue": """
        recover._tidy queues.get_all
        recover.sweep tasks.get_all
        recover.sweep queues.get_all
        graces._pictures queues.get_all
        graces._pictures tasks.get_all
        marking._set_mark tasks.edit_hyper_params
        marking.marked tasks.get_all
        claim._recorded PATCH configmaps
        launch.launch POST jobs
        - queues.get_all
        book.flush PATCH configmaps
        tell.flush events.add_batch
    """,
    "two tasks in no queue and a limit of one": """
        recover._tidy queues.get_all
        recover.sweep tasks.get_all
        recover.sweep queues.get_all
        graces._pictures queues.get_all
        graces._pictures tasks.get_all
        marking._set_mark tasks.edit_hyper_params
        marking.marked tasks.get_all
        claim._recorded PATCH configmaps
        launch.launch POST jobs
        - queues.get_all
        book.flush PATCH configmaps
        tell.flush events.add_batch
    """,
    "taken from a queue that is not served any more": """
        - auth.login
        - GET configmaps
        - PATCH configmaps
        served.refresh queues.get_all
        served._find_pending_queue queues.get_all
        served.template_problem POST jobs (dry run)
        recover._tidy queues.get_all
        recover._tidy tasks.get_all
        recover.sweep tasks.get_all
        recover.sweep queues.get_all
        graces._pictures queues.get_all
        graces._pictures tasks.get_all
        launch._find GET jobs
        returning._wanted tasks.get_all
        returning._add queues.add_task
        returning.unmark PATCH configmaps
        returning.unmark tasks.delete_hyper_params
        returning._hide queues.remove_task
        returning._to_front queues.move_task_to_front
        - queues.get_all
        tell.flush events.add_batch
    """,
    "an ended task in the pending queue": """
        recover._tidy queues.get_all
        recover._tidy tasks.get_all
        recover._tidy queues.remove_task
        recover.sweep tasks.get_all
        recover.sweep queues.get_all
    """,
    "told to end before the record": """
        - queues.get_all
        claim.claim tasks.get_all
        marking._set_mark tasks.edit_hyper_params
        marking.marked tasks.get_all
        claim._recorded PATCH configmaps
        returning.unmark tasks.delete_hyper_params
        book.flush PATCH configmaps
    """,
    "told to end at the first take": """
        - queues.get_all
        claim.claim tasks.get_all
        marking._set_mark tasks.edit_hyper_params
        marking.marked tasks.get_all
        claim._recorded PATCH configmaps
        claim._take queues.remove_task
        launch.launch POST jobs
        book.flush PATCH configmaps
        tell.flush events.add_batch
    """,
    "uninstalled with the tasks taken": """
        - queues.get_all
        claim.claim tasks.get_all
        marking._set_mark tasks.edit_hyper_params
        marking.marked tasks.get_all
        claim._recorded PATCH configmaps
        claim._take queues.remove_task
        claim._show queues.add_task
        launch.launch POST jobs
        served.template_problem POST jobs (dry run)
        returning._wanted tasks.get_all
        returning._add queues.add_task
        returning.unmark tasks.delete_hyper_params
        returning._hide queues.remove_task
        returning._to_front queues.move_task_to_front
        book.flush PATCH configmaps
        tell.flush events.add_batch
    """,
    "out of memory": """
        reads.refresh tasks.get_all
        reads._serve tasks.get_all
        ends.fail tasks.failed
        explain._events GET events
        explain._last_lines GET pods (log)
        ends.delete DELETE jobs
        tell.flush events.add_batch
    """,
    "completed": """
        reads.refresh tasks.get_all
        reads._serve tasks.get_all
        ends.delete DELETE jobs
    """,
    "aborted by its user": """
        reads.refresh tasks.get_all
        reads._serve tasks.get_all
        ends.delete DELETE jobs
    """,
    "deleted by its user": """
        reads.refresh tasks.get_all
        presence._look queues.get_all
        reads._serve tasks.get_all
        ends.delete DELETE jobs
    """,
    "deleted with its queue": """
        reads.refresh tasks.get_all
        presence._look queues.get_all
        presence._look tasks.get_all
        reads._serve tasks.get_all
        ends.delete DELETE jobs
    """,
    "evicted, to be put back": """
        reads.refresh tasks.get_all
        reads._serve tasks.get_all
        requeue.requeue tasks.get_all
        requeue.requeue tasks.edit_hyper_params
        requeue.requeue tasks.failed
        requeue._enqueue tasks.enqueue
        requeue._finish queues.move_task_to_front
        requeue._finish tasks.get_all
        requeue._finish tasks.edit_hyper_params
        ends.delete DELETE jobs
        tell.flush events.add_batch
    """,
    "its pod was deleted": """
        reads.refresh tasks.get_all
        reads._serve tasks.get_all
        explain.interrupted tasks.update
        ends.delete DELETE jobs
        tell.flush events.add_batch
    """,
    "its image cannot be pulled": """
        reads.refresh tasks.get_all
        explain._say_waiting tasks.update
        reads._serve tasks.get_all
        ends.fail tasks.failed
        explain._events GET events
        ends.hide queues.remove_task
        ends.delete DELETE jobs
        tell.flush events.add_batch
    """,
    "no node takes its pod": """
        reads.refresh tasks.get_all
        happenings.read GET events
        explain._say_waiting tasks.update
        tell.flush events.add_batch
    """,
    "an old pod out of memory": """
        adopt.look tasks.get_all
        ends.fail tasks.failed
        explain._events GET events
        explain._last_lines GET pods (log)
        ends.hide queues.remove_task
        adopt._delete DELETE pods
        tell.flush events.add_batch
    """,
    "an old pod that cannot begin": """
        adopt.look tasks.get_all
        adopt._shown queues.get_all
        ends.fail tasks.failed
        explain._events GET events
        ends.hide queues.remove_task
        adopt._delete DELETE pods
        tell.flush events.add_batch
    """,
}


@pytest.fixture(scope="module")
def app() -> Server:
    """The development ClearML server, without sockets; each run empties it."""
    return Server(Settings())


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Warnings are what faults are for."""
    log = logging.getLogger("clearml_k8s")
    before = log.level
    log.setLevel(logging.ERROR)
    yield
    log.setLevel(before)


def listed(scenario: str) -> list[str]:
    return [line.strip() for line in POINTS[scenario].strip().splitlines()]


def names(outcome: Outcome) -> list[str]:
    """The calls in the order of their first time."""
    return list(dict.fromkeys(point for point, _ in outcome.points))


@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_all_calls_are_known(app: Server, scenario: str) -> None:
    outcome = await play(SCENARIOS[scenario], app)
    assert outcome.problems == []
    found, known = names(outcome), listed(scenario)
    new, gone = [p for p in found if p not in known], [p for p in known if p not in found]
    assert found == known, f"POINTS[{scenario!r}]: add {new}, remove {gone}, in the order of {found}"


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_whatever_call_goes_wrong(app: Server, scenario: str, fault: Fault) -> None:
    points = (await play(SCENARIOS[scenario], app)).points
    wrong = []
    for at, (point, read) in enumerate(points):
        if fault.says_more_than(read=read):
            outcome = await play(SCENARIOS[scenario], app, fault=fault, at=at)
            # Up to the fault it is the same run, or another call than this one went wrong.
            assert outcome.points[: at + 1] == points[: at + 1]
            wrong += [f"{fault.name} at call {at}, {point}: {problem}" for problem in outcome.problems]
    assert wrong == []


def test_every_call_in_the_code_is_in_a_list() -> None:
    known = {point for scenario in POINTS for point in listed(scenario)}
    missing = sites() - known - ELSEWHERE.keys()
    assert missing == set(), "no scenario comes here: write one in tests/support/every_scenarios.py"
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

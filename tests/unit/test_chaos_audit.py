"""The audit of the chaos tests sees what is wrong in the servers' own logs, whatever the simulated agents say."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from chaos_audit import Course, courses, held, left_over, most_held
from chaos_counts import Counts, check
from clearml_server.process import DevServer

SOUND = Counts(
    tasks=1, completed=1, aborted=0, jobs=1, starts=1, refused=0, attempts_with_two_jobs=0, attempts_started_twice=0,
    never_started=0, peaks={"": 1, "a": 1}, left_in_queues={"a": 0}, served_twice=0, served_never=0,
    audited={"": 1, "a": 1}, left_over=(),
)  # fmt: skip


def call(endpoint: str, *, queue: str = "source", done: bool = True, **summary: Any) -> dict[str, Any]:
    return {"endpoint": endpoint, "task": "t", "queue": queue, "done": done, "code": 200, "summary": summary}


TAKE = call("queues.remove_task", removed=1)
PUT = call("queues.add_task", added=1)
START = call("tasks.started")


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        ([TAKE, START], Course(takes=1, most=1, starts=[1])),
        ([call("queues.remove_task", removed=1, done=False), call("queues.remove_task", removed=0)], Course()),
        ([TAKE, PUT, TAKE, START], Course(takes=2, puts=1, most=1, starts=[1])),
        ([TAKE, TAKE], Course(takes=2, most=2)),
        ([TAKE, START, START], Course(takes=1, most=1, starts=[2])),
        ([TAKE, START, call("tasks.enqueue", queued=1), TAKE, START], Course(takes=1, most=1, starts=[1, 1])),
        ([call("queues.add_task", queue="pending", added=1), call("queues.remove_task", queue="pending", removed=1)],
         Course()),
    ],
)  # fmt: skip
def test_the_course_of_a_task(calls: list[dict[str, Any]], expected: Course) -> None:
    assert courses(calls, pending="pending")["t"] == expected


def test_a_plain_agent_takes_what_it_pops() -> None:
    popped = {**call("queues.get_next_task", popped="t"), "task": None}
    assert courses([popped], pending=None)["t"].taken == 1


def event(
    verb: str, second: int, *, name: str = "job-1-abcde", of: str = "pods/status", **fields: Any
) -> dict[str, Any]:
    resource, _, subresource = of.partition("/")
    return {
        "verb": verb,
        "objectRef": {"resource": resource, "name": name, **({"subresource": subresource} if subresource else {})},
        "requestURI": "/",
        "responseStatus": {"code": 200},
        "requestReceivedTimestamp": f"2026-01-01T00:00:{second:02}.000000Z",
        "stageTimestamp": f"2026-01-01T00:00:{second:02}.500000Z",
        **fields,
    }


def created(name: str, second: int) -> dict[str, Any]:
    labels, annotations = {"clearml-task-id": f"task of {name}"}, {"clearml-k8s.io/queue-name": "a"}
    answer = {"metadata": {"name": name, "labels": labels, "annotations": annotations}}
    return event("create", second, of="jobs", responseObject=answer)


def ended(name: str, second: int) -> dict[str, Any]:
    return event("patch", second, name=f"{name}-abcde", requestObject={"status": {"phase": "Succeeded"}})


def test_places_are_held_until_the_pod_has_ended() -> None:
    running = event("patch", 3, name="job-1-abcde", requestObject={"status": {"phase": "Running"}})
    events = [created("job-1", 1), running, created("job-2", 4), ended("job-1", 5), created("job-3", 6)]
    places = held([*events, ended("job-2", 7), ended("job-3", 8)], aborted=())
    assert most_held(places) == {"": 2, "a": 2}
    assert [one.until and one.until[17:19] for one in places] == ["05", "07", "08"]


def test_an_aborted_one_is_over_when_its_pod_is_removed_for_good() -> None:
    events = [created("job-1", 1), event("delete", 2, name="job-1", of="jobs")]
    events += [event("delete", second, name="job-1-abcde", of="pods") for second in (3, 6)]
    (one,) = held(events, aborted={"task of job-1"})
    assert one.until is not None
    assert one.until[17:19] == "06"
    (one,) = held(events, aborted=())
    assert one.until is None, "its end is not written down"
    assert most_held([one]) == {"": 0}


def test_a_job_of_the_same_name_has_ends_of_its_own() -> None:
    places = held([created("job-1", 1), ended("job-1", 2), created("job-1", 4), ended("job-1", 6)], aborted=())
    assert [one.until and one.until[17:19] for one in places] == ["02", "06"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"served_twice": 1},
        {"served_never": 1},
        {"audited": {"": 3, "a": 3}},
        {"audited": {"": 0}},
        {"left_over": ("task t has the property x",)},
    ],
    ids=str,
)
def test_each_of_them_is_a_reason_to_fail(wrong: dict[str, Any]) -> None:
    limits = {"": 2, "a": 2}
    check(SOUND, limits=limits)
    with pytest.raises(AssertionError):
        check(dataclasses.replace(SOUND, **wrong), limits=limits)


def test_what_is_left_on_tasks(server: DevServer) -> None:
    clean, marked, strange = (server.create_task(queue="default") for _ in range(3))
    ran = server.create_task()
    for task, name in ((marked, "k8s-claim-0123456789"), (strange, "k8s-more"), (ran, "k8s-claim-0123456789")):
        item = {"section": "properties", "name": name, "value": "x"}
        server.call("tasks.edit_hyper_params", task=task, hyperparams=[item])
    assert left_over(server, [clean, marked, strange, ran]) == [
        f"task {marked} is queued, with the mark k8s-claim-0123456789=x",
        f"task {strange} has the property k8s-more",
    ]

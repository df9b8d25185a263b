"""How many, and which: limits are never passed, every queue keeps its order, and all get their turn."""

from __future__ import annotations

from collections import Counter

from clearml_k8s.clearml.queues import Entry, Queue
from clearml_k8s.flow.capacity import MAX_IN_FLIGHT, Room, room
from clearml_k8s.flow.choose import choose
from flow_parts import make_job, make_pod, make_queue
from hypothesis import given, settings
from hypothesis import strategies as st

# ---- capacity -------------------------------------------------------------------------------------------------------


def test_a_task_counts_once_however_it_shows() -> None:
    found = room(
        max_pods=10,
        queue_limits={"q": 5, "p": None},
        jobs=[make_job("t1", uid="j1", queue="q"), make_job("t2", uid="j2", queue="q")],
        pods=[make_pod("t1", job_uid="j1", queue="q"), make_pod("t2", job_uid="j2", uid="p2", queue="q")],
        in_flight={"t2": "q", "t3": "q"},
    )
    assert found == Room(total=7, by_queue={"q": 2, "p": None})


def test_what_ended_gives_its_place_back() -> None:
    ended = make_job("t1", uid="j1", queue="q", finished="Complete")
    pod = make_pod("t1", job_uid="j1", phase="Succeeded")
    assert room(max_pods=1, queue_limits={"q": 1}, jobs=[ended], pods=[pod], in_flight={}).of("q") == 1


def test_a_pod_that_may_still_run_keeps_its_place() -> None:
    """Also after its Job, and when the Job has ended before it."""
    ended = make_job("t1", uid="j1", queue="q", finished="Failed")
    running = make_pod("t1", job_uid="j1", phase="Running")
    assert room(max_pods=1, queue_limits={"q": 1}, jobs=[ended], pods=[running], in_flight={}).of("q") == 0
    assert room(max_pods=1, queue_limits={"q": None}, jobs=[], pods=[running], in_flight={}).total == 0


def test_a_pod_that_is_being_deleted_keeps_its_queues_place() -> None:
    """Its Job was deleted (an abort) and left the store at once; the pod's own annotation tells the queue."""
    ending = make_pod("t1", job_uid="j1", queue="q", phase="Running", deleted="2026-01-15T07:00:00Z")
    found = room(max_pods=3, queue_limits={"q": 2, "p": 2}, jobs=[], pods=[ending], in_flight={})
    assert found == Room(total=2, by_queue={"q": 1, "p": 2})


def test_the_pod_of_an_older_attempt_keeps_its_place_beside_the_new_one() -> None:
    """Aborted, enqueued again and claimed, or launched, before the first pod has ended: two pods."""
    ending = make_pod("t1", job_uid="j1", queue="q", phase="Running", deleted="2026-01-15T07:00:00Z")
    limits = {"q": 5, "p": 5}
    claimed = room(max_pods=9, queue_limits=limits, jobs=[], pods=[ending], in_flight={"t1": "p"})
    assert claimed == Room(total=7, by_queue={"q": 4, "p": 4})
    job = make_job("t1", uid="j2", queue="q")
    launched = room(max_pods=9, queue_limits=limits, jobs=[job], pods=[ending], in_flight={"t1": "q"})
    assert launched == Room(total=7, by_queue={"q": 3, "p": 5})


def test_a_limit_below_what_runs_gives_no_room() -> None:
    jobs = [make_job(f"t{i}", uid=f"j{i}", queue="q") for i in range(3)]
    found = room(max_pods=1, queue_limits={"q": 1}, jobs=jobs, pods=[], in_flight={})
    assert (found.total, found.of("q")) == (0, 0)


def test_without_limits_the_claims_under_way_are_limited() -> None:
    found = room(max_pods=None, queue_limits={"q": None}, jobs=[make_job()], pods=[], in_flight={})
    assert (found.total, found.of("q")) == (None, MAX_IN_FLIGHT)


tasks_of = st.dictionaries(st.integers(0, 30).map("t{}".format), st.sampled_from(["q", "p"]), max_size=20)
limit = st.none() | st.integers(0, 12)


@settings(deadline=None)
@given(jobs=tasks_of, alone=tasks_of, flight=tasks_of, total=limit, one=limit, two=limit)
def test_room_is_what_the_limits_leave(
    jobs: dict[str, str],
    alone: dict[str, str],
    flight: dict[str, str],
    total: int | None,
    one: int | None,
    two: int | None,
) -> None:
    """``jobs`` have pods, too; ``alone`` are pods whose Job is gone, also of tasks that have another Job."""
    found = room(
        max_pods=total,
        queue_limits={"q": one, "p": two},
        jobs=[make_job(task, uid=f"j-{task}", queue=queue) for task, queue in jobs.items()],
        pods=[
            *(make_pod(t, job_uid=f"j-{t}", uid=f"p-{t}", queue=queue) for t, queue in jobs.items()),
            *(make_pod(t, job_uid=f"gone-{t}", uid=f"alone-{t}", queue=queue) for t, queue in alone.items()),
        ],
        in_flight=flight,
    )
    coming = {task: queue for task, queue in flight.items() if task not in jobs}
    used = Counter([*jobs.values(), *alone.values(), *coming.values()])
    if total is not None:
        assert found.total == max(0, total - used.total())
    for queue, most in (("q", one), ("p", two)):
        if most is not None:
            assert found.by_queue[queue] == max(0, most - used[queue])
        assert 0 <= found.of(queue) <= MAX_IN_FLIGHT


# ---- choice ---------------------------------------------------------------------------------------------------------


def queue_of(key: str, *ids: str) -> Queue:
    return Queue(id=f"id-{key}", name=key, entries=tuple(Entry(task=task, added="t") for task in ids))


def ids_of(
    queues: dict[str, list[str]], room: Room, *, busy: frozenset[str] = frozenset(), first: int = 0, limit: int = 99
) -> list[str]:
    found = choose(
        queues=[(make_queue(key), queue_of(key, *ids)) for key, ids in queues.items()],
        room=room,
        busy=busy.__contains__,
        first=first,
        limit=limit,
    )
    return [candidate.task for candidate in found]


FREE = Room(total=None, by_queue={})


def test_queues_take_turns() -> None:
    queues = {"a": ["a1", "a2", "a3"], "b": ["b1"], "c": ["c1", "c2"]}
    assert ids_of(queues, FREE) == ["a1", "b1", "c1", "a2", "c2", "a3"]
    assert ids_of(queues, FREE, first=1) == ["b1", "c1", "a1", "c2", "a2", "a3"]
    assert ids_of(queues, FREE, first=5, limit=2) == ["c1", "a1"]


def test_nothing_to_choose_from() -> None:
    assert ids_of({}, FREE) == []
    assert ids_of({"a": []}, FREE) == []
    assert ids_of({"a": ["a1"]}, Room(total=0, by_queue={})) == []


def test_busy_entries_are_passed_over() -> None:
    assert ids_of({"a": ["a1", "a2", "a3"]}, FREE, busy=frozenset({"a1", "a3"})) == ["a2"]


def test_a_full_queue_does_not_stop_the_others() -> None:
    limits = Room(total=None, by_queue={"id-a": 1, "id-b": None})
    assert ids_of({"a": ["a1", "a2"], "b": ["b1", "b2"]}, limits) == ["a1", "b1", "b2"]


task_lists = st.lists(st.integers(0, 40).map("t{}".format), max_size=15, unique=True)


@settings(deadline=None)
@given(
    queues=st.dictionaries(st.sampled_from("abcd"), task_lists),
    total=limit,
    limits=st.dictionaries(st.sampled_from(["id-a", "id-b", "id-c", "id-d"]), limit),
    busy=st.frozensets(st.integers(0, 40).map("t{}".format)),
    first=st.integers(0, 9),
    most=st.integers(0, 40),
)
def test_limits_hold_and_order_is_kept(
    queues: dict[str, list[str]],
    total: int | None,
    limits: dict[str, int | None],
    busy: frozenset[str],
    first: int,
    most: int,
) -> None:
    space = Room(total=total, by_queue=limits)
    found = choose(
        queues=[(make_queue(key), queue_of(key, *ids)) for key, ids in queues.items()],
        room=space,
        busy=busy.__contains__,
        first=first,
        limit=most,
    )
    tasks = [candidate.task for candidate in found]
    assert len(tasks) == len(set(tasks)) <= min(most, 10**6 if total is None else total)
    assert not busy.intersection(tasks)
    by_queue = {key: [c.task for c in found if c.queue.name == key] for key in queues}
    for key, chosen in by_queue.items():
        assert len(chosen) <= space.of(f"id-{key}")
        # In the queue's own order, and none left out but those that are busy or chosen from another queue.
        free = [task for task in queues[key] if task not in busy and (task in chosen or task not in tasks)]
        assert chosen == free[: len(chosen)]
    # Nothing is left when there is room: whoever stands still has a reason.
    if len(tasks) < min(most, 10**6 if total is None else total):
        for key, ids in queues.items():
            if len(by_queue[key]) < space.of(f"id-{key}"):
                assert all(task in busy or task in tasks for task in ids)


@settings(deadline=None)
@given(count=st.integers(1, 5), each=st.integers(1, 6), limit=st.integers(0, 30))
def test_turns_are_fair(count: int, each: int, limit: int) -> None:
    queues = {f"q{i}": [f"q{i}-{n}" for n in range(each)] for i in range(count)}
    shares = Counter(task.split("-")[0] for task in ids_of(queues, FREE, limit=limit))
    got = [shares[key] for key in queues]
    assert sum(got) == min(limit, count * each)
    assert max(got) - min(got) <= 1

"""Which entries: limits are never passed, every queue keeps its order, all get turns, by priority and weight."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from clearml_k8s.clearml.queues import Entry, Queue
from clearml_k8s.config import QueueConfig, QueueSettings, ResolvedQueue
from clearml_k8s.flow.choose import Choice, Turns, choose
from clearml_k8s.flow.room import ONE, Limit, Room
from hypothesis import given, settings
from hypothesis import strategies as st


def queue(key: str, *, priority: int = 0, weight: float = 1.0) -> ResolvedQueue:
    config = QueueConfig(name=key, settings=QueueSettings(priority=priority, weight=weight))
    return ResolvedQueue(config=config, id=key, name=key)


def entries(key: str, *ids: str) -> Queue:
    return Queue(id=key, name=key, entries=tuple(Entry(task=task, added="t") for task in ids))


def limit(most: float, used: float = 0, *, kept: bool = False) -> Limit:
    return Limit(
        name="things", most=Decimal(str(most)), used=Decimal(str(used)), what="things", setting="somewhere", kept=kept
    )


def space(total: int | None = None, **by_queue: int | None) -> Room:
    """``total`` places in all, so many by queue."""
    own = {f"own {key}": limit(most) for key, most in by_queue.items() if most is not None}
    shared = {} if total is None else {"all": limit(total, kept=True)}
    others = tuple((key, ONE) for key in shared)
    costs = {key: ((f"own {key}", ONE), *others) for key, most in by_queue.items() if most is not None}
    return Room(limits={**own, **shared}, costs=costs, others=others)


def chosen(
    queues: Mapping[str, Sequence[str]],
    room: Room | None = None,
    *,
    busy: frozenset[str] = frozenset(),
    turns: Turns | None = None,
    limit: int = 99,
    served: Mapping[str, ResolvedQueue] | None = None,
) -> Choice:
    return choose(
        queues=[((served or {}).get(key) or queue(key), entries(key, *ids)) for key, ids in queues.items()],
        room=room or Room(),
        busy=busy.__contains__,
        turns=turns or Turns(),
        limit=limit,
    )


def ids_of(*arguments: Any, **options: Any) -> list[str]:
    return [candidate.task for candidate in chosen(*arguments, **options).candidates]


# ---- turns ----------------------------------------------------------------------------------------------------------


def test_queues_take_turns() -> None:
    queues = {"a": ["a1", "a2", "a3"], "b": ["b1"], "c": ["c1", "c2"]}
    assert ids_of(queues) == ["a1", "b1", "c1", "a2", "c2", "a3"]


def test_the_next_choice_goes_on_where_the_last_one_ended() -> None:
    queues = {"a": ["a1", "a2", "a3"], "b": ["b1", "b2", "b3"], "c": ["c1", "c2", "c3"]}
    first = chosen(queues, limit=2)
    assert [c.task for c in first.candidates] == ["a1", "b1"]
    assert ids_of(queues, turns=first.turns, limit=4) == ["c1", "a1", "b1", "c2"]


def test_nothing_to_choose_from() -> None:
    assert ids_of({}) == []
    assert ids_of({"a": []}) == []
    assert ids_of({"a": ["a1"]}, space(0)) == []


def test_busy_entries_are_passed_over() -> None:
    assert ids_of({"a": ["a1", "a2", "a3"]}, busy=frozenset({"a1", "a3"})) == ["a2"]


def test_a_full_queue_does_not_stop_the_others() -> None:
    assert ids_of({"a": ["a1", "a2"], "b": ["b1", "b2"]}, space(a=1)) == ["a1", "b1", "b2"]


def test_a_queue_that_is_closed_does_not_stop_the_others() -> None:
    assert ids_of({"a": ["a1"], "b": ["b1"]}, Room(closed={"a": "quota"})) == ["b1"]


def test_a_higher_priority_comes_first_and_lower_ones_have_the_rest() -> None:
    served = {"low": queue("low"), "high": queue("high", priority=5), "lower": queue("lower", priority=-1)}
    queues = {"low": ["l1", "l2"], "high": ["h1", "h2"], "lower": ["w1"]}
    assert ids_of(queues, served=served) == ["h1", "h2", "l1", "l2", "w1"]
    assert ids_of(queues, space(3), served=served) == ["h1", "h2", "l1"]
    assert ids_of(queues, space(high=1), served=served) == ["h1", "l1", "l2", "w1"], "at its own limit"


def test_time_that_a_queue_did_not_use_is_gone() -> None:
    """Else the first tasks after an idle week would have the cluster for themselves."""
    turns = Turns()
    for _ in range(50):
        turns = chosen({"a": [], "b": ["b"]}, turns=turns).turns
    queues = {"a": [f"a{i}" for i in range(9)], "b": [f"b{i}" for i in range(9)]}
    assert Counter(task[0] for task in ids_of(queues, turns=turns, limit=10))["a"] in (5, 6)


def test_one_entry_at_a_time_is_no_way_to_more_than_a_share() -> None:
    """A queue that is empty after each of its turns, beside one that is always full and has one place at a time."""
    turns, got = Turns(), Counter[str]()
    served = {"a": queue("a", weight=1), "b": queue("b", weight=4)}
    for number in range(100):
        choice = chosen({"a": [f"a{number}"], "b": [f"b{number}"]}, space(1), turns=turns, served=served)
        turns = choice.turns
        got.update(c.queue.name for c in choice.candidates)
    assert got == {"a": 20, "b": 80}


# ---- limits that are shared -----------------------------------------------------------------------------------------


def shared(used: float, **costs: float) -> Room:
    of = {key: (("gpus", Decimal(str(cost))),) for key, cost in costs.items()}
    return Room(limits={"gpus": limit(4, used, kept=True)}, costs=of)


def test_what_is_left_is_kept_for_the_queue_whose_turn_it_is() -> None:
    """Else tasks of one GPU take each that is freed, and one of four never starts."""
    first = chosen({"small": ["s1"], "large": ["l1"]}, shared(0, small=1, large=4))
    assert [c.task for c in first.candidates] == ["s1"]
    for used in (1, 2, 3):
        choice = chosen(
            {"small": ["s2"], "large": ["l1"], "none": ["n1"]}, shared(used, small=1, large=4), turns=first.turns
        )
        assert [c.task for c in choice.candidates] == ["n1"], "one that needs no GPU goes on"
        assert choice.kept == {"small": "large"}
        first = choice
    assert ids_of({"small": ["s2"], "large": ["l1"]}, shared(0, small=1, large=4), turns=first.turns)[0] == "l1"


def test_nothing_is_kept_for_a_task_that_never_fits_or_that_another_limit_stops() -> None:
    assert ids_of({"large": ["l1"], "small": ["s1"]}, shared(3, small=1, large=5)) == ["s1"]
    room = shared(3, small=1, large=4)
    stopped = Room(
        limits={**room.limits, "own": limit(1, 1)}, costs={**room.costs, "large": (*room.costs["large"], ("own", ONE))}
    )
    assert ids_of({"large": ["l1"], "small": ["s1"]}, stopped) == ["s1"]


def test_a_lower_priority_does_not_take_what_a_higher_one_waits_for() -> None:
    served = {"large": queue("large", priority=1)}
    assert ids_of({"small": ["s1"], "large": ["l1"]}, shared(2, small=1, large=4), served=served) == []


# ---- properties -----------------------------------------------------------------------------------------------------

task_lists = st.lists(st.integers(0, 40).map("t{}".format), max_size=15, unique=True)
most = st.none() | st.integers(0, 12)


@settings(deadline=None)
@given(
    queues=st.dictionaries(st.sampled_from("abcd"), task_lists),
    total=most,
    limits=st.fixed_dictionaries(dict.fromkeys("abcd", most)),
    busy=st.frozensets(st.integers(0, 40).map("t{}".format)),
    priorities=st.fixed_dictionaries({key: st.integers(-1, 1) for key in "abcd"}),
    weights=st.fixed_dictionaries({key: st.sampled_from([0.5, 1.0, 3.0]) for key in "abcd"}),
    number=st.integers(0, 40),
)
def test_limits_hold_and_order_is_kept(
    queues: dict[str, list[str]],
    total: int | None,
    limits: dict[str, int | None],
    busy: frozenset[str],
    priorities: dict[str, int],
    weights: dict[str, float],
    number: int,
) -> None:
    room = space(total, **limits)
    served = {key: queue(key, priority=priorities[key], weight=weights[key]) for key in "abcd"}
    found = chosen(queues, room, busy=busy, served=served, limit=number).candidates
    tasks = [candidate.task for candidate in found]
    allowed = min(number, 10**6 if total is None else total)
    assert len(tasks) == len(set(tasks)) <= allowed
    assert not busy.intersection(tasks)
    by_queue = {key: [c.task for c in found if c.queue.name == key] for key in queues}
    for key, own in by_queue.items():
        assert len(own) <= room.of(key)
        # In the queue's own order, and none left out but those that are busy or chosen from another queue.
        free = [task for task in queues[key] if task not in busy and (task in own or task not in tasks)]
        assert own == free[: len(own)]
    # Nothing is left when there is room: whoever stands still has a reason.
    waits = {
        key
        for key, ids in queues.items()
        if len(by_queue[key]) < room.of(key) and not all(task in busy or task in tasks for task in ids)
    }
    assert not waits or len(tasks) == allowed
    # And whoever waits for the others waits for none of a lower priority, and at most one turn for an equal.
    for one in waits:
        for other, own in by_queue.items():
            if priorities[other] < priorities[one]:
                assert not own
            elif priorities[other] == priorities[one] and weights[other] == weights[one]:
                assert len(own) <= len(by_queue[one]) + 1


def run(
    served: Sequence[ResolvedQueue],
    *,
    launches: int,
    batch: int,
    costs: Mapping[str, int],
    capacity: int,
    draw: Random,
    idle: float = 0.0,
) -> tuple[list[str], int]:
    """A cluster whose tasks end in any order while all queues have more: who was launched, and the most in use."""
    turns, running, got, peak = Turns(), list[str](), list[str](), 0
    for number in range(launches * 20):
        if len(got) >= launches:
            break
        room = Room(
            limits={"all": limit(capacity, sum(costs[key] for key in running), kept=True)},
            costs={key: (("all", Decimal(cost)),) for key, cost in costs.items()},
        )
        queues = []
        for one in served:
            ids = [] if draw.random() < idle else [f"{one.id}-{number}-{i}" for i in range(batch)]
            queues.append((one, entries(one.id, *ids)))
        choice = choose(queues=queues, room=room, busy=lambda _: False, turns=turns, limit=batch)
        turns = choice.turns
        for candidate in choice.candidates:
            running.append(candidate.queue.id)
            got.append(candidate.queue.id)
        peak = max(peak, sum(costs[key] for key in running))
        for _ in range(draw.randint(0, 3)):
            if running:
                running.pop(draw.randrange(len(running)))
    return got, peak


@settings(deadline=None, max_examples=40)
@given(
    weights=st.lists(st.sampled_from([0.5, 1.0, 2.0, 3.0, 7.5]), min_size=2, max_size=6),
    batch=st.integers(1, 50),
    capacity=st.integers(1, 60),
    draw=st.integers(0, 10**6).map(Random),
)
def test_weights_are_met_within_five_percent(weights: list[float], batch: int, capacity: int, draw: Random) -> None:
    served = [queue(f"q{number}", weight=weight) for number, weight in enumerate(weights)]
    got, peak = run(
        served, launches=1000, batch=batch, costs={one.id: 1 for one in served}, capacity=capacity, draw=draw
    )
    shares = Counter(got[:1000])
    assert len(got) >= 1000
    assert peak <= capacity
    for one in served:
        expected = 1000 * one.config.settings.weight / sum(weights)
        assert abs(shares[one.id] - expected) <= max(2.0, 0.05 * expected), (shares, weights)


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.lists(st.integers(1, 8), min_size=2, max_size=6),
    weights=st.lists(st.sampled_from([0.5, 1.0, 4.0]), min_size=6, max_size=6),
    batch=st.integers(1, 20),
    spare=st.integers(0, 12),
    idle=st.sampled_from([0.0, 0.3, 0.8]),
    draw=st.integers(0, 10**6).map(Random),
)
def test_nobody_starves(
    sizes: list[int], weights: list[float], batch: int, spare: int, idle: float, draw: Random
) -> None:
    """Whatever the sizes of their tasks, which share one limit: who has tasks gets turns, again and again."""
    served = [queue(f"q{number}", weight=weight) for number, weight in enumerate(weights[: len(sizes)])]
    costs = {one.id: size for one, size in zip(served, sizes, strict=True)}
    capacity = max(sizes) + spare
    got, peak = run(served, launches=400, batch=batch, costs=costs, capacity=capacity, draw=draw, idle=idle)
    assert peak <= capacity
    assert len(got) >= 400, "it never comes to a stop"
    shares = Counter(got)
    if idle == 0.0:
        total = sum(one.config.settings.weight for one in served)
        for one in served:
            assert shares[one.id] >= 0.5 * len(got) * one.config.settings.weight / total, (shares, costs)
    else:
        assert set(shares) == {one.id for one in served}


@pytest.mark.parametrize("number", [1, 500])
def test_what_is_remembered_of_turns_is_bounded(number: int) -> None:
    turns = Turns()
    for start in range(0, 5 * number, number):
        queues = {f"q{start + i}": ["t"] for i in range(number)}
        turns = chosen(queues, turns=turns).turns
        assert len(turns.due) == number


def test_what_asks_for_too_much_of_a_limit_that_is_exceeded() -> None:
    """As little as it takes, in order; not for what every task takes, nor for what is only counted as the most."""
    limits = {"gpus": limit(4, used=7), "pods": limit(2, used=3)}
    room = Room(
        limits=limits,
        costs={"a": (("pods", ONE),), "b": (("pods", ONE),)},
        by_task={
            "a": {
                "small": (("pods", ONE),),
                "two": (("pods", ONE), ("gpus", Decimal(2))),
                "three": (("pods", ONE), ("gpus", Decimal(3))),
            }
        },
        at_most={"a": (("pods", ONE), ("gpus", Decimal(2)))},
    )
    asks = [("b", "other"), ("a", "small"), ("a", "two"), ("a", "three")]
    assert room.too_much(asks, in_flight={"two": "a", "three": "a", "other": "b"}) == {"two", "three"}
    assert room.too_much(reversed(asks), in_flight={}) == {"three"}
    assert room.too_much(asks, in_flight={"unread": "a"}) == {"two"}
    assert room.too_much(asks, in_flight={"unread": "a", "unread too": "a"}) == set()

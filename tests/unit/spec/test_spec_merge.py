from __future__ import annotations

import copy
from typing import Any

import pytest
from clearml_k8s.spec.merge import merge_env, merge_named, merge_templates
from hypothesis import given
from hypothesis import strategies as st

BASE: dict[str, Any] = {
    "labels": {"team": "a", "tier": "x"},
    "tolerations": [{"key": "gpu"}],
    "extraVolumes": [{"name": "one"}],
    "priorityClassName": "low",
    "terminationGracePeriodSeconds": 60,
}


def test_lists_and_maps_are_replaced_not_merged() -> None:
    merged = merge_templates(base=BASE, override={"labels": {"team": "b"}, "tolerations": [{"key": "spot"}]})
    assert merged["labels"] == {"team": "b"}
    assert merged["tolerations"] == [{"key": "spot"}]
    assert merged["priorityClassName"] == "low"


def test_extra_volumes_are_appended_base_first() -> None:
    merged = merge_templates(base=BASE, override={"extraVolumes": [{"name": "two"}]})
    assert [volume["name"] for volume in merged["extraVolumes"]] == ["one", "two"]


def test_each_field_of_the_pass_through_counts_for_itself() -> None:
    base = {"podSpec": {"hostUsers": False, "containers": [{"name": "a"}], "overhead": None}}
    override = {"podSpec": {"containers": [{"name": "b"}], "preemptionPolicy": "Never"}}
    merged = merge_templates(base=base, override=override)
    containers = [{"name": "a"}, {"name": "b"}]
    wanted = {"hostUsers": False, "overhead": None, "containers": containers, "preemptionPolicy": "Never"}
    assert merged["podSpec"] == wanted
    assert merge_templates(base=base, override={"podSpec": {"hostUsers": None}})["podSpec"]["hostUsers"] is False


def test_containers_of_the_pass_through_are_merged_by_name() -> None:
    """Each field of one replaces that field; what the override leaves empty stays."""
    base = [{"name": "task", "stdin": True, "tty": True}, {"name": "proxy", "image": "a", "args": ["1"]}]
    override = [
        {"name": "proxy", "image": "b", "args": []},
        {"name": "task", "tty": False},
        {"name": "log", "image": "c"},
    ]
    merged = merge_templates(base={"podSpec": {"containers": base}}, override={"podSpec": {"containers": override}})
    assert merged["podSpec"]["containers"] == [
        {"name": "task", "stdin": True, "tty": False},
        {"name": "proxy", "image": "b", "args": ["1"]},
        {"name": "log", "image": "c"},
    ]


def test_init_containers_are_merged_by_name() -> None:
    """In the order in which they run: those of the base first, each in its place."""
    base = [{"name": "wait", "image": "a", "args": ["1"]}, {"name": "fetch", "image": "b"}]
    override = [{"name": "more", "image": "c"}, {"name": "wait", "image": "d", "args": []}]
    before = copy.deepcopy((base, override))
    merged = merge_templates(base={"initContainers": base}, override={"initContainers": override})
    assert merged["initContainers"] == [
        {"name": "wait", "image": "d", "args": ["1"]},
        {"name": "fetch", "image": "b"},
        {"name": "more", "image": "c"},
    ]
    assert (base, override) == before
    assert merge_templates(base={}, override={"initContainers": override})["initContainers"] == override


@pytest.mark.parametrize("unset", [None, "", [], {}])
def test_null_and_empty_mean_not_set(unset: Any) -> None:
    assert merge_templates(base=BASE, override=dict.fromkeys(BASE, unset)) == BASE
    assert merge_templates(base=dict.fromkeys(BASE, unset), override={}) == {}


@pytest.mark.parametrize("value", [0, False])
def test_zero_and_false_are_values(value: Any) -> None:
    merged = merge_templates(base=BASE, override={"terminationGracePeriodSeconds": value})
    assert merged["terminationGracePeriodSeconds"] is value


def test_nothing_is_shared_with_the_arguments() -> None:
    base, override = copy.deepcopy(BASE), {"extraVolumes": [{"name": "two"}]}
    merged = merge_templates(base=base, override=override)
    merged["extraVolumes"][0]["name"] = merged["extraVolumes"][1]["name"] = "changed"
    merged["labels"]["team"] = "changed"
    assert (base, override) == (BASE, {"extraVolumes": [{"name": "two"}]})


ENV = st.lists(
    st.builds(lambda name, value: {"name": name, "value": value}, st.sampled_from("ABCD"), st.text(max_size=3))
)


@given(ENV, ENV)
def test_env_has_each_name_once_and_the_later_list_wins(first: list[Any], second: list[Any]) -> None:
    merged = merge_env(first, second)
    names = [entry["name"] for entry in merged]
    assert names == list(dict.fromkeys(entry["name"] for entry in first + second))
    assert {entry["name"]: entry["value"] for entry in merged} == {
        **{entry["name"]: entry["value"] for entry in first},
        **{entry["name"]: entry["value"] for entry in second},
    }


def test_a_value_takes_the_place_of_a_reference() -> None:
    reference = {"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}
    assert merge_env([reference], [{"name": "A", "value": "1"}]) == [{"name": "A", "value": "1"}]


def test_named_objects_come_once() -> None:
    assert merge_named([{"name": "a"}, {"name": "b"}], [{"name": "a"}, {"name": "c"}]) == [
        {"name": "a"},
        {"name": "b"},
        {"name": "c"},
    ]

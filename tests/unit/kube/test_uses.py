"""Amounts: quantities of Kubernetes, what a pod uses, what a quota says."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from clearml_k8s.config.gpus import is_gpu
from clearml_k8s.errors import KubeUnanswered
from clearml_k8s.kube.quantity import quantity, shown
from clearml_k8s.kube.quota import Scope, slim_quota
from clearml_k8s.kube.slim import slim_job, slim_pod
from clearml_k8s.kube.uses import NOTHING, Measure, Uses, field_path, limits, requests
from hostile import BOUNDED, spoilt, values
from hypothesis import given, settings
from hypothesis import strategies as st
from kube_objects import job, pod


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("1", "1"), (2, "2"), (0.5, "0.5"), ("500m", "0.5"), ("1.5", "1.5"), (".5", "0.5"), ("1.", "1"), ("+3", "3"),
        ("100n", "1e-7"), ("5u", "5e-6"), ("2k", "2000"), ("3M", "3e6"), ("1Ki", "1024"), ("1.5Gi", "1610612736"),
        ("2E", "2e18"), ("1Ei", str(1024**6)), ("1e3", "1000"), ("2E2", "200"), ("1e-2", "0.01"), (" 4 ", "4"),
    ],
)  # fmt: skip
def test_a_quantity(text: object, amount: str) -> None:
    assert quantity(text) == Decimal(amount)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-1",
        "x",
        "1x",
        "1,5",
        "1 Gi",
        "1gi",
        "1K",
        "\u0663",
        "1e400",
        "Infinity",
        "1" * 50,
        None,
        True,
        [1],
        float("nan"),
    ],
)
def test_no_quantity(text: object) -> None:
    assert quantity(text) is None


@settings(deadline=None)
@given(number=st.integers(0, 10**12), digits=st.integers(0, 6))
def test_an_amount_is_shown_as_it_is(number: int, digits: int) -> None:
    amount = Decimal(number).scaleb(-digits)
    assert quantity(shown(amount)) == amount
    assert "E" not in shown(amount)


@BOUNDED
@given(value=values())
def test_whatever_stands_there_is_an_amount_or_none(value: object) -> None:
    found = quantity(value)
    assert found is None or found >= 0


# ---- a pod ----------------------------------------------------------------------------------------------------------


def container(**resources: Any) -> dict[str, Any]:
    return {"name": "c", "resources": resources}


def template(*containers: dict[str, Any], init: list[dict[str, Any]] | None = None, **meta: Any) -> dict[str, Any]:
    return {"metadata": meta, "spec": {"containers": list(containers), "initContainers": init or []}}


def test_containers_add_up_and_init_containers_run_one_by_one() -> None:
    made = template(
        container(requests={"cpu": "1"}, limits={"cpu": 2, "memory": "1Gi"}),
        container(limits={"cpu": "500m"}),
        init=[container(requests={"cpu": 4}), container(requests={"cpu": 3}), {"restartPolicy": "Always"}],
    )
    assert requests(made) == {"cpu": Decimal(4), "memory": Decimal(1024**3)}
    assert limits(made) == {"cpu": Decimal("2.5"), "memory": Decimal(1024**3)}
    beside = {**container(requests={"cpu": 2}), "restartPolicy": "Always"}
    sidecar = template(container(requests={"cpu": 1}), init=[beside])
    assert requests(sidecar) == {"cpu": Decimal(3)}


@pytest.mark.parametrize(
    ("resource", "gpu"),
    [
        ("nvidia.com/gpu", True), ("nvidia.com/gpu.shared", True), ("nvidia.com/mig-1g.5gb", True),
        ("amd.com/gpu", True), ("gpu.intel.com/i915", True), ("habana.ai/gaudi", True), ("cpu", False),
        ("memory", False), ("rdma/hca", False), ("nvidia.com/cuda", False), ("gpu.intel.com/", False),
    ],
)  # fmt: skip
def test_what_is_a_gpu(resource: str, gpu: bool) -> None:
    assert is_gpu(resource) is gpu


def measured(made: object, *paths: str) -> Uses:
    return Measure(fields=tuple(field_path(path) for path in paths))(made)


def test_a_path_below_the_containers_is_summed_over_them() -> None:
    made = template(container(limits={"nvidia.com/gpu": 1}), container(limits={"nvidia.com/gpu": "2"}), container())
    assert measured(made, "resources|limits|nvidia.com/gpu").monitored == 3


def test_a_path_below_the_pod() -> None:
    made = template(container(), labels={"clear.ml/resource-usage": "0.25"}, annotations={"a": "2"})
    assert measured(made, "metadata|labels|clear.ml/resource-usage").monitored == Decimal("0.25")
    assert measured(made, "metadata | annotations | a").monitored == 2
    assert measured(made, "spec|containers|0|resources|limits|cpu").monitored == 0
    assert measured(template(container(limits={"cpu": 3})), "spec|containers|0|resources|limits|cpu").monitored == 3


def test_what_is_no_amount_is_named_and_not_shown() -> None:
    made = template(container(), labels={"n": "secret"})
    assert measured(made, "metadata|labels|n") == Uses(unreadable="metadata|labels|n")


def test_a_share_that_clearmls_injector_gives_is_a_share() -> None:
    share = {"clearml-injector/fraction": "0.500"}
    assert Measure()(template(container(), labels=share)).gpus == Decimal("0.5")
    assert Measure()(template(container(limits={"nvidia.com/gpu": 1}), labels=share)).gpus == Decimal("0.5")
    assert Measure()(template(container(limits={"nvidia.com/gpu": 2}), labels=share)).gpus == 1
    two = {"clearml-injector/fraction": "2"}
    assert Measure()(template(container(limits={"nvidia.com/gpu": 2}), labels=two)).gpus == 2
    assert Measure()(template(container(), labels={"clearml-injector/fraction": "half"})).gpus == 0


def test_what_the_controller_says_of_shares_goes_before_all() -> None:
    said = {"clearml-k8s.io/gpus": "0.25"}
    assert Measure()(template(container(limits={"nvidia.com/gpu": 1}), annotations=said)).gpus == Decimal("0.25")
    broken = {"clearml-k8s.io/gpus": "?"}
    assert Measure()(template(container(limits={"nvidia.com/gpu": 1}), annotations=broken)).gpus == 1


def test_demand_is_read_where_pods_of_a_queue_differ() -> None:
    made = template(container(requests={"cpu": 2}))
    assert Measure()(made).demand == ()
    assert dict(Measure(demands=True)(made).demand)["requests.cpu"] == 2


def test_gpus_are_read_whatever_is_limited() -> None:
    assert measured(template(container(limits={"nvidia.com/gpu": 1}))) == Uses(gpus=Decimal(1))
    assert measured("no pod") is NOTHING


def test_all_that_use_the_same_share_one_record() -> None:
    measure = Measure()
    one, other = (measure(template(container(limits={"nvidia.com/gpu": 2, "cpu": 1}))) for _ in range(2))
    assert one == Uses(gpus=Decimal(2), cpus=Decimal(1))
    assert one is other


def test_a_job_is_measured_by_its_template_and_a_pod_by_itself() -> None:
    measure = Measure()
    whole = job()
    whole["spec"]["template"] = template(container(limits={"amd.com/gpu": 2}))
    assert slim_job(whole, measure=measure).uses.gpus == 2
    assert slim_pod({**pod(), "spec": template(container(limits={"cpu": 3}))["spec"]}, measure=measure).uses.cpus == 3


@BOUNDED
@given(made=spoilt(template(container(limits={"cpu": 1}), init=[container(limits={"cpu": 1})], labels={"n": "1"})))
def test_whatever_a_pod_is_it_is_measured(made: object) -> None:
    found = measured(made, "metadata|labels|n", "resources|limits|cpu")
    assert min(found.monitored, found.gpus, found.cpus) >= 0


# ---- a quota --------------------------------------------------------------------------------------------------------

QUOTA = {
    "metadata": {"uid": "u1", "name": "team", "resourceVersion": "3"},
    "spec": {
        "hard": {"pods": "5"},
        "scopes": ["NotBestEffort"],
        "scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["low"]}]},
    },
    "status": {"hard": {"pods": "4", "requests.cpu": "1500m"}, "used": {"pods": "1", "requests.cpu": "0"}},
}


def test_a_quota_is_what_is_enforced() -> None:
    record = slim_quota(QUOTA)
    assert record.hard == {"pods": 4, "requests.cpu": Decimal("1.5")}
    assert record.used == {"pods": 1, "requests.cpu": 0}
    assert record.scopes == (Scope(name="NotBestEffort"), Scope(name="PriorityClass", operator="In", values=("low",)))
    assert slim_quota({**QUOTA, "status": {}}).hard == {"pods": 5}, "before it was counted for the first time"


@BOUNDED
@given(quota=spoilt(QUOTA))
def test_a_quota_becomes_a_record_or_doubt(quota: Any) -> None:
    try:
        record = slim_quota(quota)
    except KubeUnanswered:
        return
    assert record.uid
    assert record.name
    assert all(amount >= 0 for amount in (*record.hard.values(), *record.used.values()))

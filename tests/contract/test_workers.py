"""Workers and cluster reports: sections 10 and 11 of the API contract."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from clearml_server.process import DevServer

from .client import Client
from .conftest import Maker


def _workers(api: Client) -> dict[str, dict[str, Any]]:
    return {worker["id"]: worker for worker in api.ok("workers.get_all")["workers"]}


def test_register_report_unregister(api: Client, make: Maker) -> None:
    worker, queue = make.worker(), make.queue()
    assert api.ok("workers.register", worker=worker, queues=[queue], timeout=600) == {}
    assert worker in _workers(api)
    assert api.ok("workers.status_report", worker=worker, queues=[queue], timestamp=_now()) == {}
    assert api.ok("workers.unregister", worker=worker) == {}
    assert worker not in _workers(api)


def test_an_unregistered_worker_is_registered_by_its_first_report(api: Client, make: Maker) -> None:
    worker = make.worker()
    api.ok("workers.status_report", worker=worker, timestamp=_now())
    assert worker in _workers(api)


def test_unregistering_an_unknown_worker_is_fine(api: Client, make: Maker) -> None:
    assert api.ok("workers.unregister", worker=make.worker()) == {}


def test_registering_for_an_unknown_queue(api: Client, make: Maker) -> None:
    assert api.code("workers.register", worker=make.worker(), queues=["none"], timeout=600) == "400/701"


def test_a_report_with_a_task_sets_its_last_worker(api: Client, make: Maker) -> None:
    worker, task = make.worker(), make.task(status="in_progress")
    api.ok("workers.status_report", worker=worker, task=task, timestamp=_now())
    assert api.task(task)["last_worker"] == worker
    assert _workers(api)[worker]["task"]["id"] == task


def test_cluster_reports_belong_to_the_enterprise_edition(api: Client, make: Maker) -> None:
    key = make.name("category")
    report: dict[str, Any] = {
        "worker": make.name("worker"),
        "partial": True,
        "key": key,
        "timestamp": _now(),
        "timeout": 60,
        "resource_groups": [f"{key}:group"],
        "properties": {"max_gpus": 0, "max_cpus": 1, "max_workers": 1},
    }
    if api.claims()["feature_set"] == "basic":
        assert api.code("workers.cluster_report", **report) == "404/0"
        assert api.code("workers.cluster_unregister", key=key) == "404/0"
        assert api.request("POST", "workers.cluster_unregister").code == "404/0"
    else:
        assert api.code("workers.cluster_report", **report) == "200/0"
        assert api.code("workers.cluster_unregister", key=key) == "200/0"


@pytest.fixture(scope="module")
def enterprise() -> Iterator[DevServer]:
    with DevServer(edition="enterprise") as server:
        yield server


@pytest.mark.devserver
def test_reports_of_the_enterprise_edition(enterprise: DevServer) -> None:
    """Section 11, as the development server has it: shares side by side, a total in place of all, each for its time."""
    api = Client(enterprise.url, enterprise.access_key, enterprise.secret_key)
    assert api.claims()["feature_set"] != "basic"

    def send(worker: str, *, partial: bool, timeout: int = 60) -> None:
        api.ok(
            "workers.cluster_report",
            worker=worker,
            partial=partial,
            key="k8s",
            timestamp=_now(),
            timeout=timeout,
            resource_groups=["k8s:group"],
            properties={"max_gpus": 8, "max_cpus": 0, "max_workers": 0},
        )

    send("a", partial=True)
    send("b", partial=True, timeout=600)
    assert {worker: report["partial"] for worker, report in enterprise.cluster_reports()["k8s"].items()} == {
        "a": True,
        "b": True,
    }
    enterprise.advance_clock(61)
    assert list(enterprise.cluster_reports()["k8s"]) == ["b"]
    send("c", partial=False)
    assert list(enterprise.cluster_reports()["k8s"]) == ["c"]
    assert enterprise.cluster_reports()["k8s"]["c"]["properties"] == {"max_gpus": 8, "max_cpus": 0, "max_workers": 0}
    assert api.code("workers.cluster_unregister") == "400/12"
    assert api.code("workers.cluster_report", worker="c", partial=False) == "400/12"
    api.ok("workers.cluster_unregister", key="k8s")
    assert enterprise.cluster_reports() == {}
    api.ok("workers.cluster_unregister", key="k8s")


def test_a_worker_shows_the_queues_that_it_reports(api: Client, make: Maker) -> None:
    worker, one, two = make.worker(), make.queue(), make.queue()
    api.ok("workers.register", worker=worker, queues=[one], timeout=600)
    assert [queue["id"] for queue in _workers(api)[worker]["queues"]] == [one]
    api.ok("workers.status_report", worker=worker, queues=[one, two], timestamp=_now())
    assert sorted(queue["id"] for queue in _workers(api)[worker]["queues"]) == sorted([one, two])
    api.ok("workers.status_report", worker=worker, timestamp=_now())
    assert sorted(queue["id"] for queue in _workers(api)[worker]["queues"]) == sorted([one, two])
    # Registered again, in place of the first time.
    api.ok("workers.register", worker=worker, queues=[two], timeout=600)
    assert [queue["id"] for queue in _workers(api)[worker]["queues"]] == [two]


def _now() -> int:
    return int(time.time() * 1000)

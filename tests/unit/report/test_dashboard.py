"""The body of each type of report as it is sent, and what becomes of a server without a dashboard."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

import pytest
from clearml_k8s.clearml.session import Session
from clearml_k8s.config import Config, QueueConfig, QueueSettings
from clearml_k8s.config.dashboard import DashboardConfig
from clearml_k8s.errors import ApiUnanswered
from clearml_k8s.report.capacity import Capacity, Unknown
from clearml_k8s.report.dashboard import Dashboard, DashboardState, Places, places
from flow_parts import make_config
from manual_clock import ManualClock
from scripted_clearml import Api, Reply

WORKER = "k8s:clearml-agent-gpu-1234abcd"
SIXTEEN = Capacity(gpus=16, cpus=383, workers=20)


def queue(key: str, template: str | None = None) -> QueueConfig:
    return QueueConfig(name=key, settings=QueueSettings(worker_id_template=template))


def reporting(kind: str = "global", *, seconds: float = 600, **changes: Any) -> Config:
    return make_config(dashboard=DashboardConfig(report_type=kind, report_seconds=seconds), **changes)  # type: ignore[arg-type]


class Scene:
    """A dashboard whose numbers the test sets."""

    def __init__(self, session: Session, config: Config, *, worker: str = WORKER) -> None:
        self.numbers: Capacity | Unknown = SIXTEEN
        self.names: Mapping[str, str] = {}
        self.dashboard = Dashboard(
            config=config,
            session=session,
            worker_id=worker,
            capacity=lambda: self.numbers,
            queue_names=lambda: self.names,
        )


@pytest.fixture
def enterprise(api: Api) -> Api:
    api.feature_set = "advanced"
    api.script("workers.cluster_report", Reply())
    api.script("workers.cluster_unregister", Reply())
    return api


async def test_global_is_the_total_of_the_category(enterprise: Api, session: Session, clock: ManualClock) -> None:
    clock._move(12.345)
    scene = Scene(session, reporting("global", seconds=600))
    await scene.dashboard.report()
    assert enterprise.of("workers.cluster_report") == [
        {
            "worker": "k8s:clearml-agent-gpu-1234abcd",
            "partial": False,
            "key": "k8s",
            "timestamp": 1767225612345,
            "timeout": 1200,
            "resource_groups": ["k8s:clearml-agent-gpu-1234abcd"],
            "properties": {"max_gpus": 16, "max_cpus": 383, "max_workers": 20},
        }
    ]
    assert scene.dashboard.state.text == (
        "reported as the total of category k8s: 16 GPUs, 383 CPUs, 20 workers (2026-01-01 00:00:12 UTC)"
    )
    assert scene.dashboard.wait_seconds == 600


async def test_aggregate_is_this_agents_share(enterprise: Api, session: Session) -> None:
    queues = {"h100": queue("h100", "k8s:H100:{task_id}"), "l40s": queue("l40s", "k8s:L40s:{task_id}")}
    config = reporting("aggregate", seconds=30, worker_id="k8s:my-agent", queues=queues)
    scene = Scene(session, config, worker="k8s:my-agent")
    await scene.dashboard.report()
    assert enterprise.of("workers.cluster_report") == [
        {
            "worker": "k8s:my-agent",
            "partial": True,
            "key": "k8s",
            "timestamp": 1767225600000,
            "timeout": 60,
            "resource_groups": ["k8s:H100", "k8s:L40s"],
            "properties": {"max_gpus": 16, "max_cpus": 383, "max_workers": 20},
        }
    ]
    assert scene.dashboard.state.text.startswith("reported as this agent's share of category k8s: 16 GPUs")


async def test_it_is_taken_back_at_the_end(enterprise: Api, session: Session) -> None:
    scene = Scene(session, reporting(worker_id="onprem:racks:me"), worker="onprem:racks:me")
    await scene.dashboard.withdraw()
    assert enterprise.of("workers.cluster_unregister") == []
    await scene.dashboard.report()
    await scene.dashboard.withdraw()
    await scene.dashboard.withdraw()
    assert enterprise.of("workers.cluster_unregister") == [{"key": "onprem"}]


async def test_a_share_is_taken_back_without_those_of_other_agents(enterprise: Api, session: Session) -> None:
    """To unregister is to take the whole category away."""
    scene = Scene(session, reporting("aggregate", worker_id="k8s:my-agent"), worker="k8s:my-agent")
    await scene.dashboard.report()
    await scene.dashboard.withdraw()
    await scene.dashboard.withdraw()
    assert enterprise.of("workers.cluster_unregister") == []
    _, last = enterprise.of("workers.cluster_report")
    assert last["partial"] is True
    assert last["timeout"] == 1
    assert last["properties"] == {"max_gpus": 0, "max_cpus": 0, "max_workers": 0}


@pytest.mark.parametrize("way", ["feature set", "404"])
async def test_a_server_without_a_dashboard_is_told_once(
    api: Api, session: Session, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    if way == "404":
        api.feature_set = "advanced"
    scene = Scene(session, reporting())
    for _ in range(5):
        await scene.dashboard.report()
    assert len(api.of("workers.cluster_report")) == (1 if way == "404" else 0)
    told = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(told) == 1
    assert "this server has no Orchestration Dashboard" in told[0]
    assert "reportType: disabled" in told[0]
    assert "this server has no Orchestration Dashboard" in scene.dashboard.state.text
    assert session.health.healthy
    await scene.dashboard.withdraw()
    assert api.of("workers.cluster_unregister") == []


async def test_an_upgraded_server_is_asked_again(api: Api, session: Session) -> None:
    api.feature_set = "advanced"
    scene = Scene(session, reporting())
    await scene.dashboard.report()
    api.script("workers.cluster_report", Reply())
    await scene.dashboard.report()
    assert len(api.of("workers.cluster_report")) == 1
    api.version = "3.0.0"
    api.revoke()
    api.script("queues.get_all", Reply(data={"queues": []}))
    await session.ping()  # logs in anew
    await scene.dashboard.report()
    assert len(api.of("workers.cluster_report")) == 2
    assert scene.dashboard.state.problem == ""


async def test_a_number_that_is_not_known_is_not_sent(
    enterprise: Api, session: Session, caplog: pytest.LogCaptureFixture
) -> None:
    scene = Scene(session, reporting())
    scene.numbers = Unknown(why="the nodes are not known: away")
    for _ in range(3):
        await scene.dashboard.report()
    assert enterprise.of("workers.cluster_report") == []
    assert scene.dashboard.state == DashboardState(problem="the nodes are not known: away")
    assert scene.dashboard.wait_seconds == 5
    assert len([r for r in caplog.records if "the nodes are not known: away" in r.getMessage()]) == 1
    scene.numbers = SIXTEEN
    await scene.dashboard.report()
    assert len(enterprise.of("workers.cluster_report")) == 1
    assert scene.dashboard.wait_seconds == 600


async def test_what_the_server_does_not_take_is_sent_again_soon(enterprise: Api, session: Session) -> None:
    enterprise.script("workers.cluster_report", Reply(code=500, subcode=100, message="General data error"), Reply())
    scene = Scene(session, reporting())
    with pytest.raises(ApiUnanswered):
        await scene.dashboard.report()
    assert "the server does not take the report" in scene.dashboard.state.text
    assert scene.dashboard.wait_seconds == 30
    await scene.dashboard.report()
    assert (scene.dashboard.state.problem, scene.dashboard.wait_seconds) == ("", 600)


async def test_only_changes_are_logged(enterprise: Api, session: Session, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    scene = Scene(session, reporting())
    for gpus in (16, 16, 17, 17):
        scene.numbers = dataclasses.replace(SIXTEEN, gpus=gpus)
        await scene.dashboard.report()
    assert len([r for r in caplog.records if "reported to the Orchestration Dashboard" in r.getMessage()]) == 2


# ---- categories and groups -----------------------------------------------------------------------------------------


def place(config: Config, worker: str = WORKER, **named: str) -> Places:
    return places(config, worker_id=worker, queue_names=named)


def test_without_any_override() -> None:
    assert place(reporting()) == Places(category="k8s", groups=("k8s:clearml-agent-gpu-1234abcd",))


def test_the_defaults_of_clearmls_own_chart() -> None:
    assert place(reporting(task_worker_id="k8s:group:{task_id}")) == Places(category="k8s", groups=("k8s:group",))


def test_an_id_without_a_group() -> None:
    config = reporting(task_worker_id="onprem:{task_id}")
    assert place(config) == Places(category="onprem", groups=("onprem:group",))


def test_the_category_of_a_chosen_id_comes_first(caplog: pytest.LogCaptureFixture) -> None:
    config = reporting(worker_id="a:b:me", task_worker_id="c:d:{task_id}")
    assert place(config, "a:b:me") == Places(category="a", groups=("a:group",), elsewhere=(("default", "c"),))


def test_a_chosen_id_without_a_category() -> None:
    assert place(reporting(worker_id="me"), "me") == Places(category="me", groups=("me:group",))


def test_groups_of_queues_and_their_names() -> None:
    queues = {
        "one": queue("one"),
        "two": queue("two", "k8s:{queue}:{task_id}"),
        "three": queue("three", "k8s:{queue}:{task_id}"),
        "four": queue("four", "k8s:{project}:{task_id}"),
        "five": queue("five", "{namespace}:x:{task_id}"),
        "six": queue("six", "{task_name}:x:{task_id}"),
        "seven": queue("seven", "{worker_id_parts[7]}:{task_id}"),
    }
    config = reporting(task_worker_id="k8s:all:{task_id}", queues=queues)
    assert place(config, two="Big GPUs") == Places(
        category="k8s",
        groups=("k8s:all", "k8s:Big-GPUs", "k8s:three", "k8s:group"),
        elsewhere=(("five", "ns"), ("six", "...")),
    )


async def test_queues_in_another_category_are_told_once(
    enterprise: Api, session: Session, caplog: pytest.LogCaptureFixture
) -> None:
    config = reporting(queues={"a": queue("a"), "b": queue("b", "other:g:{task_id}")})
    scene = Scene(session, config)
    await scene.dashboard.report()
    await scene.dashboard.report()
    (told,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert told.startswith(
        "tasks of queue 'b' show in category 'other' of the Orchestration Dashboard, and its capacity"
    )

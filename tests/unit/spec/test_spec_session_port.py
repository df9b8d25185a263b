"""Which tasks are sessions, and at which port of their container."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from clearml_k8s.clearml.tasks import TaskView
from clearml_k8s.config.sessions import SessionsConfig
from clearml_k8s.spec.job import SAMPLE_TASK, build_job
from clearml_k8s.spec.session_port import port_of
from flow_parts import make_config, make_queue

KEY = "clearml-k8s.io/session-port"


@pytest.mark.parametrize(
    ("tags", "asked", "port"),
    [
        ((), None, None),
        (("interactive",), None, 10022),
        (("interactive",), "10044", 10044),
        ((), "10022", 10022),
        ((), 10033, 10033),
        (("interactive",), "0", 10022),
        (("interactive",), "65536", 10022),
        (("interactive",), "10022:15000", 10022),
        (("interactive",), "\u0661", 10022),
        (("interactive",), ["x"], 10022),
        (("Interactive",), None, None),
    ],
)
def test_the_port(tags: tuple[str, ...], asked: Any, port: int | None) -> None:
    runtime = {} if asked is None else {"internal_tcp_port_request": asked}
    assert port_of(TaskView(id="t", system_tags=tags, runtime=runtime)) == port


@pytest.mark.parametrize("on", [True, False])
@pytest.mark.parametrize("tags", [("interactive",), ()])
def test_the_job_carries_it_where_sessions_are_reached(on: bool, tags: tuple[str, ...]) -> None:
    template = {"annotations": {KEY: "1"}}
    config = make_config(sessions=SessionsConfig() if on else None, base_pod_template=template)
    task = dataclasses.replace(SAMPLE_TASK, system_tags=tags)
    job = build_job(config=config, queue=make_queue("q"), task=task, attempt="a", worker_id="w", controller_id="c")
    expected = "10022" if on and tags else None
    assert job.manifest["metadata"]["annotations"].get(KEY) == expected
    assert job.manifest["spec"]["template"]["metadata"]["annotations"].get(KEY) == expected

"""The key `sessions` of the config file."""

from __future__ import annotations

from typing import Any

import pytest
from clearml_k8s.app.checks import features
from clearml_k8s.config.sessions import SessionsConfig, problems, read
from clearml_k8s.kube.permissions import Feature
from flow_parts import make_config

ON = {"portModeEnabled": True}


@pytest.mark.parametrize(
    "raw", [None, {}, {"portModeEnabled": False, "svcType": "ClusterIP"}, {"portModeEnabled": None}]
)
def test_off(raw: Any) -> None:
    assert read(raw) is None


def test_on() -> None:
    assert read(ON) == read({**ON, "externalIP": "0.0.0.0", "agentID": None}) == SessionsConfig()
    given = {"svcAnnotations": {"a": "b"}, "svcType": "ClusterIP", "externalIP": "h", "startingPort": 31000,
             "maxServices": 2, "agentID": "x"}  # fmt: skip
    assert read({**ON, **given}) == SessionsConfig(
        service_type="ClusterIP", annotations={"a": "b"}, external_address="h", starting_port=31000, max_services=2,
        agent_id="x",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({}, False),
        ({"startingPort": 29999, "maxServices": 1}, False),
        ({"startingPort": 29998, "maxServices": 1}, True),
        ({"startingPort": 32747, "maxServices": 20}, False),
        ({"startingPort": 32748, "maxServices": 20}, True),
        ({"startingPort": 10021, "svcType": "ClusterIP"}, False),
        ({"startingPort": 10021, "portModeEnabled": False}, False),
    ],
)
def test_ports_that_kubernetes_does_not_give_away(given: dict[str, Any], wrong: bool) -> None:
    found = list(problems({**ON, **given}))
    assert bool(found) is wrong
    assert all("sessions.startingPort" in text for text in found)


def test_rights_are_asked_for_where_it_is_on() -> None:
    assert Feature.SESSIONS in features(make_config(sessions=SessionsConfig()))
    assert Feature.SESSIONS not in features(make_config())

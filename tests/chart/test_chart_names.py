"""Names: within Kubernetes' limits for any release, quoted where they look like numbers, the old ones kept."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from chart_render import Rendered

Render = Callable[..., Rendered]

LONGEST = "r" * 52 + "1"  # Helm allows 53 characters
LABEL = re.compile(r"^(?=.{1,63}$)[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$")
NAME = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")


@pytest.mark.parametrize(
    ("release", "values"),
    [
        (LONGEST, {}),
        ("a" * 40, {}),
        ("clearml-agent-" + "x" * 39, {}),
        ("rel", {"fullnameOverride": "f" * 63}),
        ("rel", {"nameOverride": "n" * 63}),
        ("x" * 37 + "-x", {"fullnameOverride": "y" * 51 + "-y"}),
        ("123", {"nameOverride": "1e3"}),
        ("1", {"fullnameOverride": "0x10"}),
        ("true", {"nameOverride": "null"}),
    ],
)
def test_valid_for_any_release(render: Render, release: str, values: dict[str, Any]) -> None:
    password = {"imageCredentials": {"password": "p"}}
    rendered = render({**password, **values}, release=release, namespace="2024")
    for found in rendered.objects:
        name = found["metadata"]["name"]
        assert isinstance(name, str) and NAME.match(name)
        assert len(name) <= (67 if name.endswith(("-ac", "-ark")) else 63)
        for value in found["metadata"]["labels"].values():
            assert isinstance(value, str) and LABEL.match(value)
    config = rendered.config
    assert (config["releaseName"], config["namespace"]) == (release, "2024")
    assert len(config["fullname"]) <= 52
    claims = [name for rule in rendered.one("Role")["rules"] for name in rule.get("resourceNames", [])]
    assert f"{config['fullname']}-claims" in claims
    for volume in rendered.spec["volumes"]:
        assert len(volume["name"]) <= 63


def test_release_that_holds_the_charts_name(render: Render) -> None:
    assert render(release="clearml-agent").config["fullname"] == "clearml-agent"


def test_secrets_keep_the_names_of_clearmls_own_chart(render: Render) -> None:
    full = f"{LONGEST}-clearml-agent"[:63].rstrip("-")
    rendered = render({"imageCredentials": {"password": "p"}}, release=LONGEST)
    assert {("Secret", f"{full}-ac"), ("Secret", f"{full}-ark")} < rendered.names()
    assert rendered.config["clearml"]["taskCredentials"]["secretName"] == f"{full}-ac"
    assert rendered.config["task"]["imagePullSecrets"] == [f"{full}-ark"]


def test_two_releases_in_one_namespace_share_nothing(render: Render) -> None:
    assert not render(release="one").names() & render(release="two").names()

"""Names: within Kubernetes' limits for any release, quoted where they look like numbers, the old ones kept."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from chart_render import CHART, Refused, Rendered, load_yaml, merged
from monitoring_values import ALL_MONITORING

Render = Callable[..., Rendered]

#: All optional objects, under the names that the release gives them; extraObjects have names and labels of their own.
ALL: dict[str, Any] = merged(
    load_yaml(CHART / "ci" / "everything-values.yaml"),
    {"nameOverride": None, "fullnameOverride": None, "extraObjects": []},
    ALL_MONITORING,
)
KINDS = {
    "ClusterRole", "ClusterRoleBinding", "ConfigMap", "Deployment", "NetworkPolicy", "Pod", "PodDisruptionBudget",
    "PrometheusRule", "Role", "RoleBinding", "Secret", "Service", "ServiceAccount", "ServiceMonitor",
}  # fmt: skip
CLUSTER_SCOPED = {"ClusterRole", "ClusterRoleBinding"}

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
    rendered = render(merged(ALL, values), release=release, namespace="2024")
    assert {found["kind"] for found in rendered.objects} == KINDS
    assert len(rendered.names()) == len(rendered.objects), "each name once"
    for found in rendered.objects:
        assert ("namespace" in found["metadata"]) is (found["kind"] not in CLUSTER_SCOPED)
        name = found["metadata"]["name"]
        assert isinstance(name, str) and NAME.match(name)
        assert len(name) <= (67 if name.endswith(("-ac", "-ark")) else 63)
        for value in found["metadata"]["labels"].values():
            assert isinstance(value, str) and LABEL.match(value)
    config = rendered.config
    assert (config["releaseName"], config["namespace"]) == (release, "2024")
    assert len(config["fullname"]) <= 52
    granted = [name for rule in rendered.one("Role")["rules"] for name in rule.get("resourceNames", [])]
    assert {f"{config['fullname']}-claims", f"{config['fullname']}-leader"} < set(granted)
    for volume in rendered.spec["volumes"]:
        assert len(volume["name"]) <= 63


def test_bindings_of_roles_with_any_name(render: Render) -> None:
    """Unique whatever the roles are called; a cluster-scoped one names the namespace."""
    roles = ["controller", "a", "A", "a:b", "a.b", "x" * 250 + "1", "x" * 250 + "2", ":"]
    values = {"agentk8sglue": {"additionalRoleBindings": roles, "additionalClusterRoleBindings": roles}}
    seen: set[str] = set()
    for release, namespace in (
        ("rel", "one"),
        ("rel", "two"),
        ("other", "one"),
        (LONGEST, "n" * 63),
        (LONGEST, "m" * 63),
    ):
        rendered = render(values, release=release, namespace=namespace)
        found = [o["metadata"] for o in rendered.objects if o["kind"] == "ClusterRoleBinding"]
        assert all("namespace" not in metadata and metadata["name"].startswith(namespace[:54]) for metadata in found)
        names = {metadata["name"] for metadata in found}
        assert all(NAME.match(name) and len(name) <= 63 for name in names)
        assert len(names) == len(roles) and not names & seen
        seen |= names
        own = {name for kind, name in rendered.names() if kind == "RoleBinding"}
        assert len(own) == len(roles) + 1 and all(NAME.match(name) and len(name) <= 63 for name in own)


def test_release_that_holds_the_charts_name(render: Render) -> None:
    assert render(release="clearml-agent").config["fullname"] == "clearml-agent"


def test_secrets_keep_the_names_of_clearmls_own_chart(render: Render) -> None:
    full = f"{LONGEST}-clearml-agent"[:63].rstrip("-")
    rendered = render({"imageCredentials": {"password": "p"}}, release=LONGEST)
    assert {("Secret", f"{full}-ac"), ("Secret", f"{full}-ark")} < rendered.names()
    assert rendered.config["clearml"]["taskCredentials"]["secretName"] == f"{full}-ac"
    assert rendered.config["task"]["imagePullSecrets"] == [f"{full}-ark"]


def test_two_releases_in_one_namespace_share_nothing(render: Render) -> None:
    assert not render(ALL, release="one").names() & render(ALL, release="two").names()


@pytest.mark.parametrize("release", ["rel", LONGEST])
@pytest.mark.parametrize("namespaces", [("one", "two"), ("n" * 62 + "1", "n" * 62 + "2")])
def test_two_namespaces_share_no_cluster_scoped_object(
    render: Render, release: str, namespaces: tuple[str, str]
) -> None:
    first, second = (
        {
            (kind, name)
            for kind, name in render(ALL, release=release, namespace=namespace).names()
            if kind in CLUSTER_SCOPED
        }
        for namespace in namespaces
    )
    assert first and second and not first & second


def test_every_object_has_the_labels_of_the_chart(render: Render) -> None:
    for found in render(ALL).objects:
        labels = found["metadata"]["labels"]
        component = labels["app.kubernetes.io/component"]
        assert component in ("controller", "task", "test", "metrics")
        assert (
            labels.items()
            >= {
                "app.kubernetes.io/name": "clearml-agent",
                "app.kubernetes.io/instance": "rel",
                "app.kubernetes.io/part-of": "clearml",
                "app.kubernetes.io/managed-by": "Helm",
                "app.kubernetes.io/version": "6.0.0",
                "helm.sh/chart": "clearml-agent-6.0.0",
            }.items()
        ), (found["kind"], found["metadata"]["name"])


def test_selectors_do_not_change_with_the_values(render: Render) -> None:
    """Exactly these: a Deployment's cannot be changed, and a version or a label of the user would change."""
    wanted = {
        "app.kubernetes.io/name": "clearml-agent",
        "app.kubernetes.io/instance": "rel",
        "app.kubernetes.io/component": "controller",
    }
    assert render().deployment["spec"]["selector"] == {"matchLabels": wanted}
    rendered = render(ALL)
    assert rendered.deployment["spec"]["selector"] == {"matchLabels": wanted}
    assert rendered.one("PodDisruptionBudget", "rel-clearml-agent-controller")["spec"]["selector"] == {
        "matchLabels": wanted
    }
    assert rendered.one("NetworkPolicy", "rel-clearml-agent-controller")["spec"]["podSelector"] == {
        "matchLabels": wanted
    }


@pytest.mark.parametrize(
    ("one", "two"), [("r" * 52 + "1", "r" * 52 + "2"), ("r" * 52, "r" * 53), ("a" * 51 + ".b", "a" * 51 + ".c")]
)
def test_long_releases_share_no_name(render: Render, one: str, two: str) -> None:
    """Cut names are kept apart, and end in nothing that a suffix makes invalid."""
    first, second = render(ALL, release=one), render(ALL, release=two)
    assert not first.names() & second.names()
    assert all(re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", part) for _, n in first.names() for part in n.split("."))
    assert first.config["fullname"] != second.config["fullname"]


def test_a_label_of_the_user_never_stands_twice(render: Render) -> None:
    with pytest.raises(Refused, match="app.kubernetes.io/version"):
        render({"agentk8sglue": {"labels": {"app.kubernetes.io/version": "x"}}})

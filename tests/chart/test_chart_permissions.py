"""The one table of permissions is the chart's Role, and the documentation's table."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from chart_render import FULLNAME, NAMESPACE, ROOT, Rendered
from clearml_k8s.config.file import config_from_document
from clearml_k8s.kube.permissions import BY_DEFAULT, PERMISSIONS, Feature, Permission, markdown, wanted

Render = Callable[..., Rendered]
Grant = tuple[str, str, str | None, str]
"""Group, resource, the one object's name, verb."""


def of_the_table(rows: Iterable[Permission] = PERMISSIONS) -> list[Grant]:
    return [
        (row.resource.group, row.plural, row.name(fullname=FULLNAME, namespace=NAMESPACE), verb)
        for row in rows
        for verb in row.verbs
    ]


def of_the_role(rendered: Rendered, kind: str = "Role", name: str | None = None) -> list[Grant]:
    return [
        (group, resource, name, verb)
        for rule in rendered.one(kind, name)["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames", [None])
        for verb in rule["verbs"]
    ]


@pytest.mark.parametrize("account", [None, "mine"])
def test_the_role_is_the_table(render: Render, account: str | None) -> None:
    rendered = render({"agentk8sglue": {"serviceExistingAccountName": account}})
    assert sorted(of_the_role(rendered), key=str) == sorted(of_the_table(wanted(BY_DEFAULT)), key=str)


def test_what_is_off_is_not_granted(render: Render) -> None:
    rendered = render({"agentk8sglue": {"respectResourceQuotas": False}})
    assert sorted(of_the_role(rendered), key=str) == sorted(of_the_table(wanted(())), key=str)
    assert not any(resource == "resourcequotas" for _, resource, _, _ in of_the_table(wanted(())))


ACCESS = {"serviceAccountClusterAccess": True}
NODES = [("", "nodes", None, "list"), ("", "nodes", None, "watch")]
QUOTA = [("", "resourcequotas", None, "list")]


def test_features_add_their_rows_and_nothing_else() -> None:
    base = set(of_the_table(wanted(())))
    assert set(of_the_table(wanted({Feature.CLUSTER_ACCESS}))) - base == set(NODES)
    assert set(of_the_table(wanted({Feature.CPU_QUOTA}))) - base == set(QUOTA)
    assert set(of_the_table(wanted({Feature.RESOURCE_QUOTAS}))) - base == {
        *QUOTA,
        ("", "resourcequotas", None, "watch"),
    }


def test_nodes_are_read_by_a_cluster_role(render: Render) -> None:
    rendered = render({"agentk8sglue": ACCESS})
    assert of_the_role(rendered, "ClusterRole") == NODES
    role, binding = rendered.one("ClusterRole"), rendered.one("ClusterRoleBinding")
    assert role["metadata"]["name"].startswith(f"{NAMESPACE}-{FULLNAME}-")
    assert binding["roleRef"] == {
        "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role["metadata"]["name"]
    }  # fmt: skip
    assert binding["subjects"] == rendered.one("RoleBinding")["subjects"]
    assert sorted(of_the_role(rendered), key=str) == sorted(of_the_table(wanted(BY_DEFAULT)), key=str)
    other = render({"agentk8sglue": ACCESS}, namespace="other")
    assert other.one("ClusterRole")["metadata"]["name"] != role["metadata"]["name"]


def test_the_quota_of_the_own_namespace_needs_a_rule(render: Render) -> None:
    rendered = render({"agentk8sglue": {"orchestrationDashboard": {"cpu": {"reportNamespaced": True}}}})
    assert sorted(of_the_role(rendered), key=str) == sorted(
        of_the_table(wanted({*BY_DEFAULT, Feature.CPU_QUOTA})), key=str
    )
    assert not any(kind.startswith("Cluster") for kind, _ in rendered.names())


def test_owner_tokens_need_a_rule_that_reads_nothing(render: Render) -> None:
    rendered = render({"agentk8sglue": {"useOwnerToken": True}})
    assert sorted(of_the_role(rendered), key=str) == sorted(
        of_the_table(wanted({*BY_DEFAULT, Feature.OWNER_TOKENS})), key=str
    )
    secrets = set(of_the_table(wanted({Feature.OWNER_TOKENS}))) - set(of_the_table(wanted(())))
    assert secrets == {("", "secrets", None, "create")}


def test_sessions_need_a_rule(render: Render) -> None:
    rendered = render({"sessions": {"portModeEnabled": True}})
    assert sorted(of_the_role(rendered), key=str) == sorted(
        of_the_table(wanted({*BY_DEFAULT, Feature.SESSIONS})), key=str
    )
    services = set(of_the_table(wanted({Feature.SESSIONS}))) - set(of_the_table(wanted(())))
    assert services == {("", "services", None, verb) for verb in ("get", "list", "create")}


OFF, OWN = {"queueSettings": {"kueue": {"queueName": ""}}}, {"queueSettings": {"kueue": {"queueName": "own"}}}
PRIORITY = {"queueSettings": {"kueue": {"priorityClass": "high"}}}


@pytest.mark.parametrize(
    ("general", "queues", "used"),
    [
        ("team", None, True),
        ("team", {"a": {}, "b": OFF}, True),
        ("team", {"a": PRIORITY}, True),
        ("team", {"a": OFF, "b": OFF}, False),
        ("", {"a": OWN, "b": {}}, True),
        (None, {"a": {"queueSettings": {"kueue": None}}, "b": OFF}, False),
        ("", None, False),
    ],
)
def test_kueue_needs_a_rule_where_some_queue_has_it(
    render: Render, general: str | None, queues: dict[str, Any] | None, used: bool
) -> None:
    rendered = render({"agentk8sglue": {"kueue": {"queueName": general}, "queues": queues}})
    features = {*BY_DEFAULT, *([Feature.KUEUE] if used else [])}
    assert sorted(of_the_role(rendered), key=str) == sorted(of_the_table(wanted(features)), key=str)
    assert config_from_document(rendered.config, source="rendered").uses_kueue is used
    workloads = set(of_the_table(wanted({Feature.KUEUE}))) - set(of_the_table(wanted(())))
    assert workloads == {("kueue.x-k8s.io", "workloads", None, verb) for verb in ("list", "watch")}


def test_the_quota_of_another_namespace_needs_a_role_there(render: Render) -> None:
    cpu = {"reportNamespaced": True, "reportNamespaceOverride": "other"}
    values = {**ACCESS, "respectResourceQuotas": False, "orchestrationDashboard": {"cpu": cpu}}
    rendered = render({"agentk8sglue": values})
    (role,) = [o for o in rendered.objects if o["kind"] == "Role" and o["metadata"]["namespace"] == "other"]
    (binding,) = [o for o in rendered.objects if o["kind"] == "RoleBinding" and o["metadata"]["namespace"] == "other"]
    assert of_the_role(rendered, "Role", role["metadata"]["name"]) == QUOTA
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"][0]["namespace"] == NAMESPACE
    own = of_the_role(rendered, "Role", f"{FULLNAME}-controller")
    assert not set(QUOTA) & set(own)


def test_the_table_gives_no_way_to_a_secret_or_to_more_rights() -> None:
    assert not any(
        resource == "secrets" for _, resource, _, _ in of_the_table(wanted(set(Feature) - {Feature.OWNER_TOKENS}))
    )
    for group, resource, name, verb in of_the_table():
        assert "*" not in (group, resource, verb)
        assert resource.split("/")[0] not in ("serviceaccounts", "roles", "rolebindings")
        assert resource != "secrets" or verb == "create"
        assert resource not in ("pods/exec", "pods/attach", "pods/ephemeralcontainers")
        assert (resource, verb) != ("pods", "create")
        assert not (resource in ("configmaps", "leases") and verb != "create" and name is None)


def test_the_documentation_shows_the_table() -> None:
    text = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    section = text.split("\n## Permissions\n", 1)[1].split("\n## ", 1)[0]
    shown = [line for line in section.splitlines() if line.startswith("|")]
    assert shown == list(markdown()), "write into docs/operations.md what permissions.markdown() gives"

"""The one table of permissions is the chart's Role, and the documentation's table."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from chart_render import FULLNAME, NAMESPACE, ROOT, Rendered
from clearml_k8s.kube.permissions import Feature, markdown, wanted

Render = Callable[..., Rendered]
Grant = tuple[str, str, str | None, str]
"""Group, resource, the one object's name, verb."""


def of_the_table(features: frozenset[Feature] = frozenset(Feature)) -> list[Grant]:
    return [
        (row.resource.group, row.plural, row.name(fullname=FULLNAME, namespace=NAMESPACE), verb)
        for row in wanted(features)
        for verb in row.verbs
    ]


def of_the_role(rendered: Rendered) -> list[Grant]:
    return [
        (group, resource, name, verb)
        for rule in rendered.one("Role")["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames", [None])
        for verb in rule["verbs"]
    ]


@pytest.mark.parametrize("account", [None, "mine"])
def test_the_role_is_the_table(render: Render, account: str | None) -> None:
    rendered = render({"agentk8sglue": {"serviceExistingAccountName": account}})
    assert sorted(of_the_role(rendered), key=str) == sorted(of_the_table(), key=str)


def test_what_is_off_is_not_granted(render: Render) -> None:
    rendered = render({"agentk8sglue": {"respectResourceQuotas": False}})
    granted = of_the_table(frozenset({*Feature} - {Feature.RESOURCE_QUOTAS}))
    assert sorted(of_the_role(rendered), key=str) == sorted(granted, key=str)
    assert not any(resource == "resourcequotas" for _, resource, _, _ in granted)


def test_the_table_gives_no_way_to_a_secret_or_to_more_rights() -> None:
    for group, resource, name, verb in of_the_table():
        assert "*" not in (group, resource, verb)
        assert resource.split("/")[0] not in ("secrets", "serviceaccounts", "roles", "rolebindings")
        assert resource not in ("pods/exec", "pods/attach", "pods/ephemeralcontainers")
        assert (resource, verb) != ("pods", "create")
        assert not (resource in ("configmaps", "leases") and verb != "create" and name is None)


def test_the_documentation_shows_the_table() -> None:
    text = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    section = text.split("\n## Permissions\n", 1)[1].split("\n## ", 1)[0]
    shown = [line for line in section.splitlines() if line.startswith("|")]
    assert shown == list(markdown()), "write into docs/operations.md what permissions.markdown() gives"

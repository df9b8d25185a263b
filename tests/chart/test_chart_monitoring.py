"""Objects for Prometheus and Grafana: off by default, each alone, selecting what the chart makes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from chart_render import CHART, CREDENTIALS, FULLNAME, NAMESPACE, ROOT, Refused, Rendered, at, documents, helm, merged
from clearml_k8s import metrics
from monitoring_types import MONITORING
from monitoring_values import ALL_MONITORING

Render = Callable[..., Rendered]
METRICS, JOB = f"{FULLNAME}-metrics", f"{FULLNAME}-controller"


def kinds(rendered: Rendered) -> set[tuple[str, str]]:
    names = {METRICS, f"{FULLNAME}-dashboard"}
    return {(kind, name) for kind, name in rendered.names() if name in names}


@pytest.mark.parametrize(
    ("key", "made"),
    [
        ("", set()),
        ("serviceMonitor", {("Service", METRICS), ("ServiceMonitor", METRICS)}),
        ("podMonitor", {("PodMonitor", METRICS)}),
        ("prometheusRule", {("PrometheusRule", METRICS)}),
        ("grafanaDashboard", {("ConfigMap", f"{FULLNAME}-dashboard")}),
    ],
)
def test_each_alone(render: Render, key: str, made: set[tuple[str, str]]) -> None:
    assert kinds(render(at(f"metrics.{key}.enabled", True) if key else {})) == made


@pytest.mark.parametrize("key", ["serviceMonitor", "podMonitor", "prometheusRule", "grafanaDashboard"])
def test_own_labels_beside_those_of_the_chart(render: Render, key: str) -> None:
    rendered = render(at(f"metrics.{key}", {"enabled": True, "labels": {"prometheus": "one"}}))
    names = {METRICS, f"{FULLNAME}-dashboard"} - ({METRICS} if key == "grafanaDashboard" else set())
    found = [o for o in rendered.objects if o["metadata"]["name"] in names and o["kind"] != "Service"]
    (labels,) = [o["metadata"]["labels"] for o in found]
    assert labels["prometheus"] == "one"
    assert labels["app.kubernetes.io/component"] == "metrics"
    with pytest.raises(Refused, match=rf"metrics.{key}.labels: found app.kubernetes.io/name"):
        render(at(f"metrics.{key}", {"enabled": True, "labels": {"app.kubernetes.io/name": "x"}}))


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    return bool(selector) and selector.items() <= labels.items()


def test_the_service_monitor_finds_the_service_and_that_the_pods(render: Render) -> None:
    rendered = render(merged(at("metrics.serviceMonitor.enabled", True), at("metrics.interval", "1m")))
    monitor, service = rendered.one("ServiceMonitor")["spec"], rendered.one("Service")
    assert selects(monitor["selector"]["matchLabels"], service["metadata"]["labels"])
    assert selects(service["spec"]["selector"], rendered.pod["metadata"]["labels"])
    (endpoint,), (port,) = monitor["endpoints"], service["spec"]["ports"]
    assert endpoint["port"] == port["name"]
    assert port["targetPort"] in [p["name"] for p in rendered.container["ports"]]
    assert endpoint["interval"] == "1m"
    assert endpoint["relabelings"] == [{"targetLabel": "job", "replacement": JOB}]


def test_the_pod_monitor_finds_the_pods(render: Render) -> None:
    rendered = render(at("metrics.podMonitor.enabled", True))
    monitor = rendered.one("PodMonitor")["spec"]
    assert selects(monitor["selector"]["matchLabels"], rendered.pod["metadata"]["labels"])
    assert not selects(monitor["selector"]["matchLabels"], rendered.test_pod["metadata"]["labels"])
    (endpoint,) = monitor["podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["path"], endpoint["interval"]) == ("http", "/metrics", "30s")
    assert endpoint["relabelings"] == [{"targetLabel": "job", "replacement": JOB}]


def test_not_both_monitors(render: Render) -> None:
    with pytest.raises(Refused, match=r"metrics.podMonitor.enabled: found true.*leave one of them false"):
        render(at("metrics", {"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}}))


@pytest.mark.parametrize("interval", ["30", "0s", "half a minute", "1m30s"])
def test_an_interval_that_is_none(render: Render, interval: str) -> None:
    with pytest.raises(Refused, match="write seconds or minutes, such as 30s"):
        render(at("metrics.interval", interval))


def test_a_network_policy_lets_the_scrape_in(render: Render) -> None:
    rendered = render(merged(at("networkPolicy.controller.enabled", True), at("metrics.serviceMonitor.enabled", True)))
    (port,) = rendered.one("Service")["spec"]["ports"]
    allowed = rendered.one("NetworkPolicy", JOB)["spec"]["ingress"]
    assert {"ports": [{"port": port["port"], "protocol": "TCP"}]} in allowed


def test_the_rules_are_of_this_release_alone(render: Render) -> None:
    text = json.dumps(render(at("metrics.prometheusRule.enabled", True)).one("PrometheusRule"))
    assert not re.search("SELECTOR|NAMESPACE|FULLNAME", text)
    rules = render(at("metrics.prometheusRule.enabled", True)).one("PrometheusRule")["spec"]["groups"][0]["rules"]
    for rule in rules:
        used = re.findall(r"(clearml_k8s_\w+)(\{[^}]*\})?", rule["expr"])
        assert used
        for _, selector in used:
            assert f'namespace="{NAMESPACE}",job="{JOB}"' in selector, rule["expr"]
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["labels"]["clearml_agent"] == FULLNAME


def names_in(text: str) -> set[str]:
    """The metrics that an expression asks for, histograms by their own name."""
    return {re.sub("_(bucket|count|sum)$", "", name) for name in re.findall(r"clearml_k8s_\w+", text)}


def expressions(document: Any) -> list[str]:
    """Every query of the dashboard, those of its variables too."""
    panels = [t["expr"] for panel in document["panels"] for t in panel.get("targets", [])]
    return panels + [v["query"]["query"] for v in document["templating"]["list"] if v["type"] == "query"]


def dashboard() -> Any:
    return json.loads((CHART / "files/dashboards/clearml-agent.json").read_text())


def test_rules_and_dashboard_ask_for_metrics_that_there_are() -> None:
    known = {metric.shown for metric in metrics.ALL}
    alerts = (CHART / "files/alerts.yaml").read_text()
    asked = names_in(alerts) | {name for text in expressions(dashboard()) for name in names_in(text)}
    assert asked <= known
    assert known - asked == {"clearml_k8s_watch_synced"}, "on no panel and in no alert"


def test_the_dashboard_is_what_the_sidecar_expects(render: Render) -> None:
    values = at("metrics.grafanaDashboard", {"enabled": True, "annotations": {"grafana_folder": "ClearML"}})
    found = render(values).one("ConfigMap", f"{FULLNAME}-dashboard")
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert found["metadata"]["annotations"] == {"grafana_folder": "ClearML"}
    assert json.loads(found["data"]["clearml-agent.json"]) == dashboard()


def test_the_dashboard_holds_together() -> None:
    found = dashboard()
    ids = [panel["id"] for panel in found["panels"]]
    assert len(ids) == len(set(ids))
    known = {variable["name"] for variable in found["templating"]["list"]} | {"__rate_interval"}
    for text in expressions(found):
        assert set(re.findall(r"\$(\w+)", text)) <= known, text
    for panel in found["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == "${datasource}"
    places = {
        (x, y)
        for p in found["panels"]
        for x in range(p["gridPos"]["x"], p["gridPos"]["x"] + p["gridPos"]["w"])
        for y in range(p["gridPos"]["y"], p["gridPos"]["y"] + p["gridPos"]["h"])
    }
    assert len(places) == sum(p["gridPos"]["w"] * p["gridPos"]["h"] for p in found["panels"]), "panels overlap"


def test_each_alert_has_its_section() -> None:
    rules = yaml.safe_load((CHART / "files/alerts.yaml").read_text())["groups"][0]["rules"]
    assert len(rules) >= 6
    page = (ROOT / "docs/operations.md").read_text()
    sections = {
        "".join(c for c in title.lower().replace(" ", "-") if c.isalnum() or c == "-")
        for title in re.findall(r"^#+ (.+)$", page, flags=re.MULTILINE)
    }
    for rule in rules:
        address, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert address.endswith("/docs/operations.md")
        assert anchor == rule["alert"].lower()
        assert anchor in sections
        assert rule["annotations"]["summary"]
        assert len(rule["annotations"]["description"]) > 80, "what to do"
    alerts = {section for section in sections if section.startswith("clearmlagent")}
    assert alerts == {rule["alert"].lower() for rule in rules}, "sections of alerts that there are"


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [("PodMonitor", {"spec": {"selector": {}, "podMetricEndpoints": []}}), ("PrometheusRule", {"spec": {"group": []}})],
)
def test_the_types_of_the_operator_refuse_what_is_misspelt(kind: str, wrong: dict[str, Any]) -> None:
    document = {"apiVersion": "monitoring.coreos.com/v1", "kind": kind, "metadata": {"name": "a"}, **wrong}
    with pytest.raises(jsonschema.ValidationError, match="Additional properties"):
        jsonschema.validate(document, MONITORING[kind])


def test_promtool_takes_the_rules(helm_name: str, tmp_path: Path) -> None:
    program = shutil.which("promtool")
    assert program, "promtool is missing: ci/tools/apt.sh tests"
    values = json.dumps(merged(CREDENTIALS, ALL_MONITORING))
    done = helm(helm_name, "template", "rel", str(CHART), "--kube-version", "1.37.0", values=values)
    rule = next(o for o in documents(done.stdout) if o["kind"] == "PrometheusRule")
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rule["spec"]))
    checked = subprocess.run(
        [program, "check", "rules", str(tmp_path / "rules.yaml")], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr

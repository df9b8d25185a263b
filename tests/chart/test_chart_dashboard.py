"""The dashboard's values under all their names, as they reach the controller; selectors, as chart and controller judge them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from chart_render import CREDENTIALS, Refused, Rendered, merged
from chart_render import render as render_values
from clearml_k8s.config.dashboard import CpuDiscovery, DashboardConfig, GpuDiscovery
from clearml_k8s.config.file import load_config_file
from clearml_k8s.config.selector import SelectorError, label_keys, parse

Render = Callable[..., Rendered]
ACCESS = {"serviceAccountClusterAccess": True}
PAGE_SELECTOR = "kubernetes.io/os=linux,nvidia.com/gpu.present=true"


def loaded(rendered: Rendered, tmp_path: Path) -> Any:
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(rendered.config))
    return load_config_file(file)


def test_nothing_is_reported_by_default(render: Render, tmp_path: Path) -> None:
    config = loaded(render(), tmp_path)
    assert config.dashboard == DashboardConfig()
    assert (config.cluster_access, config.status_report_seconds, config.task_worker_id) == (False, 30, None)


@pytest.mark.parametrize(
    "values",
    [
        {"orchestrationDashboard": {"reportMaxGpu": 2}},
        {"orchestrationDashboard": {"gpu": {"reportMax": 2}}},
        {"dashboardReportMaxGpu": 2},
    ],
)
def test_the_number_has_one_meaning_under_all_its_names(render: Render, tmp_path: Path, values: dict[str, Any]) -> None:
    assert loaded(render({"agentk8sglue": values}), tmp_path).dashboard == DashboardConfig(max_gpus=2)


DISCOVERY = {"enabled": True, "baseSelector": "a=b", "nodeSelector": "nodepool=gpu-a100", "gpuCountSelector": "x,y"}


@pytest.mark.parametrize("dashboard", [{"discovery": DISCOVERY}, {"gpu": {"discovery": DISCOVERY}}])
def test_discovery_has_one_meaning_under_both_its_names(
    render: Render, tmp_path: Path, dashboard: dict[str, Any]
) -> None:
    found = loaded(render({"agentk8sglue": {**ACCESS, "orchestrationDashboard": dashboard}}), tmp_path)
    assert found.cluster_access is True
    assert found.dashboard == DashboardConfig(
        gpu_discovery=GpuDiscovery(
            enabled=True, base_selector="a=b", node_selector="nodepool=gpu-a100", count_labels="x,y"
        )
    )


def test_what_the_old_name_leaves_out_has_its_default(render: Render, tmp_path: Path) -> None:
    values = {**ACCESS, "orchestrationDashboard": {"discovery": {"enabled": True}}}
    assert loaded(render({"agentk8sglue": values}), tmp_path).dashboard.gpu_discovery == GpuDiscovery(
        enabled=True, base_selector=PAGE_SELECTOR, node_selector="", count_labels="nvidia.com/gpu.count"
    )


def test_everything_else(render: Render, tmp_path: Path) -> None:
    dashboard = {
        "reportType": "aggregate",
        "reportSeconds": 60,
        "cpu": {"reportMax": 8, "discovery": {"enabled": True, "nodeSelector": "pool=cpu"}, "reportNamespaced": True},
    }
    queues = {"q": {"queueSettings": {"customWorkerIdTemplate": "k8s:H100:{task_id}"}}}
    glue = {
        "orchestrationDashboard": dashboard,
        "statusReportFrequencySeconds": 5,
        "taskWorkerIdOverride": "k8s:g:{task_id}",
        "queues": queues,
    }
    config = loaded(render({"agentk8sglue": glue}), tmp_path)
    assert config.dashboard == DashboardConfig(
        report_type="aggregate",
        report_seconds=60,
        max_cpus=8,
        cpu_discovery=CpuDiscovery(enabled=True, node_selector="pool=cpu"),
        cpu_namespace="tasks",
    )
    assert (config.status_report_seconds, config.task_worker_id) == (5, "k8s:g:{task_id}")
    assert config.queues["q"].settings.worker_id_template == "k8s:H100:{task_id}"


SELECTORS = [
    "", "a", " a ", "!a", "! a", "a=b", "a == b", "a!=b", "a=", "a!=", "a in (b,c)", "a notin (b)", "a in (b,)", "a>3",
    "a < -1", "x.y/a=b,!c", "a,b",
    ",", "a,", ",a", "a b", "a=b c", "a in b", "a in ()", "a in (b", "a>b", "a:b", "a/b/c", "-a", "a=-b", "!a=b", "a==",
    "in (a)", "a=" + "b" * 64,
]  # fmt: skip


@pytest.mark.parametrize("selector", SELECTORS)
def test_the_chart_refuses_the_selectors_that_the_controller_refuses(selector: str) -> None:
    values = {"agentk8sglue": {"orchestrationDashboard": {"cpu": {"discovery": {"nodeSelector": selector}}}}}
    assert verdict(values) is accepted(lambda: parse(selector))


@pytest.mark.parametrize("labels", ["a", "a,b", " a , x.y/b ", "", "a,", "a=b", "a b", "/a"])
def test_the_chart_refuses_the_label_lists_that_the_controller_refuses(labels: str) -> None:
    values = {"agentk8sglue": {"orchestrationDashboard": {"gpu": {"discovery": {"gpuCountSelector": labels}}}}}
    assert verdict(values) is accepted(lambda: label_keys(labels))


def verdict(values: dict[str, Any]) -> bool:
    try:
        render_values("helm4", merged(CREDENTIALS, values))
    except Refused as refusal:
        return "orchestrationDashboard" not in str(refusal)
    return True


def accepted(parsing: Callable[[], object]) -> bool:
    try:
        parsing()
    except SelectorError:
        return False
    return True

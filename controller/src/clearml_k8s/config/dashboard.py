"""What is reported to the Orchestration Dashboard, and how it is found out; key `orchestrationDashboard`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from clearml_k8s.config import selector
from clearml_k8s.config.selector import SelectorError

ReportType = Literal["disabled", "global", "aggregate"]


@dataclass(frozen=True, kw_only=True)
class GpuDiscovery:
    """GPUs of the nodes that match both selectors, by the first label of ``count_labels`` that a node has."""

    enabled: bool = False
    base_selector: str = "kubernetes.io/os=linux,nvidia.com/gpu.present=true"
    node_selector: str = ""
    count_labels: str = "nvidia.com/gpu.count"


@dataclass(frozen=True, kw_only=True)
class CpuDiscovery:
    """CPUs of the nodes that match the selector."""

    enabled: bool = False
    node_selector: str = ""


@dataclass(frozen=True, kw_only=True)
class DashboardConfig:
    """``max_gpus`` and ``max_cpus`` above 0 take the place of discovery."""

    report_type: ReportType = "disabled"
    report_seconds: float = 600.0
    max_gpus: int = 0
    gpu_discovery: GpuDiscovery = field(default_factory=GpuDiscovery)
    max_cpus: int = 0
    cpu_discovery: CpuDiscovery = field(default_factory=CpuDiscovery)
    cpu_namespace: str | None = None
    """The namespace whose quota of CPUs is reported; None: those of nodes."""

    @property
    def reports(self) -> bool:
        return self.report_type != "disabled"

    @property
    def discovers_gpus(self) -> bool:
        """The number of GPUs comes from the nodes."""
        return self.gpu_discovery.enabled and not self.max_gpus

    @property
    def discovers_cpus(self) -> bool:
        """The number of CPUs comes from the nodes."""
        return self.cpu_discovery.enabled and not self.max_cpus and self.cpu_namespace is None

    @property
    def reads_quota(self) -> bool:
        """The number of CPUs comes from the namespace's quota."""
        return self.cpu_namespace is not None and not self.max_cpus

    @property
    def label_keys(self) -> frozenset[str]:
        """The labels of nodes that it looks at."""
        gpu, cpu = self.gpu_discovery, self.cpu_discovery
        keys = selector.parse(gpu.base_selector, gpu.node_selector, cpu.node_selector).keys
        return keys | frozenset(selector.label_keys(gpu.count_labels))


def read(raw: Mapping[str, Any] | None, *, namespace: str) -> DashboardConfig:
    """The config of a checked document; ``namespace`` is the controller's own. Absent and null: the defaults."""
    given = _given(raw)
    gpu, cpu = _given(given.get("gpu")), _given(given.get("cpu"))
    found = {
        "report_type": given.get("reportType") or None,
        "report_seconds": given.get("reportSeconds"),
        "max_gpus": gpu.get("reportMax"),
        "max_cpus": cpu.get("reportMax"),
    }
    return DashboardConfig(
        **{key: value for key, value in found.items() if value is not None},
        gpu_discovery=GpuDiscovery(
            **_fields(
                gpu.get("discovery"),
                enabled="enabled",
                baseSelector="base_selector",
                nodeSelector="node_selector",
                gpuCountSelector="count_labels",
            )
        ),
        cpu_discovery=CpuDiscovery(**_fields(cpu.get("discovery"), enabled="enabled", nodeSelector="node_selector")),
        cpu_namespace=(cpu.get("reportNamespaceOverride") or namespace) if cpu.get("reportNamespaced") else None,
    )


def problems(raw: Mapping[str, Any] | None, *, cluster_access: bool) -> Iterator[str]:
    """What the schema cannot say of it, with paths."""
    place = "orchestrationDashboard"
    gpu, cpu = _given(_given(raw).get("gpu")), _given(_given(raw).get("cpu"))
    for key, part in (("gpu", gpu), ("cpu", cpu)):
        discovery = _given(part.get("discovery"))
        for name in ("baseSelector", "nodeSelector"):
            try:
                selector.parse(discovery.get(name, ""))
            except SelectorError as error:
                yield f"{place}.{key}.discovery.{name}: {error}"
        namespaced = key == "cpu" and part.get("reportNamespaced")
        if discovery.get("enabled") and not part.get("reportMax") and not namespaced and not cluster_access:
            yield (
                f"{place}.{key}.discovery.enabled: found true, but clusterAccess is false; nodes are only read with "
                "clusterAccess: true, which needs a ClusterRole to list and watch nodes"
            )
    try:
        selector.label_keys(_given(gpu.get("discovery")).get("gpuCountSelector", GpuDiscovery.count_labels))
    except SelectorError as error:
        yield f"{place}.gpu.discovery.gpuCountSelector: {error}"


def _given(raw: Any) -> Mapping[str, Any]:
    return {key: value for key, value in (raw or {}).items() if value is not None}


def _fields(raw: Any, **names: str) -> dict[str, Any]:
    given = _given(raw)
    return {field: given[key] for key, field in names.items() if key in given}

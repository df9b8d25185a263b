"""The pinned programs: what is built of which Go module, and where it lands in the cache."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ci.paths import cache_dir

HERE = Path(__file__).resolve().parent


class BuildError(Exception):
    """A tool could not be built; the message says which and shows the compiler's last lines."""


@dataclass(frozen=True)
class Program:
    """One program of a tool: its name here, the Go package, and how to ask a copy on PATH for its version."""

    name: str
    package: str
    version_args: tuple[str, ...] = ("--version",)
    command: str = ""  # its name on PATH, when that is another


@dataclass(frozen=True)
class Tool:
    """One Go module below ci/tools: `pinned_by` is the module whose version in go.mod is the tool's version."""

    name: str
    pinned_by: str
    programs: tuple[Program, ...]
    only_named: bool = False
    """It takes long to build, and few need it: it is built when it is named, not with all."""

    @property
    def folder(self) -> Path:
        return HERE / self.name

    @property
    def version(self) -> str:
        """Without the leading v; tools of our own have no version, only a hash."""
        if not self.pinned_by:
            return "own"
        text = (self.folder / "go.mod").read_text()
        found = re.search(rf"^(?:require)?\s*{re.escape(self.pinned_by)} v(\S+)", text, re.MULTILINE)
        if found is None:
            raise BuildError(f"{self.folder / 'go.mod'} does not require {self.pinned_by}")
        return found.group(1)

    @property
    def ldflags(self) -> str:
        flags = "-s -w"
        if self.name == "kubernetes":
            major, minor, _ = self.version.split(".", 2)
            stamp = "k8s.io/component-base/version"
            flags += f" -X {stamp}.gitVersion=v{self.version} -X {stamp}.gitMajor={major} -X {stamp}.gitMinor={minor}"
        return flags

    @property
    def home(self) -> Path:
        """The tool's folder in the cache."""
        digest = hashlib.sha256(self.ldflags.encode())
        for file in sorted(self.folder.iterdir()):
            if file.suffix in (".mod", ".sum", ".go"):
                digest.update(f"{file.name}\0".encode() + file.read_bytes())
        return cache_dir() / "tools" / f"{self.name}-{self.version}-{digest.hexdigest()[:8]}"


def _kubernetes(name: str, *version_args: str) -> Program:
    return Program(name, f"k8s.io/kubernetes/cmd/{name}", version_args or ("--version",))


_CT = "github.com/helm/chart-testing/v3"
_KUBECONFORM = "github.com/yannh/kubeconform"
_HELM_DOCS = "github.com/norwoodj/helm-docs"
_KUEUE = "sigs.k8s.io/kueue"
_ACTIONLINT = "github.com/rhysd/actionlint"
TOOLS = (
    Tool("pause", "", (Program("pause", "clearml-k8s.local/ci/tools/pause"),)),
    Tool("etcd", "go.etcd.io/etcd/server/v3", (Program("etcd", "go.etcd.io/etcd/server/v3"),)),
    Tool(
        "kubernetes",
        "k8s.io/kubernetes",
        (
            _kubernetes("kubectl", "version", "--client"),
            _kubernetes("kube-apiserver"),
            _kubernetes("kube-controller-manager"),
            _kubernetes("kube-scheduler"),
            _kubernetes("kubelet"),
            _kubernetes("kube-proxy"),
        ),
    ),
    Tool("coredns", "github.com/coredns/coredns", (Program("coredns", "github.com/coredns/coredns", ("-version",)),)),
    Tool("kwok", "sigs.k8s.io/kwok", (Program("kwok", "sigs.k8s.io/kwok/cmd/kwok"),)),
    Tool("kueue", _KUEUE, (Program("kueue", f"{_KUEUE}/cmd/kueue"),), only_named=True),
    Tool("helm4", "helm.sh/helm/v4", (Program("helm4", "helm.sh/helm/v4/cmd/helm", ("version",), "helm"),)),
    Tool("helm3", "helm.sh/helm/v3", (Program("helm3", "helm.sh/helm/v3/cmd/helm", ("version",), "helm"),)),
    # The schema engine of Helm up to 3.17, which many users have.
    Tool("helm314", "helm.sh/helm/v3", (Program("helm314", "helm.sh/helm/v3/cmd/helm", ("version",), "helm"),)),
    Tool("ct", _CT, (Program("ct", f"{_CT}/ct", ("version",)),)),
    Tool("kubeconform", _KUBECONFORM, (Program("kubeconform", f"{_KUBECONFORM}/cmd/kubeconform", ("-v",)),)),
    Tool("helm-docs", _HELM_DOCS, (Program("helm-docs", f"{_HELM_DOCS}/cmd/helm-docs"),)),
    Tool("actionlint", _ACTIONLINT, (Program("actionlint", f"{_ACTIONLINT}/cmd/actionlint"),)),
)
LINKS = {"helm": "helm4"}  # further names in the folder of --bin-dir


def select(names: Iterable[str]) -> list[Tool]:
    """The tools behind the names of tools or programs, in the order of `TOOLS`; for no name all that are not built
    by name alone."""
    wanted = {LINKS.get(name, name) for name in names}
    known = {tool.name for tool in TOOLS} | {program.name for tool in TOOLS for program in tool.programs}
    unknown = sorted(wanted - known)
    if unknown:
        raise BuildError(f"no tool or program is called {', '.join(unknown)}; there are: {', '.join(sorted(known))}")
    if not wanted:
        return [tool for tool in TOOLS if not tool.only_named]
    return [tool for tool in TOOLS if tool.name in wanted or any(p.name in wanted for p in tool.programs)]

"""What tests of the local cluster itself need: kubectl on one of several clusters, pods, and what a cluster leaves."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ci.cluster import cgroups
from ci.cluster.layout import Layout
from ci.cluster.local import LocalCluster
from ci.images import build as images
from ci.tools import build as tools

COMPONENTS = (
    "etcd",
    "containerd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "coredns",
)


def until(condition: Callable[[], bool], what: str, limit: float = 60) -> None:
    """AssertionError with `what` when the condition does not come true within `limit` seconds."""
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, f"not within {limit:.0f} s: {what}"
        time.sleep(0.1)


class Kubectl:
    """The pinned kubectl, on the cluster of a kubeconfig."""

    def __init__(self, kubeconfig: Path, *, namespace: str = "default") -> None:
        program = str(tools.ensure(["kubectl"])["kubectl"])
        self._command = [program, f"--kubeconfig={kubeconfig}", f"--namespace={namespace}"]

    def __call__(self, *words: str, given: object = None) -> str:
        text = None if given is None else json.dumps(given)
        done = subprocess.run(
            [*self._command, *words], input=text, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, f"kubectl {' '.join(words)}: {done.stderr}"
        return done.stdout

    def phase(self, pod: str) -> str:
        return self("get", "pod", pod, "-o", "jsonpath={.status.phase}")


def pod(name: str, *command: str, restart: str = "Never", labels: dict[str, str] | None = None) -> dict[str, Any]:
    """A pod of one container with the task image."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels or {}},
        "spec": {
            "restartPolicy": restart,
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "main", "image": images.reference("task"), "command": list(command)}],
        },
    }


def well(cluster: LocalCluster) -> dict[str, bool]:
    """By component, and the node."""
    return {health.name: health.problem is None for health in cluster.status()}


def pid_of(cluster: LocalCluster, component: str) -> int | None:
    return next(health.pid for health in cluster.status() if health.name == component)


def traces(layout: Layout) -> dict[str, list[str]]:
    """All on this machine that bears the cluster's name, device or networks."""
    words = (layout.full_name, f"/{layout.name}", str(layout.run), str(layout.state))
    # Another cluster's name may begin with this one's.
    ours = re.compile("|".join(rf"{re.escape(word)}(?![-a-z0-9])" for word in words))

    def lines(*command: str) -> list[str]:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()

    commands = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            commands.append(entry.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:  # ended meanwhile
            continue
    links = Path("/var/log/containers")
    return {
        "processes": [line for line in commands if ours.search(line)],
        "mounts": [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if ours.search(line)],
        "devices": [line for line in lines("ip", "-o", "link") if f"{layout.host_device}:" in line.replace("@", ":")],
        "routes": [line for line in lines("ip", "route", "show", "table", "all") if f"{layout.prefix}." in line],
        "rules": [line for line in lines("iptables-save") if ours.search(line) or f"{layout.prefix}." in line],
        "cgroups": [str(p) for p in cgroups.MOUNT.glob(f"**/{layout.full_name}")],
        "files": [str(p) for p in (layout.run, layout.state) if p.exists()]
        + [str(p) for p in links.glob("*") if p.readlink().is_relative_to(layout.state)]
        + [str(p) for p in Path("/var/lib/cni/results").glob(f"{layout.full_name}-{'[0-9a-f]' * 12}*")],
    }  # fmt: skip

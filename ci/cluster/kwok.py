"""Simulated nodes beside the real one: kwok lets pods on them run and end without any container."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from ci.tools import build

from .components import Component, http_health
from .errors import ClusterError
from .layout import Layout
from .shell import run
from .state import State

STAGES = Path(__file__).resolve().parent / "stages"
STAGE_FILES = ("node-initialize", "pod-ready", "pod-complete", "pod-delete")
ANNOTATION = "kwok.x-k8s.io/node"
PORT = 10247
CREATE_CHUNK = 200


def enabled(state: State) -> bool:
    return bool(state.data.get("kwok"))


def component(layout: Layout, state: State) -> Component:
    """The kwok process, with the stages chosen by `up`."""
    program = build.ensure(["kwok"])["kwok"]
    files = [layout.state / "kwok" / name for name in state.data["kwok"]["files"]]
    command = (
        str(program),
        f"--kubeconfig={layout.state / 'pki/kwok.kubeconfig'}",
        "--manage-all-nodes=false",
        f"--manage-nodes-with-annotation-selector={ANNOTATION}=fake",
        f"--cidr={layout.kwok_cidr}",
        f"--node-ip={layout.node_ip}",
        f"--server-address={layout.node_ip}:{PORT}",
        *(f"--config={file}" for file in files),
    )
    return Component("kwok", command, lambda: http_health(f"http://{layout.node_ip}:{PORT}/healthz"))


def stages(*, complete_after_ms: int, folder: Path | None) -> dict[str, str]:
    """Stage documents by file name: ours, and those of a test's folder, which replace ours of the same file name."""
    texts = {f"{name}.yaml": (STAGES / f"{name}.yaml").read_text() for name in STAGE_FILES}
    texts["pod-complete.yaml"] = texts["pod-complete.yaml"].replace(
        "durationMilliseconds: COMPLETE_AFTER_MS", f"durationMilliseconds: {complete_after_ms}"
    )
    if folder is not None:
        own = {file.name: file.read_text() for file in sorted(folder.glob("*.yaml"))}
        if not own:
            raise ClusterError(f"{folder} holds no *.yaml: give a folder with kwok Stage documents")
        texts |= own
    return texts


def node(number: int) -> dict[str, Any]:
    """A simulated node: ordinary pods do not land on it, for its taint."""
    name = f"kwok-{number}"
    # All that the API asks for; kwok itself adds nothing.
    fields = ("architecture", "bootID", "containerRuntimeVersion", "kernelVersion", "kubeProxyVersion",
              "kubeletVersion", "machineID", "operatingSystem", "osImage", "systemUUID")  # fmt: skip
    info = dict.fromkeys(fields, "fake") | {"architecture": "amd64", "operatingSystem": "linux"}
    room = {"cpu": "1000", "memory": "4Ti", "ephemeral-storage": "100Ti", "pods": "10000"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {ANNOTATION: "fake"},
            "labels": {
                "type": "kwok",
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
            },
        },
        "spec": {"taints": [{"key": ANNOTATION, "value": "fake", "effect": "NoSchedule"}]},
        "status": {"allocatable": room, "capacity": room, "nodeInfo": info},
    }


def ensure_nodes(layout: Layout, count: int) -> None:
    """Makes the nodes kwok-0 to kwok-(count - 1), and removes those above."""
    kubectl = [str(build.ensure(["kubectl"])["kubectl"]), f"--kubeconfig={layout.kubeconfig}"]
    there = set(run([*kubectl, "get", "nodes", "-l", "type=kwok", "-o", "name"]).split())
    wanted = {f"node/kwok-{i}": node(i) for i in range(count)}
    surplus = sorted(there - set(wanted))
    if surplus:
        run([*kubectl, "delete", *surplus, "--wait=false"], limit=300)
    missing = [body for name, body in wanted.items() if name not in there]
    for i in range(0, len(missing), CREATE_CHUNK):
        batch = {"apiVersion": "v1", "kind": "List", "items": missing[i : i + CREATE_CHUNK]}
        run([*kubectl, "create", "-f", "-"], given=json.dumps(batch), limit=300)
    deadline = time.monotonic() + 120
    query = '{range .items[*]}{.status.conditions[?(@.type=="Ready")].status}{"\\n"}{end}'
    while True:
        ready = run([*kubectl, "get", "nodes", "-l", "type=kwok", "-o", f"jsonpath={query}"]).split().count("True")
        if ready >= count:
            return
        if time.monotonic() > deadline:
            raise ClusterError(f"only {ready} of {count} simulated nodes are ready; see {layout.log('kwok')}")
        time.sleep(0.2)

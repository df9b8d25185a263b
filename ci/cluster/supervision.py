"""Starting the programs of a cluster in order, and knowing whether they are well."""

from __future__ import annotations

import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ci.tools import build

from . import containers, files, network, processes
from .components import Component
from .errors import ClusterError
from .layout import NODE_NAME, Layout
from .shell import run
from .state import State

START_SECONDS = 120.0
UNWELL_SECONDS = 15.0


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Supervisor:
    """Of one cluster's programs; what it starts is noted in `state`. Its lock must be held to start anything."""

    def __init__(self, layout: Layout, state: State) -> None:
        self._layout = layout
        self._state = state

    def start(self, components: list[Component]) -> bool:
        """Starts or restarts each component that is not well, in order; False when all were well."""
        with ThreadPoolExecutor(len(components)) as pool:
            problems = dict(zip(components, pool.map(self.problem, components), strict=True))
        bad = [component for component, problem in problems.items() if problem is not None]
        if not bad:
            return False
        running = {c.name for c in components if c not in bad}
        for component in bad:
            identity = self._state.process(component.name)
            if identity and processes.alive(identity):
                # It runs; perhaps only what it needs was away: give it time before it is started again.
                if any(need not in running for need in component.after) or self._wait(component, UNWELL_SECONDS):
                    continue
                say(f"{component.name}: unwell ({problems[component]}), starting it again")
                processes.stop(identity)
        waiting: list[Component] = []
        for component in components:
            for need in [c for c in waiting if c.name in component.after]:
                self._expect(need)
                waiting.remove(need)
                if need.name == "kube-apiserver":
                    self._bootstrap()
            identity = self._state.process(component.name)
            if not (identity and processes.alive(identity)):
                self._launch(component)
            waiting.append(component)
        for component in waiting:
            self._expect(component)
        return True

    def _launch(self, component: Component) -> None:
        # An `up` that died may have started one without noting it.
        left = processes.kill_all(lambda: processes.with_command(component.command))
        if left:
            raise ClusterError(f"{component.name}: an old process of it does not end: {', '.join(map(str, left))}")
        say(f"starting {component.name}")
        command = network.inside(self._layout, *component.command)
        identity = processes.start(
            command, log=self._layout.log(component.name), environment=environment(component.name)
        )
        self._state.put_process(component.name, identity)

    def problem(self, component: Component) -> str | None:
        identity = self._state.process(component.name)
        if identity is None or not processes.alive(identity):
            return "not running"
        return component.healthy()

    def _wait(self, component: Component, limit: float) -> bool:
        """True as soon as the component is well; False when it ended or after `limit` seconds."""
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline:
            identity = self._state.process(component.name)
            if identity is None or not processes.alive(identity):
                return False
            if component.healthy() is None:
                return True
            time.sleep(0.1)
        return False

    def _expect(self, component: Component) -> None:
        if self._wait(component, START_SECONDS):
            return
        problem = self.problem(component)
        raise ClusterError(_explain(component.name, problem or "not well in time", self._layout.log(component.name)))

    def _bootstrap(self) -> None:
        """The objects that components need before they can be well."""
        if not self._state.data.get("bootstrapped"):
            kubectl = [str(build.ensure(["kubectl"])["kubectl"]), f"--kubeconfig={self._layout.kubeconfig}"]
            run([*kubectl, "apply", "--server-side", "-f", str(self._layout.state / "config/bootstrap.json")])
            self._state.put(bootstrapped=True)

    def settle(self, programs: dict[str, Path]) -> None:
        """The sandbox image, and a node that is ready."""
        kubectl = [str(programs["kubectl"]), f"--kubeconfig={self._layout.kubeconfig}"]
        containers.ensure_pause(self._layout, programs["pause"], files.PAUSE_IMAGE)
        deadline = time.monotonic() + START_SECONDS
        ready = '{.status.conditions[?(@.type=="Ready")].status}'
        while True:
            node = run([*kubectl, "get", "node", NODE_NAME, "-o", f"jsonpath={ready}"], check=False)
            account = self._state.data.get("settled") or run(
                [*kubectl, "get", "serviceaccount", "default", "-o", "name"], check=False
            )
            if node == "True" and account and _knows_its_pods(kubectl):
                break
            if time.monotonic() > deadline:
                raise ClusterError(
                    _explain("kubelet", f"the node does not run its pods (Ready={node!r})", self._layout.log("kubelet"))
                )
            time.sleep(0.2)
        self._state.put(settled=True)


PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")


def environment(component: str) -> dict[str, str]:
    """The environment of a component: nothing of the caller's, but for containerd the proxies for pulls."""
    fixed = {"PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), "HOME": "/root", "LANG": "C.UTF-8"}
    if component == "containerd":
        fixed |= {name: os.environ[name] for name in PROXIES if name in os.environ}
    return fixed


def _knows_its_pods(kubectl: list[str]) -> bool:
    """True when the kubelet itself lists every pod bound to it: after its restart, Ready is still the old word."""
    items = ("-o", "jsonpath={.items[*].metadata.uid}")
    selector = f"spec.nodeName={NODE_NAME},status.phase!=Succeeded,status.phase!=Failed"
    bound = run([*kubectl, "get", "pods", "-A", f"--field-selector={selector}", *items], check=False).split()
    answer = run([*kubectl, "get", "--raw", f"/api/v1/nodes/{NODE_NAME}/proxy/pods"], check=False)
    try:
        pods = json.loads(answer)["items"] or []
    except ValueError:
        return False
    return set(bound) <= {pod["metadata"]["uid"] for pod in pods}


def _explain(name: str, problem: str, log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()[-20:] if log.exists() else []
    return (
        f"{name}: {problem}\n"
        + "".join(f"  | {line[:400]}\n" for line in lines)
        + (f"the whole log: {log}\nwhen trying again does not help: `make cluster-down cluster-up` starts anew")
    )

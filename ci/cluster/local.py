"""Bringing the local cluster up and down."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ci.paths import cache_dir, checkout_name
from ci.tools import build

from . import cgroups, containers, files, kwok, machine, network, pki, processes, slots
from .components import Component, all_components
from .errors import ClusterError
from .layout import NODE_NAME, RUN, Layout
from .shell import run
from .state import State

TOOLS = ("pause", "etcd", "kubernetes", "coredns")
START_SECONDS = 120.0
UNWELL_SECONDS = 15.0


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Health:
    """One line of `status`: `problem` is None when the component is well."""

    name: str
    pid: int | None
    problem: str | None
    log: Path


class LocalCluster:
    """The cluster of this checkout; every method may be called in any state of it."""

    def __init__(self, *, name: str | None = None, cache: Path | None = None) -> None:
        self.name = name or checkout_name()
        self.cache = cache or cache_dir()

    def layout(self) -> Layout | None:
        """None when the cluster has no slot: it is down."""
        slot = slots.find(self.name)
        return None if slot is None else Layout(self.name, slot, self.cache)

    def existing(self) -> Layout:
        layout = self.layout()
        if layout is None or not layout.kubeconfig.exists():
            raise ClusterError(f"the cluster {self.name} is down; `make cluster-up` starts it")
        return layout

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with build.locked(RUN / f"{self.name}.lock", f"the cluster {self.name}"):
            yield

    def state(self, layout: Layout) -> State:
        return State(layout.state / "state.json")

    # -- up ------------------------------------------------------------------------------------------------------

    def up(self) -> Layout:
        """Starts what is not running, mends what is not well; returns when pods can run."""
        machine.preflight()
        try:
            programs = build.ensure(TOOLS)
        except build.BuildError as error:
            raise ClusterError(str(error)) from error
        started = time.monotonic()
        with self._locked():
            machine.remember()
            layout = Layout(self.name, slots.reserve(self.name), self.cache)
            rendered = self._rendered(layout)
            components = all_components(layout, programs)
            fingerprint = _fingerprint(rendered, components)
            state = self.state(layout)
            if layout.state.exists() and state.data.get("fingerprint") != fingerprint:
                say(f"cluster {self.name}: made by other versions or settings, starting it anew")
                self._down(layout)
                machine.remember()
                layout = Layout(self.name, slots.reserve(self.name), self.cache)
                rendered = self._rendered(layout)
                components = all_components(layout, programs)
                fingerprint = _fingerprint(rendered, components)
                state = self.state(layout)
            state.put(fingerprint=fingerprint)
            if state.data.get("boot") != processes.boot_id():
                if (layout.run / "containerd").exists():  # of a former boot: its containers are gone
                    machine.unmount_below(layout.run)
                    shutil.rmtree(layout.run, ignore_errors=True)
                state.put(boot=processes.boot_id(), processes={})
            network.ensure(layout)
            cgroups.make(layout.full_name)
            for path, text in rendered.items():
                _write(layout.state / path, text)
            pki.ensure(layout)
            layout.log("up").parent.mkdir(parents=True, exist_ok=True)
            changed = self._start(layout, state, components)
            self._settle(layout, state, programs)
            if kwok.enabled(state):
                self._start(layout, state, [kwok.component(layout, state)])
        word = "up" if changed else "was up already"
        say(f"cluster {self.name}: {word} after {time.monotonic() - started:.1f} s ({layout.api_url})")
        return layout

    def _rendered(self, layout: Layout) -> dict[str, str]:
        return files.render(
            layout,
            pause_image=files.PAUSE_IMAGE,
            nameservers=files.machine_nameservers(),
        )

    def _start(self, layout: Layout, state: State, components: list[Component]) -> bool:
        """Starts or restarts each component that is not well, in order; False when all were well."""
        with ThreadPoolExecutor(len(components)) as pool:
            problems = dict(zip(components, pool.map(lambda c: self._problem(state, c), components), strict=True))
        bad = [component for component, problem in problems.items() if problem is not None]
        if not bad:
            return False
        running = {c.name for c in components if c not in bad}
        for component in bad:
            identity = state.process(component.name)
            if identity and processes.alive(identity):
                # It runs; perhaps only what it needs was away: give it time before it is started again.
                if any(need not in running for need in component.after) or self._wait(state, component, UNWELL_SECONDS):
                    continue
                say(f"{component.name}: unwell ({problems[component]}), starting it again")
                processes.stop(identity)
        waiting: list[Component] = []
        for component in components:
            for need in [c for c in waiting if c.name in component.after]:
                self._expect(layout, state, need)
                waiting.remove(need)
                if need.name == "kube-apiserver":
                    self._bootstrap(layout, state)
            identity = state.process(component.name)
            if not (identity and processes.alive(identity)):
                self._launch(layout, state, component)
            waiting.append(component)
        for component in waiting:
            self._expect(layout, state, component)
        return True

    def _launch(self, layout: Layout, state: State, component: Component) -> None:
        say(f"starting {component.name}")
        command = network.inside(layout, *component.command)
        identity = processes.start(command, log=layout.log(component.name), environment=environment(component.name))
        state.put_process(component.name, identity)

    def _problem(self, state: State, component: Component) -> str | None:
        identity = state.process(component.name)
        if identity is None or not processes.alive(identity):
            return "not running"
        return component.healthy()

    def _wait(self, state: State, component: Component, limit: float) -> bool:
        """True as soon as the component is well; False when it ended or after `limit` seconds."""
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline:
            identity = state.process(component.name)
            if identity is None or not processes.alive(identity):
                return False
            if component.healthy() is None:
                return True
            time.sleep(0.1)
        return False

    def _expect(self, layout: Layout, state: State, component: Component) -> None:
        if self._wait(state, component, START_SECONDS):
            return
        problem = self._problem(state, component)
        raise ClusterError(_explain(component.name, problem or "not well in time", layout.log(component.name)))

    def _bootstrap(self, layout: Layout, state: State) -> None:
        """The objects that components need before they can be well."""
        if not state.data.get("bootstrapped"):
            kubectl = [str(build.ensure(["kubectl"])["kubectl"]), f"--kubeconfig={layout.kubeconfig}"]
            run([*kubectl, "apply", "--server-side", "-f", str(layout.state / "config/bootstrap.json")])
            state.put(bootstrapped=True)

    def _settle(self, layout: Layout, state: State, programs: dict[str, Path]) -> None:
        """The sandbox image, and a node that is ready."""
        kubectl = [str(programs["kubectl"]), f"--kubeconfig={layout.kubeconfig}"]
        containers.ensure_pause(layout, programs["pause"], files.PAUSE_IMAGE)
        deadline = time.monotonic() + START_SECONDS
        ready = '{.status.conditions[?(@.type=="Ready")].status}'
        while True:
            node = run([*kubectl, "get", "node", NODE_NAME, "-o", f"jsonpath={ready}"], check=False)
            account = state.data.get("settled") or run(
                [*kubectl, "get", "serviceaccount", "default", "-o", "name"], check=False
            )
            if node == "True" and account and _knows_its_pods(kubectl):
                break
            if time.monotonic() > deadline:
                raise ClusterError(
                    _explain("kubelet", f"the node does not run its pods (Ready={node!r})", layout.log("kubelet"))
                )
            time.sleep(0.2)
        state.put(settled=True)

    # -- kwok ----------------------------------------------------------------------------------------------------

    def kwok_up(self, *, nodes: int, complete_after_ms: int = 1000, stages: Path | None = None) -> None:
        """Starts kwok with exactly `nodes` simulated nodes; restarts it when the stages are others than before."""
        layout = self.existing()
        texts = kwok.stages(complete_after_ms=complete_after_ms, folder=stages)
        with self._locked():
            state = self.state(layout)
            names = sorted(texts)
            folder = layout.state / "kwok"
            old = {file.name: file.read_text() for file in folder.glob("*.yaml")} if folder.is_dir() else {}
            if old != texts or state.data.get("kwok") != {"files": names}:
                self._stop_kwok(state)
                shutil.rmtree(folder, ignore_errors=True)
                for name, text in texts.items():
                    _write(folder / name, text)
                state.put(kwok={"files": names})
            self._start(layout, state, [kwok.component(layout, state)])
            kwok.ensure_nodes(layout, nodes)

    def kwok_down(self) -> None:
        """Removes the simulated nodes and ends kwok."""
        layout = self.existing()
        with self._locked():
            state = self.state(layout)
            if kwok.enabled(state):
                kwok.ensure_nodes(layout, 0)
                self._stop_kwok(state)
                state.put(kwok=None)

    def _stop_kwok(self, state: State) -> None:
        identity = state.process("kwok")
        if identity:
            processes.stop(identity)
            state.put_process("kwok", None)

    # -- down ----------------------------------------------------------------------------------------------------

    def down(self) -> None:
        """Removes everything of this cluster from the machine; nothing when there is nothing."""
        if os.geteuid() != 0:
            raise ClusterError("not root: run as root (sudo) to take the cluster down")
        layout = self.layout()
        if layout is None and not (self.cache / "clusters" / self.name).exists():
            say(f"cluster {self.name}: is down")
            return
        started = time.monotonic()
        with self._locked():
            self._down(layout or Layout(self.name, slots.reserve(self.name), self.cache))
        say(f"cluster {self.name}: down after {time.monotonic() - started:.1f} s")

    def _down(self, layout: Layout) -> None:
        state = self.state(layout)

        def ours() -> set[int]:
            recorded = [state.process(name) for name in state.data.get("processes", {})]
            pids = {identity.pid for identity in recorded if identity and processes.alive(identity)}
            return pids | set(processes.in_network_namespace(layout.netns)) | cgroups.members(layout.full_name)

        left = processes.kill_all(ours)
        if left:
            raise ClusterError(f"these processes do not end: {', '.join(map(str, sorted(left)))}")
        machine.remove_traces(layout)
        network.remove(layout)
        machine.unmount_below(layout.run, layout.state)
        cgroups.remove(layout.full_name)
        shutil.rmtree(layout.run, ignore_errors=True)
        if layout.state.exists():
            shutil.rmtree(layout.state)
        slots.release(self.name)
        machine.restore()

    # -- questions -----------------------------------------------------------------------------------------------

    def status(self) -> list[Health]:
        """Each component's health, the node's last; ClusterError when the cluster is down."""
        layout = self.existing()
        programs = build.ensure(TOOLS)
        state = self.state(layout)
        components = all_components(layout, programs)
        if kwok.enabled(state):
            components.append(kwok.component(layout, state))
        with ThreadPoolExecutor(len(components)) as pool:
            problems = list(pool.map(lambda c: self._problem(state, c), components))
        lines = []
        for component, problem in zip(components, problems, strict=True):
            identity = state.process(component.name)
            running = identity is not None and processes.alive(identity)
            pid = identity.pid if identity and running else None
            lines.append(Health(component.name, pid, problem, layout.log(component.name)))
        command = [str(programs["kubectl"]), f"--kubeconfig={layout.kubeconfig}", "--request-timeout=5s", "get", "node"]
        query = '{.status.conditions[?(@.type=="Ready")].status}'
        ready = run([*command, NODE_NAME, "-o", f"jsonpath={query}"], check=False)
        problem = None if ready == "True" else f"Ready={ready or 'unknown'}"
        lines.append(Health(f"node {NODE_NAME}", None, problem, layout.log("kubelet")))
        return lines

    def environment(self) -> dict[str, str]:
        """What tests need to know, as environment variables."""
        layout = self.existing()
        return {
            "KUBECONFIG": str(layout.kubeconfig),
            "CLUSTER_NAME": self.name,
            "CLUSTER_HOST_IP": layout.host_ip,
            "CLUSTER_NODE_IP": layout.node_ip,
            "CLUSTER_AUDIT_LOG": str(layout.audit_log),
            "CLUSTER_REGISTRY_HOSTS": str(layout.registry_hosts),
            "CLUSTER_STATE": str(layout.state),
        }


PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")


def environment(component: str) -> dict[str, str]:
    """The environment of a component: nothing of the caller's, but for containerd the proxies for pulls."""
    fixed = {"PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), "HOME": "/root", "LANG": "C.UTF-8"}
    if component == "containerd":
        fixed |= {name: os.environ[name] for name in PROXIES if name in os.environ}
    return fixed


def _write(path: Path, text: str) -> None:
    if not path.exists() or path.read_text() != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


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


def _fingerprint(rendered: dict[str, str], components: list[Component]) -> str:
    """What the cluster is made of. Not the nameservers, which change as a laptop moves: CoreDNS reads its file anew."""
    commands = [list(component.command) for component in components]
    rendered = {path: text for path, text in rendered.items() if path != "config/Corefile"}
    return hashlib.sha256(json.dumps([rendered, commands], sort_keys=True).encode()).hexdigest()


def _explain(name: str, problem: str, log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()[-20:] if log.exists() else []
    return (
        f"{name}: {problem}\n"
        + "".join(f"  | {line[:400]}\n" for line in lines)
        + (f"the whole log: {log}\nwhen trying again does not help: `make cluster-down cluster-up` starts anew")
    )

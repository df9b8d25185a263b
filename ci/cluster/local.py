"""Bringing the local cluster up and down."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ci.locks import locked
from ci.paths import cache_dir, checkout_name
from ci.tools import build
from ci.tools.catalog import BuildError

from . import cgroups, files, kwok, machine, network, pki, processes, slots
from .components import Component, all_components
from .errors import ClusterError
from .layout import NODE_NAME, RUN, Layout
from .shell import run
from .state import State
from .supervision import Supervisor, say

TOOLS = ("pause", "etcd", "kubernetes", "coredns")


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
        with locked(RUN / f"{self.name}.lock", f"the cluster {self.name}"):
            yield

    def state(self, layout: Layout) -> State:
        return State(layout.state / "state.json")

    # -- up ------------------------------------------------------------------------------------------------------

    def up(self) -> Layout:
        """Starts what is not running, mends what is not well; returns when pods can run."""
        machine.preflight()
        try:
            programs = build.ensure(TOOLS)
        except BuildError as error:
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
            supervisor = Supervisor(layout, state)
            changed = supervisor.start(components)
            supervisor.settle(programs)
            if kwok.enabled(state):
                supervisor.start([kwok.component(layout, state)])
        word = "up" if changed else "was up already"
        say(f"cluster {self.name}: {word} after {time.monotonic() - started:.1f} s ({layout.api_url})")
        return layout

    def _rendered(self, layout: Layout) -> dict[str, str]:
        return files.render(
            layout,
            pause_image=files.PAUSE_IMAGE,
            nameservers=files.machine_nameservers(),
        )

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
            Supervisor(layout, state).start([kwok.component(layout, state)])
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
            problems = list(pool.map(Supervisor(layout, state).problem, components))
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


def _write(path: Path, text: str) -> None:
    if not path.exists() or path.read_text() != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def _fingerprint(rendered: dict[str, str], components: list[Component]) -> str:
    """What the cluster is made of. Not the nameservers, which change as a laptop moves: CoreDNS reads its file anew."""
    commands = [list(component.command) for component in components]
    rendered = {path: text for path, text in rendered.items() if path != "config/Corefile"}
    return hashlib.sha256(json.dumps([rendered, commands], sort_keys=True).encode()).hexdigest()

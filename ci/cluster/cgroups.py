"""The cgroup of the cluster's pods: one folder in each hierarchy (v1 and hybrid), or one in all (v2)."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from .errors import ClusterError

MOUNT = Path("/sys/fs/cgroup")


def is_v2() -> bool:
    return (MOUNT / "cgroup.controllers").exists()


def _hierarchies() -> list[Path]:
    """The v1 hierarchies with a controller, then the hybrid's v2 one; on v2 the only one there is."""
    if is_v2():
        return [MOUNT]
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return sorted({Path(m[1]) for m in mounts if m[2] in ("cgroup", "cgroup2") and Path(m[1]).is_relative_to(MOUNT)})


def make(name: str) -> None:
    """Makes the cgroup `name` at the root of each hierarchy, with every controller that the kubelet asks for."""
    if is_v2():
        wanted = (MOUNT / "cgroup.controllers").read_text().split()
        group = MOUNT / name
        group.mkdir(exist_ok=True)
        for parent in (MOUNT, group):
            for controller in wanted:
                try:
                    (parent / "cgroup.subtree_control").write_text(f"+{controller}")
                except OSError as error:
                    if controller in ("cpu", "cpuset", "memory", "pids"):
                        raise ClusterError(
                            f"cannot enable the cgroup controller {controller} in {parent}: {error.strerror}; "
                            "in a container, processes must not sit in its root cgroup"
                        ) from error
        return
    hierarchies = _hierarchies()
    if not hierarchies:
        raise ClusterError("no cgroups are mounted below /sys/fs/cgroup; mount them, or run on the machine itself")
    for hierarchy in hierarchies:
        group = hierarchy / name
        group.mkdir(exist_ok=True)
        for setting in ("cpuset.cpus", "cpuset.mems"):  # a v1 cpuset starts empty and takes no process so
            if (group / setting).exists() and not (group / setting).read_text().strip():
                (group / setting).write_text((hierarchy / setting).read_text())


def _groups(name: str) -> Iterator[Path]:
    """All folders of the cgroup, children first."""
    for hierarchy in _hierarchies():
        if (hierarchy / name).is_dir():
            for folder, _, _ in os.walk(hierarchy / name, topdown=False):
                yield Path(folder)


def exists(name: str) -> bool:
    return any((hierarchy / name).is_dir() for hierarchy in _hierarchies())


def members(name: str) -> set[int]:
    """Ids of all processes in the cgroup or below it."""
    pids: set[int] = set()
    for group in _groups(name):
        try:
            pids.update(int(line) for line in (group / "cgroup.procs").read_text().split())
        except OSError:  # removed meanwhile, or a threaded v2 cgroup
            continue
    return pids


def remove(name: str, *, limit: float = 10) -> None:
    """Removes the cgroup with its children; its processes must have ended. The kernel needs a moment after the last."""
    deadline = time.monotonic() + limit
    while True:
        failed: list[str] = []
        for group in _groups(name):
            try:
                group.rmdir()
            except FileNotFoundError:
                continue
            except OSError as error:
                failed.append(f"{group}: {error.strerror}")
        if not failed:
            return
        if time.monotonic() > deadline:
            raise ClusterError("these cgroups could not be removed:\n" + "\n".join(failed))
        time.sleep(0.1)

"""`taskPolicy`: what tasks of a queue may ask for of their pod, beyond environment variables (ADR 0012)."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

User = Literal["template", "nonRoot", "any"]


READ_ONLY: Final = ":ro"


@dataclass(frozen=True, kw_only=True, slots=True)
class Allowed:
    """A folder of the node or a claim, and whether it may only be read."""

    name: str
    read_only: bool


@dataclass(frozen=True, kw_only=True)
class TaskPolicy:
    """The defaults give what cannot reach beyond the pod.

    ``shared_memory``: what a volume in memory may hold at most, as a quantity; "": no limit. ``host_paths``: folders
    of the node, each with all below it. ``volume_claims`` and ``capabilities`` by name, the latter without `CAP_`;
    `ALL` is every capability. ``labels``: keys, or beginnings of keys followed by `*`.
    """

    shared_memory: str = ""
    host_ipc: bool = False
    host_network: bool = False
    host_paths: tuple[str, ...] = ()
    volume_claims: tuple[str, ...] = ()
    privileged: bool = False
    capabilities: tuple[str, ...] = ()
    user: User = "template"
    labels: tuple[str, ...] = ()
    max_gpus: int = 0
    max_cpus: float = 0.0
    max_memory: str = ""
    node_selector: tuple[str, ...] = ()
    priority_classes: tuple[str, ...] = ()

    @property
    def own_resources(self) -> bool:
        """Whether a task may change what its pod takes of what is limited."""
        return bool(self.max_gpus or self.max_cpus or self.max_memory or self.priority_classes)

    def allows_node_label(self, key: str, value: str) -> bool:
        """Whether a task may choose nodes by this label."""
        return key in self.node_selector or f"{key}={value}" in self.node_selector

    def allows_label(self, key: str) -> bool:
        """Whether a task may set the label."""
        return any(key.startswith(allowed[:-1]) if allowed.endswith("*") else key == allowed for allowed in self.labels)

    def host_folder(self, path: str) -> Allowed | None:
        """The largest allowed folder that holds ``path``, which is absolute and normalized; one that may be written
        where there is one."""
        found = [
            Allowed(name=folder, read_only=read_only)
            for folder, read_only in ((normal_path(name), only) for name, only in _read_only_ones(self.host_paths))
            if path == folder or path.startswith(folder.rstrip("/") + "/")
        ]
        return min(found, key=lambda one: (one.read_only, len(one.name)), default=None)

    def claim(self, name: str) -> Allowed | None:
        """The claim of that name, if it is allowed."""
        found = [read_only for known, read_only in _read_only_ones(self.volume_claims) if known == name]
        return Allowed(name=name, read_only=all(found)) if found else None

    def allows_capability(self, name: str) -> bool:
        """``name`` without `CAP_`, in capitals."""
        return name in self.capabilities or "ALL" in self.capabilities


def _read_only_ones(entries: tuple[str, ...]) -> Iterator[tuple[str, bool]]:
    for entry in entries:
        yield entry.removesuffix(READ_ONLY), entry.endswith(READ_ONLY)


def normal_path(path: str) -> str:
    """Absolute and without doubled or trailing slashes; POSIX would keep two at the beginning."""
    return posixpath.normpath("/" + path.lstrip("/"))


_KEYS = {
    "sharedMemory": "shared_memory",
    "hostIPC": "host_ipc",
    "hostNetwork": "host_network",
    "hostPaths": "host_paths",
    "volumeClaims": "volume_claims",
    "privileged": "privileged",
    "capabilities": "capabilities",
    "user": "user",
    "labels": "labels",
    "maxGpus": "max_gpus",
    "maxCpus": "max_cpus",
    "maxMemory": "max_memory",
    "nodeSelector": "node_selector",
    "priorityClasses": "priority_classes",
}


def read(raw: Mapping[str, Any] | None, *, over: TaskPolicy) -> TaskPolicy:
    """The policy of a checked document; keys that are not given are those of ``over``."""
    given = {key: value for key, value in (raw or {}).items() if value is not None}
    found: dict[str, Any] = {
        field: tuple(given[key]) if isinstance(given[key], list) else given[key]
        for key, field in _KEYS.items()
        if key in given
    }
    if "capabilities" in found:
        found["capabilities"] = tuple(name.removeprefix("CAP_") for name in found["capabilities"])
    for amount in ("shared_memory", "max_memory"):
        if amount in found:
            found[amount] = str(found[amount])
    if "max_gpus" in found:
        found["max_gpus"] = int(found["max_gpus"])
    return replace(over, **found)


def problems(raw: Mapping[str, Any] | None, *, place: str) -> Iterator[str]:
    """What the schema cannot say of it, with paths."""
    for number, path in enumerate((raw or {}).get("hostPaths") or ()):
        if ".." in path.removesuffix(READ_ONLY).split("/"):
            yield f"{place}.hostPaths[{number}]: found {path!r}; expected a folder without '..'"

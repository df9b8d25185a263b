"""`taskPolicy`: what tasks of a queue may ask for of their pod, beyond environment variables (ADR 0012)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

User = Literal["template", "nonRoot", "any"]


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

    def allows_label(self, key: str) -> bool:
        """Whether a task may set the label."""
        return any(key.startswith(allowed[:-1]) if allowed.endswith("*") else key == allowed for allowed in self.labels)

    def allows_host_path(self, path: str) -> bool:
        """``path``: absolute and normalized."""
        return any(
            path == folder or path.startswith(folder.rstrip("/") + "/")
            for folder in (allowed.rstrip("/") or "/" for allowed in self.host_paths)
        )

    def allows_capability(self, name: str) -> bool:
        """``name`` without `CAP_`, in capitals."""
        return name in self.capabilities or "ALL" in self.capabilities


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
    if "shared_memory" in found:
        found["shared_memory"] = str(found["shared_memory"])
    return replace(over, **found)


def problems(raw: Mapping[str, Any] | None, *, place: str) -> Iterator[str]:
    """What the schema cannot say of it, with paths."""
    for number, path in enumerate((raw or {}).get("hostPaths") or ()):
        if ".." in path.split("/"):
            yield f"{place}.hostPaths[{number}]: found {path!r}; expected a folder without '..'"

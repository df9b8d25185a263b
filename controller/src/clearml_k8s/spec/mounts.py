"""What docker's `-v`, `--mount`, `--tmpfs` and `--shm-size` say, as volumes of a pod.

Sizes are docker's: powers of 1024, whatever their unit's case. Paths are POSIX ones.
"""

from __future__ import annotations

import csv
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from clearml_k8s.config.policy import TaskPolicy
from clearml_k8s.kube.quantity import quantity

SHM: Final = "/dev/shm"  # noqa: S108 - where it is
VOLUME_PREFIX: Final = "clearml-k8s-task-"

_SIZE = re.compile(r"(\d{1,18})(?:\.(\d{1,6}))?\s?([bkmgtp]?)(?:i?b)?", re.ASCII)
_UNITS: Final = "bkmgtp"
_CLAIM = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?", re.ASCII)
_BINARY: Final = ("", "Ki", "Mi", "Gi", "Ti", "Pi")
_FLAGS: Final = frozenset({"", "1", "t", "true"})


@dataclass(kw_only=True)
class Mounts:
    """Collects volumes and mounts of one task. ``taken``: where the template mounts something, and `hidden` folders of
    ours. Each method gives the reason why it is not done, or how it is done otherwise; "" when it is done."""

    policy: TaskPolicy
    taken: set[str]
    volumes: list[dict[str, Any]] = field(default_factory=list)
    mounts: list[dict[str, Any]] = field(default_factory=list)

    def volume(self, text: str) -> str:
        """`-v [source:]target[:options]`."""
        parts = text.split(":")
        if len(parts) > 3 or not parts[-1]:
            return "write it as source:target, or source:target:ro"
        if len(parts) == 1:
            return self._add(parts[0], {"emptyDir": {}})
        source, target = parts[0], parts[1]
        read_only = len(parts) == 3 and "ro" in parts[2].split(",")
        if source.startswith("/"):
            return self._host(source, target, read_only=read_only)
        return self._claim(source, target, read_only=read_only)

    def mount(self, text: str) -> str:
        """`--mount type=...,source=...,target=...`."""
        given: dict[str, str] = {}
        for part in next(csv.reader([text], strict=False), []):
            key, _, value = part.partition("=")
            given[_MOUNT_KEYS.get(key.strip().lower(), key.strip().lower())] = value.strip()
        kind, target = given.get("type", "volume"), given.get("target", "")
        read_only = given.get("readonly", "false").lower() in _FLAGS
        source = given.get("source", "")
        if kind == "tmpfs":
            return self.memory(target, size=given.get("tmpfs-size", ""))
        if kind == "bind":
            return self._host(source, target, read_only=read_only) if source.startswith("/") else _RELATIVE
        if kind != "volume":
            return "a pod has mounts of the types bind, volume and tmpfs"
        if not source:
            return self._add(target, {"emptyDir": {}})
        return self._claim(source, target, read_only=read_only, sub_path=given.get("volume-subpath", ""))

    def tmpfs(self, text: str) -> str:
        """`--tmpfs target[:options]`."""
        target, _, options = text.partition(":")
        sizes = [option.removeprefix("size=") for option in options.split(",") if option.startswith("size=")]
        return self.memory(target, size=sizes[-1] if sizes else "")

    def memory(self, target: str, *, size: str) -> str:
        """A volume in memory, which counts as the container's own; ``size``: docker's, "" for as much as may be."""
        asked = docker_size(size) if size else None
        if size and asked is None:
            return "its size is none: write a number and b, k, m or g, as in 8g"
        most = quantity(self.policy.shared_memory) if self.policy.shared_memory else None
        if most == 0:
            return "volumes in memory are not for tasks of this queue (taskPolicy.sharedMemory)"
        cut = asked is not None and most is not None and asked > most
        amount = most if asked is None or cut else asked
        limit = {} if amount is None else {"sizeLimit": bytes_quantity(int(amount))}
        why = self._add(target, {"emptyDir": {"medium": "Memory", **limit}})
        if not why and cut:
            return f"it has {self.policy.shared_memory}, the most that is allowed (taskPolicy.sharedMemory)"
        return why

    def _host(self, source: str, target: str, *, read_only: bool) -> str:
        path = posixpath.normpath("/" + source.lstrip("/"))
        if ".." in source.split("/") or not self.policy.allows_host_path(path):
            return "that folder of the node is not for tasks of this queue (taskPolicy.hostPaths)"
        return self._add(target, {"hostPath": {"path": path}}, read_only=read_only)

    def _claim(self, source: str, target: str, *, read_only: bool, sub_path: str = "") -> str:
        if source.startswith((".", "~")):
            return _RELATIVE
        if source not in self.policy.volume_claims or not _CLAIM.fullmatch(source):
            return "no PersistentVolumeClaim of that name is for tasks of this queue (taskPolicy.volumeClaims)"
        if sub_path.startswith("/") or ".." in sub_path.split("/"):
            return "volume-subpath: write a path inside the volume, without '..'"
        claim = {"persistentVolumeClaim": {"claimName": source}}
        return self._add(target, claim, read_only=read_only, sub_path=sub_path)

    def _add(self, target: str, source: Mapping[str, Any], *, read_only: bool = False, sub_path: str = "") -> str:
        path = posixpath.normpath("/" + target.lstrip("/"))
        if not target.startswith("/") or path == "/" or ":" in path or "\0" in path or len(path) > MAX_PATH:
            return "the folder in the container must be an absolute path, without a colon, and not / itself"
        if path in self.taken:
            return "something is mounted there already"
        self.taken.add(path)
        name = f"{VOLUME_PREFIX}{len(self.volumes) + 1}"
        self.volumes.append({"name": name, **source})
        more: dict[str, Any] = {"readOnly": True} if read_only else {}
        if sub_path:
            more["subPath"] = sub_path
        self.mounts.append({"name": name, "mountPath": path, **more})
        return ""


MAX_PATH: Final = 4096
_RELATIVE: Final = "a pod has no folder that a path could be relative to; write a claim's name, or an absolute path"
_MOUNT_KEYS: Mapping[str, str] = {
    "src": "source",
    "dst": "target",
    "destination": "target",
    "ro": "readonly",
}


def docker_size(text: str) -> Decimal | None:
    """Bytes of `64m`, `8G`, `1.5gb`, `1073741824`; None for what is no size."""
    found = _SIZE.fullmatch(text.strip().lower())
    if found is None:
        return None
    whole, part, unit = found.groups()
    return Decimal(f"{whole}.{part or 0}") * Decimal(1024) ** _UNITS.index(unit or "b")


def bytes_quantity(amount: int) -> str:
    """As Kubernetes writes it, in the largest unit that it is a multiple of."""
    power = 0
    while power < len(_BINARY) - 1 and amount and amount % 1024 == 0:
        amount, power = amount // 1024, power + 1
    return f"{amount}{_BINARY[power]}"

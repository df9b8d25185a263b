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

from clearml_k8s.config.policy import TaskPolicy, normal_path
from clearml_k8s.kube.quantity import quantity

SHM: Final = "/dev/shm"  # noqa: S108 - where it is
VOLUME_PREFIX: Final = "clearml-k8s-task-"

_SIZE = re.compile(r"(\d{1,18})(?:\.(\d{1,6}))?\s?([bkmgtp]?)(?:i?b)?", re.ASCII)
_UNITS: Final = "bkmgtp"
_CLAIM = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?", re.ASCII)
_BINARY: Final = ("", "Ki", "Mi", "Gi", "Ti", "Pi")
_FLAGS: Final = frozenset({"", "1", "t", "true"})


class Otherwise(str):
    """In which way something is done other than asked for."""


@dataclass(kw_only=True)
class Mounts:
    """Collects volumes and mounts of one task. ``taken``: where the template mounts something; ``ours``: folders of the
    controller's. Each method gives the reason why it is not done, "" when it is done, or how it is done `Otherwise`."""

    policy: TaskPolicy
    taken: set[str]
    ours: frozenset[str] = frozenset()
    volumes: list[dict[str, Any]] = field(default_factory=list)
    mounts: list[dict[str, Any]] = field(default_factory=list)
    _in_memory: list[tuple[str, int | None]] = field(default_factory=list)
    """Folders and the bytes asked for each, None: as much as may be."""

    def volume(self, text: str) -> str:
        """`-v [source:]target[:options]`."""
        parts = text.split(":")
        if len(parts) > 3 or not parts[-1]:
            return "write it as source:target, or source:target:ro"
        if len(parts) == 1:
            return self._add(parts[0], {"emptyDir": {}})
        source, target = parts[0], parts[1]
        options = set(parts[2].split(",")) if len(parts) == 3 else set()
        add = self._host if source.startswith("/") else self._claim
        why = add(source, target, read_only="ro" in options)
        return why or (Otherwise("of its options only ro counts") if options - _USUAL_OPTIONS else "")

    def mount(self, text: str) -> str:
        """`--mount type=...,source=...,target=...`."""
        try:
            parts = next(csv.reader([text], strict=False), [])
        except csv.Error:  # a line break outside of quotes, or a part of more than 128 KiB
            return "write it as type=volume,source=NAME,target=/folder, in one line"
        given: dict[str, str] = {}
        for part in parts:
            key, _, value = part.partition("=")
            given[_MOUNT_KEYS.get(key.strip().lower(), key.strip().lower())] = value.strip()
        why = self._typed(given)
        if not why and set(given) - _MOUNT_FIELDS:
            return Otherwise(f"what counts of it is {', '.join(sorted(_MOUNT_FIELDS))}")
        return why

    def _typed(self, given: Mapping[str, str]) -> str:
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
        given = [option for option in options.split(",") if option not in _USUAL_OPTIONS]
        sizes = [option.removeprefix("size=") for option in given if option.startswith("size=")]
        why = self.memory(target, size=sizes[-1] if sizes else "")
        return why or (Otherwise("of its options only size counts") if len(given) > len(sizes) else "")

    def memory(self, target: str, *, size: str) -> str:
        """A folder in memory, which counts as the container's own; ``size``: docker's, "" for as much as may be."""
        asked = docker_size(size) if size else None
        if size and asked is None:
            return "its size is none: write a number and b, k, m or g, as in 8g"
        if self._memory_limit() == 0:
            return "volumes in memory are not for tasks of this queue (taskPolicy.sharedMemory)"
        path, why = self._free(target)
        if not why:
            # As docker has it: a size of 0 is no limit.
            self._in_memory.append((path, int(asked or 0) or None))
        return why

    def mount_memory(self) -> str:
        """One volume for all folders in memory, so that the limit holds for them together; how it is otherwise."""
        if not self._in_memory:
            return ""
        most, sizes = self._memory_limit(), [size for _, size in self._in_memory]
        asked = None if None in sizes else sum(size for size in sizes if size is not None)
        cut = asked is not None and most is not None and asked > most
        amount = most if asked is None or cut else asked
        limit = {} if amount is None else {"sizeLimit": bytes_quantity(amount)}
        name = self._name_volume({"emptyDir": {"medium": "Memory", **limit}})
        alone = len(self._in_memory) == 1
        for number, (path, _) in enumerate(self._in_memory, start=1):
            self.mounts.append({"name": name, "mountPath": path, **({} if alone else {"subPath": str(number)})})
        return f"{self.policy.shared_memory} are the most that is allowed (taskPolicy.sharedMemory)" if cut else ""

    def _memory_limit(self) -> int | None:
        found = quantity(self.policy.shared_memory) if self.policy.shared_memory else None
        return None if found is None else int(found)

    def _host(self, source: str, target: str, *, read_only: bool) -> str:
        path = normal_path(source)
        folder = None if ".." in source.split("/") or "\0" in path else self.policy.host_folder(path)
        if folder is None:
            return "that folder of the node is not for tasks of this queue (taskPolicy.hostPaths)"
        # The kubelet opens a subPath without following links out of the volume; a hostPath it takes as it is.
        why = self._add(
            target,
            {"hostPath": {"path": folder.name}},
            read_only=read_only or folder.read_only,
            sub_path=posixpath.relpath(path, folder.name) if path != folder.name else "",
        )
        return why or (_only_read("hostPaths") if folder.read_only and not read_only else "")

    def _claim(self, source: str, target: str, *, read_only: bool, sub_path: str = "") -> str:
        if source.startswith((".", "~")):
            return _RELATIVE
        allowed = self.policy.claim(source)
        if allowed is None or not _CLAIM.fullmatch(source):
            return "no PersistentVolumeClaim of that name is for tasks of this queue (taskPolicy.volumeClaims)"
        if sub_path.startswith("/") or ".." in sub_path.split("/") or "\0" in sub_path:
            return "volume-subpath: write a path inside the volume, without '..'"
        claim = {"persistentVolumeClaim": {"claimName": source}}
        why = self._add(target, claim, read_only=read_only or allowed.read_only, sub_path=sub_path)
        return why or (_only_read("volumeClaims") if allowed.read_only and not read_only else "")

    def _free(self, target: str) -> tuple[str, str]:
        """The folder in the container, and why it cannot be; takes it when it can."""
        path = normal_path(target)
        if not target.startswith("/") or path == "/" or ":" in path or "\0" in path or len(path) > MAX_PATH:
            return path, "the folder in the container must be an absolute path, without a colon, and not / itself"
        if path in self.taken or any(path == one or path.startswith(one + "/") for one in self.ours):
            return path, "something is mounted there already"
        self.taken.add(path)
        return path, ""

    def _add(self, target: str, source: Mapping[str, Any], *, read_only: bool = False, sub_path: str = "") -> str:
        path, why = self._free(target)
        if why:
            return why
        more: dict[str, Any] = {"readOnly": True} if read_only else {}
        if sub_path:
            more["subPath"] = sub_path
        self.mounts.append({"name": self._name_volume(source), "mountPath": path, **more})
        return ""

    def _name_volume(self, source: Mapping[str, Any]) -> str:
        name = f"{VOLUME_PREFIX}{len(self.volumes) + 1}"
        self.volumes.append({"name": name, **source})
        return name


def _only_read(key: str) -> str:
    return Otherwise(f"it can only be read (taskPolicy.{key})")


MAX_PATH: Final = 4096
_RELATIVE: Final = "a pod has no folder that a path could be relative to; write a claim's name, or an absolute path"
_USUAL_OPTIONS: Final = frozenset(
    {"", "ro", "rw", "z", "Z", "cached", "delegated", "consistent", "nocopy", "nosuid", "nodev"}
)
"""Of `-v` and `--tmpfs`: those that a pod has by itself, or that change nothing in it."""
_MOUNT_FIELDS: Final = frozenset({"type", "source", "target", "readonly", "tmpfs-size", "volume-subpath"})
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

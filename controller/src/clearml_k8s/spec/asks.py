"""The task's own layer: what its docker arguments ask for, laid over the queue's template within its `taskPolicy`.

What a pod cannot have, and what the policy keeps, is left out and told (ADR 0012); nothing of it fails the task.
"""

from __future__ import annotations

import ipaddress
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from clearml_k8s import names
from clearml_k8s.config.gpus import FRACTION_LABEL
from clearml_k8s.config.policy import TaskPolicy, normal_path
from clearml_k8s.spec import docker_options, own_resources
from clearml_k8s.spec.container import DockerEnv
from clearml_k8s.spec.docker_options import TRUE, Option
from clearml_k8s.spec.ignored import Ignored
from clearml_k8s.spec.mounts import SHM, Mounts, Otherwise
from clearml_k8s.spec.own_resources import Wants
from clearml_k8s.spec.template import PodParts

MAX_ID: Final = 2**31 - 1
MOST_TOLD: Final = 50
"""Lines on the task's console: a text of docker arguments can hold 100,000 words."""

_HOST_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*", re.ASCII)
_LABEL_NAME = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", re.ASCII)
_CAPABILITIES: Final = """
    AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER
    FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE MKNOD NET_ADMIN NET_BIND_SERVICE
    NET_BROADCAST NET_RAW PERFMON SETFCAP SETGID SETPCAP SETUID SYSLOG SYS_ADMIN SYS_BOOT SYS_CHROOT SYS_MODULE SYS_NICE
    SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG WAKE_ALARM ALL
"""
"""capabilities(7); Kubernetes takes any name, and the container of an unknown one never starts."""
_EXPANDED = re.compile(r"\$\(([^)]*)\)")
_OURS = (names.PREFIX, "app.kubernetes.io/", "batch.kubernetes.io/")

_ADVICE: Mapping[str, str] = {
    "--device": "set resources in the queue's template",
    "--entrypoint": "what a pod starts is its queue's to say; use the task's setup script for preparations",
    "--env-file": "the file is not known here; write its lines as -e NAME=VALUE",
    "--network": "pods have the cluster's network; set dnsPolicy or hostAliases in the queue's template",
    "--publish": "a pod's ports need no publishing inside the cluster; make a Service for access from outside",
    "--rm": "finished pods are removed by the controller",
    "--runtime": "set runtimeClassName in the queue's template",
    "--ulimit": "Kubernetes has no such setting; it is the node's",
}
_OTHERWISE: Final = (
    "it has no counterpart in a pod; ask the cluster's administrator for a queue with the template you need"
)
_MISSING: Final = "its value is missing"
_NO_HOST_IPC: Final = "the node's IPC is not for tasks of this queue (taskPolicy.hostIPC)"
_USER_NAMESPACE: Final = "pods of this queue have a user namespace (hostUsers: false in its template)"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The parts with the task's layer over them, its environment, what it wants of the node, and what was left out."""

    parts: PodParts
    env: Mapping[str, str]
    wants: Wants
    ignored: tuple[Ignored, ...]


def lay_over(
    parts: PodParts,
    words: Sequence[str],
    *,
    policy: TaskPolicy,
    reserved_env: Iterable[str],
    reserved_paths: Iterable[str],
) -> Asked:
    """``words``: the task's docker arguments. ``reserved_env`` and ``reserved_paths`` are the controller's own."""
    layer = _Layer(parts, policy=policy, reserved_env=frozenset(reserved_env), reserved_paths=reserved_paths)
    for option in docker_options.options(words):
        layer.take(option)
    return layer.asked()


class _Layer:
    """Takes one option after the other; shares nothing with the parts that it was made from."""

    def __init__(
        self, parts: PodParts, *, policy: TaskPolicy, reserved_env: frozenset[str], reserved_paths: Iterable[str]
    ) -> None:
        self._parts = parts
        self._policy = policy
        self._env = DockerEnv(reserved=reserved_env, kept=_in_sub_paths(parts.container))
        self._spec = dict(parts.spec)
        self._container = dict(parts.container)
        self._labels = dict(parts.labels)
        self._ignored: list[Ignored] = []
        self._shm: Option | None = None
        self._ipc: Option | None = None
        self._wants = Wants()
        mounted = self._container.get("volumeMounts") or []
        taken = {normal_path(str(mount.get("mountPath") or "")) for mount in mounted}
        self._mounts = Mounts(policy=policy, taken=taken, ours=frozenset(reserved_paths))
        self._by_name: Mapping[str, Callable[[str], str]] = {
            "--add-host": self._add_host,
            "--cap-add": self._cap_add,
            "--cpus": lambda value: self._want("--cpus", value),
            "--entrypoint": lambda value: _ADVICE["--entrypoint"] if value else "",
            "--gpus": lambda value: self._want("--gpus", value),
            "--label": self._label,
            "--memory": lambda value: self._want("--memory", value),
            "--mount": self._mounts.mount,
            "--network": self._network,
            "--privileged": self._privileged,
            "--tmpfs": self._mounts.tmpfs,
            "--user": self._user,
            "--volume": self._mounts.volume,
            "--workdir": self._workdir,
        }

    def take(self, option: Option) -> None:
        if option.name == docker_options.ENV:
            self._ignored += self._env.take(option.value)
        elif option.name == docker_options.NO_OPTION:
            why = "it belongs to no option; put values with spaces in quotes"
            self._tell(f"docker argument {option.place}", why)
        elif option.name == "--shm-size":
            self._shm = option
        elif option.name == "--ipc":
            self._ipc = option
        elif option.name not in self._by_name:
            self._tell(option.written, _ADVICE.get(option.name, _OTHERWISE))
        elif option.value is None:
            self._tell(option.written, _MISSING)
        elif why := self._by_name[option.name](option.value):
            self._tell(option.written, why, changed=isinstance(why, Otherwise))

    def asked(self) -> Asked:
        self._share_memory()
        if why := self._mounts.mount_memory():
            self._tell("folders in memory", why, changed=True)
        if self._mounts.mounts:
            self._spec["volumes"] = [*self._spec.get("volumes", []), *self._mounts.volumes]
            self._container["volumeMounts"] = [*self._container.get("volumeMounts", []), *self._mounts.mounts]
        parts = replace(self._parts, spec=self._spec, container=self._container, labels=self._labels)
        return Asked(parts=parts, env=self._env.found, wants=self._wants, ignored=tuple(self._told()))

    def _told(self) -> Iterator[Ignored]:
        yield from self._ignored[:MOST_TOLD]
        if more := len(self._ignored[MOST_TOLD:]):
            yield Ignored(source="task", argument="docker arguments", why=f"{more} more are left out, and not told")

    def _tell(self, argument: str, why: str, *, changed: bool = False) -> None:
        self._ignored.append(Ignored(source="task", argument=argument, why=why, changed=changed))

    def _share_memory(self) -> None:
        """Docker gives 64 MiB where nothing is said, and the node's own with `--ipc=host`."""
        host = self._ipc is not None and self._ipc.value == "host"
        if self._ipc is not None and self._ipc.value not in ("", "host", "none", "private", "shareable"):
            self._tell("--ipc", "a pod shares its IPC with no other container")
        if host and self._policy.host_ipc and not self._in_user_namespace():
            self._spec["hostIPC"] = True
            return
        if self._shm is not None:
            why = self._mounts.memory(SHM, size=self._shm.value) if self._shm.value else _MISSING
            if why:
                self._tell("--shm-size", why)
        if host:
            why = "" if self._shm is not None else self._mounts.memory(SHM, size="")
            own = f"; the pod has a {SHM} of its own" if SHM in self._mounts.taken else f"; {why}"
            kept = _USER_NAMESPACE if self._policy.host_ipc else _NO_HOST_IPC
            self._tell("--ipc", f"{kept}{own}")

    def _want(self, option: str, value: str) -> str:
        wants, why = own_resources.of_docker(option, value, policy=self._policy)
        self._wants = wants.over(self._wants)
        return why

    def _add_host(self, value: str) -> str:
        name, mark, address = value.partition("=" if "=" in value else ":")
        name, address = name.strip().lower(), address.strip().removeprefix("[").removesuffix("]")
        if address == "host-gateway":
            return "the node's address is not known before the pod runs"
        if not mark or not _HOST_NAME.fullmatch(name):
            return "write it as name:address"
        try:
            address = str(ipaddress.ip_address(address))
        except ValueError:
            return "its address is no IP address"
        if "%" in address:
            return "Kubernetes takes no address with a zone (%)"
        entry = {"ip": address, "hostnames": [name]}
        self._spec["hostAliases"] = [*(self._spec.get("hostAliases") or []), entry]
        return ""

    def _network(self, value: str) -> str:
        if value in ("", "bridge", "default"):
            return ""
        if value != "host":
            return _ADVICE["--network"]
        if not self._policy.host_network:
            return "the node's network is not for tasks of this queue (taskPolicy.hostNetwork)"
        if self._in_user_namespace():
            return _USER_NAMESPACE
        self._spec["hostNetwork"] = True
        self._spec.setdefault("dnsPolicy", "ClusterFirstWithHostNet")
        return ""

    def _in_user_namespace(self) -> bool:
        """Kubernetes refuses such a pod together with the node's network or IPC."""
        return self._spec.get("hostUsers") is False

    def _privileged(self, value: str) -> str:
        if value != TRUE:
            return ""
        if not self._policy.privileged:
            return "tasks of this queue may not be privileged (taskPolicy.privileged)"
        # Kubernetes refuses the one without the other.
        self._secure(privileged=True, allowPrivilegeEscalation=True)
        return ""

    def _cap_add(self, value: str) -> str:
        name = value.strip().upper().removeprefix("CAP_")
        if name not in _CAPABILITIES.split():
            return "Linux has no such capability"
        if not self._policy.allows_capability(name):
            return "that capability is not for tasks of this queue (taskPolicy.capabilities)"
        known = (self._container.get("securityContext") or {}).get("capabilities") or {}
        added = [*dict.fromkeys([*(known.get("add") or ()), name])]
        self._secure(capabilities={**known, "add": added})
        return ""

    def _user(self, value: str) -> str:
        user, colon, group = value.partition(":")
        if not _is_id(user) or (colon and not _is_id(group)):
            return "write the user as a number, as in 1000 or 1000:1000: names are the image's own"
        if self._policy.user == "template":
            return "the queue's template says which user runs its tasks (taskPolicy.user)"
        if int(user) == 0 and (self._policy.user == "nonRoot" or self._must_not_be_root()):
            return "tasks of this queue may not run as root (taskPolicy.user)"
        if colon and int(group) == 0 and self._policy.user == "nonRoot":
            return "tasks of this queue may not run in root's group (taskPolicy.user)"
        self._secure(runAsUser=int(user), **({"runAsGroup": int(group)} if colon else {}))
        return ""

    def _must_not_be_root(self) -> bool:
        contexts = (self._spec.get("securityContext"), self._container.get("securityContext"))
        return any((context or {}).get("runAsNonRoot") is True for context in contexts)

    def _workdir(self, value: str) -> str:
        if not value.startswith("/") or "\0" in value:
            return "write an absolute path"
        self._container["workingDir"] = posixpath.normpath("/" + value.lstrip("/"))
        return ""

    def _label(self, value: str) -> str:
        key, _, text = value.partition("=")
        domain, slash, name = key.rpartition("/")
        if not _LABEL_NAME.fullmatch(name) or (slash and not _HOST_NAME.fullmatch(domain)):
            return "Kubernetes takes no label of that name"
        if key.startswith(_OURS) or key in names.TASK_LABELS:
            return "set by the controller"
        if key == FRACTION_LABEL:
            # It would be counted for what it says.
            return "shares of GPUs are the queue's template's to give; ask for GPUs with k8s-gpus"
        if not self._policy.allows_label(key):
            return "tasks of this queue may not set that label (taskPolicy.labels)"
        if not names.is_label_value(text):
            return "Kubernetes takes up to 63 letters, digits, '-', '_' and '.' as a label's value"
        self._labels[key] = text
        return ""

    def _secure(self, **fields: Any) -> None:
        self._container["securityContext"] = {**(self._container.get("securityContext") or {}), **fields}


def _in_sub_paths(container: Mapping[str, Any]) -> frozenset[str]:
    """Variables by which the template keeps tasks apart on a volume."""
    texts = [str(mount.get("subPathExpr") or "") for mount in container.get("volumeMounts") or ()]
    return frozenset(name for text in texts for name in _EXPANDED.findall(text))


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= len(str(MAX_ID)) and int(text) <= MAX_ID

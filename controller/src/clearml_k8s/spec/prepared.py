"""What an init container of the controller's image puts into a task's pod (ADR 0013): the bundle, certificates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from clearml_k8s import errors, names
from clearml_k8s.config import Certificates, TaskPodConfig

BUNDLE: Final = "/clearml-k8s"
"""In the controller's image as in the task's container: programs of the bundle name it."""

WORK: Final = f"{BUNDLE}-work"
"""Where a user without a home writes; start.sh makes the name of BUNDLE's."""

CERTIFICATES: Final = "/etc/clearml-k8s-certificates"
CERTIFICATE_ENV: Final[Mapping[str, str]] = dict.fromkeys(
    ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "PIP_CERT"),
    f"{CERTIFICATES}/{names.CERTIFICATES_FILE}",
)

CONTAINER: Final = "clearml-k8s-prepare"
VOLUME: Final = "clearml-k8s-prepared"
CERTIFICATES_VOLUME: Final = "clearml-k8s-certificates"

_TARGET: Final = "/prepared"
_GIVEN: Final = "/certificates"
_COPY: Final = f"""\
rm -rf {_TARGET}/bundle
cp -R {BUNDLE} {_TARGET}/bundle
mkdir -p {_TARGET}/work/home {_TARGET}/work/tmp {_TARGET}/work/bin
chmod 1777 {_TARGET}/work/home {_TARGET}/work/tmp {_TARGET}/work/bin
"""
_JOIN: Final = f"""\
mkdir -p {_TARGET}/certificates
cd {_TARGET}/certificates
cat {BUNDLE}/{names.CERTIFICATES_FILE} {_GIVEN}/{names.CERTIFICATES_FILE} >{names.CERTIFICATES_FILE}
"""

NOBODY: Final = 65532
_SHARED_RESOURCES: Final = ("cpu", "memory", "ephemeral-storage")


def folders(config: TaskPodConfig) -> tuple[str, ...]:
    """Where the task's container has what this module mounts."""
    return (
        *((BUNDLE, WORK) if config.bootstrap else ()),
        *((CERTIFICATES,) if config.certificates is not None else ()),
    )


def add(spec: dict[str, Any], container: dict[str, Any], *, config: TaskPodConfig) -> None:
    """Adds what `config` says to the pod's spec and to the task's container in it."""
    mounts: list[dict[str, Any]] = []
    volumes: list[dict[str, Any]] = []
    if config.bootstrap:
        mounts += [
            {"name": VOLUME, "mountPath": BUNDLE, "subPath": "bundle", "readOnly": True},
            {"name": VOLUME, "mountPath": WORK, "subPath": "work"},
        ]
    if config.certificates is not None:
        volumes.append({"name": CERTIFICATES_VOLUME, "configMap": {"name": config.certificates.config_map}})
        whole = config.certificates.complete
        source = {"name": CERTIFICATES_VOLUME} if whole else {"name": VOLUME, "subPath": "certificates"}
        mounts.append({**source, "mountPath": CERTIFICATES, "readOnly": True})
    if any(mount["name"] == VOLUME for mount in mounts):
        volumes.insert(0, {"name": VOLUME, "emptyDir": {}})
        spec["initContainers"] = [_init_container(spec, container, config), *(spec.get("initContainers") or ())]
    if mounts:
        spec["volumes"] = [*(spec.get("volumes") or ()), *volumes]
        container["volumeMounts"] = [*(container.get("volumeMounts") or ()), *mounts]


def _init_container(spec: Mapping[str, Any], task: Mapping[str, Any], config: TaskPodConfig) -> dict[str, Any]:
    if config.controller_image is None:  # a config file with this is refused
        raise errors.SpecError("task.controllerImage: nothing is set for the init container of task pods")
    joins = _needs_joining(config.certificates)
    script = "set -e\numask 022\n" + (_COPY if config.bootstrap else "") + (_JOIN if joins else "")
    given = [{"name": CERTIFICATES_VOLUME, "mountPath": _GIVEN, "readOnly": True}] if joins else []
    resources = _resources(task.get("resources") or {})
    return {
        "name": CONTAINER,
        "image": config.controller_image.name,
        "imagePullPolicy": config.controller_image.pull_policy,
        "command": ["/bin/sh", "-c", script],
        "terminationMessagePolicy": "FallbackToLogsOnError",
        **({"resources": resources} if resources else {}),
        "securityContext": _security(spec.get("securityContext") or {}),
        "volumeMounts": [{"name": VOLUME, "mountPath": _TARGET}, *given],
    }


def _needs_joining(certificates: Certificates | None) -> bool:
    return certificates is not None and not certificates.complete


def _security(pod: Mapping[str, Any]) -> dict[str, Any]:
    """Nobody, with nothing. The image has a user; a number is named only where the pod's would be root, as clusters may
    have numbers of their own."""
    user = {"runAsUser": NOBODY, "runAsGroup": NOBODY} if pod.get("runAsUser") == 0 else {}
    return {
        **user,
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _resources(task: Mapping[str, Any]) -> dict[str, Any]:
    """What the task's container has, without devices. It runs before that one, so the pod needs no more for it, keeps
    its QoS class, and passes the quotas that the task's container passes."""
    kept = {
        kind: {name: amount for name, amount in (task.get(kind) or {}).items() if name in _SHARED_RESOURCES}
        for kind in ("requests", "limits")
    }
    return {kind: amounts for kind, amounts in kept.items() if amounts}

"""basePodTemplate and templateOverrides of one queue -> the parts of the pod."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from clearml_k8s import errors, names
from clearml_k8s.config import Config, QueueConfig, RawTemplate
from clearml_k8s.spec.ignored import Ignored
from clearml_k8s.spec.merge import BY_NAME, POD_SPEC, is_set, merge_containers, merge_named, merge_templates

POD_KEYS: Mapping[str, str] = {
    "activeDeadlineSeconds": "activeDeadlineSeconds",
    "affinity": "affinity",
    "dnsConfig": "dnsConfig",
    "dnsPolicy": "dnsPolicy",
    "hostAliases": "hostAliases",
    "hostIPC": "hostIPC",
    "hostNetwork": "hostNetwork",
    "hostPID": "hostPID",
    "initContainers": "initContainers",
    "nodeName": "nodeName",
    "nodeSelector": "nodeSelector",
    "podSecurityContext": "securityContext",
    "priorityClassName": "priorityClassName",
    "runtimeClassName": "runtimeClassName",
    "schedulerName": "schedulerName",
    "serviceAccountName": "serviceAccountName",
    "shareProcessNamespace": "shareProcessNamespace",
    "terminationGracePeriodSeconds": "terminationGracePeriodSeconds",
    "tolerations": "tolerations",
    "topologySpreadConstraints": "topologySpreadConstraints",
}
"""Template key -> key of the PodSpec."""

CONTAINER_KEYS: Mapping[str, str] = {
    "containerSecurityContext": "securityContext",
    "env": "env",
    "imagePullPolicy": "imagePullPolicy",
    "resources": "resources",
    "volumeMounts": "volumeMounts",
}
"""Template key -> key of the task's container."""

_OWN_KEYS = ("labels", "annotations", "volumes", "extraVolumes", "extraVolumeMounts", "files", POD_SPEC)

FILES_VOLUME: Final = "clearml-k8s-files"

POD_FIXED: Mapping[str, Any] = {
    "restartPolicy": "Never",
    "enableServiceLinks": False,
    "automountServiceAccountToken": False,
}
"""What every task pod must have: a restarted container would run the task again, and task code gets no token."""

_POD_ADVICE = {
    "restartPolicy": "task pods are never restarted (Never); the controller decides about a new attempt",
    "enableServiceLinks": "task pods get no variables of Services (false)",
    "automountServiceAccountToken": "task pods get no token (false); project one with volumes where it is needed",
}

_CONTAINER_FIXED = {
    "name": "the task's container is named by the controller",
    "command": "the controller starts clearml-agent; use the task's setup script for preparations",
    "args": "the controller starts clearml-agent; use the task's setup script for preparations",
}


@dataclass(frozen=True, kw_only=True)
class PodParts:
    """A queue's pod template in Kubernetes' own shape, before the task is put in."""

    labels: dict[str, str]
    annotations: dict[str, str]
    spec: dict[str, Any]
    """PodSpec without `containers`."""
    container: dict[str, Any]
    """The task's container without name, image and command; `env` is the template's."""
    sidecars: list[dict[str, Any]]
    ignored: tuple[Ignored, ...]


def pod_parts(*, config: Config, queue: QueueConfig, further: RawTemplate | None = None) -> PodParts:
    """The pod template of `queue`, with `further` laid over it. Raises `errors.SpecError` for a key this version does
    not know."""
    given = merge_templates(base=config.base_pod_template, override=queue.template_overrides)
    given = merge_templates(base=given, override=further or {})
    unknown = sorted(set(given) - set(POD_KEYS) - set(CONTAINER_KEYS) - set(_OWN_KEYS))
    if unknown:
        raise errors.SpecError(
            f"pod template of queue {queue.name}: the key {unknown[0]} is not known; "
            f"known keys: {', '.join(sorted([*POD_KEYS, *CONTAINER_KEYS, *_OWN_KEYS]))}"
        )
    spec: dict[str, Any] = copy.deepcopy(dict(config.base_pod_spec or {}))
    containers = spec.pop("containers", None) or [{}]
    container, sidecars = containers[0], containers[1:]
    container.pop("image", None)
    sidecars += _lay_over(spec, container, given.get(POD_SPEC, {}))
    ignored = drop_fixed(spec, container)

    before = spec.get(BY_NAME) or []
    spec |= {POD_KEYS[key]: value for key, value in given.items() if key in POD_KEYS}
    if before and BY_NAME in given:
        spec[BY_NAME] = merge_containers(before, given[BY_NAME])
    container |= {CONTAINER_KEYS[key]: value for key, value in given.items() if key in CONTAINER_KEYS}
    _extend(spec, "volumes", given.get("volumes"), given.get("extraVolumes"))
    _extend(container, "volumeMounts", None, given.get("extraVolumeMounts"))
    if "files" in given:
        _mount_files(spec, container, given["files"])
    if config.task.service_account_name:
        spec.setdefault("serviceAccountName", config.task.service_account_name)
    pull_secrets = merge_named(
        ({"name": name} for name in config.task.image_pull_secrets), spec.pop("imagePullSecrets", None) or ()
    )
    if pull_secrets:
        spec["imagePullSecrets"] = pull_secrets
    return PodParts(
        labels=dict(given.get("labels", {})),
        annotations=dict(given.get("annotations", {})),
        spec={**spec, **POD_FIXED},
        container=container,
        sidecars=sidecars,
        ignored=ignored,
    )


def _lay_over(spec: dict[str, Any], container: dict[str, Any], further: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Puts `podSpec` into the spec and, of its containers, the one named as the task's into that; the others."""
    spec |= {key: value for key, value in further.items() if key != "containers" and is_set(value)}
    others = []
    for entry in further.get("containers") or ():
        if entry["name"] == names.TASK_CONTAINER:
            container |= {key: value for key, value in entry.items() if key != "name" and is_set(value)}
        else:
            others.append(entry)
    return others


def drop_fixed(spec: dict[str, Any], container: dict[str, Any]) -> tuple[Ignored, ...]:
    """Takes out of a whole pod spec and the task's container what the controller decides itself; what differed."""
    ignored = []
    for key, why in _POD_ADVICE.items():
        if spec.pop(key, POD_FIXED[key]) != POD_FIXED[key]:
            ignored.append(Ignored(source="template", argument=f"spec.{key}", why=why))
    for key, why in _CONTAINER_FIXED.items():
        if container.pop(key, None) is not None and key != "name":
            ignored.append(Ignored(source="template", argument=f"spec.containers[0].{key}", why=why))
    return tuple(ignored)


def _mount_files(spec: dict[str, Any], container: dict[str, Any], files: Mapping[str, Any]) -> None:
    """Mounts each file alone (`subPath`), so that what else is in its folder stays."""
    mounts = [
        {"name": FILES_VOLUME, "mountPath": item["path"], "subPath": item["key"], "readOnly": True}
        for item in files["items"]
    ]
    _extend(spec, "volumes", None, [{"name": FILES_VOLUME, "secret": {"secretName": files["secretName"]}}])
    _extend(container, "volumeMounts", None, mounts)


def _extend(target: dict[str, Any], key: str, replacement: Any, extra: Any) -> None:
    """`target[key]` = the replacement if there is one, else what is there, and then the extra entries."""
    entries = [*(target.get(key) or [] if replacement is None else replacement), *(extra or [])]
    if entries:
        target[key] = entries

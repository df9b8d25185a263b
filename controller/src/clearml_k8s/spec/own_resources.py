"""What a task says that it needs: user properties, and docker's `--gpus`, `--cpus`, `--memory`, within `taskPolicy`.

A property asks for exactly that, and what cannot be had fails the task; docker arguments are often habits, so of these
it is cut or left out, and told. Properties go first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from typing import Any, Final

from clearml_k8s.config.gpus import FRACTION_LABEL, is_gpu, is_share
from clearml_k8s.config.policy import TaskPolicy
from clearml_k8s.errors import SpecError
from clearml_k8s.kube.quantity import quantity
from clearml_k8s.spec.mounts import Otherwise, bytes_quantity, docker_size
from clearml_k8s.spec.template import PodParts

GPUS: Final = "k8s-gpus"
CPUS: Final = "k8s-cpus"
MEMORY: Final = "k8s-memory"
NODE_SELECTOR: Final = "k8s-node-selector"
PRIORITY_CLASS: Final = "k8s-priority-class"

USUAL_GPU: Final = "nvidia.com/gpu"
"""What is asked for where the queue's template has no GPU that would tell."""

LEAST_MEMORY: Final = 6 * 2**20
"""Docker's own least, in bytes; a number without its unit is meant otherwise."""

_COUNT = re.compile(r"\d{1,6}", re.ASCII)
_DECIMAL = re.compile(r"\d{1,6}(?:\.\d{1,3})?", re.ASCII)
_NODE_LABEL = re.compile(
    r"([A-Za-z0-9][-A-Za-z0-9_./]{0,316})=([A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?|)", re.ASCII
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Wants:
    """What is asked for; None: nothing is said. ``gpus``: a count, ``cpus`` and ``memory``: Kubernetes quantities."""

    gpus: int | None = None
    cpus: str | None = None
    memory: str | None = None
    node_selector: Mapping[str, str] | None = None
    priority_class: str | None = None

    def over(self, other: Wants) -> Wants:
        """These, and where nothing is said the other's."""
        mine = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(other, **{name: value for name, value in mine.items() if value is not None})


NOTHING: Final = Wants()


def said(properties: Mapping[str, str]) -> dict[str, str]:
    """Those of the properties that say something here."""
    names = (GPUS, CPUS, MEMORY, NODE_SELECTOR, PRIORITY_CLASS)
    return {name: text for name in names if (text := properties.get(name, "").strip())}


def of_properties(properties: Mapping[str, str], *, policy: TaskPolicy) -> Wants:
    """What the task's user properties ask for. Raises `SpecError` for what is no amount, or is not allowed."""
    given = said(properties)
    return Wants(
        gpus=_gpus(given[GPUS], policy) if GPUS in given else None,
        cpus=_amount(CPUS, given[CPUS], most=_text(policy.max_cpus), policy="maxCpus") if CPUS in given else None,
        memory=_amount(MEMORY, given[MEMORY], most=policy.max_memory, policy="maxMemory") if MEMORY in given else None,
        node_selector=_node_selector(given[NODE_SELECTOR], policy) if NODE_SELECTOR in given else None,
        priority_class=_priority_class(given[PRIORITY_CLASS], policy) if PRIORITY_CLASS in given else None,
    )


def asking_for_the_most(policy: TaskPolicy) -> dict[str, str]:
    """The properties of a task that asks for all that the policy gives a single one."""
    given = {GPUS: str(policy.max_gpus), CPUS: _text(policy.max_cpus), MEMORY: policy.max_memory}
    if (quantity(policy.max_memory) or 0) < LEAST_MEMORY:
        del given[MEMORY]
    return {name: text for name, text in given.items() if quantity(text)}


def of_docker(option: str, value: str, *, policy: TaskPolicy) -> tuple[Wants, str]:
    """What `--gpus`, `--cpus` or `--memory` asks for, and why it is left out or `Otherwise`; "" when it is as asked."""
    match option:
        case "--gpus":
            count = value.removeprefix("count=")
            if policy.max_gpus == 0:
                return NOTHING, "set resources.limits (nvidia.com/gpu) in the queue's template, or taskPolicy.maxGpus"
            if count in ("all", "-1"):
                return NOTHING, "a task has the GPUs of the queue's template; write a number for others"
            if not _COUNT.fullmatch(count):
                return NOTHING, "GPUs of a pod are counted, not named: write a number"
            most = policy.max_gpus
            cut = Otherwise(f"{most} is the most that is allowed (taskPolicy.maxGpus)") if int(count) > most else ""
            return Wants(gpus=min(int(count), most)), cut
        case "--cpus":
            if policy.max_cpus == 0:
                return NOTHING, "set resources in the queue's template, or taskPolicy.maxCpus"
            if not _DECIMAL.fullmatch(value) or Decimal(value) == 0:
                return NOTHING, "write a number, as in 1.5"
            most_cpus = Decimal(_text(policy.max_cpus))
            if Decimal(value) > most_cpus:
                return Wants(cpus=str(most_cpus)), Otherwise(f"{most_cpus} are the most (taskPolicy.maxCpus)")
            return Wants(cpus=value), ""
        case _:
            limit = quantity(policy.max_memory) if policy.max_memory else None
            asked = docker_size(value)
            if not limit:
                return NOTHING, "set resources in the queue's template, or taskPolicy.maxMemory"
            if asked is None or asked < 1:
                return NOTHING, "its size is none: write a number and b, k, m or g, as in 8g"
            if asked < LEAST_MEMORY:
                return NOTHING, "with so little no container starts: write its unit, as in 8g"
            if asked > limit:
                return Wants(memory=policy.max_memory), Otherwise(
                    f"{policy.max_memory} are the most (taskPolicy.maxMemory)"
                )
            return Wants(memory=bytes_quantity(int(asked))), ""


def lay_over(parts: PodParts, wants: Wants) -> PodParts:
    """The parts with what the task wants."""
    spec, container = dict(parts.spec), dict(parts.container)
    if wants.gpus is not None and FRACTION_LABEL in parts.labels:
        parts, wants = _by_injector(parts, wants, gpus=wants.gpus)
    if (wants.gpus, wants.cpus, wants.memory) != (None, None, None):
        container["resources"] = _resources(container.get("resources") or {}, wants)
    if wants.node_selector is not None:
        spec["nodeSelector"] = {**(spec.get("nodeSelector") or {}), **wants.node_selector}
    if wants.priority_class is not None:
        spec["priorityClassName"] = wants.priority_class
    return replace(parts, spec=spec, container=container)


def _by_injector(parts: PodParts, wants: Wants, *, gpus: int) -> tuple[PodParts, Wants]:
    """Where ClearML's injector alone gives GPUs, its label says how many; the parts, and what is left to want."""
    given = parts.container.get("resources") or {}
    alone = not any(is_gpu(name) for part in ("limits", "requests") for name in given.get(part) or {})
    labels = {key: value for key, value in parts.labels.items() if key != FRACTION_LABEL}
    if not gpus:
        return replace(parts, labels=labels), wants
    if alone:
        return replace(parts, labels={**labels, FRACTION_LABEL: str(gpus)}), replace(wants, gpus=None)
    return parts, wants


def _resources(given: Mapping[str, Any], wants: Wants) -> dict[str, Any]:
    limits, requests = dict(given.get("limits") or {}), dict(given.get("requests") or {})
    if wants.gpus is not None:
        known = [name for name in (*limits, *requests) if is_gpu(name)]
        # A share is one of what the template gives; who asks for GPUs means whole ones.
        for name in (*known, *(one for one in (*limits, *requests) if is_share(one))):
            limits.pop(name, None)
            requests.pop(name, None)
        if wants.gpus:
            limits[known[0] if known else USUAL_GPU] = wants.gpus
    if wants.cpus is not None:
        requests["cpu"] = wants.cpus
        # Without a limit in the template, idle CPUs of the node are everybody's.
        if "cpu" in limits:
            limits["cpu"] = wants.cpus
    if wants.memory is not None:
        requests["memory"] = limits["memory"] = wants.memory
    found = {"limits": limits, "requests": requests}
    return (
        {**given, **found}
        if limits and requests
        else {
            **{key: value for key, value in given.items() if key not in found},
            **{key: value for key, value in found.items() if value},
        }
    )


def _gpus(text: str, policy: TaskPolicy) -> int:
    if not _COUNT.fullmatch(text):
        raise SpecError(f"the task's property {GPUS}: found {text[:40]!r}; expected a number of GPUs, as in 2")
    if int(text) > policy.max_gpus:
        raise _too_much(GPUS, text, most=str(policy.max_gpus), key="maxGpus")
    return int(text)


def _amount(name: str, text: str, *, most: str, policy: str) -> str:
    found = quantity(text)
    if found is None or found <= 0:
        example = "500m or 4" if name == CPUS else "16Gi"
        raise SpecError(f"the task's property {name}: found {text[:40]!r}; expected an amount, as in {example}")
    if found > (quantity(most) or 0):
        raise _too_much(name, text, most=most or "0", key=policy)
    if name == MEMORY and found < LEAST_MEMORY:
        raise SpecError(
            f"the task's property {name}: found {text[:40]!r}; with so little no container starts: write its unit, as "
            "in 16Gi"
        )
    return text


def _too_much(name: str, text: str, *, most: str, key: str) -> SpecError:
    return SpecError(
        f"the task's property {name}: found {text[:40]!r}; tasks of this queue may have up to {most} (taskPolicy.{key})"
    )


def _node_selector(text: str, policy: TaskPolicy) -> dict[str, str]:
    found = {}
    for part in text.split(","):
        match = _NODE_LABEL.fullmatch(part.strip())
        if match is None:
            raise SpecError(
                f"the task's property {NODE_SELECTOR}: found {part.strip()[:80]!r}; expected labels of nodes, as in "
                "pool=a100,zone=b"
            )
        if not policy.allows_node_label(match[1], match[2]):
            raise SpecError(
                f"the task's property {NODE_SELECTOR}: found {part.strip()[:80]!r}, which is not for tasks of this "
                "queue (taskPolicy.nodeSelector)"
            )
        found[match[1]] = match[2]
    return found


def _priority_class(text: str, policy: TaskPolicy) -> str:
    if text not in policy.priority_classes:
        raise SpecError(
            f"the task's property {PRIORITY_CLASS}: found {text[:80]!r}, which is not for tasks of this queue "
            "(taskPolicy.priorityClasses)"
        )
    return text


def _text(number: float) -> str:
    return f"{Decimal(str(number)).normalize():f}"

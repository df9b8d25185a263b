"""Tasks on several nodes: key `multiNode`, `queueSettings.multiNode`, and what a list of GPUs by node means."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from clearml_k8s.config import gpus

MOST_PODS: Final = 512
"""Of one task: what a slip of the pen may do to a cluster at most."""

MOST_GPUS: Final = 1024
"""Of one node, and of one pod."""


@dataclass(frozen=True, kw_only=True)
class MultiNodeConfig:
    """Where tasks may run on several nodes."""

    start_timeout_minutes: float = 30.0
    """How long its pods may wait until all of them have a node; then all of them are given back."""
    max_give_backs: int = 3
    """How often a task goes back to the front of its queue for that; once more, and it fails."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """A list of GPUs by node as pods that are all alike: ``pods`` of them with ``gpus`` each, ``total`` in all; at most
    ``together`` of them make up one node of the list."""

    pods: int
    gpus: int
    total: int
    together: int


def split(gpus_by_node: Sequence[int]) -> Split:
    """By the greatest common divisor. All zeros: pods without GPUs, one for each node.

    Raises ValueError, in words, for a list that no pods follow from.
    """
    if not gpus_by_node or any(isinstance(one, bool) or not isinstance(one, int) for one in gpus_by_node):
        raise ValueError("write whole numbers, the GPUs of each node, as in [4, 2]")
    if min(gpus_by_node) < 0 or max(gpus_by_node) > MOST_GPUS:
        raise ValueError(f"write GPUs of a node as numbers from 0 to {MOST_GPUS}")
    each = math.gcd(*gpus_by_node)
    if each and 0 in gpus_by_node:
        raise ValueError("a node without GPUs cannot stand beside others: leave the 0 out")
    total = sum(gpus_by_node)
    pods = total // each if each else len(gpus_by_node)
    if pods > MOST_PODS:
        raise ValueError(f"that makes {pods} pods of {each} GPUs; {MOST_PODS} are the most that one task may have")
    together = max(gpus_by_node) // each if each else 1
    return Split(pods=pods, gpus=each, total=total, together=together)


def read(raw: Mapping[str, Any] | None) -> MultiNodeConfig | None:
    """Of a checked document; None where no task may run on several nodes."""
    given = {key: value for key, value in (raw or {}).items() if value is not None}
    if not given.get("enabled"):
        return None
    defaults = MultiNodeConfig()
    return MultiNodeConfig(
        start_timeout_minutes=given.get("startTimeoutMinutes", defaults.start_timeout_minutes),
        max_give_backs=given.get("maxGiveBacks", defaults.max_give_backs),
    )


def problems(document: Mapping[str, Any]) -> Iterator[str]:
    """What the schema cannot say of a whole config file, with paths."""
    base = (document.get("basePodTemplate") or {}).get("resources")
    for name, queue in document["queues"].items():
        settings = (queue or {}).get("queueSettings") or {}
        asked = settings.get("multiNode")
        if not asked:
            continue
        place = f"queues.{name}.queueSettings.multiNode: found {list(asked)}"
        if read(document.get("multiNode")) is None:
            yield f"{place}; set multiNode.enabled: true, or leave it out"
        if settings.get("useImageEntrypoint"):
            yield f"{place} with useImageEntrypoint: true; pods of one task wait for each other in our start script"
        try:
            found = split(asked)
        except ValueError as error:
            yield f"{place}; {error}"
            continue
        # Those of a queue replace those of all.
        resources = ((queue or {}).get("templateOverrides") or {}).get("resources") or base
        limit = gpus.limit(resources)
        if limit is not None and limit != found.gpus:
            yield f"{place}; {gpu_advice(found, limit=limit, where=f'queues.{name}.templateOverrides.resources')}"


def gpu_advice(found: Split, *, limit: int, where: str) -> str:
    """What to write where the template's GPUs do not fit."""
    makes = f"that makes {found.pods} pods of {found.gpus} GPUs (the greatest common divisor), and the template's limit"
    if found.gpus == 0:
        return f"{makes} is {limit}: leave GPUs out of {where}.limits"
    return f"{makes} is {limit}: write {where}.limits with nvidia.com/gpu: {found.gpus}"

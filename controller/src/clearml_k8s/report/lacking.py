"""Queues whose pods ask for what no node has: a GPU operator that is not there, or a misspelt resource."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clearml_k8s.kube.node import Amounts, extended


def asked(pod_spec: Mapping[str, Any]) -> Amounts:
    """The extended resources that one pod asks for: of all its containers together."""
    total: dict[str, int] = {}
    for container in pod_spec.get("containers") or ():
        resources = container.get("resources") or {}
        # What is asked for as a request alone is refused by Kubernetes, so limits say it.
        for name, amount in extended(resources.get("limits") or {}):
            total[name] = total.get(name, 0) + amount
    return tuple(sorted(total.items()))


def lacking(pod_spec: Mapping[str, Any], *, largest: Amounts) -> tuple[str, ...]:
    """In words, one for each resource that the pod asks for and no node has; ``largest`` as in `Summary`."""
    most = dict(largest)
    found = []
    for name, amount in asked(pod_spec):
        if name not in most:
            found.append(
                f"asks for {name}: {amount}, which no node of the cluster has: is the operator or device plugin that "
                f"offers it running? (kubectl get nodes -o custom-columns=NAME:.metadata.name,HAS:.status.allocatable)"
            )
        elif amount > most[name]:
            found.append(f"asks for {name}: {amount} in one pod, and no node of the cluster has more than {most[name]}")
    return tuple(found)

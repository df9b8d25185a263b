"""Queues whose pods ask for what no node has: a GPU operator that is not there, or a misspelt resource."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from clearml_k8s.config import Config
from clearml_k8s.config.gpus import is_share
from clearml_k8s.errors import SpecError
from clearml_k8s.kube.node import Amounts, extended
from clearml_k8s.spec.template import pod_parts
from clearml_k8s.spec.variants import variants


def by_queue(config: Config, *, largest: Amounts) -> Mapping[str, tuple[str, ...]]:
    """By key of ``queues`` what its pods lack, as `lacking`; queues that lack nothing are left out."""
    found = {}
    for key, queue in config.queues.items():
        texts: list[str] = []
        for variant in variants(config=config, queue=queue):
            try:
                parts = pod_parts(config=variant.config, queue=variant.queue)
            except SpecError:
                continue  # the queue's own state says so
            texts += lacking([parts.container, *parts.sidecars], largest=largest)
        if texts:
            found[key] = tuple(dict.fromkeys(texts))
    return found


def asked(containers: Iterable[Mapping[str, Any]]) -> Amounts:
    """The extended resources that a pod of these containers asks for, all together."""
    total: dict[str, int] = {}
    for container in containers:
        resources = container.get("resources") or {}
        # What is asked for as a request alone is refused by Kubernetes, so limits say it.
        for name, amount in extended(resources.get("limits") or {}):
            if is_share(name):
                continue  # kept out of pods
            total[name] = total.get(name, 0) + amount
    return tuple(sorted(total.items()))


def lacking(containers: Iterable[Mapping[str, Any]], *, largest: Amounts) -> tuple[str, ...]:
    """In words, one for each resource that the pod asks for and no node has; ``largest`` as in `Summary`."""
    most = dict(largest)
    found = []
    for name, amount in asked(containers):
        if name not in most:
            found.append(
                f"asks for {name}: {amount}, which no node of the cluster has: is the operator or device plugin that "
                f"offers it running? (kubectl get nodes -o custom-columns=NAME:.metadata.name,HAS:.status.allocatable)"
            )
        elif amount > most[name]:
            found.append(f"asks for {name}: {amount} in one pod, and no node of the cluster has more than {most[name]}")
    return tuple(found)

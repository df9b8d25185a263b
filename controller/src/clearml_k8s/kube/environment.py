"""The variables of a pod's containers, read when somebody must know what not to show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clearml_k8s.kube.client import KubeClient
from clearml_k8s.kube.resources import PODS
from clearml_k8s.kube.slim import PodRecord


async def environment(client: KubeClient, pod: PodRecord, *, namespace: str) -> list[tuple[str, str]]:
    """Name and value of all that are written in its spec, as its containers see them; none when it is gone.

    What comes from a Secret is not in it. Errors as `KubeClient.request`.
    """
    # A list of one: to list pods is what the controller may do.
    selector = f"metadata.name={pod.name}"
    found: list[tuple[str, str]] = []
    async for page in client.list_pages(PODS, namespace=namespace, field_selector=selector):
        for item in page["items"]:
            meta, spec = (item.get(key) if isinstance(item, Mapping) else None for key in ("metadata", "spec"))
            if isinstance(meta, Mapping) and meta.get("uid") == pod.uid and isinstance(spec, Mapping):
                found += [*_of(spec.get("initContainers")), *_of(spec.get("containers"))]
    return found


def _of(containers: Any) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for container in containers if isinstance(containers, list) else ():
        entries = container.get("env") if isinstance(container, Mapping) else None
        for entry in entries if isinstance(entries, list) else ():
            name, value = (entry.get(key) if isinstance(entry, Mapping) else None for key in ("name", "value"))
            if isinstance(name, str) and isinstance(value, str):
                found.append((name, value.replace("$$", "$")))
    return found

"""What a template module gets and returns: the pod of the queue's template, as a Pod's `metadata` and `spec`."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from clearml_k8s import names
from clearml_k8s.config.pod_template import shape_problems
from clearml_k8s.errors import SpecError
from clearml_k8s.spec.template import POD_FIXED, PodParts, drop_fixed


def as_pod(parts: PodParts, *, image: str, namespace: str) -> dict[str, Any]:
    """The parts as a Pod, the task's container first; ``image``: the one that the task will have."""
    task = {"name": names.TASK_CONTAINER, "image": image, **parts.container}
    return copy.deepcopy(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"namespace": namespace, "labels": parts.labels, "annotations": parts.annotations},
            "spec": {**parts.spec, "containers": [task, *parts.sidecars]},
        }
    )


def of_pod(pod: Mapping[str, Any], *, parts: PodParts, namespace: str) -> PodParts:
    """The parts as the module has changed them; the task's container keeps its `image`.

    What the controller decides itself stays as it is, and is told. Raises SpecError for what is no pod.
    """
    problems = shape_problems(dict(pod))
    metadata, spec = pod.get("metadata") or {}, copy.deepcopy(pod.get("spec") or {})
    if not problems and not spec.get("containers"):
        problems = ["spec.containers: expected the task's container, and perhaps others"]
    if not problems and metadata.get("namespace", namespace) != namespace:
        problems = [f"metadata.namespace: pods of tasks are in {namespace}; leave it as it is"]
    if problems:
        raise SpecError(f"the template module returned no pod template: {'; '.join(problems)[:500]}")
    container, *sidecars = spec.pop("containers")
    # As Kubernetes takes it: null is not set.
    spec, container = _set(spec), _set(container)
    ignored = drop_fixed(spec, container)
    return replace(
        parts,
        labels=dict(metadata.get("labels") or {}),
        annotations=dict(metadata.get("annotations") or {}),
        spec={**spec, **POD_FIXED},
        container=container,
        sidecars=sidecars,
        ignored=(*parts.ignored, *ignored),
    )


def _set(given: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in given.items() if value is not None}

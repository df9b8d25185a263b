"""Shares of GPUs as ClearML's documentation writes them: what of them becomes of a Job.

`clear.ml/fraction-1: "0.5"` in the limits says how much of a GPU the other limits give. Kubernetes takes whole amounts
alone, so it is kept out of the pod; an annotation says it for what is limited, and a variable tells the agent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Final

from clearml_k8s import errors, names
from clearml_k8s.config.gpus import FRACTION_LABEL, is_share
from clearml_k8s.kube.quantity import quantity, shown
from clearml_k8s.spec.template import PodParts

ENV_FRACTIONS: Final = "CLEARML_AGENT_GPU_FRACTIONS"
ANNOTATION: Final = "gpu-fraction"
"""Of ClearML's glue: only reported."""

_SLICE: Final = "nvidia.com/mig-"


def take_out(parts: PodParts) -> tuple[PodParts, dict[str, str]]:
    """The parts without shares in the task's resources, and the annotation that says them.

    Raises `SpecError` for a share that is no amount."""
    resources = parts.container.get("resources") or {}
    found = {name: value for name, value in (resources.get("limits") or {}).items() if is_share(str(name))}
    total = Decimal(0)
    for name, value in found.items():
        amount = quantity(value)
        if amount is None:
            text = str(value)[:40]
            raise errors.SpecError(f"the pod template's limit {name}: found {text!r}; expected a number, as in 0.5")
        total += amount
    return _without(parts), {names.ANNOTATION_GPUS: shown(total)} if found else {}


def _without(parts: PodParts) -> PodParts:
    """Kubernetes refuses a pod that asks for them."""
    given = parts.container.get("resources") or {}
    if not any(is_share(str(name)) for amounts in given.values() if isinstance(amounts, Mapping) for name in amounts):
        return parts
    left = {
        key: {name: value for name, value in amounts.items() if not is_share(str(name))}
        if isinstance(amounts, Mapping)
        else amounts
        for key, amounts in given.items()
    }
    return replace(parts, container={**parts.container, "resources": {key: one for key, one in left.items() if one}})


def reported(parts: PodParts) -> dict[str, str]:
    """What the agent is told of them, in the form of its own glue: of limits, else of slices, else of the injector's
    label, else of the annotation; before `take_out`."""
    limits = (parts.container.get("resources") or {}).get("limits") or {}
    shares = [str(limits[name]) for name in sorted(limits) if is_share(str(name))]
    slices = [f"{name}:{value}" for name, value in limits.items() if str(name).startswith(_SLICE)]
    texts = [",".join(shares), ",".join(slices), _of_label(parts.labels), _of_annotation(parts.annotations)]
    text = next(filter(None, texts), "")
    return {ENV_FRACTIONS: text} if text else {}


def _of_label(labels: Mapping[str, str]) -> str:
    amount = quantity(labels.get(FRACTION_LABEL))
    # Of one GPU: the agent takes it for each of those that it sees.
    return "" if amount is None else f"{min(amount, Decimal(1)):.3f}"


def _of_annotation(annotations: Mapping[str, str]) -> str:
    return annotations[ANNOTATION] if quantity(annotations.get(ANNOTATION)) is not None else ""

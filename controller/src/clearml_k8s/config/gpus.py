"""Which resources of a pod are GPUs, and how many of them a template gives it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

FRACTION_LABEL: Final = "clearml-injector/fraction"
"""By which ClearML's injector gives a pod a share of a GPU, or several GPUs."""

_SHARE = re.compile(r"clear\.ml/fraction(?:-\d+)?", re.ASCII)


def is_gpu(resource: str) -> bool:
    """Whether a unit of this resource is a GPU, or a share or slice of one, by the names of the vendors' plugins."""
    vendor, _, device = resource.partition("/")
    return (
        device.split(".")[0] == "gpu"
        or (vendor == "nvidia.com" and device.startswith("mig-"))
        or (vendor == "gpu.intel.com" and device != "")
        or resource == "habana.ai/gaudi"
    )


def is_share(resource: str) -> bool:
    """Whether an amount of this name says how much of a GPU the others give; no node has it."""
    return _SHARE.fullmatch(resource) is not None


def limit(resources: Mapping[str, Any] | None) -> int | None:
    """The GPUs that these resources of a container give it, 0 without any; None where that is no plain number."""
    found = 0
    for name, amount in ((resources or {}).get("limits") or {}).items():
        if not is_gpu(str(name)):
            continue
        text = str(amount).strip()
        if not (text.isascii() and text.isdecimal()):
            return None
        found += int(text)
    return found

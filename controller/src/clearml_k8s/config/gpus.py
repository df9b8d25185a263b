"""Which resources of a pod are GPUs, and how many of them a template gives it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def is_gpu(resource: str) -> bool:
    """Whether a unit of this resource is a GPU, or a share or slice of one, by the names of the vendors' plugins."""
    vendor, _, device = resource.partition("/")
    return (
        device.split(".")[0] == "gpu"
        or (vendor == "nvidia.com" and device.startswith("mig-"))
        or (vendor == "gpu.intel.com" and device != "")
        or resource == "habana.ai/gaudi"
    )


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

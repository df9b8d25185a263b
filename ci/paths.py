"""Where things are: the checkout, its name, and the cache outside of it."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def cache_dir() -> Path:
    """`$CLEARML_K8S_CACHE`, else `~/.cache/clearml-k8s`; absolute, may not exist yet."""
    return Path(os.environ.get("CLEARML_K8S_CACHE") or "~/.cache/clearml-k8s").expanduser().absolute()


def checkout_name() -> str:
    """Name of this checkout's cluster: `$CLUSTER_NAME`, else the folder's name and a hash of its path.

    Raises ValueError when `$CLUSTER_NAME` cannot serve as a part of file, cgroup and network names.
    """
    given = os.environ.get("CLUSTER_NAME", "")
    if given:
        if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?", given):
            raise ValueError(
                f"CLUSTER_NAME={given!r}: use 1 to 32 lower-case letters, digits and dashes, no dash at the ends"
            )
        return given
    folder = re.sub(r"[^a-z0-9]+", "-", ROOT.name.lower()).strip("-")[:20].strip("-") or "checkout"
    return f"{folder}-{hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]}"

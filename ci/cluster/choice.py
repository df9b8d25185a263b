"""`CLUSTER`: which cluster is meant."""

from __future__ import annotations

import os

from .errors import ClusterError


def current_chosen() -> bool:
    """True for `CLUSTER=current`, False when it is not set; ClusterError for any other value."""
    value = os.environ.get("CLUSTER", "")
    if value not in ("", "current"):
        raise ClusterError(
            f"CLUSTER={value!r} is not known: leave it out for the local cluster, or write `current` for the cluster "
            "of the current kube context"
        )
    return value == "current"

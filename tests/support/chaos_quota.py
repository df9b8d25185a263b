"""A ResourceQuota in a chaos test's namespace."""

from __future__ import annotations

from chaos_counts import until
from chaos_kube import Kube


async def set_quota(kube: Kube, namespace: str, *, pods: int, scoped: bool = True) -> None:
    """Of pods with a deadline alone, where ``scoped``."""
    body = {
        "metadata": {"name": "team"},
        "spec": {"hard": {"pods": str(pods)}, **({"scopes": ["Terminating"]} if scoped else {})},
    }
    path = f"/api/v1/namespaces/{namespace}/resourcequotas"
    await kube.request("POST", path, body=body)

    async def counted() -> bool:
        return bool((await kube.request("GET", f"{path}/team")).get("status", {}).get("used"))

    await until(counted, "the quota is counted", limit=30)

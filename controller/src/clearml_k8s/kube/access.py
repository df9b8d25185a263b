"""May we? The API server's own answer, by SelfSubjectAccessReview."""

from __future__ import annotations

from dataclasses import dataclass

from clearml_k8s.errors import KubeUnanswered
from clearml_k8s.kube.client import KubeClient
from clearml_k8s.kube.resources import SELF_SUBJECT_ACCESS_REVIEWS, Resource


@dataclass(frozen=True, kw_only=True, slots=True)
class Access:
    """One permission as asked, and the answer; ``reason`` is the authoriser's, often "" when denied."""

    verb: str
    resource: str
    namespace: str | None
    name: str | None
    allowed: bool
    reason: str

    def __str__(self) -> str:
        what = f"{self.verb} {self.resource}" + (f" {self.name!r}" if self.name else "")
        where = f" in namespace {self.namespace}" if self.namespace else ""
        return f"{'may' if self.allowed else 'may not'} {what}{where}"


async def review(
    client: KubeClient,
    *,
    verb: str,
    resource: Resource,
    namespace: str | None = None,
    name: str | None = None,
    subresource: str | None = None,
    deadline: float | None = None,
) -> Access:
    """Ask whether these credentials may ``verb`` the ``resource``. Errors as `KubeClient.request`."""
    attributes: dict[str, str] = {"verb": verb, "group": resource.group, "resource": resource.plural}
    if namespace is not None:
        attributes["namespace"] = namespace
    if name is not None:
        attributes["name"] = name
    if subresource is not None:
        attributes["subresource"] = subresource
    body = {
        "apiVersion": SELF_SUBJECT_ACCESS_REVIEWS.api_version,
        "kind": SELF_SUBJECT_ACCESS_REVIEWS.kind,
        "spec": {"resourceAttributes": attributes},
    }
    # It creates nothing that lasts, so it may be repeated like a read.
    answer = await client.request("POST", SELF_SUBJECT_ACCESS_REVIEWS.path(), body=body, deadline=deadline, read=True)
    status = answer.get("status")
    if not isinstance(status, dict):
        raise KubeUnanswered("create selfsubjectaccessreviews", "the answer holds no status")
    plural = f"{resource.plural}.{resource.group}" if resource.group else resource.plural
    return Access(
        verb=verb,
        resource=f"{plural}/{subresource}" if subresource else plural,
        namespace=namespace,
        name=name,
        allowed=status.get("allowed") is True,
        reason=str(status.get("reason") or ""),
    )

"""The resources the controller uses, and their paths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote


@dataclass(frozen=True, kw_only=True, slots=True)
class Resource:
    """One resource: its group ("" for core), version, plural name and kind."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """What objects of it carry as ``apiVersion``."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, *, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """The URL path of the collection, or of one object, or of its ``subresource``."""
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        if self.namespaced and namespace is not None:
            parts += ["namespaces", quote(namespace, safe="")]
        parts.append(self.plural)
        if name is not None:
            parts.append(quote(name, safe=""))
            if subresource is not None:
                parts.append(subresource)
        return "/".join(parts)


JOBS: Final = Resource(group="batch", version="v1", plural="jobs", kind="Job")
PODS: Final = Resource(group="", version="v1", plural="pods", kind="Pod")
CONFIGMAPS: Final = Resource(group="", version="v1", plural="configmaps", kind="ConfigMap")
EVENTS: Final = Resource(group="", version="v1", plural="events", kind="Event")
SECRETS: Final = Resource(group="", version="v1", plural="secrets", kind="Secret")
SERVICES: Final = Resource(group="", version="v1", plural="services", kind="Service")
NODES: Final = Resource(group="", version="v1", plural="nodes", kind="Node", namespaced=False)
NAMESPACES: Final = Resource(group="", version="v1", plural="namespaces", kind="Namespace", namespaced=False)
RESOURCEQUOTAS: Final = Resource(group="", version="v1", plural="resourcequotas", kind="ResourceQuota")
LEASES: Final = Resource(group="coordination.k8s.io", version="v1", plural="leases", kind="Lease")
SELF_SUBJECT_ACCESS_REVIEWS: Final = Resource(
    group="authorization.k8s.io",
    version="v1",
    plural="selfsubjectaccessreviews",
    kind="SelfSubjectAccessReview",
    namespaced=False,
)

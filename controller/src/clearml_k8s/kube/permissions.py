"""The one table of what the controller may do in its cluster.

The chart's Role grants exactly this, docs/operations.md shows it, and `clearml-k8s check` asks for it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

from clearml_k8s import names
from clearml_k8s.kube.resources import (
    CONFIGMAPS,
    EVENTS,
    JOBS,
    LEASES,
    NAMESPACES,
    NODES,
    PODS,
    RESOURCE_QUOTAS,
    SECRETS,
    SERVICES,
    Resource,
)
from clearml_k8s.kube.workload import WORKLOADS


class Only(Enum):
    """Which objects of a kind a permission is limited to."""

    CLAIMS = "`<fullname>-claims`"
    LEASE = "`<fullname>-leader`"
    NAMESPACE = "its own"


class Feature(Enum):
    """What a permission is needed for, where it is not always; in words for the documentation."""

    CLUSTER_ACCESS = "`serviceAccountClusterAccess`"
    CPU_QUOTA = "`orchestrationDashboard.cpu.reportNamespaced`"
    RESOURCE_QUOTAS = "`agentk8sglue.respectResourceQuotas`, which is on by default"
    SESSIONS = "`sessions.portModeEnabled`"
    OWNER_TOKENS = "`agentk8sglue.useOwnerToken`"
    KUEUE = "`agentk8sglue.kueue.queueName`, or that of a queue"
    MULTI_NODE = "`agentk8sglue.multiNode.enabled`"


@dataclass(frozen=True, kw_only=True, slots=True)
class Permission:
    """One row; ``purpose``: in words, for the documentation; ``when``: granted with this feature alone."""

    resource: Resource
    verbs: tuple[str, ...]
    purpose: str
    subresource: str | None = None
    only: Only | None = None
    when: Feature | None = None

    @property
    def plural(self) -> str:
        """As RBAC names it: "pods", "pods/log"."""
        return f"{self.resource.plural}/{self.subresource}" if self.subresource else self.resource.plural

    def name(self, *, fullname: str, namespace: str) -> str | None:
        """The one object's name, None for all; ``fullname``: the release's, which record and Lease are named after."""
        return {
            None: None,
            Only.CLAIMS: names.claims_name(fullname),
            Only.LEASE: names.lease_name(fullname),
            Only.NAMESPACE: namespace,
        }[self.only]


PERMISSIONS: Final = (
    Permission(
        resource=JOBS,
        verbs=("get", "list", "watch", "create", "delete"),
        purpose="the Jobs of tasks; a dry run of templates",
    ),
    Permission(resource=PODS, verbs=("list", "watch"), purpose="their state"),
    Permission(
        resource=PODS,
        subresource="log",
        verbs=("get",),
        purpose="the last lines of a pod whose task ended without a word",
    ),
    Permission(resource=EVENTS, verbs=("list",), purpose="why a Job has no pod"),
    Permission(
        resource=CONFIGMAPS, verbs=("create",), purpose="the record of claims; RBAC cannot limit `create` by name"
    ),
    Permission(resource=CONFIGMAPS, only=Only.CLAIMS, verbs=("get", "patch"), purpose="the record of claims"),
    Permission(resource=LEASES, verbs=("create",), purpose="which process leads; RBAC cannot limit `create` by name"),
    Permission(resource=LEASES, only=Only.LEASE, verbs=("get", "patch"), purpose="which process leads"),
    Permission(
        resource=NAMESPACES,
        only=Only.NAMESPACE,
        verbs=("get",),
        purpose="its uid is part of the controller's identity",
    ),
    Permission(
        resource=NODES,
        verbs=("list", "watch"),
        purpose="the GPUs and CPUs of the cluster",
        when=Feature.CLUSTER_ACCESS,
    ),
    Permission(
        resource=RESOURCE_QUOTAS,
        verbs=("list",),
        purpose="the CPUs of the namespace that is reported",
        when=Feature.CPU_QUOTA,
    ),
    Permission(
        resource=RESOURCE_QUOTAS,
        verbs=("list", "watch"),
        purpose="no task is taken whose pod a quota would refuse",
        when=Feature.RESOURCE_QUOTAS,
    ),
    Permission(
        resource=SERVICES,
        verbs=("get", "list", "create"),
        purpose="a Service for each session; it goes with its Job",
        when=Feature.SESSIONS,
    ),
    Permission(
        resource=SECRETS,
        verbs=("create",),
        purpose="a Secret for each task, with its owner's token; none is ever read, and it goes with its Job",
        when=Feature.OWNER_TOKENS,
    ),
    Permission(
        resource=WORKLOADS,
        verbs=("list", "watch"),
        purpose="what Kueue says of a Job",
        when=Feature.KUEUE,
    ),
    Permission(
        resource=SERVICES,
        verbs=("get", "list", "create"),
        purpose="a headless Service for each task on several nodes; it goes with its Job",
        when=Feature.MULTI_NODE,
    ),
)


BY_DEFAULT: Final = frozenset({Feature.RESOURCE_QUOTAS})
"""What is on unless the values say otherwise."""


def wanted(features: Collection[Feature]) -> tuple[Permission, ...]:
    """The rows that a controller with these features needs."""
    return tuple(row for row in PERMISSIONS if row.when is None or row.when in features)


def markdown() -> Iterator[str]:
    """The lines of the table in docs/operations.md."""
    yield "| resource | verbs | for |"
    yield "|---|---|---|"
    for row in PERMISSIONS:
        resource = f"{row.plural}, {row.only.value}" if row.only else row.plural
        purpose = f"{row.purpose}; with {row.when.value}" if row.when else row.purpose
        yield f"| {resource} | {', '.join(row.verbs)} | {purpose} |"

"""What is kept of a Workload: what Kueue says of a Job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from clearml_k8s import names
from clearml_k8s.errors import KubeNotFound, KubeUnanswered
from clearml_k8s.kube.client import KubeClient
from clearml_k8s.kube.resources import Resource
from clearml_k8s.kube.slim import Condition, slim_conditions
from clearml_k8s.kube.watch import Watch
from clearml_k8s.wire import NOTHING, got

VERSIONS: Final = ("v1beta2", "v1beta1")
"""Of Kueue's API, the newest first; what is read here is the same in both."""

GROUPS_PATH: Final = "/apis"
"""Discovery, which every account may ask. All groups: of one that is not there, the answer could be some proxy's."""

PERMISSION: Final = "the chart's Role gives it where kueue.queueName is set"


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkloadRecord:
    """A Workload. ``job``: the uid of the Job that it is of; ``task``: the task of that Job; ``active``: Kueue may
    admit it."""

    uid: str
    name: str
    resource_version: str
    task: str | None
    job: str | None
    active: bool
    conditions: tuple[Condition, ...]

    def condition(self, kind: str) -> Condition | None:
        """The condition of this type, whatever its status."""
        return next((c for c in self.conditions if c.type == kind), None)


def slim_workload(workload: object) -> WorkloadRecord:
    """The record of a Workload. Raises KubeUnanswered for one without uid or name."""
    if not isinstance(workload, Mapping):
        raise KubeUnanswered("Workload", got(workload, expected="an object"))
    meta, spec, status = (_map(workload, key) for key in ("metadata", "spec", "status"))
    for key in ("uid", "name"):
        found = meta.get(key, NOTHING)
        if not isinstance(found, str) or not found:
            raise KubeUnanswered("Workload", f"metadata.{key}: {got(found, expected='text')}")
    owners = meta.get("ownerReferences")
    owner = next((o for o in _maps(owners) if o.get("kind") == "Job"), {})
    return WorkloadRecord(
        uid=meta["uid"],
        name=meta["name"],
        resource_version=str(meta.get("resourceVersion") or ""),
        task=_task(spec),
        job=owner["uid"] if isinstance(owner.get("uid"), str) else None,
        active=spec.get("active") is not False,
        conditions=slim_conditions(status),
    )


def workloads(version: str) -> Resource:
    return Resource(group=names.KUEUE_GROUP, version=version, plural="workloads", kind="Workload")


WORKLOADS: Final = workloads(VERSIONS[0])


async def served(client: KubeClient) -> Resource:
    """The Workloads in a version that this cluster serves. KubeNotFound, with what to do, where Kueue is not there;
    other errors as `KubeClient.request`."""
    answer = await client.request("GET", GROUPS_PATH)
    groups = _maps(answer.get("groups"))
    if not groups:
        raise KubeUnanswered(f"GET {GROUPS_PATH}", "the answer holds no list of API groups")
    group = next((one for one in groups if one.get("name") == names.KUEUE_GROUP), None)
    found = {one.get("version") for one in _maps(group.get("versions"))} if group is not None else set()
    for version in VERSIONS:
        if version in found:
            return workloads(version)
    if group is None:
        why = "Kueue is not installed in this cluster: install it, or leave kueue.queueName out"
    else:
        shown = ", ".join(sorted(str(one) for one in found)) or "no version"
        why = f"this cluster's Kueue serves its API in {shown}, expected {' or '.join(VERSIONS)}: upgrade it"
    raise KubeNotFound(f"GET {GROUPS_PATH}", 404, "NotFound", why)


class WorkloadWatch(Watch[WorkloadRecord]):
    """Watches the Workloads of a namespace in the version that is served; Kueue may come, go and be upgraded."""

    def __init__(self, *, client: KubeClient, namespace: str) -> None:
        super().__init__(
            client=client, resource=WORKLOADS, slim=slim_workload, namespace=namespace, permission=PERMISSION
        )

    async def _list(self) -> tuple[tuple[WorkloadRecord, ...], str]:
        self._resource = await served(self._client)
        return await super()._list()


def _task(spec: Mapping[str, Any]) -> str | None:
    """From the labels of its pods, which are the Job's: a Workload has none of them itself."""
    sets = _maps(spec.get("podSets"))
    labels = _map(_map(_map(sets[0], "template"), "metadata"), "labels") if sets else {}
    found = labels.get(names.LABEL_TASK_ID)
    return found if isinstance(found, str) and found else None


def _map(source: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = source.get(key)
    return found if isinstance(found, Mapping) else {}


def _maps(found: object) -> list[Mapping[str, Any]]:
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []

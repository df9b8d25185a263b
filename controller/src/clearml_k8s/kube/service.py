"""Services that Jobs own: that of a session, and that by which the pods of a task find each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clearml_k8s import names
from clearml_k8s.config.sessions import SessionsConfig
from clearml_k8s.errors import KubeUnanswered
from clearml_k8s.kube.client import KubeClient
from clearml_k8s.kube.resources import JOBS, SERVICES
from clearml_k8s.kube.slim import JobRecord
from clearml_k8s.wire import NOTHING, got

PORT_NAME = "ssh"

MASTER_PORT = 29500
"""Names of hosts need no port, but not every DNS server knows a Service without one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServiceRecord:
    """A Service. ``owner``: the uid of its Job; ``port``, ``node_port``: of its first port; ``ingress``: the first
    address of its load balancer; each None where there is none."""

    name: str
    kind: str
    owner: str | None
    port: int | None
    node_port: int | None
    ingress: str | None


def slim_service(service: Mapping[str, Any]) -> ServiceRecord:
    """The record of a Service object. Raises KubeUnanswered for one without a name."""
    meta, spec, status = _map(service, "metadata"), _map(service, "spec"), _map(service, "status")
    name = meta.get("name", NOTHING)
    if not isinstance(name, str) or not name:
        raise KubeUnanswered("Service", f"metadata.name: {got(name, expected='text')}")
    port, ingress = _first(spec, "ports"), _first(_map(status, "loadBalancer"), "ingress")
    owners = meta.get("ownerReferences")
    owner = next((o for o in owners if isinstance(o, Mapping)), {}) if isinstance(owners, list) else {}
    return ServiceRecord(
        name=name,
        kind=_text(spec, "type") or "ClusterIP",
        owner=_text(owner, "uid"),
        port=_number(port, "port"),
        node_port=_number(port, "nodePort"),
        ingress=_text(ingress, "ip") or _text(ingress, "hostname"),
    )


async def list_services(client: KubeClient, *, namespace: str, selector: str) -> dict[str, ServiceRecord]:
    """Those with these labels, by name. Errors as `KubeClient.list_pages` and `slim_service`."""
    found = {}
    async for page in client.list_pages(SERVICES, namespace=namespace, label_selector=selector):
        for item in page["items"]:
            service = slim_service(item)
            found[service.name] = service
    return found


def manifest(
    job: JobRecord,
    *,
    port: int,
    node_port: int | None,
    sessions: SessionsConfig,
    namespace: str,
    release: str,
    controller: str,
) -> dict[str, Any]:
    """The Service that leads to this Job's pod and no other; Kubernetes removes it with the Job."""
    labels = {names.LABEL_SESSION_AGENT: sessions.agent_id} if sessions.agent_id else {}
    one: dict[str, Any] = {"name": PORT_NAME, "protocol": "TCP", "port": port, "targetPort": port}
    if node_port is not None:
        one["nodePort"] = node_port
    found = _owned(
        job,
        name=names.session_name(job.task or ""),
        component=names.COMPONENT_SESSION,
        namespace=namespace,
        release=release,
        controller=controller,
    )
    found["metadata"]["labels"] |= labels
    found["metadata"]["annotations"] = dict(sessions.annotations)
    found["spec"] |= {"type": sessions.service_type, "ports": [one]}
    if job.ranked:
        # Of several pods the first one's script opens the session.
        found["spec"]["selector"][names.LABEL_POD_INDEX] = "0"
    return found


def headless(job: JobRecord, *, namespace: str, release: str, controller: str) -> dict[str, Any]:
    """The Service that gives each of the Job's pods a host name of its own; Kubernetes removes it with the Job."""
    found = _owned(
        job,
        name=names.nodes_name(job.task or ""),
        component=names.COMPONENT_NODES,
        namespace=namespace,
        release=release,
        controller=controller,
    )
    found["spec"] |= {"clusterIP": "None", "ports": [{"name": "master", "protocol": "TCP", "port": MASTER_PORT}]}
    return found


def _owned(
    job: JobRecord, *, name: str, component: str, namespace: str, release: str, controller: str
) -> dict[str, Any]:
    task = job.task or ""
    owner = {"apiVersion": JOBS.api_version, "kind": JOBS.kind, "name": job.name, "uid": job.uid}
    return {
        "apiVersion": SERVICES.api_version,
        "kind": SERVICES.kind,
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {
                **names.common_labels(release=release, controller=controller),
                names.LABEL_COMPONENT: component,
                names.LABEL_TASK_ID: task,
            },
            "ownerReferences": [owner],
        },
        "spec": {
            # The Job's uid: a pod of the task's former attempt, which still ends, is not meant.
            "selector": {names.LABEL_TASK_ID: task, names.LABEL_JOB_UID: job.uid},
            # A pod that is not ready, for its sidecar perhaps, is found all the same.
            "publishNotReadyAddresses": True,
        },
    }


def _map(source: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = source.get(key) if isinstance(source, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _first(source: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = source.get(key)
    first = found[0] if isinstance(found, list) and found else None
    return first if isinstance(first, Mapping) else {}


def _text(source: Mapping[str, Any], key: str) -> str | None:
    found = source.get(key)
    return found if isinstance(found, str) and found else None


def _number(source: Mapping[str, Any], key: str) -> int | None:
    found = source.get(key)
    return found if isinstance(found, int) and not isinstance(found, bool) and found else None

"""The Services of sessions: one for each, made when its Job is there, gone with it (ADR 0016).

What was listed is kept, and listed again where that can tell something new; whether a port of the nodes is free only
the API server knows.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

from clearml_k8s import names
from clearml_k8s.clock import Clock
from clearml_k8s.config import Config
from clearml_k8s.config.sessions import SessionsConfig
from clearml_k8s.errors import KubeAlreadyExists, KubeForbidden, KubeInvalid
from clearml_k8s.kube.client import KubeClient
from clearml_k8s.kube.resources import SERVICES
from clearml_k8s.kube.service import ServiceRecord, list_services, manifest, slim_service
from clearml_k8s.kube.slim import JobRecord
from clearml_k8s.logs import kv

log = logging.getLogger(__name__)

LIST_SECONDS: Final = 60.0
"""Between two looks at whether the Services that are known are still there."""

WAIT_SECONDS: Final = 10.0
"""Between two looks at whether a Service has gone whose place one may have, or a load balancer has its address."""

AGAIN_SECONDS: Final = 30.0
"""After a port was found to be another's, or a Service was refused, until it is tried again."""

NAMESAKE_SECONDS: Final = 60.0
"""After which a Service of another owner is not one that Kubernetes is about to remove."""

ALLOCATED: Final = "port is already allocated"
"""In what the API server says of a port that any Service of the cluster has."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wait:
    """Why a session has no Service yet, for its user; ``level``: of the log's line."""

    why: str
    level: int = logging.INFO


class SessionServices:
    """Of one controller's sessions; see the module."""

    def __init__(
        self, *, config: Config, sessions: SessionsConfig, client: KubeClient, clock: Clock, controller: str
    ) -> None:
        """``controller``: its id, for labels."""
        self._config = config
        self._sessions = sessions
        self._client = client
        self._clock = clock
        self._controller = controller
        self._known: dict[str, ServiceRecord] = {}  # by name
        self._listed = float("-inf")
        self._list_after = float("-inf")
        self._not_before: dict[str, float] = {}  # by uid of the Job, as the next
        self._namesakes: dict[str, float] = {}  # since when
        self._elsewhere: dict[int, float] = {}  # ports that others have, until then
        self._forbidden_told = False

    def keep(self, uids: set[str]) -> None:
        """Forget all other Jobs."""
        for found in (self._not_before, self._namesakes):
            for uid in found.keys() - uids:
                del found[uid]

    async def refresh(self, jobs: Collection[JobRecord]) -> Wait | None:
        """Look at what is there, where that can tell something new of these; Wait: that is not allowed. Errors as
        `KubeClient.list_pages`."""
        now = self._clock.monotonic()
        if now < self._list_after:
            return self._no_right()
        if not any(self._due(job, now) for job in jobs):
            return None
        try:
            self._known = await self._list()
        except KubeForbidden:
            self._list_after = now + AGAIN_SECONDS
            return self._no_right()
        self._listed = now
        return None

    def _due(self, job: JobRecord, now: float) -> bool:
        service = self._known.get(names.session_name(job.task or ""))
        if service is None or service.owner != job.uid:
            return now >= self._not_before.get(job.uid, now)
        awaits = service.kind == "LoadBalancer" and service.ingress is None and not self._sessions.external_address
        return now >= self._listed + (WAIT_SECONDS if awaits else LIST_SECONDS)

    async def of(self, job: JobRecord) -> ServiceRecord | Wait | None:
        """The session's Service, made if there is none; None: look again."""
        name = names.session_name(job.task or "")
        service = self._known.get(name)
        if service is None:
            if self._clock.monotonic() < self._not_before.get(job.uid, 0.0):
                return None
            made = await self._create(job)
            if not isinstance(made, ServiceRecord):
                return made
            service = self._known[name] = made
        if service.owner != job.uid:
            return self._namesake(job, service)
        self._namesakes.pop(job.uid, None)
        return service

    async def _list(self) -> dict[str, ServiceRecord]:
        """Those of this release, by name."""
        selector = names.session_selector(release=self._config.release_name)
        return await list_services(self._client, namespace=self._config.namespace, selector=selector)

    async def _create(self, job: JobRecord) -> ServiceRecord | Wait | None:
        for node_port in self._free():
            body = manifest(
                job,
                port=job.session_port or 0,
                node_port=node_port,
                sessions=self._sessions,
                namespace=self._config.namespace,
                release=self._config.release_name,
                controller=self._controller,
            )
            try:
                made = await self._client.create(SERVICES, body, namespace=self._config.namespace)
            except KubeAlreadyExists:
                return await self._existing(job)
            except (KubeInvalid, KubeForbidden) as error:
                if node_port is not None and isinstance(error, KubeInvalid) and ALLOCATED in error.message:
                    self._elsewhere[node_port] = self._clock.monotonic() + AGAIN_SECONDS
                    continue
                return self._refused(job, error)
            log.info("Service of a session created", extra=kv(**job.fields, service=body["metadata"]["name"]))
            self._forbidden_told = False
            return slim_service(made)
        self._not_before[job.uid] = self._clock.monotonic() + WAIT_SECONDS
        return Wait(why=self._all_taken())

    async def _existing(self, job: JobRecord) -> ServiceRecord | None:
        found = await self._client.find(SERVICES, names.session_name(job.task or ""), namespace=self._config.namespace)
        return None if found is None else slim_service(found)

    def _free(self) -> Iterator[int | None]:
        """The ports of nodes to try, lowest first; one None where the type of Service has none; nothing when all
        Services that there may be are there."""
        ours = list(self._known.values())
        if len(ours) >= self._sessions.max_services:
            return
        if self._sessions.service_type != "NodePort":
            yield None
            return
        taken = {service.node_port for service in ours}
        now = self._clock.monotonic()
        for port in self._sessions.node_ports:
            if port not in taken and now >= self._elsewhere.get(port, 0.0):
                yield port

    def _all_taken(self) -> str:
        if self._sessions.service_type != "NodePort":
            return f"all {self._sessions.max_services} Services of sessions are in use"
        ports = self._sessions.node_ports
        return f"all of {ports[0]} to {ports[-1]} are in use"

    def _refused(self, job: JobRecord, error: KubeInvalid | KubeForbidden) -> Wait:
        self._not_before[job.uid] = self._clock.monotonic() + AGAIN_SECONDS
        if isinstance(error, KubeForbidden) and error.lacks_right_to_create:
            return self._no_right()
        return Wait(why=f"Kubernetes refuses its Service: {error.message}", level=logging.WARNING)

    def _no_right(self) -> Wait:
        """Of all sessions alike: said once in the log, and to each user who waits."""
        if not self._forbidden_told:
            log.warning(
                "this account may not list and create Services in namespace %s, so sessions cannot be reached: the "
                "chart's Role gives it with sessions.portModeEnabled: true; clearml-k8s check tells what is missing",
                self._config.namespace,
            )
        self._forbidden_told = True
        return Wait(why="the agent may not make Services in this cluster; its administrator can allow it")

    def _namesake(self, job: JobRecord, service: ServiceRecord) -> Wait | None:
        """The Service of that name is not this Job's: that of the task's former attempt goes in a moment."""
        now = self._clock.monotonic()
        if now - self._namesakes.setdefault(job.uid, now) < NAMESAKE_SECONDS:
            return None
        self._not_before[job.uid] = now + WAIT_SECONDS
        return Wait(why=f"another Service is named {service.name}")

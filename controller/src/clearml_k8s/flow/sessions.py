"""Sessions of clearml-session: a Service for each, and the way to it on the task (ADR 0016).

Nothing is remembered that must outlast the process: what is there is listed, what is missing is made, and a Service
goes with the Job that owns it. All in one look, every few seconds; one session's trouble is left to the next look.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from clearml_k8s import names
from clearml_k8s.clearml import tasks
from clearml_k8s.clearml.session import Session
from clearml_k8s.clearml.tasks import TaskView
from clearml_k8s.config import Config
from clearml_k8s.config.sessions import SessionsConfig
from clearml_k8s.errors import (
    KubeAlreadyExists,
    KubeForbidden,
    KubeInvalid,
    Refused,
    Unanswered,
)
from clearml_k8s.flow.tell import Teller
from clearml_k8s.kube.client import KubeClient
from clearml_k8s.kube.resources import SERVICES
from clearml_k8s.kube.service import ServiceRecord, manifest, slim_service
from clearml_k8s.kube.slim import JobRecord, PodRecord
from clearml_k8s.kube.store import Store
from clearml_k8s.logs import kv

log = logging.getLogger(__name__)

LOOK_SECONDS = 3.0
"""Between two looks."""

LIST_SECONDS = 60.0
"""Between two looks at whether the Services of sessions that are reached are still there."""

AGAIN_SECONDS = 30.0
"""After a port was found to be another's, or a Service was refused, until it is tried again."""

NAMESAKE_SECONDS = 60.0
"""After which a Service of another owner is not one that Kubernetes is about to remove."""

ALLOCATED = "port is already allocated"
"""In what the API server says of a port that any Service of the cluster has."""

NO_RIGHT = "cannot create resource"
"""In what it says where the account lacks the right; an admission plugin says something else."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Way:
    """How clients come to a session, as they read it."""

    address: str
    port: int

    @property
    def properties(self) -> dict[str, str]:
        return {names.PROPERTY_GATEWAY: self.address, names.PROPERTY_POD_PORT: str(self.port)}


class Sessions:
    """Of one controller's sessions; see the module."""

    def __init__(
        self,
        *,
        config: Config,
        sessions: SessionsConfig,
        session: Session,
        client: KubeClient,
        jobs: Store[JobRecord],
        pods: Store[PodRecord],
        teller: Teller,
        controller: str,
    ) -> None:
        """``controller``: its id, for labels."""
        self._config = config
        self._sessions = sessions
        self._session = session
        self._client = client
        self._clock = session.clock
        self._jobs = jobs
        self._pods = pods
        self._teller = teller
        self._controller = controller
        self._told: dict[str, Way] = {}  # by uid of the Job, as all below
        self._before: frozenset[str] | None = None  # those that another process may have told of
        self._not_before: dict[str, float] = {}
        self._namesakes: dict[str, float] = {}  # since when
        self._troubles: dict[str, str] = {}
        self._elsewhere: dict[int, float] = {}  # ports that others have, until then
        self._next_list = 0.0
        self._forbidden_told = False
        self._list_after = 0.0

    async def look(self) -> None:
        """One step for each session. Errors of the list as `KubeClient.list_pages`, of the read as `Session.call`."""
        jobs = [job for job in self._jobs if _wanted(job)]
        self._keep({job.uid for job in jobs})
        if self._before is None:
            self._before = frozenset(job.uid for job in jobs)
        if not self._due(jobs):
            return
        try:
            services = await self._list()
        except KubeForbidden:
            self._list_after = self._clock.monotonic() + AGAIN_SECONDS
            self._no_right(jobs)
            return
        self._next_list = self._clock.monotonic() + LIST_SECONDS
        ways: list[tuple[JobRecord, Way]] = []
        for job in jobs:
            try:
                way = await self._reach(job, services)
                if way is None or way != self._told.get(job.uid):
                    self._told.pop(job.uid, None)
                    ways += [] if way is None else [(job, way)]
            except Exception as error:
                self._trouble(job, error)
        await self._tell_all(ways)

    def _due(self, jobs: Iterable[JobRecord]) -> bool:
        if self._clock.monotonic() < self._list_after:
            return False
        untold = any(job.uid not in self._told for job in jobs)
        return untold or (bool(self._told) and self._clock.monotonic() >= self._next_list)

    # ---- Services -------------------------------------------------------------------------------------------------

    async def _list(self) -> dict[str, ServiceRecord]:
        """The Services of this release's sessions, by name."""
        found = {}
        selector = names.session_selector(release=self._config.release_name)
        async for page in self._client.list_pages(SERVICES, namespace=self._config.namespace, label_selector=selector):
            for item in page["items"]:
                service = slim_service(item)
                found[service.name] = service
        return found

    async def _reach(self, job: JobRecord, services: dict[str, ServiceRecord]) -> Way | None:
        """The way to the session, as far as there is one yet; ``services`` gets what was made for it."""
        service = services.get(names.session_name(job.task or ""))
        if service is None:
            service = await self._create(job, services)
        if service is None:
            return None
        services[service.name] = service
        if service.owner != job.uid:
            self._namesake(job, service)
            return None
        self._namesakes.pop(job.uid, None)
        return self._way(job, service)

    async def _create(self, job: JobRecord, services: Mapping[str, ServiceRecord]) -> ServiceRecord | None:
        if self._clock.monotonic() < self._not_before.get(job.uid, 0.0):
            return None
        for node_port in self._free(services.values()):
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
                self._refused(job, error)
                return None
            log.info("Service of a session created", extra=kv(**job.fields, service=body["metadata"]["name"]))
            self._forbidden_told = False
            return slim_service(made)
        self._waits(job, self._all_taken())
        return None

    async def _existing(self, job: JobRecord) -> ServiceRecord | None:
        found = await self._client.find(SERVICES, names.session_name(job.task or ""), namespace=self._config.namespace)
        return None if found is None else slim_service(found)

    def _free(self, services: Iterable[ServiceRecord]) -> Iterator[int | None]:
        """The ports of nodes to try, lowest first; one None where the type of Service has none; nothing when all
        Services that there may be are there."""
        ours = list(services)
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

    # ---- the way ----------------------------------------------------------------------------------------------------

    def _way(self, job: JobRecord, service: ServiceRecord) -> Way | None:
        port = service.node_port if service.kind == "NodePort" else service.port
        address = self._sessions.external_address or self._address(job, service)
        return None if port is None or address is None else Way(address=address, port=port)

    def _address(self, job: JobRecord, service: ServiceRecord) -> str | None:
        # Of the Service as it is: the values may have changed since it was made.
        if service.kind == "LoadBalancer":
            return service.ingress
        if service.kind == "ClusterIP":
            return f"{service.name}.{self._config.namespace}.svc"
        pods = (
            pod
            for pod in self._pods.of_task(job.task or "")
            if pod.job_uid == job.uid and not pod.finished and pod.rank == 0
        )
        return next((pod.host_ip for pod in pods if pod.host_ip is not None), None)

    async def _tell_all(self, ways: list[tuple[JobRecord, Way]]) -> None:
        if not ways:
            return
        fields = ("id", f"hyperparams.{names.PROPERTIES_SECTION}")
        views = await tasks.get_many(self._session, [job.task or "" for job, _ in ways], fields=fields)
        for job, way in ways:
            try:
                await self._tell(job, way, views.get(job.task or ""))
            except Exception as error:
                self._trouble(job, error)

    async def _tell(self, job: JobRecord, way: Way, view: TaskView | None) -> None:
        if view is None:
            return  # deleted
        known = way.properties.items() <= view.properties.items()
        if not known:
            await tasks.set_properties(self._session, view.id, way.properties)
        self._told[job.uid] = way
        self._troubles.pop(job.uid, None)
        # The same as it was may be of the task's former attempt; of a Job that was there before us it is not.
        if not known or job.uid not in (self._before or ()):
            self._teller.say(view.id, f"This session is reached at {way.address}, port {way.port}")
            log.info("session can be reached", extra=kv(**job.fields, address=way.address, port=way.port))

    # ---- what goes wrong ---------------------------------------------------------------------------------------------

    def _refused(self, job: JobRecord, error: KubeInvalid | KubeForbidden) -> None:
        self._not_before[job.uid] = self._clock.monotonic() + AGAIN_SECONDS
        if isinstance(error, KubeForbidden) and NO_RIGHT in error.message:
            self._no_right([job])
        else:
            self._waits(job, f"Kubernetes refuses its Service: {error.message}", level=logging.WARNING)

    def _no_right(self, jobs: Iterable[JobRecord]) -> None:
        """Of all sessions alike: said once in the log, and to each user who waits."""
        if not self._forbidden_told:
            log.warning(
                "this account may not list and create Services in namespace %s, so sessions cannot be reached: the "
                "chart's Role gives it with sessions.portModeEnabled: true; clearml-k8s check tells what is missing",
                self._config.namespace,
            )
        self._forbidden_told = True
        for job in jobs:
            if job.uid not in self._told:
                self._waits(job, "the agent may not make Services in this cluster; its administrator can allow it")

    def _namesake(self, job: JobRecord, service: ServiceRecord) -> None:
        """The Service of that name is not this Job's: that of the task's former attempt goes in a moment."""
        now = self._clock.monotonic()
        if now - self._namesakes.setdefault(job.uid, now) >= NAMESAKE_SECONDS:
            self._waits(job, f"another Service is named {service.name}")

    def _waits(self, job: JobRecord, why: str, *, level: int = logging.INFO) -> None:
        self._teller.say(job.task or "", f"Waiting for a session port: {why}")
        if self._troubles.get(job.uid) != why:
            log.log(level, "session waits for a port", extra=kv(**job.fields, why=why))
        self._troubles[job.uid] = why

    def _trouble(self, job: JobRecord, error: Exception) -> None:
        """It must not end the work on all others; told once as long as it stays the same."""
        if not isinstance(error, Refused | Unanswered):
            log.exception("following a session failed", extra=kv(**job.fields))
        elif self._troubles.get(job.uid) != str(error):
            log.warning("session looked at again later", extra=kv(**job.fields, why=str(error)))
        self._troubles[job.uid] = str(error)

    def _keep(self, uids: set[str]) -> None:
        for found in (self._told, self._not_before, self._namesakes, self._troubles):
            for uid in found.keys() - uids:
                del found[uid]


def _wanted(job: JobRecord) -> bool:
    return job.session_port is not None and job.task is not None and job.deleted is None and not job.finished

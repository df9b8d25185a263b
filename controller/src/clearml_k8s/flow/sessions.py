"""Sessions of clearml-session: the way to each is written to its task, where the client looks for it (ADR 0016).

Nothing is remembered that must outlast the process. All in one look, every few seconds; one session's trouble is left
to the next look.

Until there is a way, `names.NO_GATEWAY` stands in its place. The session's program, which starts any time, writes an
address of its own if it finds none, and the client would prefer that to ours for ever; of one that leads nowhere it
reads again every few seconds. So does the way of another attempt, or of the task that this one was cloned from, not
lead a client to somebody else's session.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from clearml_k8s import names
from clearml_k8s.clearml import tasks
from clearml_k8s.clearml.session import Session
from clearml_k8s.clearml.tasks import TaskView
from clearml_k8s.config import Config
from clearml_k8s.config.sessions import SessionsConfig
from clearml_k8s.errors import Refused, Unanswered
from clearml_k8s.flow.session_services import SessionServices, Wait
from clearml_k8s.flow.tell import Teller
from clearml_k8s.kube.client import KubeClient
from clearml_k8s.kube.service import ServiceRecord
from clearml_k8s.kube.slim import JobRecord, PodRecord
from clearml_k8s.kube.store import Store
from clearml_k8s.logs import kv

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 3.0
"""Between two looks."""

CHECK_SECONDS: Final = 60.0
"""Between two looks at what stands on the tasks: the SDK in a session writes all properties back as it read them."""

BALANCER_SECONDS: Final = 60.0
"""After which the user is told that a load balancer still has no address."""

NO_WAY: Final[Mapping[str, str]] = {names.PROPERTY_GATEWAY: names.NO_GATEWAY}


@dataclass(frozen=True, kw_only=True, slots=True)
class Way:
    """How clients come to a session, as they read it."""

    address: str
    port: int

    @property
    def properties(self) -> Mapping[str, str]:
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
        self._clock = session.clock
        self._jobs = jobs
        self._pods = pods
        self._teller = teller
        self._services = SessionServices(
            config=config, sessions=sessions, client=client, clock=session.clock, controller=controller
        )
        self._told: dict[str, Way | None] = {}  # by uid of the Job, as all below; None: that there is none yet
        self._before: frozenset[str] | None = None  # those that another process may have told of
        self._unbalanced: dict[str, float] = {}  # since when
        self._troubles: dict[str, str] = {}
        self._next_check = 0.0

    async def look(self) -> None:
        """One step for each session. Errors of the list as `KubeClient.list_pages`, of the read as `Session.call`."""
        jobs = [job for job in self._jobs if _wanted(job)]
        self._keep({job.uid for job in jobs})
        if self._before is None:
            self._before = frozenset(job.uid for job in jobs)
        not_listed = await self._services.refresh(jobs)
        found: list[tuple[JobRecord, Way | None]] = []
        for job in jobs:
            try:
                if not_listed is None:
                    found.append((job, await self._way(job)))
                elif self._told.get(job.uid) is None:
                    self._waits(job, not_listed)
                    # Of one that was there before us it is not known whether it has a way.
                    found += [] if job.uid in self._before else [(job, None)]
            except Exception as error:
                self._trouble(job, error)
                # It has no Service, or none would have been made.
                found += [(job, None)] if isinstance(error, Refused | Unanswered) else []
        now = self._clock.monotonic()
        if now < self._next_check:
            found = [(job, way) for job, way in found if job.uid not in self._told or self._told[job.uid] != way]
        if await self._tell_all(found) and now >= self._next_check:
            self._next_check = now + CHECK_SECONDS

    # ---- the way ----------------------------------------------------------------------------------------------------

    async def _way(self, job: JobRecord) -> Way | None:
        """The way to the session, as far as there is one yet."""
        service = await self._services.of(job)
        if isinstance(service, Wait):
            self._waits(job, service)
        if not isinstance(service, ServiceRecord):
            return None
        port = service.node_port if service.kind == "NodePort" else service.port
        address = self._sessions.external_address or self._address(job, service)
        return None if port is None or address is None else Way(address=address, port=port)

    def _address(self, job: JobRecord, service: ServiceRecord) -> str | None:
        # Of the Service as it is: the values may have changed since it was made.
        if service.kind == "LoadBalancer":
            self._balance(job, service)
            return service.ingress
        if service.kind == "ClusterIP":
            return f"{service.name}.{self._config.namespace}.svc"
        pods = [
            pod
            for pod in self._pods.of_task(job.task or "")
            if pod.job_uid == job.uid and pod.host_ip and pod.rank == 0
        ]
        # One that has ended is the last of its Job: what the task says stays.
        return min(pods, key=lambda pod: pod.finished).host_ip if pods else None

    def _balance(self, job: JobRecord, service: ServiceRecord) -> None:
        now = self._clock.monotonic()
        if service.ingress is not None:
            self._unbalanced.pop(job.uid, None)
        elif now - self._unbalanced.setdefault(job.uid, now) >= BALANCER_SECONDS:
            why = f"the load balancer of Service {service.name} has no address yet; the Service's events say why"
            self._waits(job, Wait(why=why))

    async def _tell_all(self, ways: list[tuple[JobRecord, Way | None]]) -> bool:
        """Whether there was anything to look at."""
        if not ways:
            return False
        fields = ("id", f"hyperparams.{names.PROPERTIES_SECTION}")
        views = await tasks.get_many(self._session, [job.task or "" for job, _ in ways], fields=fields)
        for job, way in ways:
            try:
                await self._tell(job, way, views.get(job.task or ""))
            except Exception as error:
                self._told.pop(job.uid, None)
                self._trouble(job, error)
        return True

    async def _tell(self, job: JobRecord, way: Way | None, view: TaskView | None) -> None:
        if view is None:
            return  # deleted
        properties = NO_WAY if way is None else way.properties
        known = properties.items() <= view.properties.items()
        if not known:
            await tasks.set_properties(self._session, view.id, properties)
        news = way is not None and self._told.get(job.uid) != way
        self._told[job.uid] = way
        if way is None or not news:
            return
        self._troubles.pop(job.uid, None)
        # The same as it was may be of the task's former attempt; of a Job that was there before us it is not.
        if not known or job.uid not in (self._before or ()):
            self._teller.say(view.id, f"This session is reached at {way.address}, port {way.port}")
            log.info("session can be reached", extra=kv(**job.fields, address=way.address, port=way.port))

    # ---- what goes wrong ---------------------------------------------------------------------------------------------

    def _waits(self, job: JobRecord, wait: Wait) -> None:
        self._teller.say(job.task or "", f"Waiting for a session port: {wait.why}")
        if self._troubles.get(job.uid) != wait.why:
            log.log(wait.level, "session waits for a port", extra=kv(**job.fields, why=wait.why))
        self._troubles[job.uid] = wait.why

    def _trouble(self, job: JobRecord, error: Exception) -> None:
        """It must not end the work on all others; told once as long as it stays the same."""
        if not isinstance(error, Refused | Unanswered):
            log.exception("following a session failed", extra=kv(**job.fields))
        elif self._troubles.get(job.uid) != str(error):
            log.warning("session looked at again later", extra=kv(**job.fields, why=str(error)))
        self._troubles[job.uid] = str(error)

    def _keep(self, uids: set[str]) -> None:
        self._services.keep(uids)
        for uid in self._told.keys() - uids:
            del self._told[uid]
        for found in (self._unbalanced, self._troubles):
            for uid in found.keys() - uids:
                del found[uid]


def _wanted(job: JobRecord) -> bool:
    return job.session_port is not None and job.task is not None and job.deleted is None and not job.finished

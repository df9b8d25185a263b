"""The headless Service of each task on several nodes, by which its pods find rank 0 (ADR 0017).

As the Services of sessions: what is there is listed, what is missing is made, and a Service goes with the Job that owns
it. A pod waits for it as long as it takes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from clearml_k8s import names
from clearml_k8s.clock import Clock
from clearml_k8s.config import Config
from clearml_k8s.errors import KubeAlreadyExists, KubeForbidden, KubeInvalid, Refused, Unanswered
from clearml_k8s.flow.tell import Teller
from clearml_k8s.kube.client import KubeClient
from clearml_k8s.kube.resources import SERVICES
from clearml_k8s.kube.service import ServiceRecord, headless, list_services, slim_service
from clearml_k8s.kube.slim import JobRecord
from clearml_k8s.kube.store import Store
from clearml_k8s.logs import kv

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""Between two looks: pods wait for it."""

LIST_SECONDS = 60.0
"""Between two looks at whether those that were made are still there."""

AGAIN_SECONDS = 30.0
"""After a Service was refused, until it is tried again."""

WAIT_SECONDS = 10.0
"""Between two looks at whether a Service of another owner, which is there for long, has gone."""

NAMESAKE_SECONDS = 60.0
"""After which a Service of another owner is not one that Kubernetes is about to remove."""


class Ranks:
    """Of one controller's tasks; see the module."""

    def __init__(
        self,
        *,
        config: Config,
        client: KubeClient,
        jobs: Store[JobRecord],
        teller: Teller,
        controller: str,
    ) -> None:
        """``controller``: its id, for labels."""
        self._config = config
        self._client = client
        self._clock: Clock = client.clock
        self._jobs = jobs
        self._teller = teller
        self._controller = controller
        self._there: set[str] = set()  # by uid of the Job, as all below
        self._not_before: dict[str, float] = {}
        self._namesakes: dict[str, float] = {}  # since when
        self._troubles: dict[str, str] = {}
        self._next_list = 0.0
        self._list_after = 0.0

    async def look(self) -> None:
        """One step for each task on several nodes. Errors of the list as `KubeClient.list_pages`."""
        jobs = [job for job in self._jobs if _wanted(job, self._controller)]
        self._keep({job.uid for job in jobs})
        now = self._clock.monotonic()
        due = any(job.uid not in self._there and now >= self._not_before.get(job.uid, now) for job in jobs)
        if now < self._list_after or not (due or (jobs and now >= self._next_list)):
            return
        try:
            services = await self._list()
        except KubeForbidden as error:
            self._list_after = now + AGAIN_SECONDS
            self._no_right(jobs, error)
            return
        self._next_list = self._clock.monotonic() + LIST_SECONDS
        for job in jobs:
            try:
                await self._follow(job, services.get(names.nodes_name(job.task or "")))
            except (Refused, Unanswered) as error:
                self._trouble(job, str(error))
            except Exception:
                # One task's trouble must not end the work on all others.
                log.exception("following a task's Service failed", extra=kv(**job.fields))

    async def _list(self) -> dict[str, ServiceRecord]:
        selector = names.nodes_selector(release=self._config.release_name)
        return await list_services(self._client, namespace=self._config.namespace, selector=selector)

    async def _follow(self, job: JobRecord, service: ServiceRecord | None) -> None:
        service = service or await self._create(job)
        if service is not None and service.owner == job.uid:
            self._there.add(job.uid)
            self._troubles.pop(job.uid, None)
            return
        self._there.discard(job.uid)
        if service is None:
            return
        # That of the task's former attempt goes in a moment.
        now = self._clock.monotonic()
        if now - self._namesakes.setdefault(job.uid, now) >= NAMESAKE_SECONDS:
            self._not_before[job.uid] = now + WAIT_SECONDS
            self._waits(job, f"another Service is named {service.name}")

    async def _create(self, job: JobRecord) -> ServiceRecord | None:
        if self._clock.monotonic() < self._not_before.get(job.uid, 0.0):
            return None
        namespace = self._config.namespace
        body = headless(job, namespace=namespace, release=self._config.release_name, controller=self._controller)
        try:
            made = await self._client.create(SERVICES, body, namespace=namespace)
        except KubeAlreadyExists:
            found = await self._client.find(SERVICES, body["metadata"]["name"], namespace=namespace)
            return None if found is None else slim_service(found)
        except (KubeInvalid, KubeForbidden) as error:
            self._not_before[job.uid] = self._clock.monotonic() + AGAIN_SECONDS
            if isinstance(error, KubeForbidden) and error.lacks_right_to_create:
                self._no_right([job], error)
            else:
                self._waits(job, f"Kubernetes refuses its Service: {error.message}")
            return None
        log.info("Service of a task's pods created", extra=kv(**job.fields, service=body["metadata"]["name"]))
        return slim_service(made)

    def _no_right(self, jobs: Iterable[JobRecord], error: KubeForbidden) -> None:
        for job in jobs:
            if job.uid not in self._there:
                why = "the agent may not make Services in this cluster; its administrator can allow it"
                role = f"{error}; the chart's Role gives it with agentk8sglue.multiNode.enabled: true"
                self._waits(job, why, log_as=role)

    def _waits(self, job: JobRecord, why: str, *, log_as: str = "") -> None:
        self._teller.say(job.task or "", f"Waiting: its pods cannot find each other: {why}", level="WARNING")
        self._trouble(job, log_as or why)

    def _trouble(self, job: JobRecord, why: str) -> None:
        """Told once as long as it stays the same."""
        if self._troubles.get(job.uid) != why:
            log.warning("pods of a task cannot find each other yet", extra=kv(**job.fields, why=why))
        self._troubles[job.uid] = why

    def _keep(self, uids: set[str]) -> None:
        self._there &= uids
        for found in (self._not_before, self._namesakes, self._troubles):
            for uid in found.keys() - uids:
                del found[uid]


def _wanted(job: JobRecord, controller: str) -> bool:
    return (
        job.ranked
        and job.task is not None
        and job.deleted is None
        and not job.finished
        and job.controller == controller
    )

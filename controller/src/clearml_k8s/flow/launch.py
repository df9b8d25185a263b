"""From a task to its Job: build, create, and what to do when the cluster does not take it."""

from __future__ import annotations

import asyncio
import enum
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from clearml_k8s import names
from clearml_k8s.backoff import Backoff
from clearml_k8s.clearml.projects import ProjectNames
from clearml_k8s.clearml.tasks import TaskView
from clearml_k8s.clock import sleep_until
from clearml_k8s.config import Config, ResolvedQueue
from clearml_k8s.errors import (
    ConfigError,
    HookUnavailable,
    KubeAlreadyExists,
    KubeConflict,
    KubeForbidden,
    KubeRefused,
    KubeThrottled,
    KubeUnanswered,
    KubeUnauthorized,
    NotFound,
    NotSent,
    Refused,
    SpecError,
    Unanswered,
    Unreachable,
)
from clearml_k8s.flow.commands import Commands, StillOwed
from clearml_k8s.flow.edits import Edits
from clearml_k8s.flow.task_conf import TaskConf
from clearml_k8s.flow.tell import Teller
from clearml_k8s.kube.client import KubeClient
from clearml_k8s.kube.resources import JOBS
from clearml_k8s.kube.slim import NO_MEASURE, JobRecord, slim_job
from clearml_k8s.kube.store import Store
from clearml_k8s.kube.uses import Measure
from clearml_k8s.logs import kv
from clearml_k8s.spec.container_rules import NO_RULES
from clearml_k8s.spec.fill import names_project, names_task
from clearml_k8s.spec.job import build_job

log = logging.getLogger(__name__)


MOST_FAILURES = 5
"""Failed tries after which a task is put back, or its user told why nothing happens when the API cannot be reached."""


OUR_MISTAKE = "no Job can be made of it, by a mistake of the controller that its log tells; please report it"


class Launch(enum.Enum):
    """How a launch ended; in metrics, too."""

    CREATED = "created"
    IMPOSSIBLE = "impossible"
    """The cluster refuses this Job: by the task's own settings, unless it refuses the queue's template as well."""
    NOT_NOW = "not-now"
    """The cluster takes no more Jobs at the moment (quota)."""
    IN_THE_WAY = "in-the-way"
    """A Job of an older attempt, or a foreign object, has the name."""
    DOUBT = "doubt"
    """The Job may be there, or come; or it came and went."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Launched:
    """The end of a launch, and the reason in words. ``erring``: the API server itself answered with an error (5xx)."""

    how: Launch
    why: str = ""
    erring: bool = False


class Launcher:
    """Creates Jobs. A request without an answer is not repeated: the first may land when the second's Job has come, run
    and gone, and the name locks the task only while a Job has it."""

    def __init__(
        self,
        *,
        config: Config,
        client: KubeClient,
        jobs: Store[JobRecord],
        teller: Teller,
        worker_id: str,
        controller: str,
        stop: asyncio.Event,
        measure: Measure = NO_MEASURE,
        projects: ProjectNames | None = None,
        document: Callable[[str], Awaitable[Mapping[str, Any]]] | None = None,
        edits: Edits | None = None,
        conf: TaskConf | None = None,
        commands: Commands | None = None,
        nonce: Callable[[], str] = lambda: secrets.token_hex(4),
    ) -> None:
        """``stop``: set once the process is told to end, and nothing may be waited for any more; ``measure``: as of the
        watch of Jobs; ``projects``: for worker ids with a project's name; without it, its id stands there.
        ``document``: reads all of a task, for templates and rules that name it, and for ``edits``; ``conf``: has the
        rules; ``commands``: those around pods, None for none; ``nonce``: another one with each call."""
        self._nonce = nonce
        self._conf = conf
        self._projects = projects
        self._document = document
        self._edits = edits
        self._commands = commands
        self._stop = stop
        self._measure = measure
        self._config = config
        self._client = client
        self._clock = client.clock
        self._jobs = jobs
        self._teller = teller
        self._worker_id = worker_id
        self._controller = controller

    async def launch(self, task: TaskView, *, queue: ResolvedQueue, taken: str = "") -> Launched:
        """Create the Job of the task's present attempt.

        Waits, until the process is told to end, while the API takes nothing.
        """
        rules = NO_RULES
        if self._conf is not None:
            await self._conf.look()
            rules = self._conf.rules
        if self._projects is not None and names_project(config=self._config, queue=queue, rules=rules):
            try:
                # Not known is not "": a rule that forces would not fit.
                read = self._projects.read if rules.needs_project else self._projects.of
                task = replace(task, project_name=await read(task.project))
            except (Refused, Unanswered) as error:
                why = f"the name of the task's project, by which a rule of clearml.conf goes, cannot be read: {error}"
                return Launched(how=Launch.NOT_NOW, why=why)
        if self._document is not None and (self._edits or names_task(config=self._config, queue=queue, rules=rules)):
            try:
                task = replace(task, document=await self._document(task.id))
            except NotFound as error:
                return Launched(how=Launch.IMPOSSIBLE, why=f"the task is not there any more: {error}")
            except (Refused, Unanswered) as error:
                why = f"the task cannot be read for its pod template: {error}"
                return Launched(how=Launch.NOT_NOW, why=why)
        try:
            built = build_job(
                config=self._config,
                queue=queue,
                task=task,
                attempt=task.status_changed,
                worker_id=self._worker_id,
                controller_id=self._controller,
                taken=taken,
                edited=await self._edits.of_task(task, queue, rules=rules) if self._edits else None,
                rules=rules,
                nonce=self._nonce(),
            )
        except SpecError as error:
            return Launched(how=Launch.IMPOSSIBLE, why=str(error))
        except HookUnavailable as error:
            return Launched(how=Launch.NOT_NOW, why=str(error))
        except Exception:
            # A mistake of ours with this task alone must not keep it, and its place, for ever.
            log.exception("no Job can be made of the task", extra=kv(task=task.id, queue=queue.name))
            return Launched(how=Launch.IMPOSSIBLE, why=OUR_MISTAKE)
        if self._commands is not None and (refused := await self._begun(self._commands, task, queue)) is not None:
            return refused
        backoff = Backoff(first=0.2, cap=5.0, random=self._client.random)
        while True:
            try:
                answer = await self._client.create(JOBS, built.manifest, namespace=self._config.namespace)
                made = slim_job(answer, measure=self._measure)
            except KubeAlreadyExists:
                existing = await self._existing(built.manifest["metadata"]["name"], backoff)
                if existing is None:
                    return Launched(how=Launch.DOUBT, why="a Job of that name was there, and is gone")
                if existing.controller != self._controller:
                    what = f"Job {existing.name} is there and is not this release's"
                    way = f"kubectl -n {self._config.namespace} delete job {existing.name}"
                    return Launched(how=Launch.IN_THE_WAY, why=f"{what}: if nobody wants it, {way}")
                if existing.attempt != task.status_changed:
                    return Launched(how=Launch.IN_THE_WAY, why=f"Job {existing.name} of another attempt is there")
                self._jobs.note(existing)
                return Launched(how=Launch.CREATED)
            except KubeUnanswered as error:
                return Launched(how=Launch.DOUBT, why=str(error), erring=error.code is not None)
            except (KubeConflict, KubeThrottled, KubeUnauthorized, Unreachable, NotSent) as error:
                if self._stop.is_set():
                    # With helm uninstall the account goes while the controller ends.
                    return Launched(how=Launch.NOT_NOW, why=f"this controller ends, and has no Job of it: {error}")
                # A conflict is the quota controller's: many Jobs were counted at one time.
                wait = backoff.next() + (getattr(error, "retry_after", None) or 0.0)
                log.warning(
                    "Job not created yet",
                    extra=kv(task=task.id, queue=queue.name, retry_in=round(wait, 1), why=str(error)),
                )
                if backoff.failures >= MOST_FAILURES and isinstance(error, KubeRefused):
                    # Perhaps an admission webhook's answer, which is this queue's trouble alone.
                    return Launched(how=Launch.NOT_NOW, why=f"the Kubernetes API does not take the Job: {error}")
                if backoff.failures == MOST_FAILURES:
                    self._teller.say(task.id, f"Waiting: the Kubernetes API does not take the Job: {error}")
                await sleep_until(self._stop, wait, clock=self._clock)
            except KubeRefused as error:
                quota = isinstance(error, KubeForbidden) and error.quota_exceeded
                return Launched(
                    how=Launch.NOT_NOW if quota else Launch.IMPOSSIBLE,
                    why=f"Kubernetes refuses the Job: {error.reason}: {error.message}",
                )
            else:
                self._jobs.note(made)
                self._teller.say(
                    task.id,
                    f"Kubernetes Job {made.name} created in namespace {self._config.namespace}, "
                    f"taken from queue {queue.name} by {self._worker_id}",
                )
                for ignored in built.ignored:
                    if ignored.source == "task":
                        self._teller.say(task.id, str(ignored), level="WARNING")
                log.info("task launched", extra=kv(task=task.id, queue=queue.name, job=made.name))
                return Launched(how=Launch.CREATED)

    async def _begun(self, commands: Commands, task: TaskView, queue: ResolvedQueue) -> Launched | None:
        """What comes before the Job; the end of the launch, if it goes no further."""
        try:
            await commands.begin(task, queue)
        except SpecError as error:
            return Launched(how=Launch.IMPOSSIBLE, why=str(error))
        except StillOwed as error:
            return Launched(how=Launch.IN_THE_WAY, why=str(error))
        except (Refused, Unanswered) as error:
            # Also where it is not known whether the record was written: certainly no Job was made.
            return Launched(how=Launch.NOT_NOW, why=str(error))
        return None

    async def standing(self, task: TaskView) -> bool:
        """Whether the Job of the task's present attempt is there, whatever the watch has shown. Errors as `find`."""
        found = await self._find(names.job_name(task.id))
        if found is None or found.attempt != task.status_changed or found.controller != self._controller:
            return False
        self._jobs.note(found)
        return True

    async def look(self, task: str) -> None:
        """Take over the Job of the task's name, if there is one, whatever the watch has shown. Errors as `find`."""
        try:
            name = names.job_name(task)
        except ConfigError:
            return  # no Job can have it: somebody wrote it into the record by hand
        found = await self._find(name)
        if found is not None and found.controller == self._controller:
            self._jobs.note(found)

    async def _existing(self, name: str, backoff: Backoff) -> JobRecord | None:
        """The Job that has the name, read until there is an answer or an end; None when it is gone again."""
        while True:
            try:
                return await self._find(name)
            except (KubeRefused, Unreachable, NotSent, Unanswered) as error:
                task = name.removeprefix(names.JOB_NAME_PREFIX)
                log.warning("Job of that name cannot be read", extra=kv(task=task, job=name, why=str(error)))
                if self._stop.is_set():
                    return None
                await sleep_until(self._stop, backoff.next(), clock=self._clock)

    async def _find(self, name: str) -> JobRecord | None:
        found = await self._client.find(JOBS, name, namespace=self._config.namespace)
        return None if found is None else slim_job(found, measure=self._measure)

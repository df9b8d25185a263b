"""The queues as configured and as they are: found on the server, with a template that Kubernetes takes, or why not."""

from __future__ import annotations

import enum
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

from clearml_k8s import names
from clearml_k8s.backoff import Backoff
from clearml_k8s.clearml import queues
from clearml_k8s.clearml.session import Session
from clearml_k8s.config import Config, QueueConfig, ResolvedQueue
from clearml_k8s.errors import (
    ClearMLK8sError,
    HookUnavailable,
    KubeForbidden,
    KubeInvalid,
    KubeRefused,
    Refused,
    SpecError,
    Unanswered,
)
from clearml_k8s.flow.edits import Edits
from clearml_k8s.flow.owner_tokens import OwnerTokens
from clearml_k8s.flow.task_conf import TaskConf
from clearml_k8s.kube.client import KubeClient
from clearml_k8s.kube.resources import JOBS
from clearml_k8s.logs import kv
from clearml_k8s.spec.job import template_probe_job
from clearml_k8s.spec.variants import Variant, variants

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0


class State(enum.Enum):
    """How it is with a queue, for metrics; names do not change between versions."""

    SERVED = "served"
    PAUSED = "paused"
    NOT_LOOKED_UP = "not-looked-up"
    MISSING = "missing"
    AMBIGUOUS = "ambiguous"
    NAMED_TWICE = "named-twice"
    NOT_CREATED = "not-created"
    TEMPLATE_INVALID = "template-invalid"
    TEMPLATE_UNCHECKED = "template-unchecked"
    JOBS_REFUSED = "jobs-refused"
    OWNER_TOKENS_UNAVAILABLE = "owner-tokens-unavailable"
    CLOSED = "closed"
    """It is served, and nothing is taken whatever is left of its limits (`Room.closed`)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Served:
    """One configured queue. ``problem`` says in words why nothing is taken from it, "" when tasks are taken; ``kind``:
    which problem that is."""

    config: QueueConfig
    queue: ResolvedQueue | None = None
    template_checked: bool = False
    problem: str = "not looked up yet"
    kind: State = State.NOT_LOOKED_UP
    paused_until: float = 0.0
    paused_why: str = ""


class ServedQueues:
    """All configured queues; one queue's trouble never stops another."""

    def __init__(
        self,
        *,
        config: Config,
        session: Session,
        client: KubeClient,
        worker_id: str,
        controller: str,
        edits: Edits | None = None,
        conf: TaskConf | None = None,
        owners: OwnerTokens | None = None,
    ) -> None:
        """``edits``: by a template module, which a template is tried with; ``conf``: without rules for containers while
        it cannot be read, nothing is taken; ``owners``: where pods get tokens of them."""
        self._owners = owners
        self._edits = edits
        self._conf = conf
        self._config = config
        self._session = session
        self._client = client
        self._clock = session.clock
        self._worker_id = worker_id
        self._controller = controller
        self._served = {key: Served(config=queue) for key, queue in config.queues.items()}
        self.pending_queue: str | None = None
        """The id of the queue that shows what waits for the cluster; None until it is known."""
        self._pending_problem = ""
        self._pauses = {
            key: Backoff(first=FIRST_PAUSE, cap=LONGEST_PAUSE, random=client.random) for key in config.queues
        }

    @property
    def states(self) -> Mapping[str, Served]:
        """By key of ``queues``."""
        return self._served

    @property
    def troubled(self) -> bool:
        """Some queue is not served, or its template is to be checked again."""
        return any(s.problem or not s.template_checked for s in self._served.values())

    def state_of(self, key: str) -> State:
        """The state of the queue of this key of ``queues``."""
        served = self._served[key]
        if served.problem:
            return served.kind
        return State.PAUSED if served.paused_until > self._clock.monotonic() else State.SERVED

    def active(self) -> tuple[ResolvedQueue, ...]:
        """The queues to take from now."""
        now = self._clock.monotonic()
        return tuple(s.queue for s in self._served.values() if s.queue and not s.problem and s.paused_until <= now)

    def by_id(self, queue_id: str) -> ResolvedQueue | None:
        """The served queue of this id, whether active or not."""
        return next((s.queue for s in self._served.values() if s.queue and s.queue.id == queue_id), None)

    def by_name(self, name: str) -> ResolvedQueue | None:
        """The served queue of this name."""
        return next((s.queue for s in self._served.values() if s.queue and s.queue.name == name), None)

    def all_found(self) -> tuple[ResolvedQueue, ...]:
        """Every queue that is on the server."""
        return tuple(s.queue for s in self._served.values() if s.queue)

    def pause(self, queue: ResolvedQueue, why: str) -> None:
        """Take nothing from the queue for a while: the cluster takes no Job of it. Longer each time until it does."""
        key, now = queue.config.name, self._clock.monotonic()
        if self._served[key].paused_until > now:
            return  # the others of its batch meet the same
        seconds = self._pauses[key].next()
        log.warning("queue paused", extra=kv(queue=queue.name, seconds=round(seconds, 1), why=why))
        paused = replace(self._served[key], paused_until=now + seconds, paused_why=why, template_checked=False)
        self._served[key] = paused

    def paused(self, key: str) -> str:
        """Why nothing is taken from the queue for a while; "" when it is not paused."""
        served = self._served[key]
        return served.paused_why if served.paused_until > self._clock.monotonic() else ""

    def goes_on(self, queue: ResolvedQueue) -> None:
        """A Job of the queue was made: its next pause is a short one again."""
        self._pauses[queue.config.name].reset()

    async def refresh(self) -> None:
        """Look the queues up, create what may be created, and check the templates not checked yet.

        Errors as `Session.call` when the lookup as a whole fails; one queue's own problem stands in its state.
        """
        resolution = await queues.resolve(self._session, self._served)
        await self._find_pending_queue()
        keys: dict[str, str] = {}  # queue id -> the key that serves it
        for key, served in list(self._served.items()):
            found = resolution.found.get(key)
            problem, kind = "", State.SERVED
            if key in resolution.ambiguous:
                ids = ", ".join(queue.id for queue in resolution.ambiguous[key])
                kind = State.AMBIGUOUS
                problem = f"the server has several queues of that name: name one of them by its id ({ids})"
            elif found is None and self._config.create_queues:
                try:
                    found = await queues.ensure_queue(self._session, key)
                    log.info("queue created", extra=kv(queue=key))
                except (Refused, Unanswered) as error:
                    kind = State.NOT_CREATED
                    problem = f"it does not exist and cannot be created: {error}"
            elif found is None:
                kind = State.MISSING
                problem = (
                    "the server has no queue of that name or id: create it, correct the name under "
                    "agentk8sglue.queues, or set agentk8sglue.createQueues: true"
                )
            if found is None:
                self._set(key, replace(served, queue=None, problem=problem, kind=kind))
                continue
            if keys.setdefault(found.id, key) != key:
                problem = (
                    f"agentk8sglue.queues names the same queue twice, as {keys[found.id]!r} and as {key!r}: remove one"
                )
                self._set(key, replace(served, queue=None, problem=problem, kind=State.NAMED_TWICE))
                continue
            queue = ResolvedQueue(config=served.config, id=found.id, name=found.name)
            checked = served.template_checked and served.queue == queue
            if not checked:
                problem, kind = await self.template_problem(queue)
            self._set(key, replace(served, queue=queue, problem=problem, kind=kind, template_checked=not problem))

    async def _find_pending_queue(self) -> None:
        """It is for people alone, so whatever is wrong with it stops nothing; tried again with the next refresh."""
        if self.pending_queue is not None:
            return
        try:
            pending = await queues.ensure_queue(
                self._session, names.PENDING_QUEUE, system_tags=[names.PENDING_QUEUE_TAG]
            )
        except (Refused, Unanswered) as error:
            if str(error) != self._pending_problem:
                log.warning("what waits for the cluster is not shown in queue %r: %s", names.PENDING_QUEUE, error)
            self._pending_problem = str(error)
        else:
            self.pending_queue = pending.id

    async def recheck(self, queue: ResolvedQueue) -> bool:
        """Whether Kubernetes takes the queue's template as it is, without any task's own settings, asked now.

        What is wrong with it stands in the queue's state: nothing is taken from it until a refresh finds it mended.
        """
        key = queue.config.name
        if self._served[key].problem:
            return False
        problem, kind = await self.template_problem(queue)
        if problem:
            self._set(key, replace(self._served[key], problem=problem, kind=kind, template_checked=False))
        return not problem

    async def template_problem(self, queue: ResolvedQueue) -> tuple[str, State]:
        """Why Kubernetes refuses Jobs of this queue, by a server-side dry run of each of its templates, and of what
        kind; "": it does not."""
        if self._conf is not None:
            await self._conf.look(now=True)
            if not self._conf.usable:
                return f"which image its tasks get is not known: {self._conf.problem}", State.TEMPLATE_INVALID
        if self._owners is not None and (problem := await self._owners.unsuitable()):
            return problem, State.OWNER_TOKENS_UNAVAILABLE
        for variant in variants(config=self._config, queue=queue.config):
            problem, kind = await self._variant_problem(variant, replace(queue, config=variant.queue))
            if problem:
                return problem, kind
        return "", State.SERVED

    async def _variant_problem(self, variant: Variant, queue: ResolvedQueue) -> tuple[str, State]:
        try:
            edited = await self._edits.of_sample(queue, config=variant.config) if self._edits else None
        except HookUnavailable as error:
            return f"its pod template cannot be made: {error}", State.TEMPLATE_INVALID
        except SpecError as error:
            # The module may want what only a real task has; each of these is looked at when it comes.
            log.info("template not tried", extra=kv(queue=queue.name, why=str(error)))
            return "", State.SERVED
        try:
            probe = template_probe_job(
                variant.config, queue, worker_id=self._worker_id, controller_id=self._controller, edited=edited
            )
            await self._client.create(JOBS, probe.manifest, namespace=self._config.namespace, dry_run=True, strict=True)
        except (SpecError, RecursionError) as error:
            if edited is not None:
                log.info("template not tried", extra=kv(queue=queue.name, why=str(error)))
                return "", State.SERVED
            which = f" ({variant.condition})" if variant.condition else ""
            return f"its pod template cannot be used{which}: {error}", State.TEMPLATE_INVALID
        except KubeInvalid as error:
            return f"Kubernetes refuses its pod template ({variant.where}): {error.message}", State.TEMPLATE_INVALID
        except KubeForbidden as error:
            if error.quota_exceeded:
                return "", State.SERVED
            why = f"Kubernetes does not allow Jobs in namespace {self._config.namespace}: {error.message}"
            return why, State.JOBS_REFUSED
        except KubeRefused as error:
            why = f"Kubernetes refuses Jobs in namespace {self._config.namespace}: {error.reason}: {error.message}"
            return why, State.JOBS_REFUSED
        except ClearMLK8sError as error:
            return f"its pod template is not checked yet: {error}", State.TEMPLATE_UNCHECKED
        for ignored in probe.ignored:
            log.warning("template setting not used", extra=kv(queue=queue.name, setting=str(ignored)))
        return "", State.SERVED

    def _set(self, key: str, served: Served) -> None:
        before = self._served[key]
        self._served[key] = served
        if served.problem and served.problem != before.problem:
            log.error("nothing is taken from queue %r: %s", key, served.problem)
        elif before.problem and not served.problem and served.queue:
            log.info("queue is served", extra=kv(queue=key, id=served.queue.id))

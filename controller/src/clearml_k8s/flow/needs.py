"""What a task takes of what is limited: as its queue's template says, or, where its `taskPolicy` lets it, as it says.

In the second case tasks are read before they are chosen: what does not fit is not taken (ADR 0015).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import reduce
from itertools import chain
from typing import Any, Final

from clearml_k8s.clearml import tasks
from clearml_k8s.clearml.session import Session
from clearml_k8s.clearml.tasks import TaskView
from clearml_k8s.config import Config, QueueConfig, ResolvedQueue
from clearml_k8s.errors import SpecError
from clearml_k8s.kube.uses import JOBS_COUNT, NOTHING, Kind, Measure, Uses, demand, field_path, kind_of
from clearml_k8s.logs import kv
from clearml_k8s.spec import multi_node, own_resources
from clearml_k8s.spec.job import SAMPLE_ATTEMPT, build_job, template_probe_job
from clearml_k8s.spec.variants import Variant, conditions, variants

log = logging.getLogger(__name__)

FRESH_SECONDS: Final = 10.0
"""How long what a waiting task has asked for counts; then it is read again, as its user may have changed it."""

LOOK_AT: Final = 50
"""Entries of one queue that are read at most: those behind them wait for another look."""

MOST_ALIKE: Final = 1000

_COUNTED: Final = ("pods", "count/pods", JOBS_COUNT)
"""Of what quotas limit, that which every task takes one of."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Need:
    """What one task takes, each of its ``pods``: ``demand`` is a pod's share of quotas, of which ``kind`` tells the
    ones that count; ``problem``: why it is not known. Compared by identity: those of a queue's tasks are few."""

    pods: int = 1
    uses: Uses = NOTHING
    kind: Kind = field(default_factory=Kind)
    demand: Mapping[str, Decimal] = field(default_factory=dict)
    problem: str = ""


UNKNOWN: Final = Need()


def measure_of(config: Config) -> Measure:
    """Reads what this configuration limits."""
    monitored = config.monitored_resources
    fields = dict.fromkeys((monitored.min_field, monitored.max_field)) if monitored.max_resources > 0 else ()
    queues = config.queues.values()
    return Measure(
        fields=tuple(field_path(path) for path in fields),
        demands=any(_say_themselves(config, queue) or conditions(config, queue) for queue in queues),
    )


def need_of(config: Config, queue: ResolvedQueue, *, measure: Measure, worker_id: str) -> Need:
    """What a task of the queue takes that says nothing. ``worker_id``: ours; parts of it may stand in a template."""
    jobs = []
    for variant in variants(config=config, queue=queue.config):
        of_queue = replace(queue, config=variant.queue)
        try:
            built = template_probe_job(variant.config, of_queue, worker_id=worker_id, controller_id="")
        except SpecError as error:
            return Need(problem=f"its pod template cannot be used: {error}")
        jobs.append(built.manifest)
    return _measured(jobs, measure=measure)


def _say_themselves(config: Config, queue: QueueConfig) -> bool:
    """Whether tasks of the queue may differ in what they take."""
    return config.policy_of(queue).own_resources or config.multi_node is not None


def _measured(jobs: Sequence[Mapping[str, Any]], *, measure: Measure) -> Need:
    """``jobs``: one for each template that a task may get, the queue's own first. Of each amount the most counts: which
    of them it gets is known only once it is taken."""
    pods = [job["spec"]["template"] for job in jobs]
    uses = reduce(Uses.most, map(measure, pods))
    problem = ""
    if uses.unreadable:
        problem = f"agentk8sglue.monitoredResources: {uses.unreadable} of its pod template is no amount: write a number"
    most = _most(*(demand(pod) for pod in pods))
    if uses.demand:
        uses = replace(uses, demand=tuple(most.items()))
    number = jobs[0]["spec"].get("parallelism", 1)
    return Need(pods=number, uses=uses, kind=kind_of(pods[0]), demand=most, problem=problem)


def _most(*demands: Mapping[str, Decimal]) -> dict[str, Decimal]:
    """Of each amount the largest."""
    return {name: max(one.get(name, Decimal(0)) for one in demands) for name in dict.fromkeys(chain(*demands))}


@dataclass(frozen=True, kw_only=True, slots=True)
class Own:
    """Of a queue whose tasks say themselves what they need: those that were read, and ``most`` of any other."""

    tasks: Mapping[str, Need]
    most: Need


@dataclass(frozen=True, kw_only=True, slots=True)
class _Asked:
    """All of a task that changes what it takes."""

    queue: str
    image: str
    arguments: str
    properties: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Read:
    need: Need
    at: float


class Needs:
    """Remembers them: those of queues for ever, as they follow from the configuration; those of tasks for a while."""

    def __init__(self, *, config: Config, session: Session, measure: Measure, worker_id: str) -> None:
        self._config = config
        self._session = session
        self._measure = measure
        self._worker_id = worker_id
        self._queues: dict[str, Need] = {}
        self._most: dict[str, Need] = {}
        self._read: dict[str, dict[str, _Read]] = {}  # by queue id and task
        self._alike: dict[_Asked, Need] = {}

    def of(self, queue: ResolvedQueue) -> Need:
        """What is known before one of its tasks is read: all of it, or where tasks say so themselves, the least."""
        if queue.id not in self._queues:
            need = need_of(self._config, queue, measure=self._measure, worker_id=self._worker_id)
            if self._differ(queue) and not need.problem:
                need = replace(need, pods=1, uses=NOTHING, demand={name: need.demand[name] for name in _COUNTED})
            self._queues[queue.id] = need
        return self._queues[queue.id]

    def own(self, queue: ResolvedQueue) -> Own | None:
        """Of tasks of the queue that were read; None where tasks do not say so themselves."""
        if not self._differ(queue):
            return None
        tasks = {task: read.need for task, read in self._read.get(queue.id, {}).items()}
        return Own(tasks=tasks, most=self._at_most(queue))

    def uses(self, queue: ResolvedQueue, task: str) -> tuple[Uses, int]:
        """What a task that is under way will use, and of how many pods each: of one that was not read, the most that it
        may."""
        need = self.of(queue)
        if self._differ(queue):
            read = self._read.get(queue.id, {}).get(task)
            need = read.need if read is not None else self._at_most(queue)
        return need.uses, need.pods

    async def look(
        self, entries: Iterable[tuple[ResolvedQueue, str]], *, under_way: Iterable[tuple[ResolvedQueue, str]]
    ) -> None:
        """Read the first ones of the waiting tasks of each queue whose tasks say so themselves, and those under way
        that nobody has read, as after a restart: how many pods such a one has is known of no other. Errors as
        `get_many`."""
        now = self._session.clock.monotonic()
        waiting: dict[str, dict[str, ResolvedQueue]] = {}
        for queue, task in entries:
            if self._differ(queue) and len(waiting.setdefault(queue.id, {})) < LOOK_AT:
                waiting[queue.id][task] = queue
        keep = {task: queue for queue, task in under_way if self._differ(queue)}
        self._read = {
            queue_id: {task: one for task, one in read.items() if task in keep or task in waiting.get(queue_id, {})}
            for queue_id, read in self._read.items()
        }
        old = {
            task: queue for tasks_ in waiting.values() for task, queue in tasks_.items() if self._old(task, queue, now)
        } | {task: queue for task, queue in keep.items() if task not in self._read.get(queue.id, {})}
        found = await tasks.get_many(self._session, old) if old else {}
        for task, queue in old.items():
            self._note(found.get(task, TaskView(id=task)), queue)

    def agrees(self, task: TaskView, queue: ResolvedQueue) -> bool:
        """Whether the task, read anew, takes what it was chosen for; what it takes now counts from here on."""
        if not self._differ(queue):
            return True
        read = self._read.get(queue.id, {}).get(task.id)
        need = self._note(task, queue)
        if read is None:
            # It was chosen as one that takes the most.
            return _within(need, self._at_most(queue))
        return (read.need.uses, read.need.pods) == (need.uses, need.pods)

    def _note(self, task: TaskView, queue: ResolvedQueue) -> Need:
        need = self._of_task(task, queue)
        self._read.setdefault(queue.id, {})[task.id] = _Read(need=need, at=self._session.clock.monotonic())
        return need

    def _differ(self, queue: ResolvedQueue) -> bool:
        return _say_themselves(self._config, queue.config)

    def _old(self, task: str, queue: ResolvedQueue, now: float) -> bool:
        read = self._read.get(queue.id, {}).get(task)
        return read is None or now - read.at >= FRESH_SECONDS

    def _of_task(self, task: TaskView, queue: ResolvedQueue) -> Need:
        asked = _Asked(
            queue=queue.id,
            image=task.container.image,
            arguments=task.container.arguments,
            properties=tuple((own_resources.said(task.properties) | multi_node.said(task.properties)).items()),
        )
        if asked not in self._alike:
            if len(self._alike) >= MOST_ALIKE:
                self._alike.clear()
            self._alike[asked] = self._measured_task(task, queue)
        return self._alike[asked]

    def _measured_task(self, task: TaskView, queue: ResolvedQueue) -> Need:
        try:
            jobs = [
                self._job_of_task(task, queue, variant) for variant in variants(config=self._config, queue=queue.config)
            ]
        except SpecError:
            # No Job will come of it: it takes what is needed to say so.
            return self.of(queue)
        except Exception:
            # As at its launch, which fails the task.
            log.exception("what a task needs is not known", extra=kv(task=task.id, queue=queue.name))
            return self.of(queue)
        return _measured(jobs, measure=self._measure)

    def _job_of_task(self, task: TaskView, queue: ResolvedQueue, variant: Variant) -> Mapping[str, Any]:
        built = build_job(
            config=variant.config,
            queue=replace(queue, config=variant.queue),
            task=replace(task, document=None),
            attempt=task.status_changed or SAMPLE_ATTEMPT,
            worker_id=self._worker_id,
            controller_id="",
        )
        return built.manifest

    def _at_most(self, queue: ResolvedQueue) -> Need:
        if queue.id not in self._most:
            policy = self._config.policy_of(queue.config)
            template = need_of(self._config, queue, measure=self._measure, worker_id=self._worker_id)
            asking = own_resources.asking_for_the_most(policy)
            probe = TaskView(id="0" * 32, status_changed=SAMPLE_ATTEMPT, properties=asking)
            asks = self._of_task(probe, queue)
            self._most[queue.id] = replace(
                template, uses=template.uses.most(asks.uses), demand=_most(template.demand, asks.demand)
            )
        return self._most[queue.id]


def _within(need: Need, most: Need) -> bool:
    uses, at_most = need.uses, most.uses
    larger = uses.gpus > at_most.gpus or uses.cpus > at_most.cpus or uses.monitored > at_most.monitored
    return need.pods <= most.pods and not larger

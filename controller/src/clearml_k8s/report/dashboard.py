"""Reports of the cluster's capacity to the Orchestration Dashboard of the server."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from clearml_k8s.clearml import workers
from clearml_k8s.clearml.session import Session
from clearml_k8s.clearml.token import ServerInfo
from clearml_k8s.clearml.workers import ClusterReport
from clearml_k8s.config import Config, worker_ids
from clearml_k8s.config.worker_ids import Place, TaskFacts
from clearml_k8s.errors import NotSupported, Refused, Unanswered
from clearml_k8s.logs import kv
from clearml_k8s.report.capacity import Capacity, Unknown

log = logging.getLogger(__name__)

UNKNOWN_SECONDS: Final = 5.0
"""Until the numbers are looked for again, when they are not known."""

FAILED_SECONDS: Final = 30.0
"""Until a report is sent again that the server did not take."""

_UNKNOWN: Final = "\N{OBJECT REPLACEMENT CHARACTER}"
"""In place of what each task has its own of."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Places:
    """Where the reports go: a category with its groups; ``elsewhere`` are queues whose tasks show in other ones."""

    category: str
    groups: tuple[str, ...]
    elsewhere: tuple[tuple[str, str], ...] = ()
    """Key of the queue, and its category."""


def places(config: Config, *, worker_id: str, queue_names: Mapping[str, str]) -> Places:
    """Where this controller's tasks show; ``queue_names`` by key of ``queues``, where they are known.

    The category of the controller's own id if it was chosen with one, else that of tasks; the groups of its queues.
    A group that differs from task to task (``k8s:{project}:{task_id}``) is left out: the server sees it in the task.
    """
    by_queue = {key: _place(config, key, worker_id=worker_id, name=queue_names.get(key, key)) for key in config.queues}
    if config.worker_id and ":" in config.worker_id:
        category = worker_ids.place_of(config.worker_id).category
    else:
        own = [place.category for place in by_queue.values() if _UNKNOWN not in place.category]
        category = own[0] if own else worker_ids.CATEGORY
    inside = [place for place in by_queue.values() if place.category == category and _UNKNOWN not in place.group]
    groups = tuple(dict.fromkeys(place.resource_group for place in inside))
    default = Place(category=category, group=worker_ids.GROUP).resource_group
    return Places(
        category=category,
        groups=groups or (default,),
        elsewhere=tuple(
            (key, place.category.replace(_UNKNOWN, "..."))
            for key, place in by_queue.items()
            if place.category != category
        ),
    )


def _place(config: Config, key: str, *, worker_id: str, name: str) -> Place:
    queue = config.queues[key]
    template = queue.settings.worker_id_template or config.task_worker_id
    facts = TaskFacts(task_id=_UNKNOWN, pod_name=_UNKNOWN, task_name=_UNKNOWN, project=_UNKNOWN, queue=name)
    try:
        made = worker_ids.task_worker_id(template, worker_id=worker_id, namespace=config.namespace, task=facts)
    except worker_ids.WorkerIdError:
        # Nothing is taken from such a queue, and its state says why.
        return worker_ids.place_of(worker_id)
    return worker_ids.place_of(made)


@dataclass(frozen=True, kw_only=True, slots=True)
class DashboardState:
    """``problem``: why nothing is reported, "" when it is; ``last``: what the server took last."""

    problem: str = "nothing was reported yet"
    last: ClusterReport | None = None

    @property
    def text(self) -> str:
        """One line for people."""
        if self.problem or self.last is None:
            return self.problem
        last = self.last
        kind = "this agent's share" if last.partial else "the total"
        return (
            f"reported as {kind} of category {last.category}: {last.max_gpus} GPUs, {last.max_cpus} CPUs, "
            f"{last.max_workers} workers ({last.at:%Y-%m-%d %H:%M:%S} UTC)"
        )


class Dashboard:
    """Sends reports; what keeps it from it is told once in the log, and stands in ``state``."""

    def __init__(
        self,
        *,
        config: Config,
        session: Session,
        worker_id: str,
        capacity: Callable[[], Capacity | Unknown],
        queue_names: Callable[[], Mapping[str, str]],
    ) -> None:
        """``queue_names`` as in `places`."""
        self._config = config
        self._partial = config.dashboard.report_type == "aggregate"
        self._seconds = config.dashboard.report_seconds
        self._session = session
        self._worker_id = worker_id
        self._capacity = capacity
        self._queue_names = queue_names
        self._without: tuple[str, str] | None = None
        self._told: frozenset[tuple[str, str]] = frozenset()
        self.wait_seconds = self._seconds
        """How long to wait now before the next report."""
        self.state = DashboardState()

    async def report(self) -> None:
        """Send one report, if the numbers are known and the server has a dashboard. Errors as `Session.call`."""
        self.wait_seconds = self._seconds
        try:
            await self._report()
        except (Refused, Unanswered) as error:
            self.wait_seconds = min(self._seconds, FAILED_SECONDS)
            self.state = DashboardState(problem=f"the server does not take the report: {error}", last=self.state.last)
            raise

    async def _report(self) -> None:
        info = await self._session.login()
        if info.basic or self._without == _which(info):
            self._not_supported(info)
            return
        found = self._capacity()
        if isinstance(found, Unknown):
            self._stopped(found.why)
            self.wait_seconds = min(self._seconds, UNKNOWN_SECONDS)
            return
        where = places(self._config, worker_id=self._worker_id, queue_names=self._queue_names())
        self._tell(where)
        report = ClusterReport(
            worker=self._worker_id,
            category=where.category,
            resource_groups=where.groups,
            partial=self._partial,
            at=self._session.clock.now(),
            timeout_seconds=max(1, int(2 * self._seconds)),
            max_gpus=found.gpus,
            max_cpus=found.cpus,
            max_workers=found.workers,
        )
        try:
            await workers.cluster_report(self._session, report)
        except NotSupported:
            self._not_supported(info)
            return
        changed = self.state.last is None or self.state.problem or _numbers(self.state.last) != _numbers(report)
        self.state = DashboardState(problem="", last=report)
        if changed:
            log.info(
                "reported to the Orchestration Dashboard",
                extra=kv(
                    category=report.category,
                    gpus=report.max_gpus,
                    cpus=report.max_cpus,
                    workers=report.max_workers,
                    total=not report.partial,
                ),
            )

    async def withdraw(self) -> None:
        """Take back what the server may still show. Errors as `Session.call`."""
        last = self.state.last
        if last is None:
            return
        if last.partial:
            # The category has the shares of other agents, too: ours is nothing, and soon forgotten.
            now = self._session.clock.now()
            nothing = replace(last, at=now, timeout_seconds=1, max_gpus=0, max_cpus=0, max_workers=0)
            await workers.cluster_report(self._session, nothing)
        else:
            await workers.cluster_unregister(self._session, last.category)
        self.state = DashboardState(problem="taken back")

    def _not_supported(self, info: ServerInfo) -> None:
        self._without = _which(info)
        self._stopped(
            "this server has no Orchestration Dashboard (feature set "
            f"{info.feature_set!r}; it is a part of ClearML Enterprise), so nothing is reported to it; "
            "agentk8sglue.orchestrationDashboard.reportType: disabled takes this line away"
        )

    def _stopped(self, why: str) -> None:
        if why != self.state.problem:
            log.warning("nothing is reported to the Orchestration Dashboard: %s", why)
        self.state = DashboardState(problem=why, last=self.state.last)

    def _tell(self, where: Places) -> None:
        for key, category in sorted(frozenset(where.elsewhere) - self._told):
            log.warning(
                "tasks of queue %r show in category %r of the Orchestration Dashboard, and its capacity in %r: begin "
                "agentk8sglue.workerIdOverride, taskWorkerIdOverride and customWorkerIdTemplate alike",
                key,
                category,
                where.category,
            )
        self._told = frozenset(where.elsewhere)


def _which(info: ServerInfo) -> tuple[str, str]:
    """What an upgrade of the server changes; seen with the next login."""
    return info.feature_set, info.server_version


def _numbers(report: ClusterReport) -> tuple[int, int, int]:
    return report.max_gpus, report.max_cpus, report.max_workers

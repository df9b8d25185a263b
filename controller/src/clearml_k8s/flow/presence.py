"""Whether a task that the server does not list was deleted, or is another server's.

Another server behind the address, other credentials or another workspace list none of our tasks. So a task's absence is
believed only where something that came with it is seen by a look that began later: its queue, or another task that came
from that queue. Tasks of other queues say nothing: they may be of the server that the address names now.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from dataclasses import dataclass, field

from clearml_k8s import names
from clearml_k8s.backoff import Backoff
from clearml_k8s.clearml import queues, tasks
from clearml_k8s.clearml.session import Session
from clearml_k8s.kube.slim import JobRecord
from clearml_k8s.kube.store import Store
from clearml_k8s.logs import kv

log = logging.getLogger(__name__)

FIRST_SECONDS = 5.0
LONGEST_SECONDS = 120.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What one look showed of a queue and of the tasks that have a Job and came from it."""

    queue_seen: bool
    asked: int
    seen: int

    @property
    def proven(self) -> bool:
        """This is the server and the workspace that the Jobs came from: what it does not list does not exist."""
        return self.queue_seen or self.seen > 0


@dataclass(kw_only=True, slots=True)
class _Known:
    """The last look at one queue: when it began, what it showed, until when there is no other; what was told of it."""

    at: float = float("-inf")
    finding: Finding | None = None
    until: float = 0.0
    told: Finding | None = None
    backoff: Backoff = field(default_factory=lambda: Backoff(first=FIRST_SECONDS, cap=LONGEST_SECONDS))
    looking: asyncio.Lock = field(default_factory=asyncio.Lock)


class Presence:
    """Looks for what is left of a queue; one look serves all whose task was absent before it."""

    def __init__(self, *, session: Session, jobs: Store[JobRecord], namespace: str, release: str) -> None:
        self._session = session
        self._clock = session.clock
        self._jobs = jobs
        self._namespace = namespace
        self._release = release
        self._known: defaultdict[str, _Known] = defaultdict(_Known)

    async def doubt(self, job: JobRecord, *, since: float) -> float | None:
        """None: the Job's task, absent from a read that began at ``since`` (monotonic), was deleted.

        Else seconds after which it is worth asking again. Errors as `Session.call`.
        """
        queue = job.queue or ""
        known = self._known[queue]
        async with known.looking:
            if known.finding is not None and known.finding.proven and known.at > since:
                return None
            now = self._clock.monotonic()
            if known.until > now:
                return known.until - now
            known.at = now
            known.finding = await self._look(queue)
            self._tell(queue, known)
            if known.finding.proven:
                known.backoff.reset()
                return None
            wait = known.backoff.next()
            known.until = self._clock.monotonic() + wait
            return wait

    async def _look(self, queue: str) -> Finding:
        wanted = [job.task for job in self._jobs if job.task is not None and (job.queue or "") == queue]
        found = await queues.get_queues(self._session, ids=[queue] if queue else [], max_entries=1)
        if any(one.id == queue for one in found):
            return Finding(queue_seen=True, asked=0, seen=0)
        seen = await tasks.get_many(self._session, wanted[: tasks.PAGE_SIZE], fields=("id",))
        return Finding(queue_seen=False, asked=len(set(wanted[: tasks.PAGE_SIZE])), seen=len(seen))

    def _tell(self, queue: str, known: _Known) -> None:
        """Log what is missing, once, and again when it changes."""
        finding, before = known.finding, known.told
        if finding is None or finding == before:
            return
        if finding.proven:
            known.told = None
            if before is not None:
                log.info("tasks of the queue are seen again", extra=kv(queue=queue, server=self._session.address))
            return
        known.told = finding
        selector = f"{names.task_selector(release=self._release)},{names.LABEL_QUEUE}={names.label_value(queue)}"
        log.error(
            "no Job is deleted for want of its task: ClearML server %s lists neither queue %s nor any of the %d tasks "
            "that came from it and have a Job. Check that agentk8sglue.apiServerUrlReference names the server of these "
            "tasks, and that clearml.agentk8sglueKey and agentk8sglueSecret are of their workspace. If queue and tasks "
            "were deleted on purpose, remove the Jobs: kubectl -n %s delete jobs -l %s",
            self._session.address,
            queue or "(unknown)",
            finding.asked,
            self._namespace,
            selector,
        )

"""Commands around a task's pod: before its Job is made, once that is there, when it and its pods are gone (ADR 0020).

What is still to run stands in the claim record before the Job can be made, and leaves it after it has run: so it is run
whoever ends the Job and whenever the process dies, at least once.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Protocol

from clearml_k8s import names
from clearml_k8s.clearml.tasks import TaskView
from clearml_k8s.clock import Clock
from clearml_k8s.config import ResolvedQueue, pod_commands
from clearml_k8s.config.pod_commands import PodCommandsConfig
from clearml_k8s.errors import HookUnavailable, Refused, SpecError, Unanswered, trimmed
from clearml_k8s.flow.book import ClaimBook
from clearml_k8s.flow.tell import Teller
from clearml_k8s.hooks.shell import Ended
from clearml_k8s.kube.client import KubeClient
from clearml_k8s.kube.record import ClaimRecord, Owed
from clearml_k8s.kube.resources import JOBS, PODS
from clearml_k8s.kube.slim import JobRecord, PodRecord, slim_pod
from clearml_k8s.kube.store import Store
from clearml_k8s.logs import kv

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 2.0
"""Between two looks at what is due."""

STAYS_SECONDS: Final = 10.0
"""Before it is asked again whether a Job or a pod that no watch shows is gone."""

MOST_TRIES: Final = 5
"""Runs that fail, one after the other, before a command is given up."""

FIRST_WAIT_SECONDS: Final = 5.0
"""Before the second try; each further one waits twice as long."""

PRE_APPLY, POST_APPLY, POST_DELETE = "before its Job", "after its Job was made", "after its pod"
"""The commands, in words."""


class Runs(Protocol):
    """`hooks.shell.Shell`."""

    def __call__(self, command: str, *, variables: Mapping[str, str]) -> Awaitable[Ended]: ...


class StillOwed(Refused):
    """A command for the pod of the task's former attempt has not run yet."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Due:
    """The next run for a pod: of the command for one that is gone, or for one that is there."""

    owed: Owed
    gone: bool


class Commands:
    """Of one controller. ``begin`` is a launch's, the others are a loop's."""

    def __init__(
        self,
        *,
        config: PodCommandsConfig,
        namespace: str,
        client: KubeClient,
        record: ClaimRecord,
        book: ClaimBook,
        jobs: Store[JobRecord],
        pods: Store[PodRecord],
        teller: Teller,
        shell: Callable[[], Runs],
        may_run: Callable[[], bool],
    ) -> None:
        """``shell``: makes one for each command, so that none waits for another's runs. ``may_run``: whether this
        process certainly leads."""
        self._config = config
        self._namespace = namespace
        self._client = client
        self._clock: Clock = client.clock
        self._record = record
        self._book = book
        self._jobs = jobs
        self._pods = pods
        self._teller = teller
        self._may_run = may_run
        self._shells = {kind: shell() for kind in (PRE_APPLY, POST_APPLY, POST_DELETE)}
        self._reserved: dict[str, int] = {}  # numbers on their way into the record
        self._running: dict[str, bool] = {}  # by task: whether it is the command for a pod that is gone
        self._done: dict[str, Due] = {}  # what has run, and is not written yet
        self._failures: dict[str, int] = {}
        self._not_before: dict[str, float] = {}

    # ---- a launch -------------------------------------------------------------------------------------------------

    async def begin(self, task: TaskView, queue: ResolvedQueue) -> None:
        """What comes before the Job of the task's present attempt, whose claim is under way.

        Raises SpecError when the command fails, HookUnavailable when none can be run, StillOwed, and what
        `ClaimRecord.owe` raises: in each case no Job may be made.
        """
        if self._config.after:
            await self._owe(task, queue)
        if not self._config.pre_apply:
            return
        ended = await self._run(PRE_APPLY, self._config.pre_apply, task=task.id, queue=queue.name)
        if ended.code != 0:
            raise SpecError(self._failure(PRE_APPLY, ended))

    async def _owe(self, task: TaskView, queue: ResolvedQueue) -> None:
        before = self._record.owed.get(task.id)
        gone = task.id in self._done and self._done[task.id].gone
        if before is not None and not gone:
            if self._running.get(task.id) or before.attempt != task.status_changed:
                raise StillOwed(f"the command {POST_DELETE} of its former attempt has not run yet")
            return
        self._done.pop(task.id, None)
        owed = Owed(
            task=task.id,
            attempt=task.status_changed,
            queue=queue.name,
            number=self._free_number(),
            # A command that is added later is for new pods.
            applied=not self._config.post_apply,
            delete=bool(self._config.post_delete),
        )
        self._reserved[task.id] = owed.number
        try:
            await self._record.owe([owed])
        finally:
            del self._reserved[task.id]

    def _free_number(self) -> int:
        taken = {owed.number for owed in self._record.owed.values()} | set(self._reserved.values())
        return next(number for number in range(1, len(taken) + 2) if number not in taken)

    # ---- the loop -------------------------------------------------------------------------------------------------

    def due(self) -> list[Due]:
        """What is to run now, and is not running; each is to be given to `settle`, which ends that."""
        found = []
        coming, now = self._book.in_flight(), self._clock.monotonic()
        for task, owed in self._record.owed.items():
            if task in self._running or task in self._done or now < self._not_before.get(task, 0.0):
                continue
            jobs = self._jobs.of_task(task)
            if any(job.attempt == owed.attempt and job.deleted is None for job in jobs):
                if owed.applied or not self._config.post_apply:
                    continue
            elif task in coming or jobs or any(map(_counts, self._pods.of_task(task))):
                continue
            one = Due(owed=owed, gone=not jobs)
            self._running[task] = one.gone
            found.append(one)
        for remembered in (self._failures, self._not_before):
            for task in remembered.keys() - self._record.owed.keys():
                del remembered[task]
        return found

    async def settle(self, due: Due) -> None:
        """Run it, and remember for `write` that it has run; what goes wrong is left to a later look."""
        task, again = due.owed.task, STAYS_SECONDS
        try:
            if not due.gone or not await self._stays(task):
                again = await self._settle(due)
        except (Refused, Unanswered) as error:
            log.info("command runs later", extra=kv(task=task, why=str(error)))
        except Exception:
            # One task's trouble must not end the work on all others.
            log.exception("a command around a pod failed", extra=kv(task=task))
        finally:
            del self._running[task]
        self._not_before[task] = self._clock.monotonic() + again

    async def write(self) -> None:
        """Write down what has run. Errors as `ClaimRecord.owe`."""
        done = dict(self._done)
        gone = [task for task, one in done.items() if one.gone]
        applied = [replace(one.owed, applied=True) for one in done.values() if not one.gone]
        if gone:
            await self._record.disown(gone)
        if applied:
            await self._record.owe(applied)
        for task, one in done.items():
            if self._done.get(task) is one:
                del self._done[task]

    async def _stays(self, task: str) -> bool:
        """Whether a Job or a pod of the task is there, whosever it is and whatever the watches have shown."""
        if await self._client.find(JOBS, names.JOB_NAME_PREFIX + task, namespace=self._namespace) is not None:
            return True
        selector = f"{names.LABEL_TASK_ID}={task}"
        async for page in self._client.list_pages(PODS, namespace=self._namespace, label_selector=selector):
            if any(_counts(slim_pod(pod)) for pod in page["items"]):
                return True
        return False

    async def _settle(self, due: Due) -> float:
        """Seconds until the next look, if it has to run again."""
        owed, kind = due.owed, POST_DELETE if due.gone else POST_APPLY
        command = self._config.post_delete if due.gone else self._config.post_apply
        if not command or (due.gone and not owed.delete):
            if due.gone and owed.delete:
                log.warning("command dropped: none is to run %s any more", kind, extra=kv(task=owed.task))
            self._done[owed.task] = due
            return 0.0
        ended = await self._run(kind, command, task=owed.task, queue=owed.queue, number=owed.number)
        failed = 0 if ended.code == 0 else self._failures.get(owed.task, 0) + 1
        if 0 < failed < MOST_TRIES:
            self._failures[owed.task] = failed
            self._teller.say(owed.task, f"{_begun(self._failure(kind, ended))}; it is tried again", level="WARNING")
            return FIRST_WAIT_SECONDS * 2.0 ** (failed - 1)
        if failed:
            text = f"{_begun(self._failure(kind, ended))}; that was the last of {MOST_TRIES} tries"
            self._teller.say(owed.task, text, level="ERROR")
            log.error("command given up", extra=kv(task=owed.task, command=kind))
        self._failures.pop(owed.task, None)
        if due.gone:
            self._teller.forget(owed.task)
        self._done[owed.task] = due
        return 0.0

    # ---- one run ----------------------------------------------------------------------------------------------------

    async def _run(self, kind: str, command: str, *, task: str, queue: str, number: int | None = None) -> Ended:
        if not self._may_run():
            raise HookUnavailable(f"the command {kind} is not run: this process may not lead any more")
        filled = pod_commands.filled(
            command, pod_name=names.job_name(task), namespace=self._namespace, pod_number=number
        )
        began = self._clock.monotonic()
        try:
            ended = await self._shells[kind](filled, variables=pod_commands.variables(queue_name=queue))
        except HookUnavailable as error:
            raise HookUnavailable(f"the command {kind}: {error}") from None
        fields = kv(
            task=task,
            command=kind,
            code=ended.code,
            seconds=round(self._clock.monotonic() - began, 1),
            output=ended.output or None,
        )
        log.log(logging.INFO if ended.code == 0 else logging.WARNING, "command ended", extra=fields)
        return ended

    def _failure(self, kind: str, ended: Ended) -> str:
        """In words, with the last line of what it printed."""
        how = f"exit code {ended.code}"
        if ended.code is None:
            how = f"it took more than {self._config.timeout_seconds:g} s, and was ended"
        lines = ended.output.splitlines()
        said = f": {trimmed(lines[-1])}" if lines else ""
        return f"the command {kind} failed: {how}{said}"


async def drop(record: ClaimRecord) -> None:
    """What was owed when commands were configured. Errors as `ClaimRecord.disown`."""
    if record.owed:
        log.warning("commands around pods dropped: none is configured any more", extra=kv(pods=len(record.owed)))
        await record.disown(list(record.owed))


def _begun(text: str) -> str:
    return text[:1].upper() + text[1:]


def _counts(pod: PodRecord) -> bool:
    """Whether the pod has to go first. One that has ended and that nobody owns (`--cascade=orphan`) stays for ever."""
    return not pod.finished or pod.job_uid is not None

"""Tells a task's user what the cluster shows: why it waits, how its pod ended, who told it to end."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from clearml_k8s import names
from clearml_k8s.clearml import tasks
from clearml_k8s.clearml.session import Session
from clearml_k8s.clearml.tasks import TaskView
from clearml_k8s.errors import ApiRefused, AuthRefused, Refused, Unanswered
from clearml_k8s.flow import durations
from clearml_k8s.flow.decide import TOLD
from clearml_k8s.flow.diagnosis import Category, Diagnosis, newest, ranks
from clearml_k8s.flow.tell import Teller
from clearml_k8s.hidden import hiding, without_secrets
from clearml_k8s.kube.client import KubeClient
from clearml_k8s.kube.environment import environment
from clearml_k8s.kube.events import EventRecord, events_of
from clearml_k8s.kube.resources import PODS
from clearml_k8s.kube.slim import ContainerRecord, JobRecord, PodRecord
from clearml_k8s.logs import Redactor, kv

log = logging.getLogger(__name__)

REPEAT_SECONDS = 60.0
LOG_LINES = 100
LOG_BYTES = 32_768
"""Of them the last are shown: all that is told of one container fits into one console line."""

READ_BYTES = 4 * 1024 * 1024
"""Of a log that are read: more than 100 lines as the node keeps them, in pieces of 16 KiB at most."""

EVENT_LINES = 50
LOG_SECONDS = 10.0


_IN_DIAGNOSES = frozenset({"FailedCreate", "FailedScheduling", "Failed", "BackOff"})


@dataclass(frozen=True, kw_only=True, slots=True)
class _Told:
    """What a task's user was told last of its waiting."""

    category: Category
    text: str
    at: float


class Explainer:
    """Console lines and status messages of the tasks that have a Job."""

    def __init__(self, *, session: Session, client: KubeClient, teller: Teller, namespace: str) -> None:
        self._session = session
        self._clock = session.clock
        self._client = client
        self._teller = teller
        self._namespace = namespace
        self._told: dict[str, _Told] = {}
        self._over: dict[str, str] = {}  # task -> uid of the Job whose durations were told
        self._pulling: dict[str, tuple[str, str]] = {}  # task -> uid of its Job, when a node began to pull an image

    def forget(self, task: str) -> None:
        """The task has no Job any more: all may be said again of its next one."""
        self._teller.forget(task)
        self._told.pop(task, None)
        self._over.pop(task, None)
        self._pulling.pop(task, None)

    async def waits(self, job: JobRecord, diagnosis: Diagnosis) -> float | None:
        """Tell why it waits, and each change of the reason; of mere changes of its words one a minute.

        Seconds after which there may be more to tell. Errors as `Session.call`.
        """
        return await self._say_waiting(job.task or "", diagnosis.category, str(diagnosis))

    def apart(self, job: JobRecord) -> None:
        """Tell that all of its pods run and have not begun."""
        task = job.task or ""
        logs = f"kubectl -n {self._namespace} logs --prefix -l {names.LABEL_JOB_UID}={job.uid}"
        self._teller.say(
            task,
            f"Waiting: all of its {job.pods} pods run, and have not begun together: each prepares itself, then waits "
            f"for the others. How far they are: {logs}. If one does not find rank 0, a NetworkPolicy or the cluster's "
            "DNS keeps them from each other (port 29499)",
            level="WARNING",
        )

    def happened(self, job: JobRecord, events: Sequence[EventRecord]) -> None:
        """Tell what Kubernetes did for the pod so far, but for what a diagnosis says in words."""
        if began := min((event.last for event in events if event.reason == "Pulling" and event.last), default=""):
            self._pulling[job.task or ""] = (job.uid, began)
        for event in events[-EVENT_LINES:]:
            if event.reason not in _IN_DIAGNOSES:
                self._teller.say(job.task or "", event.line)

    async def ended(self, job: JobRecord, pods: Sequence[PodRecord], diagnosis: Diagnosis, *, why: str) -> None:
        """Tell how the pod ended, with its events and the last lines of its containers, as far as they can be read."""
        task = job.task or ""
        pod = next((pod for pod in ranks(pods) if pod.rank == diagnosis.rank), newest(pods))
        self._teller.say(task, f"{diagnosis} ({why})", level="ERROR")
        if pod is None:
            return
        for event in await self._events(pod):
            if event.warning:
                self._teller.say(task, event.line, level="ERROR")
        shown = [c for c in pod.containers if _has_log(c)] if pod.node is not None else []
        if not shown:
            return
        try:
            async with self._clock.timeout(LOG_SECONDS):
                hide = hiding(await environment(self._client, pod, namespace=self._namespace))
        except (TimeoutError, Refused, Unanswered) as error:
            why = str(error) or "no answer"
            line = f"The log of the pod is not shown, as its secrets are not known: {why}; {self._whole(pod)}"
            self._teller.say(task, line, level="ERROR")
            return
        for container in shown:
            if lines := await self._last_lines(pod, container, hide=hide):
                self._teller.say(task, lines, level="ERROR")

    def over(self, job: JobRecord, task: TaskView | None, pods: Sequence[PodRecord]) -> None:
        """Tell where the time of the attempt went, when it ended just now."""
        if self._over.get(job.task or "") == job.uid:
            return
        of_job, pulling = self._pulling.get(job.task or "", ("", ""))
        pulling = pulling if of_job == job.uid else ""
        if line := durations.sentence(task=task, job=job, pods=pods, now=self._clock.now(), pulling=pulling):
            self._over[job.task or ""] = job.uid
            self._teller.say(job.task or "", line)

    async def interrupted(self, job: JobRecord, diagnosis: Diagnosis) -> None:
        """Tell that what reads as a user's abort was none. Errors as `Session.call`, but for a refusal: it is final."""
        await self._correct(job, f"Not aborted by its user: {diagnosis}", diagnosis)

    async def failed(self, job: JobRecord, diagnosis: Diagnosis) -> None:
        """Tell why it failed that its agent knew less of. Errors as `interrupted`."""
        await self._correct(job, f"Why it failed: {diagnosis}", diagnosis)

    async def _correct(self, job: JobRecord, line: str, diagnosis: Diagnosis) -> None:
        task = job.task or ""
        self._teller.say(task, line, level="ERROR")
        try:
            await tasks.set_status_message(self._session, task, TOLD + str(diagnosis))
        except AuthRefused:
            raise
        except ApiRefused as error:
            # The console has it; the Job must not stay for want of the rest.
            log.warning("status message not set", extra=kv(**job.fields, why=str(error)))
        log.warning(
            "task's end explained", extra=kv(**job.fields, category=diagnosis.category.value, why=diagnosis.summary)
        )

    async def _say_waiting(self, task: str, category: Category, text: str) -> float | None:
        now = self._clock.monotonic()
        before = self._told.get(task)
        if before is not None and before.text == text:
            return None
        if before is not None and before.category is category and now < before.at + REPEAT_SECONDS:
            return before.at + REPEAT_SECONDS - now
        self._told[task] = _Told(category=category, text=text, at=now)
        self._teller.say(task, f"Waiting: {text}")
        await tasks.set_status_message(self._session, task, TOLD + text)
        return None

    async def _events(self, pod: PodRecord) -> list[EventRecord]:
        try:
            async with self._clock.timeout(LOG_SECONDS):
                return await events_of(self._client, pod.uid, namespace=self._namespace)
        except (TimeoutError, Refused, Unanswered) as error:
            log.debug("events not read", extra=kv(pod=pod.name, why=str(error)))
            return []

    async def _last_lines(self, pod: PodRecord, container: ContainerRecord, *, hide: Redactor) -> str:
        path = PODS.path(namespace=self._namespace, name=pod.name, subresource="log")
        # The server's limit counts from the first of these lines on, so ours is kept here.
        params: dict[str, str | int | bool] = {
            "container": container.name,
            "tailLines": LOG_LINES,
            "limitBytes": READ_BYTES,
        }
        whose = "the pod" if container.name == names.TASK_CONTAINER else f"container {container.name}"
        try:
            async with self._clock.timeout(LOG_SECONDS), self._client.stream(path, params=params) as chunks:
                text = await _tail(chunks)
        except TimeoutError:
            why = f"no answer within {LOG_SECONDS:.0f} s"
            return f"The log of {whose} cannot be read: {why}; {self._whole(pod, container)}"
        except (Refused, Unanswered) as error:
            return f"The log of {whose} cannot be read: {error}; {self._whole(pod, container)}"
        whole = without_secrets(hide(text))
        # Cut afterwards, so that no part of a secret stands alone.
        shown = _cut(whole)
        more = f" ({self._whole(pod, container)})" if shown != whole or text.count("\n") + 1 >= LOG_LINES else ""
        return f"Last lines of {whose}{more}:\n{shown}" if shown else ""

    def _whole(self, pod: PodRecord, container: ContainerRecord | None = None) -> str:
        """Where there may be more than the console shows; ``container`` None: of all of them."""
        which = f"-c {container.name}" if container else "--all-containers"
        return f"all of it, while the pod is kept: kubectl -n {self._namespace} logs {pod.name} {which}"


def _has_log(container: ContainerRecord) -> bool:
    """It has begun, and may have to do with the end: an init container that ended well has not."""
    return bool(container.running or container.terminated) and not (container.init and container.exit_code == 0)


async def _tail(chunks: AsyncIterator[bytes]) -> str:
    """The end of a text, twice as much as is shown."""
    kept = b""
    async for chunk in chunks:
        kept = (kept + chunk)[-2 * LOG_BYTES :]
    return kept.decode("utf-8", "replace").strip()


def _cut(text: str) -> str:
    """The last `LOG_BYTES` of it, from the beginning of a line on where there is one."""
    whole = text.encode()
    if len(whole) <= LOG_BYTES:
        return text
    first, _, rest = whole[-LOG_BYTES:].partition(b"\n")
    return (rest or first).decode("utf-8", "replace")

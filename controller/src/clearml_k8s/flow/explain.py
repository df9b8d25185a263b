"""Tells a task's user what the cluster shows: why it waits, how its pod ended, who told it to end."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from clearml_k8s import names
from clearml_k8s.clearml import tasks
from clearml_k8s.clearml.session import Session
from clearml_k8s.errors import ApiRefused, AuthRefused, KubeRefused, Refused, Unanswered
from clearml_k8s.flow.decide import TOLD
from clearml_k8s.flow.diagnose import Category, Diagnosis, newest
from clearml_k8s.flow.tell import Teller
from clearml_k8s.kube.client import KubeClient
from clearml_k8s.kube.resources import EVENTS, PODS
from clearml_k8s.kube.slim import JobRecord, PodRecord
from clearml_k8s.logs import kv

log = logging.getLogger(__name__)

REPEAT_SECONDS = 60.0
LOG_LINES = 50
LOG_BYTES = 32_768
LOG_SECONDS = 10.0


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

    def forget(self, task: str) -> None:
        """The task has no Job any more: all may be said again of its next one."""
        self._teller.forget(task)
        self._told.pop(task, None)

    async def waits(self, job: JobRecord, diagnosis: Diagnosis) -> float | None:
        """Tell why it waits, and each change of the reason; of mere changes of its words one a minute.

        Seconds after which there may be more to tell. Errors as `Session.call`.
        """
        text = str(diagnosis)
        if diagnosis.category is Category.NO_POD:
            text += await self._job_events(job)
        again = await self._say_waiting(job.task or "", diagnosis.category, text)
        return 30.0 if diagnosis.category is Category.NO_POD else again

    async def ended(self, job: JobRecord, pods: Sequence[PodRecord], diagnosis: Diagnosis, *, why: str) -> None:
        """Tell how the pod ended, with its last lines, as far as they can be read."""
        task = job.task or ""
        self._teller.say(task, f"{diagnosis} ({why})", level="ERROR")
        for line in await self._last_lines(newest(pods)):
            self._teller.say(task, line, level="ERROR")

    async def interrupted(self, job: JobRecord, diagnosis: Diagnosis) -> None:
        """Tell that what reads as a user's abort was none. Errors as `Session.call`, but for a refusal: it is final."""
        task = job.task or ""
        self._teller.say(task, f"Not aborted by its user: {diagnosis}", level="ERROR")
        try:
            await tasks.set_status_message(self._session, task, TOLD + str(diagnosis))
        except AuthRefused:
            raise
        except ApiRefused as error:
            # The console has it; the Job must not stay for want of the rest.
            log.warning("status message not set", extra=kv(task=task, why=str(error)))
        log.warning(
            "task's pod was told to end", extra=kv(task=task, category=diagnosis.category.value, why=diagnosis.summary)
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

    async def _job_events(self, job: JobRecord) -> str:
        """What the Job controller says about pods it could not make (quota, admission)."""
        selector = f"involvedObject.uid={job.uid},reason=FailedCreate"
        try:
            async for page in self._client.list_pages(
                EVENTS, namespace=self._namespace, field_selector=selector, limit=20
            ):
                messages = [str(event.get("message") or "") for event in page["items"]]
                return f": {messages[-1]}" if messages else ""
        except KubeRefused as error:
            log.debug("events not read: %s", error)
        return ""

    async def _last_lines(self, pod: PodRecord | None) -> list[str]:
        if pod is None or pod.node is None:
            return []
        path = PODS.path(namespace=self._namespace, name=pod.name, subresource="log")
        params: dict[str, str | int | bool] = {
            "container": names.TASK_CONTAINER,
            "tailLines": LOG_LINES,
            "limitBytes": LOG_BYTES,
        }
        try:
            async with self._clock.timeout(LOG_SECONDS), self._client.stream(path, params=params) as chunks:
                text = b"".join([chunk async for chunk in chunks]).decode("utf-8", "replace").strip()
        except TimeoutError:
            return [f"The pod's log cannot be read: no answer within {LOG_SECONDS:.0f} s"]
        except (Refused, Unanswered) as error:
            return [f"The pod's log cannot be read: {error}"]
        return [f"Last lines of the pod:\n{text}"] if text else []

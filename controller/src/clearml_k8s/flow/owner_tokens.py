"""Tokens of tasks' owners in place of a key pair (ADR 0019): whether one is to be had, and the Secret that has it.

A Job names the Secret of its own; it is made when its pod has a node, so that the token is young when the pod starts,
however long that waited. What a pod waits for is made, again and again if need be, by whichever process sees it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from clearml_k8s import names
from clearml_k8s.backoff import Backoff
from clearml_k8s.clearml import owners
from clearml_k8s.clearml.session import Session
from clearml_k8s.clearml.tasks import TaskView
from clearml_k8s.config import Config
from clearml_k8s.errors import (
    ApiRefused,
    KubeAlreadyExists,
    KubeForbidden,
    KubeRefused,
    Refused,
    Unanswered,
)
from clearml_k8s.flow.diagnosis import ranks
from clearml_k8s.flow.pending import lacks_secret
from clearml_k8s.flow.task_conf import TaskConf
from clearml_k8s.flow.tell import Teller
from clearml_k8s.kube.client import KubeClient
from clearml_k8s.kube.resources import SECRETS
from clearml_k8s.kube.slim import JobRecord, PodRecord
from clearml_k8s.kube.token_secret import manifest
from clearml_k8s.logs import Redactor, kv

log = logging.getLogger(__name__)

ALLOWED_SECONDS = 300.0
"""For so long the server is not asked again whether it gives tokens of one user."""

REFUSED_SECONDS = 60.0
"""For so long a task stays untouched in its queue whose owner's token was refused."""

GIVEN_SECONDS = 60.0
"""After which a pod that still lacks its Secret gets it again; its node looks for it every few seconds."""

THROTTLED = 429


class OwnerTokens:
    """Of one controller; see the module."""

    def __init__(
        self,
        *,
        config: Config,
        session: Session,
        client: KubeClient,
        teller: Teller,
        controller: str,
        conf: TaskConf | None = None,
    ) -> None:
        """``controller``: its id, for labels; ``conf``: the clearml.conf that every task can read."""
        self._config = config
        self._session = session
        self._clock = session.clock
        self._client = client
        self._teller = teller
        self._controller = controller
        self._conf = conf
        self._allowed: dict[tuple[str, str], float] = {}  # user and company: when that was known
        self._given: set[str] = set()  # uids of Jobs, as below
        self._not_before: dict[str, float] = {}
        self._backoffs: dict[str, Backoff] = {}
        self._troubles: dict[str, str] = {}
        self._forbidden_told = False

    # ---- before a task is taken -------------------------------------------------------------------------------------

    async def unsuitable(self) -> str:
        """Why no task at all can have one, and what to write instead; "" when that is not known to be so."""
        if self._conf is not None:
            await self._conf.look()
            if self._conf.credentials:
                return self._conf.credentials
        return "" if self._session.info is None else owners.unsuitable(self._session.info)

    async def refusal(self, task: TaskView) -> str:
        """Why the server gives no token of the task's owner; "" when it does. Errors as `Session.call` where it does
        not say."""
        if why := await self.unsuitable():
            return why
        owner = (task.user, task.company)
        now = self._clock.monotonic()
        if now - self._allowed.get(owner, -ALLOWED_SECONDS) < ALLOWED_SECONDS:
            return ""
        try:
            await owners.owner_token(self._session, user=task.user, company=task.company)
        except ApiRefused as error:
            if error.code == THROTTLED:
                raise
            return f"the ClearML server gives no token of its owner ({task.user or 'unknown'}): {error.message}"
        self._allowed = {one: at for one, at in self._allowed.items() if now - at < ALLOWED_SECONDS}
        self._allowed[owner] = now
        return ""

    # ---- when its pod has a node ------------------------------------------------------------------------------------

    def lacks(self, job: JobRecord, pods: Sequence[PodRecord]) -> bool:
        """A pod of the Job is on a node, has not begun, and nobody has made its Secret as far as this process knows."""
        if job.token_secret is None:
            return False
        waiting = [pod for pod in ranks(pods) if pod.node is not None and pod.deleted is None and not _begun(pod)]
        if not waiting or (job.uid in self._given and not any(lacks_secret(job, pod) for pod in waiting)):
            return False
        return (self._due(job) or 0.0) <= 0

    def due(self, job: JobRecord) -> float | None:
        """Seconds until it is looked again whether the pod lacks its Secret; None where news will show it."""
        left = self._due(job)
        return left if left is not None and left > 0 else None

    def _due(self, job: JobRecord) -> float | None:
        at = self._not_before.get(job.uid)
        return None if at is None else at - self._clock.monotonic()

    async def give(self, job: JobRecord, task: TaskView) -> None:
        """Make the Secret; what keeps it from that is told, and it is tried again after pauses that grow."""
        secret = ""
        try:
            token = await owners.owner_token(self._session, user=task.user, company=task.company)
            secret = token.value
            body = manifest(
                job,
                token=secret,
                namespace=self._config.namespace,
                release=self._config.release_name,
                controller=self._controller,
            )
            await self._client.create(SECRETS, body, namespace=self._config.namespace)
        except KubeAlreadyExists:
            # No other Job has its name, so it is this one's: of a call whose answer was lost, or of an earlier process.
            log.debug("Secret is there already", extra=kv(**job.fields, secret=job.token_secret))
        except (Refused, Unanswered) as error:
            self._trouble(job, error, secret=secret)
            wait = self._backoffs.setdefault(job.uid, Backoff(first=1.0, cap=30.0, random=self._client.random)).next()
            self._not_before[job.uid] = self._clock.monotonic() + wait
            return
        else:
            log.info("Secret with the owner's token created", extra=kv(**job.fields, secret=job.token_secret))
            self._forbidden_told = False
        self._given.add(job.uid)
        self._not_before[job.uid] = self._clock.monotonic() + GIVEN_SECONDS
        self._troubles.pop(job.uid, None)
        self._backoffs.pop(job.uid, None)

    def keep(self, jobs: set[str]) -> None:
        """Forget all but these Jobs (uids)."""
        self._given &= jobs
        for found in (self._not_before, self._troubles, self._backoffs):
            for uid in found.keys() - jobs:
                del found[uid]

    def __len__(self) -> int:
        return len(self._not_before)

    def _trouble(self, job: JobRecord, error: Refused | Unanswered, *, secret: str) -> None:
        """To its user, and once to the log as long as it stays the same."""
        # An admission plugin may quote what it refuses.
        said = Redactor([secret])(error.message if isinstance(error, ApiRefused | KubeRefused) else str(error))
        if isinstance(error, KubeForbidden) and error.lacks_right_to_create:
            self._no_right()
            said = "the agent may not make Secrets in this cluster; its administrator can allow it"
        elif isinstance(error, KubeRefused):
            said = f"Kubernetes does not take the Secret with it: {said}"
        elif isinstance(error, ApiRefused):
            said = f"the ClearML server gives none: {said}"
        self._teller.say(job.task or "", f"Waiting for its owner's token: {said}", level="WARNING")
        if self._troubles.get(job.uid) != said:
            log.warning("pod waits for its owner's token", extra=kv(**job.fields, why=said))
        self._troubles[job.uid] = said

    def _no_right(self) -> None:
        """Of all tasks alike: said once."""
        if not self._forbidden_told:
            log.error(
                "this account may not create Secrets in namespace %s, so no task gets its owner's token: the chart's "
                "Role gives it with agentk8sglue.useOwnerToken: true; clearml-k8s check tells what is missing",
                self._config.namespace,
            )
        self._forbidden_told = True


def _begun(pod: PodRecord) -> bool:
    """The task's container was started: it has read the Secret, or will never."""
    if pod.finished:
        return True
    own = (c for c in pod.containers if not c.init and c.name == names.TASK_CONTAINER)
    return any(c.running or c.terminated is not None for c in own)

"""What is the matter with a task's pod, in words: the categories and what a diagnosis holds."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from clearml_k8s.config import Config, ResolvedQueue
from clearml_k8s.kube.slim import PodRecord


class Category(enum.Enum):
    """The stable list of reasons; names do not change between versions."""

    IMAGE_NAME = "image-name"
    IMAGE_PULL = "image-pull"
    CONTAINER_CONFIG = "container-config"
    OWNER_TOKEN = "owner-token"  # noqa: S105 - a category
    UNSCHEDULABLE = "unschedulable"
    NO_POD = "no-pod"
    SUSPENDED = "suspended"
    KUEUE_QUOTA = "kueue-quota"
    KUEUE_QUEUE = "kueue-queue"
    KUEUE_CHECKS = "kueue-checks"
    KUEUE_DEACTIVATED = "kueue-deactivated"
    KUEUE_UNSEEN = "kueue-unseen"
    QUOTA = "quota"
    LIMIT_RANGE = "limit-range"
    POD_SECURITY = "pod-security"
    ADMISSION = "admission"
    VOLUME = "volume"
    SANDBOX = "sandbox"
    STARTING = "starting"
    OOM_KILLED = "oom-killed"
    EVICTED = "evicted"
    PREEMPTED = "preempted"
    NODE_LOST = "node-lost"
    DEADLINE = "deadline"
    DELETED = "deleted"
    NOT_STARTED = "not-started"
    CRASHED = "crashed"
    CLEAN_EXIT = "clean-exit"
    ENDED = "ended"


@dataclass(frozen=True, kw_only=True, slots=True)
class Diagnosis:
    """What is the matter, in words for the task's user.

    ``patience``: seconds this may last before it is acted on, None for as long as it takes, 0 at once. ``since``: when
    that time begins anew, another value. ``rank``: of which of the task's pods, None where there is one alone.
    """

    category: Category
    summary: str
    advice: str = ""
    patience: float | None = None
    since: str = ""
    rank: int | None = None

    def __str__(self) -> str:
        return f"{self.summary.rstrip('.')}. {self.advice}" if self.advice else self.summary


Patience = Mapping[Category, float | None]
"""Seconds that each reason to wait may last before the task is failed; None: as long as it takes."""

PATIENCE: Final[Patience] = MappingProxyType(
    {
        Category.IMAGE_NAME: 0.0,
        Category.IMAGE_PULL: 300.0,
        Category.CONTAINER_CONFIG: 60.0,
        Category.OWNER_TOKEN: None,
        Category.UNSCHEDULABLE: None,
        Category.NO_POD: None,
        Category.QUOTA: None,
        Category.LIMIT_RANGE: 300.0,
        Category.POD_SECURITY: 300.0,
        Category.ADMISSION: 300.0,
        Category.VOLUME: None,
        Category.SANDBOX: None,
        Category.NODE_LOST: 300.0,
    }
)
"""Where the config says nothing. What may mend itself waits; where somebody has to change something, the task ends."""


def patience(*, config: Config, queue: ResolvedQueue | None) -> Patience:
    """What the config says for the queue (`patienceSeconds` of its queueSettings), else for all, else the default."""
    own = queue.config.settings.patience_seconds if queue is not None else {}
    given = {**config.patience_seconds, **{key: seconds for key, seconds in own.items() if seconds is not None}}
    return {category: given.get(key_of(category), seconds) for category, seconds in PATIENCE.items()}


DISRUPTIONS: Final = (Category.PREEMPTED, Category.EVICTED, Category.NODE_LOST)
"""Ends of a pod that are the cluster's doing, in which the task has no part."""


KUEUE_DECIDES: Final = (Category.KUEUE_QUOTA, Category.KUEUE_QUEUE, Category.KUEUE_CHECKS, Category.KUEUE_UNSEEN)
"""Reasons to wait for which no task is ever failed."""

FAILS: Final = tuple(category for category in Category if category not in KUEUE_DECIDES)
"""What a task may be failed for."""


def most_requeues(*, config: Config, queue: ResolvedQueue | None, category: Category) -> int:
    """How often a task is put back into its queue after its pod ended so: `maxRequeues` of its queue, else of all."""
    if category not in DISRUPTIONS:
        return 0
    key = key_of(category)
    own = queue.config.settings.max_requeues.get(key) if queue is not None else None
    return own if own is not None else config.max_requeues.get(key, 0)


def max_run_minutes(*, config: Config, queue: ResolvedQueue | None) -> float | None:
    """How long a task of the queue may run; None: as long as it takes."""
    own = queue.config.settings.max_run_minutes if queue is not None else None
    return own if own is not None else config.max_run_minutes


def key_of(category: Category) -> str:
    """The category's key below `patienceSeconds` and `maxRequeues`: image-pull -> imagePull."""
    first, *others = category.value.split("-")
    return first + "".join(word.capitalize() for word in others)


def newest(pods: Sequence[PodRecord]) -> PodRecord | None:
    """The pod made last."""
    return max(pods, key=lambda pod: (pod.created, pod.uid), default=None)


def ranks(pods: Sequence[PodRecord]) -> list[PodRecord]:
    """Of each rank the pod made last, rank 0 first; of a task in one pod that pod alone."""
    found: dict[int, PodRecord] = {}
    for pod in sorted(pods, key=lambda pod: (pod.created, pod.uid)):
        found[pod.rank] = pod
    return [found[rank] for rank in sorted(found)]


def of_rank(diagnosis: Diagnosis, pod: PodRecord | None, *, pods: int) -> Diagnosis:
    """The same, of this one of so many pods."""
    if pods == 1 or pod is None:
        return diagnosis
    return replace(diagnosis, summary=f"Rank {pod.rank} of {pods}: {diagnosis.summary}", rank=pod.rank)

"""Who holds a place: every Job that is not over, every pod that may still run, every task whose Job may come.

`tests/model/room_model.py` explores what must be counted.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

from clearml_k8s.flow.diagnosis import Category
from clearml_k8s.flow.pending import pending
from clearml_k8s.kube.events import EventRecord
from clearml_k8s.kube.slim import JobRecord, PodRecord
from clearml_k8s.kube.uses import NONE, NOTHING, Kind, Uses


class Stage(enum.Enum):
    """How far Kubernetes is with it."""

    COMING = "coming"
    """Claimed, or in doubt, and no Job of it seen."""
    UNDECIDED = "undecided"
    """Its Job is there, and Kubernetes has not looked for a node yet: it may be behind."""
    WAITING = "waiting"
    """Kubernetes has looked: no node takes the pod, or the pod was refused."""
    PLACED = "placed"
    """On a node; also what is about to end."""
    HELD = "held"
    """Suspended, or behind a scheduling gate: Kueue, for example, decides when."""


PENDING = frozenset({Stage.COMING, Stage.UNDECIDED, Stage.WAITING})


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """One place, of one pod: ``queue`` is an id, ``name`` that queue's name where it is known, ``job`` a uid;
    ``podless``: its pod is still to come; ``pod``: it has one. Neither is true of a Job that is suspended, or that is
    going with its pod gone. ``further``: another place of the same Job, or of the same task that gets one, is counted.

    ``refused``: why Kubernetes does not take the pod, where a quota is used up; else "".
    """

    queue: str | None
    stage: Stage
    uses: Uses = NOTHING
    job: str = ""
    podless: bool = False
    pod: bool = False
    refused: str = ""
    name: str | None = None
    further: bool = False


Known = dict[str, tuple[JobRecord, Sequence[PodRecord], int, Sequence[Place]]]
"""By uid of a Job: its record and its pods', how many of its ranks have ended, and the places that follow from them."""

ENDED = ("Succeeded", "Failed")


def places(
    *,
    jobs: Iterable[JobRecord],
    pods: Iterable[PodRecord],
    in_flight: Mapping[str, str],
    needs: Callable[[str, str], tuple[Uses, int]] = lambda _queue, _task: (NOTHING, 1),
    events: Callable[[JobRecord], Sequence[EventRecord]] = lambda _: (),
    known: Known | None = None,
) -> list[Place]:
    """All of them.

    ``in_flight``: task -> queue id of everything claimed, or in doubt, whose Job may come; ``needs``: of a queue and a
    task of it, what each of its pods uses, and how many it has; ``events``: those of a Job, as far as they were read.
    An unfinished Job takes a place for each rank that has not ended, with all pods of it; so do the pods that may still
    run and whose Job is over or gone, and each task in flight until its Job is there. ``known``: what the last call has
    found, kept for the next one, which is several times as fast with it.
    """
    own: dict[str, list[PodRecord]] = {}
    ended: dict[str, set[int]] = {}
    for pod in pods:
        if pod.task is None:
            continue
        if pod.phase not in ENDED:
            own.setdefault(pod.job_uid or pod.uid, []).append(pod)
        elif pod.job_uid is not None:
            ended.setdefault(pod.job_uid, set()).add(pod.rank)
    before: Known = known if known is not None else {}
    now: Known = {}
    found: list[Place] = []
    launched: set[str | None] = set()
    for job in jobs:
        mine = own.get(job.uid, ())
        over = ended.get(job.uid, set()) if job.pods > 1 else set()
        last = before.get(job.uid)
        # Records are never changed in place. Without a pod it depends on the events, too.
        if last is None or last[0] is not job or last[1] != mine or last[2] != len(over) or len(mine) < job.pods:
            unfinished = job.task is not None and not job.finished
            last = (job, mine, len(over), _of_job(job, mine, over, events) if unfinished else ())
        now[job.uid] = last
        if last[3]:
            found += last[3]
            launched.add(job.task)
            own.pop(job.uid, None)
    for left in own.values():
        found += _left(left)
    if known is not None:
        known.clear()
        known.update(now)
    for task, queue in in_flight.items():
        if task not in launched:
            uses, number = needs(queue, task)
            found += [
                Place(queue=queue, stage=Stage.COMING, uses=uses, podless=True, further=rank > 0)
                for rank in range(number)
            ]
    return found


def _left(pods: Sequence[PodRecord]) -> list[Place]:
    """Of pods that may still run and whose Job is over or gone."""
    found = []
    for rank, same in _by_rank(pods).items():
        uses = same[0].uses
        for pod in same[1:]:
            uses = uses.most(pod.uses)
        queue, name = same[0].queue, same[0].queue_name
        found.append(Place(queue=queue, name=name, stage=Stage.PLACED, uses=uses, pod=True, further=rank > 0))
    return found


def _by_rank(pods: Sequence[PodRecord]) -> dict[int, list[PodRecord]]:
    found: dict[int, list[PodRecord]] = {}
    for pod in pods:
        found.setdefault(pod.rank, []).append(pod)
    return found


Events = Callable[[JobRecord], Sequence[EventRecord]]


def _of_job(job: JobRecord, pods: Sequence[PodRecord], over: Container[int], events: Events) -> list[Place]:
    """``over``: ranks that have ended."""
    if job.pods == 1:
        return [_of_one(job, pods, events)]
    by_rank = _by_rank(pods)
    left = [rank for rank in range(job.pods) if rank not in over or rank in by_rank]
    found = [_of_one(job, by_rank.get(rank, ()), events) for rank in left or [0]]
    return [found[0], *(replace(place, further=True) for place in found[1:])]


def _of_one(job: JobRecord, pods: Sequence[PodRecord], events: Events) -> Place:
    uses = job.uses
    for pod in pods:
        uses = uses.most(pod.uses)
    stage, refused = Stage.UNDECIDED, ""
    if job.deleted is not None:
        stage = Stage.PLACED
    elif pods:
        stage = min((_of_pod(pod) for pod in pods), key=_FURTHEST.index)
    elif job.suspend:
        stage = Stage.HELD
    elif told := events(job):
        why = pending(job=job, pods=(), events=told)
        if any(event.about == job.uid and event.reason == "FailedCreate" for event in told):
            stage = Stage.WAITING
            refused = why.summary if why is not None and why.category is Category.QUOTA else ""
    podless = not pods and not job.suspend and job.deleted is None
    return Place(
        queue=job.queue,
        name=job.queue_name,
        stage=stage,
        uses=uses,
        job=job.uid,
        podless=podless,
        pod=bool(pods),
        refused=refused,
    )


_FURTHEST = (Stage.PLACED, Stage.WAITING, Stage.HELD, Stage.UNDECIDED)


def _of_pod(pod: PodRecord) -> Stage:
    if pod.node is not None or pod.phase != "Pending" or pod.deleted is not None:
        return Stage.PLACED
    scheduled = pod.scheduled
    if scheduled is None or scheduled.status != "False":
        return Stage.UNDECIDED
    return Stage.HELD if scheduled.reason == "SchedulingGated" else Stage.WAITING


Demand = tuple[tuple[tuple[str, Decimal], ...], Kind | None]
"""What a pod takes of quotas, by resource, and of which kind it is; ((), None): as its queue's template says."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Alike:
    """How many places whose pods take the same of quotas: all, those whose pod is still to come, those with one; and
    their Jobs: those that are there, and those still to come."""

    pods: int
    jobs: int
    jobless: int
    podless: int
    with_pod: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Count:
    """The places of one queue, or of all: how many of each stage, what they use, how many take the same of quotas.

    ``refused``: why Kubernetes does not take a pod of it, where a quota is used up; else "".
    """

    stages: Mapping[Stage, int] = field(default_factory=dict)
    uses: Uses = NOTHING
    demands: Mapping[Demand, Alike] = field(default_factory=dict)
    refused: str = ""

    @property
    def pods(self) -> int:
        return sum(self.stages.values())

    def of(self, *stages: Stage) -> int:
        return sum(self.stages.get(stage, 0) for stage in stages)

    @property
    def pending(self) -> int:
        """Those that wait for a node."""
        return self.of(*PENDING)


def counted(taken: Iterable[Place]) -> dict[str | None, Count]:
    """By queue id; None: of all queues."""
    by_queue: dict[str | None, list[Place]] = {}
    everything: list[Place] = []
    for place in taken:
        everything.append(place)
        by_queue.setdefault(place.queue or "", []).append(place)
    return {queue: _count(some) for queue, some in by_queue.items()} | {None: _count(everything)}


def _count(some: Sequence[Place]) -> Count:
    # Nearly all use the same, or nothing.
    uses = Counter(place.uses for place in some)
    return Count(
        stages=Counter(place.stage for place in some),
        demands=_alike(some),
        uses=Uses(
            monitored=sum((one.monitored * number for one, number in uses.items()), NONE),
            gpus=sum((one.gpus * number for one, number in uses.items()), NONE),
            cpus=sum((one.cpus * number for one, number in uses.items()), NONE),
            unreadable=next((one.unreadable for one in uses if one.unreadable), ""),
        ),
        refused=next((place.refused for place in some if place.refused), ""),
    )


def _alike(some: Sequence[Place]) -> dict[Demand, Alike]:
    by_demand: dict[Demand, list[Place]] = {}
    for place in some:
        by_demand.setdefault((place.uses.demand, place.uses.kind), []).append(place)
    return {
        demand: Alike(
            pods=len(alike),
            jobs=sum(place.stage is not Stage.COMING and not place.further for place in alike),
            jobless=sum(place.stage is Stage.COMING and not place.further for place in alike),
            podless=sum(place.podless for place in alike),
            with_pod=sum(place.pod for place in alike),
        )
        for demand, alike in by_demand.items()
    }

"""The room as it is now: what capacity counts, from where it stands."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from clearml_k8s.clock import Clock
from clearml_k8s.config import Config
from clearml_k8s.flow import capacity
from clearml_k8s.flow.adopt import Adopted
from clearml_k8s.flow.book import ClaimBook
from clearml_k8s.flow.capacity import EMPTY, Counts
from clearml_k8s.flow.needs import Needs
from clearml_k8s.flow.pace import Pace
from clearml_k8s.flow.places import Known, Place, Stage, counted, places
from clearml_k8s.flow.room import Limit, Room
from clearml_k8s.flow.served import ServedQueues
from clearml_k8s.kube.events import EventRecord
from clearml_k8s.kube.quota import QuotaRecord
from clearml_k8s.kube.slim import JobRecord, PodRecord
from clearml_k8s.kube.store import Store
from clearml_k8s.kube.uses import NOTHING, Uses


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """A queue's places, for people. ``queue``: its key in the values; ``coming``: places taken that have no Job yet;
    ``left``: more that may be taken now; ``why``: nothing is taken, in words, else ""; ``closed``: by something else
    than a limit that is reached."""

    queue: str
    coming: int
    left: int
    why: str
    closed: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """All that is counted, at one time. ``standings`` of each queue that is on the server; ``places`` that are taken
    and ``gpus`` that their pods ask for by queue id, "" where that is not known."""

    standings: tuple[Standing, ...]
    limits: tuple[Limit, ...]
    places: Mapping[str, int]
    gpus: Mapping[str, float]


UNDECIDED_SECONDS = 60.0
"""How long Kubernetes may not have got to a Job for want of time; beyond that it is that Job's trouble alone."""


class Counting:
    """Counts anew whenever it is asked."""

    def __init__(
        self,
        *,
        config: Config,
        clock: Clock,
        needs: Needs,
        served: ServedQueues,
        book: ClaimBook,
        jobs: Store[JobRecord],
        pods: Store[PodRecord],
        adopted: Adopted,
        quotas: Callable[[], Iterable[QuotaRecord]],
        events: Callable[[JobRecord], Sequence[EventRecord]],
        unknown: Callable[[], str],
        kueue: Callable[[], str] = lambda: "",
    ) -> None:
        """``quotas``: none where they are not watched; ``events``: those of a Job, as far as they were read.
        ``unknown``: why it is not known what exists in the cluster, "" when it is; ``kueue``: why it is not known what
        Kueue says, "" when it is."""
        self._kueue = kueue
        self._config = config
        self._clock = clock
        self._needs = needs
        self._since: dict[str, float] = {}  # uid of each Job that Kubernetes has not got to -> when that was seen first
        self._served = served
        self._book = book
        self._jobs = jobs
        self._pods = pods
        self._adopted = adopted
        self._quotas = quotas
        self._events = events
        self._unknown = unknown
        self._pace = Pace(clock=clock)
        self._known: Known = {}

    @property
    def unknown(self) -> str:
        """Why it is not known what exists in the cluster; "" when it is."""
        return self._unknown()

    def room(self) -> Room:
        """The places left now; none while it is not known what exists."""
        taken = self._places()
        if not self._unknown():
            held = {place.job for place in taken if place.stage is Stage.HELD}
            self._pace.look({job.uid for job in self._jobs if job.uid not in held and job.uid not in self._since})
        return self._room(counted(taken))

    def usage(self) -> Usage:
        """What is used now of what there is."""
        counts = counted(self._places())
        room = self._room(counts)
        standings = (
            Standing(
                queue=queue.config.name,
                coming=counts.get(queue.id, EMPTY).of(Stage.COMING),
                left=room.of(queue.id),
                why=room.why(queue.id),
                closed=queue.id in room.closed,
            )
            for queue in self._served.all_found()
        )
        return Usage(
            standings=tuple(standings),
            limits=tuple(room.limits.values()),
            places={queue: count.pods for queue, count in counts.items() if queue is not None},
            gpus={queue: float(count.uses.gpus) for queue, count in counts.items() if queue is not None},
        )

    def _room(self, counts: Counts) -> Room:
        found = self._served.all_found()
        return capacity.room(
            config=self._config,
            queues=found,
            counts=counts,
            needs={queue.id: self._needs.of(queue) for queue in found},
            own={queue.id: own for queue in found if (own := self._needs.own(queue)) is not None},
            quotas=self._quotas(),
            pace=self._pace.most,
            unknown=self._unknown(),
            kueue=self._kueue(),
        )

    def _places(self) -> list[Place]:
        by_id = {queue.id: queue for queue in self._served.all_found()}

        def uses(queue: str, task: str) -> tuple[Uses, int]:
            return self._needs.uses(by_id[queue], task) if queue in by_id else (NOTHING, 1)

        found = places(
            jobs=self._jobs,
            pods=(*self._pods, *self._adopted.pods()),
            in_flight=self._book.in_flight(),
            needs=uses,
            events=self._events,
            known=self._known,
        )
        found = [self._owned(place) for place in found]
        now = self._clock.monotonic()
        undecided = (place.job for place in found if place.stage is Stage.UNDECIDED)
        self._since = {job: self._since.get(job, now) for job in undecided}
        return [
            # Nobody looks for its node, a scheduler of another name perhaps: no sign that Kubernetes is behind.
            replace(place, stage=Stage.WAITING)
            if place.stage is Stage.UNDECIDED and now - self._since[place.job] >= UNDECIDED_SECONDS
            else place
            for place in found
        ]

    def _owned(self, place: Place) -> Place:
        """Of a queue that was deleted and made anew meanwhile: what is there counts for the new one."""
        if place.name is None or (place.queue and self._served.by_id(place.queue)):
            return place
        owner = self._served.by_name(place.name)
        return place if owner is None else replace(place, queue=owner.id)

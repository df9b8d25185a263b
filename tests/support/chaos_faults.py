"""Seeded faults of both servers, at every call that the controller makes."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

from chaos_proxy import Fate, Request
from clearml_server.process import DevServer

# Every call that the controller makes on the way of a task, also those that only look or tell.
ENDPOINTS = (
    r"^tasks\.edit_hyper_params$",
    r"^tasks\.delete_hyper_params$",
    r"^tasks\.get_all$",
    r"^queues\.get_all$",
    r"^queues\.remove_task$",
    r"^queues\.add_task$",
    r"^workers\.status_report$",
    r"^events\.add_batch$",
)
KINDS = ("error_after_commit", "error_before", "drop_reply", "drop_before", "late", "unauthorized", "http")
THROTTLED = {"status": 429, "body": "Too Many Requests", "headers": {"Retry-After": "1"}}

CALLS = (Fate.DROP_BEFORE, Fate.DROP_AFTER, Fate.ERROR_BEFORE, Fate.ERROR_AFTER, Fate.LATE, Fate.THROTTLE)
LISTS = (*CALLS, Fate.EXPIRED)
WATCHES = (Fate.CUT, Fate.EXPIRED_EVENT, Fate.EXPIRED, Fate.CUT, Fate.THROTTLE, Fate.ERROR_BEFORE, Fate.DROP_BEFORE)


def add_faults(server: DevServer, *, probability: float, seed: int) -> None:
    """Each kind on each endpoint with this probability; for calls of controllers only, who send no client's name."""
    for number, endpoint in enumerate(ENDPOINTS):
        for kind_number, kind in enumerate(KINDS):
            server.add_fault(
                kind=kind,
                endpoint=endpoint,
                client="^$",
                probability=probability,
                seed=seed + 100 * number + kind_number,
                **({"seconds": 1.5} if kind == "late" else THROTTLED if kind == "http" else {}),
            )


def faults_met(server: DevServer) -> str:
    """How often each kind came."""
    hits: Counter[str] = Counter()
    for rule in server.faults():
        hits["429" if rule["kind"] == "http" else rule["kind"]] += rule["hits"]
    return ", ".join(f"{kind} {number}" for kind, number in hits.items())


class Faults:
    """What becomes of the requests of a proxy: of a seeded share of them something bad, each kind of it in its turn."""

    def __init__(self, *, probability: float, seed: int, watches: float = 0.0, silent: tuple[str, ...] = ()) -> None:
        """``watches``: the share of watches that have a fate of theirs; ``silent``: names of the requests (see
        `Request.name`) whose first is a watch that falls silent, and whose next is what it is."""
        self._probability, self._watches, self._draw = probability, watches, random.Random(seed)
        self._silent, self._next = set(silent), set[str]()
        self._turns = {fates: self._in_turn(fates) for fates in (CALLS, LISTS, WATCHES)}
        self.on = True
        self.asked: Counter[str] = Counter()
        """How often each request came, by its name."""
        self.met: Counter[str] = Counter()
        """How many of them had a bad fate."""
        self.hits: Counter[Fate] = Counter()

    async def decide(self, request: Request) -> Fate:
        self.asked[request.name] += 1
        share = self._watches if request.watch else self._probability
        if not self.on:
            return Fate.PASS
        if request.name in self._silent:
            self._silent.discard(request.name)
            self._next.add(request.name)
            return self._met(request, Fate.SILENT)
        if request.name in self._next:
            self._next.discard(request.name)
            return Fate.PASS
        if self._draw.random() >= share:
            return Fate.PASS
        a_list = request.method == "GET" and "limit=" in request.path
        return self._met(request, next(self._turns[WATCHES if request.watch else LISTS if a_list else CALLS]))

    def __str__(self) -> str:
        return ", ".join(f"{fate.name.lower()} {number}" for fate, number in self.hits.items())

    def _met(self, request: Request, fate: Fate) -> Fate:
        self.met[request.name] += 1
        self.hits[fate] += 1
        return fate

    def _in_turn(self, fates: tuple[Fate, ...]) -> Iterator[Fate]:
        yield from fates
        while True:
            yield from self._draw.sample(fates, len(fates))

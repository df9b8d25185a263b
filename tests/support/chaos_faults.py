"""Seeded faults of both servers, at every call that the controller makes."""

from __future__ import annotations

import random
from collections import Counter

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
KINDS = ("error_after_commit", "error_before", "drop_reply", "drop_before", "late", "unauthorized")
KUBE_FATES = (Fate.DROP_BEFORE, Fate.DROP_AFTER, Fate.ERROR_BEFORE, Fate.ERROR_AFTER)


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
                **({"seconds": 1.5} if kind == "late" else {}),
            )


def faults_met(server: DevServer) -> str:
    """How often each kind came."""
    hits: Counter[str] = Counter()
    for rule in server.faults():
        hits[rule["kind"]] += rule["hits"]
    return ", ".join(f"{kind} {number}" for kind, number in hits.items())


class KubeFaults:
    """A seeded share of the writes of a claim to the API server is dropped or answered with an error."""

    def __init__(self, *, probability: float, seed: int) -> None:
        self._probability, self._draw = probability, random.Random(seed)
        self.hits: Counter[str] = Counter()

    async def decide(self, request: Request) -> Fate:
        if self._draw.random() >= self._probability:
            return Fate.PASS
        fate = self._draw.choice(KUBE_FATES)
        self.hits[fate.name.lower()] += 1
        return fate

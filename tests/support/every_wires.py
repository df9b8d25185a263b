"""Where all calls of the controller pass, so that each can be counted, named, and made to go wrong.

A call is all that the flow ever awaits, but for sleeps and locks, which end by themselves. So to let a call go wrong in
every way, one call after the other, is to let the process end, or the world err, at every await point.
"""

from __future__ import annotations

import asyncio
import copy
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from clearml_k8s import errors
from clearml_k8s.clearml.answer import data_of
from clearml_k8s.kube import status as statuses
from every_faults import AWAY_SECONDS, Answer, Fault
from every_servers import ADDRESS, LocalClearML, LocalCluster
from manual_clock import ManualClock
from scripted_kube import Seen, status

TRAVEL_SECONDS = 0.005
READS = frozenset({"tasks.get_all", "queues.get_all", "workers.get_all", "auth.login"})
FLOW = "/clearml_k8s/flow/"


@dataclass(eq=False, kw_only=True)
class Life:
    """One life of the controller's process."""

    dead: bool = False


class Wires:
    """Where all calls pass: names and counts them, and does to one of them what the fault says."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.died = asyncio.Event()
        self.points: list[tuple[str, bool]] = []
        """Each call's name, and whether it is a read."""
        self.meet: dict[str, Callable[[], None]] = {}
        """What somebody else does just before the first call of that name."""
        self.user: tuple[str, Callable[[], None]] | None = None
        """What the user does just before the first call of that name, whoever else is met there."""
        self.counting = False
        self.met = 0
        """How many calls have gone wrong so far."""
        self._faults: Mapping[int, Fault] = {}
        self._late: list[tuple[float, Callable[[], object]]] = []
        self._away: dict[str, float] = {}

    def count(self, faults: Mapping[int, Fault] | None = None) -> None:
        """From now on; the call of each of these numbers (from 0) meets the fault."""
        self.counting, self._faults = True, faults or {}

    def rest(self) -> None:
        """Calls are no points any more."""
        self.counting = False

    def land(self) -> None:
        """Do what was late and is due."""
        now = self.clock.monotonic()
        due, self._late = [x for x in self._late if x[0] <= now], [x for x in self._late if x[0] > now]
        for _, perform in due:
            perform()

    @property
    def late(self) -> bool:
        """Something is still on its way."""
        return bool(self._late)

    async def call(
        self,
        life: Life,
        api: str,
        name: str,
        *,
        read: bool,
        perform: Callable[[], Any],
        error: Callable[[Answer], Any],
        ends_with_it: bool = False,
    ) -> Any:
        """One call of a life to ``api``: what ``perform`` returns, or what it meets. ``error`` makes errors of it.
        ``ends_with_it``: what is not done when the call ends is not done later either, as of a process."""
        await self._if_alive(life)
        await self.clock.sleep(TRAVEL_SECONDS)
        await self._if_alive(life)
        self.land()
        fault = None
        if self.counting:
            point = f"{site()} {name}"
            self.points.append((point, read))
            if (meet := self.meet.pop(point, None)) is not None:
                meet()
            if self.user is not None and self.user[0] == point:
                self.user[1]()
                self.user = None
            fault = self._faults.get(len(self.points) - 1)
        if self._away.get(api, 0.0) > self.clock.monotonic():
            self.met += 1
            raise error(Answer.AWAY)
        if fault is None:
            answer = perform()
            await asyncio.sleep(0)
            await self._if_alive(life)
            return answer
        self.met += 1
        if fault.done == 0.0:
            perform()
        elif fault.done is not None and not ends_with_it:
            self._late.append((self.clock.monotonic() + fault.done, perform))
        if fault.answer is Answer.NONE:
            life.dead = True
            self.died.set()
        await self._if_alive(life)
        if fault.answer is Answer.AWAY and not ends_with_it:
            self._away[api] = self.clock.monotonic() + AWAY_SECONDS
        raise error(fault.answer)

    async def _if_alive(self, life: Life) -> None:
        if life.dead:
            await asyncio.get_running_loop().create_future()  # until it is cancelled


def site() -> str:
    """Module and function of the flow that calls, "-" when it is none."""
    frame = sys._getframe(1)
    while frame is not None:
        if FLOW in frame.f_code.co_filename:
            return f"{Path(frame.f_code.co_filename).stem}.{frame.f_code.co_name}"
        frame = frame.f_back
    return "-"


class ClearMLWire:
    """In place of `clearml.transport.Transport`."""

    address = ADDRESS

    def __init__(self, *, wires: Wires, life: Life, server: LocalClearML) -> None:
        self._wires, self._life, self._server = wires, life, server

    async def close(self) -> None:
        pass

    async def post(
        self,
        endpoint: str,
        payload: bytes,
        *,
        content: str,
        authorization: str,
        seconds: float,
        version: str | None,
        headers: Mapping[str, str],
    ) -> dict[str, Any]:
        code, text = await self._wires.call(
            self._life,
            "clearml",
            endpoint,
            read=endpoint in READS,
            perform=lambda: self._server.perform(endpoint, payload, authorization=authorization, headers=headers),
            error=lambda answer: self._error(endpoint, answer),
        )
        return data_of(endpoint, status=code, kind="application/json", text=text, target="", address=ADDRESS)

    def _error(self, endpoint: str, answer: Answer) -> Exception:
        match answer:
            case Answer.AWAY:
                return errors.Unreachable("ClearML", ADDRESS, "connection refused")
            case Answer.ERROR:
                return errors.ApiUnanswered(endpoint, "General data error", code=500, subcode=100)
            case Answer.REFUSED:
                return errors.Forbidden(endpoint, 403, 0, "not allowed")
            case _:
                return errors.ApiUnanswered(endpoint, "the connection was lost")


class KubeWire:
    """In place of `kube.transport.Transport`."""

    address = ADDRESS

    def __init__(self, *, wires: Wires, life: Life, cluster: LocalCluster) -> None:
        self._wires, self._life, self._cluster = wires, life, cluster

    async def close(self) -> None:
        pass

    async def answer(self, request: Any, *, until: float, at_most: float) -> dict[str, Any]:
        query = {key: str(value) for key, value in request.params.items()}
        seen = Seen(request.method, request.path, query, copy.deepcopy(request.body), {})
        code, answer = await self._wires.call(
            self._life,
            "kubernetes",
            kube_name(request.method, request.path) + (" (dry run)" if "dryRun" in query else ""),
            read=request.method == "GET" or "dryRun" in query,
            perform=lambda: self._cluster.perform(seen),
            error=lambda answer: self._error(str(request), answer),
        )
        if code >= 300:
            raise statuses.error(str(request), code=code, status=answer)
        found: dict[str, Any] = answer
        return found

    @asynccontextmanager
    async def stream(self, request: Any, *, seconds: float) -> AsyncIterator[AsyncIterator[bytes]]:
        """The log of a container: one line."""
        text = await self._wires.call(
            self._life,
            "kubernetes",
            f"{kube_name(request.method, request.path)} (log)",
            read=True,
            perform=lambda: b"the last line",
            error=lambda answer: self._error(str(request), answer),
        )

        async def chunks() -> AsyncIterator[bytes]:
            yield text

        yield chunks()

    def _error(self, request: str, answer: Answer) -> Exception:
        match answer:
            case Answer.AWAY:
                return errors.Unreachable("Kubernetes", ADDRESS, "connection refused")
            case Answer.ERROR:
                return errors.KubeUnanswered(request, "etcdserver: request timed out", code=500)
            case Answer.REFUSED:
                return statuses.error(request, code=403, status=status(403, "Forbidden", "not allowed"))
            case _:
                return errors.KubeUnanswered(request, "the connection was lost")


def kube_name(method: str, path: str) -> str:
    """Method and resource: "POST jobs"."""
    parts = path.strip("/").split("/")
    parts = parts[3 if parts[0] == "apis" else 2 :]
    return f"{method} {parts[2] if parts[0] == 'namespaces' and len(parts) > 2 else parts[0]}"


@contextmanager
def wired(*, wires: Wires, life: Life, server: LocalClearML, cluster: LocalCluster) -> Iterator[None]:
    """Clients that are made in here have these wires in place of connections."""
    with (
        patch("clearml_k8s.clearml.session.Transport", lambda **_: ClearMLWire(wires=wires, life=life, server=server)),
        patch("clearml_k8s.kube.client.Transport", lambda **_: KubeWire(wires=wires, life=life, cluster=cluster)),
    ):
        yield

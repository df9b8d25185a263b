"""Whether the ClearML server does what it says: one state for all who would start something new.

A server that answered 5xx to a write may have done half of it (its search engine is away: every take ends so), and goes
on answering reads well. So the state after such an answer ends only with a probe that makes the server use the same
parts; after a lost connection any answered call is enough.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable, Callable
from random import Random

from clearml_k8s.backoff import Backoff
from clearml_k8s.clock import Clock, holding
from clearml_k8s.errors import ApiRefused, AuthRefused, Refused, Unanswered

Probe = Callable[[], Awaitable[None]]

MAX_WAIT_SECONDS = 30.0


class State(enum.Enum):
    """How the server is: only HEALTHY allows to take tasks."""

    HEALTHY = "healthy"
    UNREACHABLE = "unreachable"
    """No connection, no answer, or 5xx to a read: ends with the next call that is answered."""
    HALF_WAY = "half-way"
    """5xx to a write: ends with the probe alone."""
    UNAUTHORIZED = "unauthorized"
    """The credentials are refused: ends with the next call that is answered."""


class ServerHealth:
    """State and reason; `ready` waits for HEALTHY and runs the probes, one at a time, at most 30 s apart."""

    def __init__(self, *, clock: Clock, probe: Probe, random: Random | None = None) -> None:
        self._clock = clock
        self._probe = probe
        self._backoff = Backoff(first=0.5, cap=MAX_WAIT_SECONDS, random=random)
        self._lock = asyncio.Lock()
        self._state = State.HEALTHY
        self._reason = ""
        self._since = clock.monotonic()

    @property
    def healthy(self) -> bool:
        return self._state is State.HEALTHY

    @property
    def state(self) -> State:
        return self._state

    @property
    def reason(self) -> str:
        """Why it is not healthy, in words for people; "" when it is."""
        return self._reason

    @property
    def since(self) -> float:
        """The monotonic time at which the state began."""
        return self._since

    def use_probe(self, probe: Probe) -> None:
        """Replace the probe: an idempotent call that raises `Refused` or `Unanswered` while the server is not well."""
        self._probe = probe

    def failed(self, state: State, reason: str) -> None:
        """Note a failure. HALF_WAY is not weakened by a later UNREACHABLE: the probe must still succeed."""
        self._reason = reason
        if self._state is State.HALF_WAY or self._state is state:
            return
        if self._state is State.HEALTHY:
            self._since = self._clock.monotonic()
        self._state = state

    def answered(self) -> None:
        """Note that a call was answered, which ends every state but HALF_WAY."""
        if self._state in (State.UNREACHABLE, State.UNAUTHORIZED):
            self._well()

    async def ready(self) -> None:
        """Return when the server is healthy, at once if it is; whoever waits first runs the probes for all."""
        while not self.healthy:
            async with holding(self._lock, clock=self._clock):
                await self._try()

    async def _try(self) -> None:
        if not self.healthy:
            await self._clock.sleep(self._backoff.next())
        # Another call may have been answered while this one waited for the lock or slept.
        if self.healthy:
            return
        try:
            await self._probe()
        except AuthRefused as error:
            self.failed(State.UNAUTHORIZED, str(error))
        except ApiRefused as error:
            # A definite "no" shows a server at work, but not that the half-way failure is over.
            self._reason = f"the probe was refused: {error}"
        except (Refused, Unanswered) as error:
            self._reason = str(error)
        else:
            self._well()

    def _well(self) -> None:
        self._state = State.HEALTHY
        self._reason = ""
        self._since = self._clock.monotonic()
        self._backoff.reset()

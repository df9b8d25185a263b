"""The Lease that the one process of a release holds which begins anything (ADR 0007).

Nothing here compares two clocks: the holder measures from the begin of its last renewal, whoever waits from its own
first sight of a version. The times in the Lease are for people.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, Never

from clearml_k8s.clock import sleep_until
from clearml_k8s.errors import (
    Fenced,
    KubeConflict,
    KubeForbidden,
    KubeNotFound,
    KubeUnauthorized,
    NotSent,
    Refused,
    Unanswered,
)
from clearml_k8s.kube.client import KubeClient
from clearml_k8s.kube.resources import LEASES
from clearml_k8s.logs import kv

log = logging.getLogger(__name__)

LEASE_SECONDS: Final = 15.0
"""How long a Lease must have stood unchanged before another process takes it."""

RENEW_SECONDS: Final = 10.0
"""How long after the begin of its last renewal the holder may begin something; the rest is for clocks of other pace."""

RETRY_SECONDS: Final = 2.0
ATTEMPT_SECONDS: Final = 4.0
"""For one request: a connection that hangs leaves time for another."""


class Lease:
    """The Lease ``name``: `acquire` it, `keep` it, ask `guard` before each write, `release` it."""

    def __init__(
        self,
        *,
        client: KubeClient,
        namespace: str,
        name: str,
        place: str,
        alone: bool,
        instance: str,
        labels: Mapping[str, str],
    ) -> None:
        """``client``: without a guard. ``place``: where the process runs, for people; ``alone``: nobody else runs there
        at the same time, as in a pod, so a Lease of an earlier life there is free. ``instance``: which life this is."""
        self._client = client
        self._clock = client.clock
        self._namespace = namespace
        self._name = name
        self._before = f"{place}_" if alone else None
        self.instance = instance
        self.holder = f"{place}_{instance}"
        self._labels = dict(labels)
        self._version: str | None = None
        self._until: float | None = None
        self._lost: Fenced | None = None
        self._seen: str | None = ""
        self._since = 0.0
        self.leader = ""
        """Whom the Lease names, as last seen; "" nobody."""

    # ---- what others ask ------------------------------------------------------------------------------------------

    @property
    def held(self) -> bool:
        """It was acquired, and neither lost nor released as far as is known."""
        return self._until is not None and self._lost is None

    @property
    def certain(self) -> bool:
        """No other process can hold it now."""
        return self._lost is None and self._until is not None and self._clock.monotonic() < self._until

    def guard(self) -> None:
        """NotSent unless the Lease is certainly ours: asked before each write to either API."""
        if not self.certain:
            raise NotSent(f"nothing is sent: this process does not certainly hold the Lease {self._name}")

    # ---- acquire --------------------------------------------------------------------------------------------------

    async def acquire(self, stop: asyncio.Event) -> bool:
        """Wait, however long, until the Lease is ours; False when ``stop`` came first."""
        told = ""
        while not stop.is_set():
            try:
                if await self._try():
                    log.info("this process leads", extra=kv(lease=self._name, holder=self.holder))
                    return True
                said = f"standby: {self.leader} holds the Lease {self._name}; this process takes over when it ends"
                level = logging.INFO
            except (Refused, Unanswered) as error:
                said, level = f"the Lease {self._name} cannot be taken, tried again: {_why(error)}", logging.WARNING
            if said != told:
                log.log(level, said)
            told = said
            await sleep_until(stop, self._pause(), clock=self._clock)
        return False

    async def _try(self) -> bool:
        found = await self._find()
        if found is None:
            self._meets(version=None, holder=self.leader)
            if self.leader and not self._stood():
                # Deleted under its holder, who may not know it yet.
                return False
            return await self._take(self._create, {"leaseTransitions": 0})
        spec = _spec(found)
        version, holder = _version(found), str(spec.get("holderIdentity") or "")
        self._meets(version=version, holder=holder)
        if holder and not self._own(holder) and not self._stood():
            return False
        transitions = spec.get("leaseTransitions")
        known = transitions if isinstance(transitions, int) and transitions >= 0 else 0
        return await self._take(
            lambda body: self._patch(version, body), {"leaseTransitions": known + (holder != self.holder)}
        )

    async def _take(self, send: Callable[[Mapping[str, Any]], Any], spec: Mapping[str, Any]) -> bool:
        now, began = _time(self._clock.now()), self._clock.monotonic()
        full = {
            "holderIdentity": self.holder,
            "leaseDurationSeconds": int(LEASE_SECONDS),
            "acquireTime": now,
            "renewTime": now,
            **spec,
        }
        try:
            self._version = _version(await send(full))
        except (KubeConflict, KubeNotFound):
            # Somebody else was first.
            return False
        self.leader, self._until = self.holder, began + RENEW_SECONDS
        return True

    def _own(self, holder: str) -> bool:
        return holder == self.holder or (self._before is not None and holder.startswith(self._before))

    def _meets(self, *, version: str | None, holder: str) -> None:
        """What was read now, None where there is none; from its first sight on it must stand."""
        if version != self._seen:
            self._seen, self._since = version, self._clock.monotonic()
        self.leader = holder

    def _stood(self) -> bool:
        return self._clock.monotonic() - self._since >= LEASE_SECONDS

    # ---- keep -----------------------------------------------------------------------------------------------------

    async def keep(self, stop: asyncio.Event) -> Never:
        """Renew it for ever. Raises Fenced as soon as it is seen to be another's, or gone.

        ``stop``: after it a refusal for want of rights does not count: with helm uninstall the rights go, from all
        processes of the release, while this one ends.
        """
        told = False
        while True:
            await self._clock.sleep(self._pause())
            why = ""
            try:
                await self._renew()
            except Fenced as error:
                self._lost = error
                raise
            except (KubeForbidden, KubeUnauthorized) as error:
                self._version, why = None, _why(error)
                if stop.is_set() and self._until is not None:
                    self._until = self._clock.monotonic() + RENEW_SECONDS
            except (Refused, Unanswered) as error:
                # Perhaps done: what it has become is read before the next try.
                self._version, why = None, _why(error)
            if why and not self.certain and not told:
                told = True
                log.error("the Lease %s could not be renewed: nothing is sent until it is (%s)", self._name, why)
            elif told and not why:
                told = False
                log.info("the Lease is renewed: goes on", extra=kv(lease=self._name))

    async def _renew(self) -> None:
        if self._version is not None:
            try:
                await self._renewed(self._version)
            except (KubeConflict, KubeNotFound):
                self._version = None
            else:
                return
        found = await self._find()
        if found is None:
            raise Fenced(f"the Lease {self._name} was deleted")
        holder = str(_spec(found).get("holderIdentity") or "")
        self.leader = holder
        if holder != self.holder:
            raise Fenced(f"the Lease {self._name} is held by {holder or 'nobody'}, no longer by {self.holder}")
        await self._renewed(_version(found))

    async def _renewed(self, version: str) -> None:
        began = self._clock.monotonic()
        self._version = _version(await self._patch(version, {"renewTime": _time(self._clock.now())}))
        if self._version != version:
            # Else nothing was changed (by a wall clock that stands still), and whoever waits sees an old Lease.
            self._until = began + RENEW_SECONDS

    # ---- release --------------------------------------------------------------------------------------------------

    async def release(self) -> None:
        """Send nothing more, and let the next one have it at once; what fails here costs the next one a wait."""
        version, held = self._version, self.held
        self._until = None
        if not held or version is None:
            return
        try:
            await self._let_go(version)
        except (Refused, Unanswered) as error:
            log.warning("the Lease %s was not released, the next process waits for it: %s", self._name, error)
        else:
            log.info("the Lease is released", extra=kv(lease=self._name))

    async def _let_go(self, version: str) -> None:
        nobody = {"holderIdentity": None, "renewTime": _time(self._clock.now())}
        try:
            await self._patch(version, nobody)
        except KubeConflict:
            # The last renewal may have been done, and its answer have come too late for us.
            found = await self._find()
            if found is None or _spec(found).get("holderIdentity") != self.holder:
                raise
            await self._patch(_version(found), nobody)

    # ---- requests -------------------------------------------------------------------------------------------------

    async def _find(self) -> dict[str, Any] | None:
        return await self._client.find(LEASES, self._name, namespace=self._namespace, deadline=self._deadline())

    async def _create(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        body = {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.kind,
            "metadata": {"name": self._name, "labels": self._labels},
            "spec": spec,
        }
        return await self._client.create(LEASES, body, namespace=self._namespace, deadline=self._deadline())

    async def _patch(self, version: str, spec: Mapping[str, Any]) -> dict[str, Any]:
        body = {"metadata": {"resourceVersion": version}, "spec": spec}
        return await self._client.patch(LEASES, self._name, body, namespace=self._namespace, deadline=self._deadline())

    def _deadline(self) -> float:
        return self._clock.monotonic() + min(ATTEMPT_SECONDS, self._client.max_request_seconds)

    def _pause(self) -> float:
        # Two that start together do not ask together for ever.
        return RETRY_SECONDS * (0.9 + 0.2 * self._client.random.random())


def _spec(found: Mapping[str, Any]) -> Mapping[str, Any]:
    spec = found.get("spec")
    return spec if isinstance(spec, dict) else {}


def _version(found: Mapping[str, Any]) -> str:
    return str(found["metadata"]["resourceVersion"])


def _time(now: datetime) -> str:
    """As MicroTime is written."""
    return now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _why(error: Exception) -> str:
    if isinstance(error, KubeForbidden):
        return f"this account may not {error}: allow it what docs/operations.md lists under Permissions"
    return str(error)

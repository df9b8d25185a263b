"""The claim record: one ConfigMap that says which entries may have been taken and whose Job is not yet seen.

Every write carries the resourceVersion of what was read, so a write over someone else's change fails; the annotation
``clearml-k8s.io/holder`` says which instance may write, so a stalled former leader finds out at its next write and gets
`Fenced`. Changes of concurrent callers go out in one write. A write without an answer may still land, until the version
moves: so the next write is sent in any case, and the annotation ``clearml-k8s.io/settled`` makes it a change.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from clearml_k8s import names
from clearml_k8s.backoff import Backoff
from clearml_k8s.clock import holding
from clearml_k8s.errors import (
    ClearMLK8sError,
    Fenced,
    KubeAlreadyExists,
    KubeConflict,
    KubeNotFound,
    KubeUnanswered,
    RecordFull,
)
from clearml_k8s.kube.client import KubeClient
from clearml_k8s.kube.resources import CONFIGMAPS
from clearml_k8s.names import ANNOTATION_HOLDER, ANNOTATION_SETTLED
from clearml_k8s.wire import NOTHING, got, parse_json

# A ConfigMap holds 1 MiB; the rest is for its metadata and managed fields.
MAX_BYTES: Final = 900_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """One claim: the task, the queue (id) it is taken from, our mark (`names.mark_value`), the controller's id."""

    task: str
    queue: str
    mark: str
    controller: str

    @property
    def attempt(self) -> str:
        return names.marked_attempt(self.mark)


@dataclass(eq=False)
class _Batch:
    """Changes that go out in one write: a claim to add, or None to forget it."""

    changes: dict[str, Claim | None] = field(default_factory=dict)
    error: BaseException | None = None
    done: bool = False


class ClaimRecord:
    """The record ``name`` in ``namespace``, written by the instance ``holder``."""

    def __init__(
        self, *, client: KubeClient, namespace: str, name: str, holder: str, labels: Mapping[str, str] | None = None
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._name = name
        self._holder = holder
        self._labels = dict(labels or {})
        self._claims: dict[str, Claim] = {}
        self._version: str | None = None
        self._owned = False
        self._doubt = False  # a write of ours may still land
        self._lost: Fenced | None = None
        self._batch = _Batch()
        self._lock = asyncio.Lock()

    @property
    def claims(self) -> Mapping[str, Claim]:
        """The claims by task id, as last read or written."""
        return MappingProxyType(self._claims)

    async def open(self) -> Mapping[str, Claim]:
        """Take the record over: read it (or create it), write our name as holder, and return the claims in it.

        Called once, after this instance became the leader; whoever held it before gets `Fenced` at its next write.
        Errors as `KubeClient.request`; harmless to repeat.
        """
        async with holding(self._lock, clock=self._client.clock):
            deadline = self._client.clock.monotonic() + self._client.max_request_seconds
            backoff = Backoff(first=0.05, cap=1.0, random=self._client.random)
            while True:
                try:
                    found = await self._client.find(CONFIGMAPS, self._name, namespace=self._namespace)
                    if found is None:
                        self._accept(await self._create({}))
                    else:
                        body = self._patch(self._version_of(found), {})
                        self._accept(await self._send(body))
                    self._owned = True
                    return self.claims
                except (KubeConflict, KubeNotFound) as error:
                    wait = backoff.next()
                    if self._client.clock.monotonic() + wait >= deadline:
                        raise error
                await self._client.clock.sleep(wait)

    async def add(self, claims: Iterable[Claim]) -> None:
        """Write the claims; when this returns, they are stored.

        Raises Fenced when another instance holds the record (stop taking), RecordFull when it would not fit, else as
        `KubeClient.request`. After any error the claims count as not stored: nothing may be taken on them.
        """
        await self._change({claim.task: claim for claim in claims})

    async def forget(self, tasks: Iterable[str], *, wait: bool = True) -> None:
        """Remove the tasks' claims; those that are not there are ignored.

        Without ``wait`` nothing is sent now: the change goes out with the next write, or with `flush`.
        """
        changes: dict[str, Claim | None] = dict.fromkeys(tasks)
        if wait:
            await self._change(changes)
        else:
            self._batch.changes.update(changes)

    async def flush(self) -> None:
        """Write what `forget` left over."""
        await self._change({})

    async def _change(self, changes: Mapping[str, Claim | None]) -> None:
        if not self._owned:
            raise self._lost or Fenced(
                f"the claim record {self._name} was not opened by this instance ({self._holder})"
            )
        batch = self._batch
        batch.changes.update(changes)
        async with holding(self._lock, clock=self._client.clock):
            if batch.done:
                # A caller before us sent our changes with its own.
                if batch.error is not None:
                    raise batch.error
                return
            self._batch = _Batch()
            try:
                await self._write(batch.changes)
            except ClearMLK8sError as error:
                batch.error = error
                raise
            except BaseException:
                # Cancelled while sending: who shares the batch does not know either.
                batch.error = KubeUnanswered(f"PATCH configmap {self._name}", "the write was cancelled")
                self._version, self._doubt = None, True
                raise
            finally:
                batch.done = True
                if batch.error is not None:
                    # A claim that was to be forgotten must still be forgotten, by the next write.
                    kept = {task: None for task, claim in batch.changes.items() if claim is None}
                    self._batch.changes = {**kept, **self._batch.changes}

    async def _write(self, changes: Mapping[str, Claim | None]) -> None:
        deadline = self._client.clock.monotonic() + self._client.max_request_seconds
        backoff = Backoff(first=0.05, cap=1.0, random=self._client.random)
        while True:
            if self._version is None:
                await self._reread()
            needed = {
                task: claim
                for task, claim in changes.items()
                if (self._claims.get(task) != claim if claim else task in self._claims)
            }
            if not needed and not self._doubt:
                return
            self._check_size(needed)
            try:
                if self._version is None:
                    self._accept(await self._create({**self._claims, **needed}))
                else:
                    self._accept(await self._send(self._patch(self._version, needed)))
                self._doubt = False
                return
            except (KubeConflict, KubeNotFound) as error:
                self._version = None
                wait = backoff.next()
                if self._client.clock.monotonic() + wait >= deadline:
                    raise error
            except ClearMLK8sError:
                # The version may have moved by this very write, or may yet.
                self._version, self._doubt = None, True
                raise
            await self._client.clock.sleep(wait)

    async def _reread(self) -> None:
        """Read the record; without one, ``_version`` stays None and what we know is written anew."""
        found = await self._client.find(CONFIGMAPS, self._name, namespace=self._namespace)
        if found is None:
            return
        annotations = _meta(found).get("annotations")
        holder = annotations.get(ANNOTATION_HOLDER) if isinstance(annotations, Mapping) else None
        if holder != self._holder:
            self._owned = False
            self._lost = Fenced(f"the claim record {self._name} is held by {holder!r}, no longer by {self._holder!r}")
            raise self._lost
        self._accept(found)

    async def _create(self, claims: Mapping[str, Claim | None]) -> dict[str, Any]:
        body = {
            "apiVersion": CONFIGMAPS.api_version,
            "kind": CONFIGMAPS.kind,
            "metadata": {
                "name": self._name,
                "labels": self._labels,
                "annotations": {ANNOTATION_HOLDER: self._holder},
            },
            "data": {task: _encode(claim) for task, claim in claims.items() if claim is not None},
        }
        try:
            return await self._client.create(CONFIGMAPS, body, namespace=self._namespace)
        except KubeAlreadyExists:
            self._version = None
            raise

    async def _send(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return await self._client.patch(CONFIGMAPS, self._name, body, namespace=self._namespace)

    def _patch(self, version: str, changes: Mapping[str, Claim | None]) -> dict[str, Any]:
        annotations = {ANNOTATION_HOLDER: self._holder} | ({ANNOTATION_SETTLED: version} if self._doubt else {})
        return {
            "metadata": {"resourceVersion": version, "annotations": annotations},
            "data": {task: None if claim is None else _encode(claim) for task, claim in changes.items()},
        }

    def _accept(self, found: Mapping[str, Any]) -> None:
        self._version = self._version_of(found)
        data = found.get("data") or {}
        if not isinstance(data, Mapping):
            # Not an empty record: what is not in it counts as not taken.
            raise KubeUnanswered(f"configmap {self._name}", f"data: {got(data, expected='an object')}")
        claims = ((task, _decode(task, text)) for task, text in data.items())
        self._claims = {task: claim for task, claim in claims if claim is not None}

    def _version_of(self, found: Mapping[str, Any]) -> str:
        version = _meta(found).get("resourceVersion", NOTHING)
        if not isinstance(version, str) or not version:
            raise KubeUnanswered(
                f"configmap {self._name}", f"metadata.resourceVersion: {got(version, expected='text')}"
            )
        return version

    def _check_size(self, changes: Mapping[str, Claim | None]) -> None:
        after = {**self._claims, **changes}
        size = sum(len(task) + len(_encode(claim)) for task, claim in after.items() if claim is not None)
        if size > MAX_BYTES and any(claim is not None for claim in changes.values()):
            raise RecordFull(f"the claim record {self._name} is full ({len(self._claims)} claims)")


def _encode(claim: Claim) -> str:
    members = {"queue": claim.queue, "mark": claim.mark, "controller": claim.controller}
    return json.dumps(members, separators=(",", ":"))


def _meta(found: Mapping[str, Any]) -> Mapping[str, Any]:
    meta = found.get("metadata") if isinstance(found, Mapping) else None
    return meta if isinstance(meta, Mapping) else {}


def _decode(task: str, text: object) -> Claim | None:
    """A claim as stored; None for what a person or another version wrote and we cannot read."""
    try:
        members = parse_json(text) if isinstance(text, str) else None
    except ValueError:
        return None
    if not isinstance(members, Mapping):
        return None
    queue, mark, controller = (members.get(key) for key in ("queue", "mark", "controller"))
    if not (isinstance(queue, str) and isinstance(mark, str) and isinstance(controller, str)):
        return None
    return Claim(task=task, queue=queue, mark=mark, controller=controller)

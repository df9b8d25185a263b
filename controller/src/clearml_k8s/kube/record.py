"""The claim record: one ConfigMap that says which entries may have been taken and whose Job is not yet seen.

Where commands are to run around pods (ADR 0020), it says as well of which pods some are still to run.

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
    ConfigError,
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Owed:
    """Commands that are to run for the pod of one attempt: ``queue`` is its name, ``number`` no other living pod's."""

    task: str
    attempt: str
    queue: str
    number: int
    applied: bool = False
    """The command for the pod that is there has run, or there was none."""
    delete: bool = False
    """A command is to run when the pod is gone."""


Entry = Claim | Owed

_OWED: Final = "owed."
"""Before a task's id, which has no dot: the key of what is owed."""


@dataclass(eq=False)
class _Batch:
    """Changes that go out in one write, by key: an entry to add, or None to forget it."""

    changes: dict[str, Entry | None] = field(default_factory=dict)
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
        self._owed: dict[str, Owed] = {}
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

    @property
    def owed(self) -> Mapping[str, Owed]:
        """What is owed, by task id, as last read or written."""
        return MappingProxyType(self._owed)

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
        changes: dict[str, Entry | None] = dict.fromkeys(tasks)
        if wait:
            await self._change(changes)
        else:
            self._batch.changes.update(changes)

    async def owe(self, owed: Iterable[Owed]) -> None:
        """Write what is owed, in place of what was for these tasks. Errors as `add`."""
        await self._change({_OWED + one.task: one for one in owed})

    async def disown(self, tasks: Iterable[str]) -> None:
        """Nothing is owed for the tasks any more. Errors as `add`."""
        await self._change(dict.fromkeys(_OWED + task for task in tasks))

    async def flush(self) -> None:
        """Write what `forget` left over."""
        await self._change({})

    async def _change(self, changes: Mapping[str, Entry | None]) -> None:
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
                    # An entry that was to be forgotten must still be forgotten, by the next write.
                    kept: dict[str, Entry | None] = {k: None for k, entry in batch.changes.items() if entry is None}
                    self._batch.changes = {**kept, **self._batch.changes}

    async def _write(self, changes: Mapping[str, Entry | None]) -> None:
        deadline = self._client.clock.monotonic() + self._client.max_request_seconds
        backoff = Backoff(first=0.05, cap=1.0, random=self._client.random)
        while True:
            if self._version is None:
                await self._reread()
            entries = self._entries()
            needed = {key: entry for key, entry in changes.items() if entries.get(key) != entry}
            if not needed and not self._doubt:
                return
            self._check_size({**entries, **needed}, grows=any(needed.values()))
            try:
                if self._version is None:
                    self._accept(await self._create({**entries, **needed}))
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

    async def _create(self, entries: Mapping[str, Entry | None]) -> dict[str, Any]:
        body = {
            "apiVersion": CONFIGMAPS.api_version,
            "kind": CONFIGMAPS.kind,
            "metadata": {
                "name": self._name,
                "labels": self._labels,
                "annotations": {ANNOTATION_HOLDER: self._holder},
            },
            "data": {key: _encode(entry) for key, entry in entries.items() if entry is not None},
        }
        try:
            return await self._client.create(CONFIGMAPS, body, namespace=self._namespace)
        except KubeAlreadyExists:
            self._version = None
            raise

    async def _send(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return await self._client.patch(CONFIGMAPS, self._name, body, namespace=self._namespace)

    def _patch(self, version: str, changes: Mapping[str, Entry | None]) -> dict[str, Any]:
        annotations = {ANNOTATION_HOLDER: self._holder} | ({ANNOTATION_SETTLED: version} if self._doubt else {})
        return {
            "metadata": {"resourceVersion": version, "annotations": annotations},
            "data": {key: None if entry is None else _encode(entry) for key, entry in changes.items()},
        }

    def _accept(self, found: Mapping[str, Any]) -> None:
        self._version = self._version_of(found)
        data = found.get("data") or {}
        if not isinstance(data, Mapping):
            # Not an empty record: what is not in it counts as not taken.
            raise KubeUnanswered(f"configmap {self._name}", f"data: {got(data, expected='an object')}")
        entries = [_decode(key, text) for key, text in data.items()]
        self._claims = {entry.task: entry for entry in entries if isinstance(entry, Claim)}
        self._owed = {entry.task: entry for entry in entries if isinstance(entry, Owed)}

    def _entries(self) -> dict[str, Entry]:
        return {**self._claims, **{_OWED + task: owed for task, owed in self._owed.items()}}

    def _version_of(self, found: Mapping[str, Any]) -> str:
        version = _meta(found).get("resourceVersion", NOTHING)
        if not isinstance(version, str) or not version:
            raise KubeUnanswered(
                f"configmap {self._name}", f"metadata.resourceVersion: {got(version, expected='text')}"
            )
        return version

    def _check_size(self, entries: Mapping[str, Entry | None], *, grows: bool) -> None:
        size = sum(len(key) + len(_encode(entry)) for key, entry in entries.items() if entry is not None)
        if size > MAX_BYTES and grows:
            held = f"{len(self._claims)} claims, commands for {len(self._owed)} pods"
            raise RecordFull(f"the claim record {self._name} is full ({held})")


def _encode(entry: Entry) -> str:
    members: dict[str, Any]
    if isinstance(entry, Claim):
        members = {"queue": entry.queue, "mark": entry.mark, "controller": entry.controller}
    else:
        members = {"attempt": entry.attempt, "queue": entry.queue, "number": entry.number}
        members |= {name: True for name in ("applied", "delete") if getattr(entry, name)}
    return json.dumps(members, separators=(",", ":"))


def _meta(found: Mapping[str, Any]) -> Mapping[str, Any]:
    meta = found.get("metadata") if isinstance(found, Mapping) else None
    return meta if isinstance(meta, Mapping) else {}


def _decode(key: str, text: object) -> Entry | None:
    """An entry as stored; None for what a person or another version wrote and we cannot read."""
    try:
        members = parse_json(text) if isinstance(text, str) else None
    except ValueError:
        return None
    if not isinstance(members, Mapping):
        return None
    if key.startswith(_OWED):
        return _owed(key.removeprefix(_OWED), members)
    queue, mark, controller = (members.get(name) for name in ("queue", "mark", "controller"))
    if not (isinstance(queue, str) and isinstance(mark, str) and isinstance(controller, str)):
        return None
    return Claim(task=key, queue=queue, mark=mark, controller=controller)


def _owed(task: str, members: Mapping[str, Any]) -> Owed | None:
    attempt, queue, number = (members.get(name) for name in ("attempt", "queue", "number"))
    try:
        names.job_name(task)
    except ConfigError:
        return None  # no Job can have it: somebody wrote it by hand
    if not (isinstance(attempt, str) and isinstance(queue, str) and isinstance(number, int)):
        return None
    return Owed(
        task=task,
        attempt=attempt,
        queue=queue,
        number=number,
        applied=members.get("applied") is True,
        delete=members.get("delete") is True,
    )

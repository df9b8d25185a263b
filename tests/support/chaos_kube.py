"""The real API server as the chaos tests use it: a small asynchronous client, and the reader of the audit log."""

from __future__ import annotations

import base64
import json
import ssl
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml

MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
ATTEMPT = "clearml-k8s.io/attempt"
QUEUE = "clearml-k8s.io/queue-name"
TASK = "clearml-task-id"
MARKER = "marker"
"""In place of a task's id: a Job of the tests, by which a watch is known to have caught up."""


class KubeError(Exception):
    """An answer other than 2xx."""

    def __init__(self, code: int, text: str) -> None:
        self.code = code
        super().__init__(f"{code}: {text[:300]}")


@dataclass(frozen=True, kw_only=True)
class Access:
    """Address and TLS context of a kubeconfig's current context (client certificate)."""

    server: str
    tls: ssl.SSLContext


def access(kubeconfig: Path) -> Access:
    """What the kubeconfig says; only client certificates, in the file or beside it, are understood."""
    document = yaml.safe_load(kubeconfig.read_text())
    named = {kind: {item["name"]: item for item in document[kind]} for kind in ("clusters", "users", "contexts")}
    context = named["contexts"][document["current-context"]]["context"]
    cluster = named["clusters"][context["cluster"]]["cluster"]
    user = named["users"][context["user"]]["user"]

    def text(source: dict[str, str], key: str) -> str:
        if f"{key}-data" in source:
            return base64.b64decode(source[f"{key}-data"]).decode()
        return (kubeconfig.parent / source[key]).read_text()

    tls = ssl.create_default_context(cadata=text(cluster, "certificate-authority"))
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as pair:  # the ssl module reads certificates from files only
        pair.write(text(user, "client-certificate") + "\n" + text(user, "client-key"))
        pair.flush()
        tls.load_cert_chain(pair.name)
    return Access(server=cluster["server"].rstrip("/"), tls=tls)


def plain_kubeconfig(url: str) -> str:
    """A kubeconfig for a proxy that needs no credentials."""
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "proxy",
            "clusters": [{"name": "proxy", "cluster": {"server": url}}],
            "users": [{"name": "proxy", "user": {}}],
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}],
        }
    )


class Kube:
    """Raw requests with the test's own credentials."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=access.tls, limit=100), timeout=aiohttp.ClientTimeout(total=20)
        )

    async def close(self) -> None:
        await self._http.close()

    async def request(self, method: str, path: str, *, body: Any = None, kind: str = "application/json") -> Any:
        """The JSON of a 2xx answer; KubeError for another, aiohttp's errors and TimeoutError for none."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": kind, "Accept": "application/json"}
        async with self._http.request(method, self.access.server + path, data=data, headers=headers) as reply:
            text = await reply.text()
            if reply.status >= 300:
                raise KubeError(reply.status, text)
            return json.loads(text)

    @asynccontextmanager
    async def watch(self, path: str, *, version: str, selector: str) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """The events of a watch; ends with the connection."""
        query = {"watch": "1", "resourceVersion": version, "labelSelector": selector, "allowWatchBookmarks": "true"}
        limit = aiohttp.ClientTimeout(total=None, sock_read=30)
        async with self._http.get(self.access.server + path, params=query, timeout=limit) as reply:
            if reply.status >= 300:
                raise KubeError(reply.status, await reply.text())
            yield _events(reply)


async def _events(reply: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    rest = b""
    async for chunk in reply.content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.strip():
                yield json.loads(line)


@dataclass(frozen=True, kw_only=True)
class JobCreated:
    """One Job that the API server stored; ``revision`` orders it among all writes of the cluster."""

    namespace: str
    task: str
    attempt: str
    queue: str
    uid: str
    revision: int


class AuditLog:
    """The events of some namespaces since the reader was made."""

    def __init__(self, path: Path, *, namespaces: tuple[str, ...]) -> None:
        self._path = path
        self._from = path.stat().st_size
        self._namespaces = namespaces

    def events(self) -> Iterator[dict[str, Any]]:
        with self._path.open("rb") as log:
            log.seek(self._from)
            for line in log:
                if not line.endswith(b"\n"):  # still being written
                    return
                if not any(f'"namespace":"{name}"'.encode() in line for name in self._namespaces):
                    continue
                event = json.loads(line)
                if event.get("objectRef", {}).get("namespace") in self._namespaces:
                    yield event

    def jobs(self) -> list[JobCreated]:
        """Every Job whose creation was answered 201, in order.

        Not every one that was stored: a create whose caller gave up is written down as 504 (tests/cluster/
        test_chaos_counts.py), and what was answered just before the API server was killed is not written down.
        """
        made = []
        for event in self.events():
            if event["objectRef"].get("resource") != "jobs" or event["verb"] != "create":
                continue
            if event["responseStatus"].get("code") != 201 or "dryRun" in event["requestURI"]:
                continue
            if event["responseObject"]["metadata"]["labels"].get(TASK) != MARKER:
                made.append(job_created(event["responseObject"]))
        return sorted(made, key=lambda job: job.revision)


def job_created(job: dict[str, Any]) -> JobCreated:
    """From a Job as it was when it was created, or soon after."""
    meta = job["metadata"]
    return JobCreated(
        namespace=meta["namespace"],
        task=meta["labels"][TASK],
        attempt=meta["annotations"][ATTEMPT],
        queue=meta["annotations"][QUEUE],
        uid=meta["uid"],
        revision=int(meta["resourceVersion"]),
    )

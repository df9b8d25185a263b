"""What the pods would do: on kwok nodes no container runs, so this program plays the start script and the agent.

In each pod that is Running it does the start check (task queued, of the pod's attempt; else it refuses and the pod
ends well), `tasks.dequeue` to in_progress, `tasks.started` with force, some work, `tasks.completed`; then the pod ends,
as the kubelet would report it. Like the real agent it starts whatever `tasks.dequeue` lets it start: nothing here
prevents a double start, each is written down in `starts`.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import aiohttp
from chaos_kube import MARKER, MERGE_PATCH, TASK, JobCreated, Kube, KubeError, job_created
from clearml_server.process import DevServer


@dataclass(frozen=True, kw_only=True)
class Start:
    """One start of a task: in a pod, or by a plain consumer (``pod`` is then "")."""

    task: str
    attempt: str
    pod: str
    job: str


class Refusal(Exception):
    """The ClearML server said no: ``code`` and ``subcode``."""

    def __init__(self, endpoint: str, code: int, subcode: int, text: str) -> None:
        self.code, self.subcode = code, subcode
        super().__init__(f"{endpoint}: {code}/{subcode} {text}")


class ClearML:
    """Calls of an agent: repeated while the server is away, as the SDK does it."""

    def __init__(self, server: DevServer, *, name: str) -> None:
        """``name``: by which the rules of faults know the client."""
        pair = base64.b64encode(f"{server.access_key}:{server.secret_key}".encode()).decode()
        self._url = server.url
        self._http = aiohttp.ClientSession(
            headers={"Authorization": f"Basic {pair}", "X-Client-Name": name},
            timeout=aiohttp.ClientTimeout(total=20),
            connector=aiohttp.TCPConnector(limit=60),
        )

    async def __aenter__(self) -> ClearML:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.close()

    async def call(self, endpoint: str, **data: Any) -> dict[str, Any]:
        while True:
            try:
                async with self._http.post(f"{self._url}/{endpoint}", json=data) as reply:
                    if reply.status < 500:
                        answer = await reply.json()
                        meta = answer["meta"]
                        if reply.status == 200:
                            found: dict[str, Any] = answer["data"]
                            return found
                        raise Refusal(endpoint, reply.status, meta["result_subcode"], meta["result_msg"])
            except (aiohttp.ClientError, TimeoutError):
                pass  # away: again, after the pause
            await asyncio.sleep(0.3)


class Agents:
    """The agents in all task pods of one namespace. ``work`` is awaited between start and end of each task."""

    def __init__(self, *, kube: Kube, clearml: ClearML, namespace: str, work: Callable[[str], Awaitable[None]]) -> None:
        self.starts: list[Start] = []
        self.refused: list[str] = []
        self.ended: dict[str, int] = {}
        """Job uid -> revision at which its pod had ended, or was gone."""
        self.deleted: dict[str, int] = {}
        """Job uid -> revision at which it was gone itself."""
        self.created: dict[str, JobCreated] = {}
        """Every Job by its uid, as the API server told of it first: also one that nobody else was told of."""
        self.jobs: set[str] = set()
        """Uids of all Jobs that had a pod."""
        self._kube, self._clearml, self._namespace, self._work = kube, clearml, namespace, work
        self._pods: dict[str, asyncio.Task[None]] = {}
        self._watching: list[asyncio.Task[None]] = []
        self._markers: set[str] = set()

    async def __aenter__(self) -> Agents:
        pods = f"/api/v1/namespaces/{self._namespace}/pods"
        jobs = f"/apis/batch/v1/namespaces/{self._namespace}/jobs"
        self._watching = [
            asyncio.create_task(self._watch(pods, see=self._see, gone=self._gone)),
            asyncio.create_task(self._watch(jobs, see=self._job_seen, gone=self._job_gone)),
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        ending = [*self._pods.values(), *self._watching]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)

    def check(self) -> None:
        """Raise what ended the watch or an agent unexpectedly."""
        for task in [*self._pods.values(), *self._watching]:
            if task.done() and not task.cancelled():
                task.result()

    async def _watch(
        self, path: str, *, see: Callable[[dict[str, Any]], None], gone: Callable[[dict[str, Any], int], None]
    ) -> None:
        """Each object of tasks as it changes, and as it goes: with the revision of that, or a later one."""
        there: dict[str, dict[str, Any]] = {}
        while True:
            try:
                listed = await self._kube.request("GET", f"{path}?labelSelector=clearml-task-id")
                version = listed["metadata"]["resourceVersion"]
                now = {item["metadata"]["uid"]: item for item in listed["items"]}
                for uid in there.keys() - now.keys():
                    gone(there[uid], int(version))
                there = now
                for item in now.values():
                    see(item)
                async with self._kube.watch(path, version=version, selector="clearml-task-id") as events:
                    async for event in events:
                        if event["type"] == "ERROR":
                            break
                        if event["type"] == "DELETED":
                            there.pop(event["object"]["metadata"]["uid"], None)
                            gone(event["object"], int(event["object"]["metadata"]["resourceVersion"]))
                        elif event["type"] != "BOOKMARK":
                            there[event["object"]["metadata"]["uid"]] = event["object"]
                            see(event["object"])
            except (aiohttp.ClientError, TimeoutError, KubeError):
                await asyncio.sleep(0.3)  # the API server is away

    def _see(self, pod: dict[str, Any]) -> None:
        uid = pod["metadata"]["uid"]
        self.jobs.update(_owners(pod))
        if pod["metadata"].get("deletionTimestamp"):
            self._kill(pod)
        elif pod.get("status", {}).get("phase") == "Running" and uid not in self._pods:
            self._pods[uid] = asyncio.create_task(self._run(pod))

    def _kill(self, pod: dict[str, Any]) -> None:
        running = self._pods.get(pod["metadata"]["uid"])
        if running is not None and not running.done():
            running.cancel()  # the container is killed

    def _gone(self, pod: dict[str, Any], revision: int) -> None:
        self._kill(pod)
        for job in _owners(pod):
            self.ended.setdefault(job, revision)

    async def caught_up(self) -> None:
        """Returns when all Jobs that were stored before the call are in ``created``: changes are told in order."""
        path = f"/apis/batch/v1/namespaces/{self._namespace}/jobs"
        containers = [{"name": "main", "image": "none"}]
        marker = {
            "metadata": {"generateName": "marker-", "labels": {TASK: MARKER}},
            "spec": {"suspend": True, "template": {"spec": {"restartPolicy": "Never", "containers": containers}}},
        }
        meta = (await self._kube.request("POST", path, body=marker))["metadata"]
        async with asyncio.timeout(30):
            while meta["uid"] not in self._markers:
                await asyncio.sleep(0.02)
        await self._kube.request("DELETE", f"{path}/{meta['name']}?propagationPolicy=Background")

    def _job_seen(self, job: dict[str, Any]) -> None:
        if job["metadata"]["labels"][TASK] == MARKER:
            self._markers.add(job["metadata"]["uid"])
        elif job["metadata"]["uid"] not in self.created:
            self.created[job["metadata"]["uid"]] = job_created(job)

    def _job_gone(self, job: dict[str, Any], revision: int) -> None:
        self.deleted[job["metadata"]["uid"]] = revision

    async def _run(self, pod: dict[str, Any]) -> None:
        environment = {e["name"]: e.get("value") for e in pod["spec"]["containers"][0]["env"]}
        task, attempt = environment["CLEARML_K8S_TASK_ID"], environment["CLEARML_K8S_ATTEMPT"]
        worker = environment["CLEARML_WORKER_ID"]
        job = pod["metadata"]["ownerReferences"][0]["uid"]
        call = self._clearml.call
        found = (await call("tasks.get_all", id=[task], only_fields=["id", "status", "status_changed"]))["tasks"]
        if not found or found[0]["status"] != "queued" or found[0]["status_changed"] != attempt:
            self.refused.append(task)
            await self._end(pod, job)
            return
        if (await call("tasks.dequeue", task=task, new_status="in_progress"))["updated"] == 1:
            self.starts.append(Start(task=task, attempt=attempt, pod=pod["metadata"]["uid"], job=job))
            await call("tasks.started", task=task, force=True)
            await call("workers.status_report", worker=worker, task=task, timestamp=int(time.time()))
            await self._work(task)
            await call("tasks.completed", task=task, force=True)
        await self._end(pod, job)

    async def _end(self, pod: dict[str, Any], job: str) -> None:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        ended = {"exitCode": 0, "reason": "Completed", "startedAt": now, "finishedAt": now}
        containers = [
            {**status, "ready": False, "started": False, "state": {"terminated": ended}}
            for status in pod["status"]["containerStatuses"]
        ]
        name = pod["metadata"]["name"]
        body = {
            "metadata": {"uid": pod["metadata"]["uid"]},
            "status": {"phase": "Succeeded", "containerStatuses": containers},
        }
        while True:
            try:
                after = await self._kube.request(
                    "PATCH",
                    f"/api/v1/namespaces/{self._namespace}/pods/{name}/status",
                    body=body,
                    kind=MERGE_PATCH,
                )
                self.ended[job] = int(after["metadata"]["resourceVersion"])
                return
            except KubeError as error:
                if error.code in (404, 409):  # deleted meanwhile
                    return
            except (aiohttp.ClientError, TimeoutError):
                pass
            await asyncio.sleep(0.3)


def _owners(pod: dict[str, Any]) -> list[str]:
    return [owner["uid"] for owner in pod["metadata"].get("ownerReferences", ())]


class PlainConsumer:
    """An agent that knows nothing of controllers: pops an entry, reports, starts and completes the task."""

    def __init__(self, *, clearml: ClearML, queues: tuple[str, ...], every: float) -> None:
        self.starts: list[Start] = []
        self._clearml, self._queues, self._every = clearml, queues, every

    async def run(self) -> None:
        while True:
            for queue in self._queues:
                await self._one(queue)
                await asyncio.sleep(self._every)

    async def _one(self, queue: str) -> None:
        call = self._clearml.call
        entry = (await call("queues.get_next_task", queue=queue)).get("entry")
        if not entry:
            return
        task = entry["task"]
        found = (await call("tasks.get_all", id=[task], only_fields=["status_changed"]))["tasks"]
        await call("workers.status_report", worker="plain-agent", task=task, timestamp=int(time.time()))
        self.starts.append(Start(task=task, attempt=found[0]["status_changed"], pod="", job=""))
        await call("tasks.started", task=task, force=True)
        await call("tasks.completed", task=task, force=True)

"""A Job of ours on the real API server, read by our own code, and what users, nodes and administrators do to it."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import chaos_counts
import real_kueue
from chaos_controller import config
from chaos_kube import MERGE_PATCH, STRATEGIC_PATCH, Kube, KubeError
from clearml_k8s import names
from clearml_k8s.clearml.tasks import TaskView
from clearml_k8s.config import ResolvedQueue
from clearml_k8s.config.file import config_from_document
from clearml_k8s.kube.client import KubeClient
from clearml_k8s.kube.events import events_of
from clearml_k8s.kube.resources import JOBS, PODS
from clearml_k8s.kube.slim import Condition, JobRecord, PodRecord, slim_job, slim_pod
from clearml_k8s.kube.store import Store
from clearml_k8s.kube.watch import Watch
from clearml_k8s.kube.workload import slim_workload
from clearml_k8s.spec.job import build_job, pod_of
from flow_parts import ATTEMPT
from reconcile_states import Shown

from ci.cluster import kwok
from ci.cluster.local import LocalCluster

RELEASE = "states"
BY_HAND = {"kwok.clearml-k8s.io/by-hand": "true"}
"""An annotation: the pod has a node, and what the node reports is `Made.report`."""

STAYS = {"kwok.clearml-k8s.io/delete-after": "1h"}
"""An annotation: the pod's containers do not end when it is deleted."""

LIMIT = 60.0


def ended(code: int, reason: str) -> dict[str, Any]:
    """The state of a container that ended now."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {"terminated": {"exitCode": code, "reason": reason, "startedAt": now, "finishedAt": now}}


class Made:
    """The Job of one task in a namespace; use it as a context manager, which removes what was made."""

    def __init__(self, *, kube: Kube, client: KubeClient, cluster: LocalCluster, namespace: str) -> None:
        self.kube, self.namespace = kube, namespace
        self.task = uuid.uuid4().hex
        self.job = names.job_name(self.task)
        self.name = f"states-{self.task[:8]}"
        """For objects beside it."""
        self._client, self._cluster = client, cluster
        self._jobs: Store[JobRecord] = Store(keep_gone=True)
        self._pods: Store[PodRecord] = Store(keep_gone=True)
        self._made = AsyncExitStack()
        self._workload = ""
        """The path of its Workload, where there is one."""
        self.host = cluster.existing().host_ip
        """This machine's address, as the API server sees it."""

    async def __aenter__(self) -> Made:
        for resource, slim, store in ((JOBS, slim_job, self._jobs), (PODS, slim_pod, self._pods)):
            watch: Watch[Any] = Watch(
                client=self._client,
                resource=resource,
                slim=slim,
                namespace=self.namespace,
                label_selector=names.task_selector(release=RELEASE),
            )
            following = asyncio.create_task(_follow(watch, store))
            self._made.callback(following.cancel)
        await asyncio.wait_for(asyncio.gather(self._jobs.synced.wait(), self._pods.synced.wait()), LIMIT)
        return self

    async def __aexit__(self, *_: object) -> None:
        pods = [pod.name for pod in self._pods.of_task(self.task)]
        await self.delete(f"/apis/batch/v1/namespaces/{self.namespace}/jobs/{self.job}")
        for pod in pods:
            await self.delete(self.path("pods", pod), force=True)
        await self._made.aclose()

    # ---- the Job ----------------------------------------------------------------------------------------------------

    def manifest(
        self,
        *,
        annotations: dict[str, str] | None = None,
        owner_token: bool = False,
        kueue: str = "",
        ranks: int = 0,
        apart: bool = False,
        **template: Any,
    ) -> dict[str, Any]:
        """The Job that the builder makes of the task; ``template``: further keys of the queue's pod template;
        ``owner_token``: its pod waits for a Secret with one; ``kueue``: a LocalQueue; ``ranks``: so many pods, on nodes
        of their own (``apart``)."""
        document = config(
            release=RELEASE, namespace=self.namespace, api_server="http://127.0.0.1:1", queues={}, max_pods=None
        )
        if owner_token:
            document["clearml"] = {"apiServer": document["clearml"]["apiServer"], "ownerToken": True}
        base = document["basePodTemplate"]
        document["basePodTemplate"] = {
            **base,
            **template,
            "nodeSelector": {**base["nodeSelector"], **template.get("nodeSelector", {})},
            "annotations": {**base["annotations"], **(annotations or {})},
        }
        queue = {"queueSettings": {"multiNode": [0] * ranks}} if ranks else {}
        document |= {"queues": {"default": queue}, "multiNode": {"enabled": ranks > 0}, "kueue": {"queueName": kueue}}
        built_of = config_from_document(document, source="the test")
        kind = {"multi_node_type": "physical" if apart else "logical"}
        return build_job(
            config=built_of,
            queue=ResolvedQueue(config=built_of.queues["default"], id="id-default", name="default"),
            task=TaskView(id=self.task, name="train", status="queued", status_changed=ATTEMPT, properties=kind),
            attempt=ATTEMPT,
            worker_id="w",
            controller_id="c",
        ).manifest

    async def create(self, manifest: dict[str, Any]) -> None:
        """Stored, and seen by our watch."""
        await self.kube.request("POST", f"/apis/batch/v1/namespaces/{self.namespace}/jobs", body=manifest)
        await chaos_counts.until(lambda: bool(self._jobs.of_task(self.task)), "the watch shows the Job", limit=LIMIT)

    async def run(self, *, annotations: dict[str, str] | None = None, kueue: str = "", **template: Any) -> None:
        """Made, and its pod runs; with ``kueue`` it was let in."""
        await self.create(self.manifest(annotations=annotations, kueue=kueue, **template))
        if kueue:
            await self.change(self.job_path, {"spec": {"suspend": False}})
        await self.until(lambda s: any(c.running for pod in s.pods for c in pod.containers), "the pod runs")

    async def place(self, *, annotations: dict[str, str] | None = None, **template: Any) -> None:
        """Made, and its pod has a node, which reports nothing by itself."""
        await self.create(self.manifest(annotations={**BY_HAND, **(annotations or {})}, **template))
        await self.until(lambda s: any(pod.node for pod in s.pods), "the pod has a node")

    # ---- what is read -----------------------------------------------------------------------------------------------

    async def shown(self) -> Shown:
        """As the controller's own stores and reads have it now."""
        (job,) = self._jobs.of_task(self.task)
        pods = tuple(pod for pod in self._pods.of_task(self.task) if pod.job_uid == job.uid)
        gone = tuple(pod for pod in self._pods.gone_of_task(self.task) if pod.job_uid == job.uid)
        events = [
            event
            for uid in (job.uid, *(pod.uid for pod in pods))
            for event in await events_of(self._client, uid, namespace=self.namespace)
        ]
        events.sort(key=lambda event: (event.last, event.uid))
        if self._workload:
            found = slim_workload(await self.kube.request("GET", self._workload))
            assert (found.task, found.job) == (self.task, job.uid)
            job = dataclasses.replace(job, workload=found)
        return Shown(job=job, pods=pods, gone=gone, events=tuple(events))

    async def until(self, condition: Callable[[Shown], bool], what: str, *, limit: float = LIMIT) -> Shown:
        """What is shown once the condition is true of it."""
        last: list[Shown] = []

        async def reached() -> bool:
            last[:] = [await self.shown()]
            return condition(last[0])

        await chaos_counts.until(reached, lambda: f"{what}; shown: {last}", limit=limit)
        return last[0]

    def restart(self) -> None:
        """As a controller that begins now: of what is gone nothing is known."""
        self._pods.forget(self.task)

    async def finished(self, *, limit: float = LIMIT) -> None:
        await self.until(lambda s: s.job.finished, "the Job has ended", limit=limit)

    async def pod(self) -> str:
        """The name of its pod."""
        (pod,) = (await self.until(lambda s: len(s.pods) == 1, "there is one pod")).pods
        return pod.name

    async def says(self, conditions: Sequence[Condition], *, active: bool = True) -> None:
        """A Workload of the Job, of Kueue's own type; Kueue itself does not run here."""
        await real_kueue.install(self.kube)
        job = await self.kube.request("GET", self.job_path)
        template = {key: job["spec"]["template"][key] for key in ("metadata", "spec")}
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": self.job, "uid": job["metadata"]["uid"]}
        body = {
            "apiVersion": "kueue.x-k8s.io/v1beta2",
            "kind": "Workload",
            "metadata": {"name": self.name, "ownerReferences": [{**owner, "controller": True}]},
            "spec": {
                "active": active,
                "queueName": "team",
                "podSets": [{"name": "main", "count": 1, "template": template}],
            },
        }
        collection = f"{real_kueue.GROUP}/namespaces/{self.namespace}/workloads"
        await self.beside(collection, body)
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        told = [{**dataclasses.asdict(one), "lastTransitionTime": now} for one in conditions]
        for one in told:
            del one["since"]
        self._workload = f"{collection}/{self.name}"
        await self.change(f"{self._workload}/status", {"status": {"conditions": told}})

    # ---- what others do ---------------------------------------------------------------------------------------------

    @property
    def job_path(self) -> str:
        return f"/apis/batch/v1/namespaces/{self.namespace}/jobs/{self.job}"

    def path(self, kind: str, name: str = "") -> str:
        """Of a core object in the namespace."""
        return f"/api/v1/namespaces/{self.namespace}/{kind}" + (f"/{name}" if name else "")

    async def beside(self, collection: str, thing: dict[str, Any]) -> None:
        """Another object, removed at the end."""
        await self.kube.request("POST", collection, body=thing)
        self._made.push_async_callback(self.delete, f"{collection}/{thing['metadata']['name']}")

    async def node(self) -> str:
        """A simulated node of the test's own; its host name, by which a pod can ask for it."""
        node = kwok.node(0)
        node["metadata"]["name"] = node["metadata"]["labels"]["kubernetes.io/hostname"] = self.name
        await self.beside("/api/v1/nodes", node)
        return self.name

    async def delete(self, path: str, *, grace: int | None = None, force: bool = False) -> None:
        """As kubectl does it; nothing when it is gone."""
        body: dict[str, Any] = {"propagationPolicy": "Background"}
        if grace is not None or force:
            body["gracePeriodSeconds"] = 0 if force else grace
        try:
            await self.kube.request("DELETE", path, body=body)
        except KubeError as error:
            if error.code != 404:
                raise

    async def change(self, path: str, body: dict[str, Any], *, kind: str = MERGE_PATCH) -> None:
        await self.kube.request("PATCH", path, body=body, kind=kind)

    async def place_ranks(self, number: int = 2, *, annotations: dict[str, str] | None = None) -> None:
        """Made with so many pods, each of which has a node that reports nothing by itself."""
        await self.create(self.manifest(annotations={**BY_HAND, **(annotations or {})}, ranks=number))
        await self.until(lambda s: sum(pod.node is not None for pod in s.pods) == number, "all pods have a node")

    async def report(self, state: dict[str, Any], *, phase: str, rank: int | None = None, **status: Any) -> None:
        """As the pod's kubelet: the state of the task's container, and the phase; seen by our watch."""
        if rank is None:
            pod = await self.pod()
        else:
            pod = next(pod.name for pod in (await self.shown()).pods if pod.rank == rank)
        container = {"name": names.TASK_CONTAINER, "image": "x", "imageID": "", "ready": False, "restartCount": 0}
        body = {"status": {"phase": phase, "containerStatuses": [{**container, "state": state}], **status}}
        path = f"{self.path('pods', pod)}/status"
        answer = await self.kube.request("PATCH", path, body=body, kind=STRATEGIC_PATCH)
        version = answer["metadata"]["resourceVersion"]
        await self.until(
            lambda s: all(int(p.resource_version) >= int(version) for p in s.pods if p.name == pod),
            "the watch shows the report",
        )

    async def refused(self, manifest: dict[str, Any]) -> None:
        """Returns once the API server refuses the Job's pod, by whatever answer."""
        pod = pod_of(manifest)

        async def is_refused() -> bool:
            try:
                await self.kube.request("POST", self.path("pods") + "?dryRun=All", body=pod)
            except KubeError:
                return True
            return False

        await chaos_counts.until(is_refused, "the pod is refused", limit=LIMIT)

    @asynccontextmanager
    async def without_controllers(self) -> AsyncIterator[None]:
        """The controller manager stands still: what others wrote is shown, and not yet what follows of it."""
        layout = self._cluster.existing()
        process = self._cluster.state(layout).process("kube-controller-manager")
        assert process is not None
        os.kill(process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(process.pid, signal.SIGCONT)


async def _follow(watch: Watch[Any], store: Store[Any]) -> None:
    async for event in watch.events():
        store.apply(event)

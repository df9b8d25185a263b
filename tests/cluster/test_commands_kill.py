"""Commands around pods, with the real kubectl: each task's pod has its claim as long as it is there, and none is left.

The controller is killed in the middle, several times; Jobs are deleted by hand while none runs. The commands are those
of ClearML's documentation.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from chaos_controller import ControllerProcess
from chaos_counts import check, count, shown, statuses, until
from chaos_scene import Scene

from ci.tools.build import bin_dir

RELEASE = "commands"
QUEUE = "claims; touch /tmp/pwned"
LIMITS = {QUEUE: 8, "plain": 8, "": 16}
WITH, WITHOUT, BY_HAND = 18, 4, 3
KILLS = 5

MANIFEST = """\
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: $PVC_NAME
  labels: {made-by: command}
spec:
  resources: {requests: {storage: 1Mi}}
  accessModes: [ReadWriteOnce]
"""


class Claims:
    """Watches that no pod of the queue is without its claim, and which claims there were."""

    def __init__(self, scene: Scene) -> None:
        self._kube, self._namespace = scene.kube, scene.namespaces[0]
        self.seen: set[str] = set()
        self.wrong: set[str] = set()

    async def names(self) -> dict[str, bool]:
        """By name: whether it is there to stay."""
        path = f"/api/v1/namespaces/{self._namespace}/persistentvolumeclaims?labelSelector=made-by=command"
        found = (await self._kube.request("GET", path))["items"]
        return {one["metadata"]["name"]: "deletionTimestamp" not in one["metadata"] for one in found}

    async def look(self) -> None:
        """The claims first: who has a pod after that, and had a claim once, has to have it still."""
        there = {name for name, stays in (await self.names()).items() if stays}
        gone = self.seen - there
        self.seen |= there
        pods = await self._kube.request("GET", f"/api/v1/namespaces/{self._namespace}/pods")
        alive = {pod["metadata"]["labels"].get("batch.kubernetes.io/job-name") for pod in pods["items"]}
        self.wrong |= {f"{name} has a pod, and no claim any more" for name in gone & alive}

    async def watch(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(0.1)


async def test_claims_come_and_go_with_pods_whoever_dies(
    scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server, kube, namespace = scene.server, scene.kube, scene.namespaces[0]
    manifest = tmp_path / "pvc.yaml"
    manifest.write_text(MANIFEST)
    variables = {
        "PATH": f"{bin_dir(['kubectl'])}:/usr/bin:/bin",
        "KUBECONFIG": str(scene.kubeconfig),
        "CLEARML_K8S_GLUE_POD_PRE_APPLY_CMD": (
            f"[[ {{queue_name}} == '{QUEUE}' ]] && sed 's/\\$PVC_NAME/{{pod_name}}/g' {manifest} | "
            "kubectl apply -n {namespace} -f - || [[ {queue_name} == plain ]]"
        ),
        "CLEARML_K8S_GLUE_POD_POST_APPLY_CMD": (
            "kubectl annotate --overwrite -n {namespace} job {pod_name} number={pod_number}"
        ),
        "CLEARML_K8S_GLUE_POD_POST_DELETE_CMD": (
            "kubectl delete pvc {pod_name} -n {namespace} --ignore-not-found --wait=false"
        ),
    }
    for name in (QUEUE, "plain"):
        server.create_queue(name)
    with_claims, without = server.bulk_tasks(WITH, queue=QUEUE), server.bulk_tasks(WITHOUT, queue="plain")
    claims, began = Claims(scene), time.monotonic()
    early: set[str] = set()
    go_on = asyncio.Event()

    async def work(task: str) -> None:
        if task in with_claims and f"clearml-id-{task}" not in await claims.names():
            early.add(task)
        await go_on.wait()
        await asyncio.sleep(1.0)

    controller = scene.controller(RELEASE, limits=LIMITS, delete_after="2s", variables=variables)

    def ended() -> int:
        return sum(status != "queued" and status != "in_progress" for status in statuses(server, with_claims).values())

    try:
        async with scene.agents(work=work) as agents:
            watching = asyncio.create_task(claims.watch())
            await controller.start()
            # In the middle of launches: claims are made, and not all of their Jobs.
            await until(lambda: len(claims.seen) >= 2, "the first claims are there", limit=90)
            await killed(controller)
            await until(lambda: len(claims.seen) >= LIMITS[QUEUE], "the places are full", limit=120)
            await until(lambda: len(agents[0].starts) >= LIMITS[QUEUE] + WITHOUT, "they run", limit=120)
            annotated = f"/apis/batch/v1/namespaces/{namespace}/jobs"

            async def numbered() -> bool:
                jobs = (await kube.request("GET", annotated))["items"]
                numbers = [job["metadata"]["annotations"].get("number") for job in jobs]
                return (
                    len(numbers) == LIMITS[QUEUE] + WITHOUT and None not in numbers and len({*numbers}) == len(numbers)
                )

            await until(numbered, "each Job has its number", limit=90)
            await controller.kill()
            # By hand, and with nobody there to see it.
            running = [start.task for start in agents[0].starts if start.task in with_claims][:BY_HAND]
            for task in running:
                path = f"{annotated}/clearml-id-{task}?propagationPolicy=Background"
                await kube.request("DELETE", path)
                server.call("tasks.stopped", task=task)

            async def gone() -> bool:
                kept = [
                    (await kube.request("GET", path))["items"]
                    for path in (annotated, f"/api/v1/namespaces/{namespace}/pods")
                ]
                left = {thing["metadata"]["labels"].get("clearml-task-id") for things in kept for thing in things}
                return not left & {*running}

            await until(gone, "Kubernetes has removed Jobs and pods", limit=90)
            assert {f"clearml-id-{task}" for task in running} <= (await claims.names()).keys(), (
                "nobody removes them yet"
            )
            await controller.start()

            async def removed() -> bool:
                return not {f"clearml-id-{task}" for task in running} & (await claims.names()).keys()

            await until(removed, "the claims of the deleted Jobs are removed", limit=90)
            go_on.set()
            for number in range(KILLS):
                goal = BY_HAND + (number + 1) * (WITH - BY_HAND) // (KILLS + 1)
                await until(lambda goal=goal: ended() >= goal, "more tasks end", limit=120)
                await killed(controller)
            everything = with_claims + without
            await until(lambda: ended() == WITH, "all tasks end", limit=120)

            async def empty() -> bool:
                return not await claims.names()

            await until(empty, "no claim is left", limit=120)

            async def paid() -> bool:
                path = f"/api/v1/namespaces/{namespace}/configmaps/{RELEASE}-clearml-agent-claims"
                return not (await kube.request("GET", path)).get("data")

            await until(paid, "nothing is owed", limit=60)
            await scene.settled(everything, releases={RELEASE: namespace}, agents=agents, aborted=running)
            watching.cancel()
            assert isinstance((await asyncio.gather(watching, return_exceptions=True))[0], asyncio.CancelledError)
            counts = count(
                server=server, tasks=everything, audit=scene.audit, agents=agents, others=(), aborted=running
            )
    finally:
        await controller.kill()
    with capsys.disabled():
        print(shown("COMMANDS AROUND PODS, KILLED", {"time": f"{time.monotonic() - began:.0f} s"}, counts))
    check(counts, limits=LIMITS)
    assert claims.seen == {f"clearml-id-{task}" for task in with_claims}
    assert claims.wrong == set()
    assert early == set(), "their pods ran without their claims"
    assert not Path("/tmp/pwned").exists()


async def killed(controller: ControllerProcess) -> None:
    """And started again."""
    await controller.kill()
    await controller.start()

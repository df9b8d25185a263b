"""Pods that ClearML's own agent of the same release has left."""

from __future__ import annotations

from clearml_k8s import names
from every_parts import Act
from every_play import Scenario
from every_world import World
from reconcile_loop import start


def old_pod(*, waits: bool) -> Act:
    """ClearML's own agent left a pod, which has ended, or never will begin."""

    async def prepare(world: World) -> None:
        world.tasks = world.server_tasks(1)
        (task,) = world.tasks
        await world.start()
        queue, server = world.server.queue_id("default"), world.server
        server.call("queues.get_next_task", queue=queue)
        server.call("tasks.stop", task=task, force=True, status_reason="moving to k8s pending queue")
        server.call("tasks.enqueue", task=task, queue=server.queue_id(names.PENDING_QUEUE), status_reason="k8s")
        worker = f"gpu-clearml-agent:{task}"
        if not waits:
            start(server, task, worker=worker)
        over = {"terminated": {"reason": "OOMKilled", "exitCode": 137, "finishedAt": "2026-01-01T00:00:00Z"}}
        state = {"waiting": {"reason": "InvalidImageName", "message": "no such name"}} if waits else over
        world.cluster.put(
            "pods",
            f"clearml-id-{task}",
            metadata={"labels": {"CLEARML": "agent-x", "clearml-agent-queue": queue}},
            spec={"containers": [{"name": "c", "env": [{"name": "CLEARML_WORKER_ID", "value": worker}]}],
                  "nodeName": "n"},
            status={"phase": "Pending" if waits else "Failed", "containerStatuses": [{"name": "c", "state": state}]},
        )  # fmt: skip

    return prepare


async def follows_old_pods(world: World) -> None:
    for _ in range(4):
        world.see()
        await world.side.adopted.look()
        await world.clock.advance(4)
    await world.side.teller.flush()


SCENARIOS = {
    "an old pod out of memory": Scenario(
        prepare=old_pod(waits=False), act=follows_old_pods, ends={"failed: Kubernetes: oom-killed": 1}
    ),
    "an old pod that cannot begin": Scenario(
        prepare=old_pod(waits=True), act=follows_old_pods, ends={"failed: Kubernetes: image-name": 1}
    ),
}

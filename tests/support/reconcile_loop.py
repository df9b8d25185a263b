"""Reconciling as a worker does it, step by step, beside a claiming side."""

from __future__ import annotations

from typing import Any

from clearml_k8s.flow.reads import TaskReads
from clearml_k8s.flow.reconcile import Reconciler
from clearml_k8s.flow.workqueue import WorkQueue
from clearml_k8s.kube.slim import JobRecord
from clearml_k8s.kube.store import Store
from clearml_k8s.kube.watch import Gone, Upsert
from clearml_k8s.kube.workload import WorkloadRecord
from clearml_server.process import DevServer
from flow_parts import Side, make_container, make_pod

ENDED = make_container(terminated="OOMKilled", exit_code=137, finished_at="2026-01-01T00:00:00Z")


class Loop:
    """A claiming side with a reconciler; `look` does what a worker does once. Watches bring what the test says."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.pods = side.pods
        self.work: WorkQueue[str] = WorkQueue(clock=side.clock)
        self.reads = TaskReads(session=side.session, owners=side.owners is not None)
        self.workloads: Store[WorkloadRecord] = Store()
        self.reconciler = Reconciler(
            config=side.config,
            session=side.session,
            client=side.client,
            jobs=side.jobs,
            pods=self.pods,
            reads=self.reads,
            teller=side.teller,
            measures=side.measures,
            work=self.work,
            worker_id=side.worker_id,
            controller=side.controller,
            pending_queue=lambda: side.served.pending_queue,
            queue=side.served.by_id,
            owners=side.owners,
            workloads=self.workloads,
        )

    async def launched(self) -> str:
        task: str = self.side.server.create_task(queue="default")
        assert await self.side.poll() == 1
        return task

    def job(self, task: str) -> JobRecord:
        """The task's Job, as the store has it."""
        (job,) = self.side.jobs.of_task(task)
        return job

    def pod(self, task: str, *containers: Any, gone: bool = False, **fields: Any) -> None:
        """The watch brings the Job's pod, or its last state."""
        pod = make_pod(task, *containers, job_uid=self.job(task).uid, **fields)
        self.pods.apply(Gone(item=pod) if gone else Upsert(item=pod))

    def pod_goes(self, task: str) -> None:
        """The watch shows that the task's pods are gone."""
        for pod in self.pods.of_task(task):
            self.pods.apply(Gone(item=pod))

    async def look(self, task: str) -> float | None:
        return await self.reconciler._reconcile(task)

    async def looks(self, task: str, *, most: int = 10) -> None:
        """As often as it wants to look again, each time after its wait."""
        for _ in range(most):
            again = await self.look(task)
            if again is None:
                return
            await self.side.clock.advance(again + 0.001)
        raise AssertionError(f"it wants to look again after {most} looks")

    def jobs(self) -> set[str]:
        """The names of the Jobs in the cluster."""
        return set(self.side.cluster.objects["jobs"])


def start(server: DevServer, task: str, *, worker: str | None = None) -> None:
    """As the agent in the task's pod does it."""
    server.call("tasks.dequeue", task=task, new_status="in_progress")
    server.call("tasks.started", task=task, force=True)
    if worker:
        server.call("workers.status_report", worker=worker, task=task, timestamp=1_800_000_000)

"""How each row of the reconcile table comes to be on a real API server.

A way makes the state in steps, and yields each time when the state is there; it may hold at several moments (before and
after the Job controller has seen a pod's end). What nodes report of containers is written as the kubelet writes it;
everything else is done by the API server, the controllers and the scheduler themselves.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

from chaos_cluster import out_of_service
from chaos_counts import until
from chaos_kube import KubeError
from clearml_k8s.kube.slim import Condition
from cluster_states import BY_HAND, LIMIT, STAYS, Made, ended
from kueue_objects import PREEMPTED_TEXT, evicted, pending_workload, readmitted
from reconcile_states import ENDS, GIVEN, LACKS
from refusing_webhook import refusing

Moments = AsyncGenerator[None, None]
Way = Callable[[Made], Moments]

NODE_LOST_LIMIT = 180.0
"""The pod collector looks every 20 s, and twice 40 s apart."""

ADMISSION = "/apis/admissionregistration.k8s.io/v1"
PODS_MADE = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]


async def suspended(made: Made) -> Moments:
    manifest = made.manifest()
    manifest["spec"]["suspend"] = True  # as Kueue's webhook does it
    await made.create(manifest)
    await made.until(lambda s: any(c.type == "Suspended" for c in s.job.conditions), "the Job controller has seen it")
    yield


async def suspended_by_kueue(made: Made) -> Moments:
    await made.create(made.manifest(kueue="team"))
    await made.until(lambda s: any(c.type == "Suspended" for c in s.job.conditions), "the Job controller has seen it")
    await made.says(pending_workload("insufficient unused quota"))
    yield


async def suspended_while_it_ends(made: Made) -> Moments:
    await made.run(annotations=STAYS)
    await _suspended(made)
    yield


async def suspended_pod_gone(made: Made) -> Moments:
    await made.run(annotations=STAYS)
    await _suspended(made)
    await _killed(made)
    yield


def evicted_by_kueue(said: tuple[Condition, ...], *, active: bool = True) -> Way:
    """Its Job was let in, and is suspended again; its pod ends."""

    async def way(made: Made) -> Moments:
        await made.run(annotations=STAYS, kueue="team")
        await made.says(said, active=active)
        await _suspended(made)
        # When the Job controller says that the Job has failed may be minutes later (Kubernetes 1.37).
        await made.report(ended(143, "Error"), phase="Failed")
        yield

    return way


async def let_in_again(made: Made) -> Moments:
    """While its pod still ends, as Kueue does not wait for that."""
    await made.run(annotations=STAYS, kueue="team")
    await _suspended(made)
    await made.change(made.job_path, {"spec": {"suspend": False}})
    await made.says(readmitted("Preempted", PREEMPTED_TEXT))
    await made.until(lambda s: s.job.resumed > s.pods[0].created, "the Job controller has seen that it was resumed")
    await made.report(ended(143, "Error"), phase="Failed")
    await made.finished()
    yield
    await _killed(made, reported=True)
    yield


async def _suspended(made: Made) -> None:
    """The Job of a pod that runs, a second after that at least, which is as exact as times are."""
    await asyncio.sleep(1.1)
    await made.change(made.job_path, {"spec": {"suspend": True}})

    def seen(shown: Any) -> bool:
        told = any(c.type == "Suspended" and c.status == "True" for c in shown.job.conditions)
        return told and shown.pods[0].deleted is not None

    await made.until(seen, "the Job controller ends the pod, and has said so")


async def _killed(made: Made, *, reported: bool = False) -> None:
    """The pod, which is being deleted, ends and is gone."""
    pod = made.path("pods", await made.pod())
    if not reported:
        await made.report(ended(143, "Error"), phase="Failed")
    await made.delete(pod, force=True)
    await made.until(lambda s: not s.pods and s.job.finished, "the pod is gone, the Job has failed")


async def no_pod_yet(made: Made) -> Moments:
    async with made.without_controllers():
        await made.create(made.manifest())
        yield


async def quota(made: Made) -> Moments:
    hard = {"requests.example.com/gpu": "0"}
    await made.beside(made.path("resourcequotas"), {"metadata": {"name": "q"}, "spec": {"hard": hard}})
    gpu = {"example.com/gpu": "1"}
    await _refused_job(made, made.manifest(resources={"requests": gpu, "limits": gpu}), "exceeded quota: q")
    yield


async def limit_range(made: Made) -> Moments:
    limits = [{"type": "Container", "max": {"cpu": "1"}}]
    await made.beside(made.path("limitranges"), {"metadata": {"name": "l"}, "spec": {"limits": limits}})
    manifest = made.manifest(resources={"limits": {"cpu": "2"}})
    await _refused_job(made, manifest, "maximum cpu usage per Container is 1, but limit is 2")
    yield


async def pod_security(made: Made) -> Moments:
    labels = {"pod-security.kubernetes.io/enforce": "baseline"}
    await made.change(f"/api/v1/namespaces/{made.namespace}", {"metadata": {"labels": labels}})
    await _refused_job(made, made.manifest(hostNetwork=True), "violates PodSecurity")
    yield


async def admission_policy(made: Made) -> Moments:
    policy = {
        "matchConstraints": {"resourceRules": PODS_MADE},
        "validations": [{"expression": "!('not' in object.metadata.labels)", "message": "not wanted"}],
    }
    here = {"matchLabels": {"kubernetes.io/metadata.name": made.namespace}}
    binding = {
        "policyName": made.name,
        "validationActions": ["Deny"],
        "matchResources": {"namespaceSelector": here},
    }
    for kind, spec in (("validatingadmissionpolicies", policy), ("validatingadmissionpolicybindings", binding)):
        await made.beside(f"{ADMISSION}/{kind}", {"metadata": {"name": made.name}, "spec": spec})
    await _refused_job(made, made.manifest(labels={"not": "wanted"}), "denied request: not wanted")
    yield


async def admission_webhook(made: Made) -> Moments:
    said = "pods of this queue are not wanted"
    with tempfile.TemporaryDirectory() as folder:
        async with refusing(host=made.host, folder=Path(folder), said=said) as webhook:
            await _webhook(made, {"url": webhook.url, "caBundle": webhook.ca_bundle})
            await _refused_job(made, made.manifest(), f"denied the request: {said}")
            yield


async def webhook_away(made: Made) -> Moments:
    """Somebody's webhook does not answer: that mends itself, and is nothing that the task's user could change."""
    await _webhook(made, {"url": "https://127.0.0.1:9/"})
    await _refused_job(made, made.manifest(), "failed calling webhook")
    yield


async def unscheduled(made: Made) -> Moments:
    await made.create(made.manifest(nodeSelector={"pool": "nowhere"}))
    await made.until(
        lambda s: any(pod.scheduled is not None and pod.scheduled.status == "False" for pod in s.pods),
        "the scheduler has no node for it",
    )
    yield


async def other_scheduler(made: Made) -> Moments:
    """One that does not run: nobody looks at the pod, and nothing in its status says so."""
    await made.create(made.manifest(schedulerName="volcano"))
    await made.until(lambda s: bool(s.pods), "the pod is there")
    yield


async def starting(made: Made) -> Moments:
    await made.place()
    yield
    await made.report({"waiting": {"reason": "ContainerCreating"}}, phase="Pending")
    yield


async def without_owner_token(made: Made) -> Moments:
    """On a real node: tests/e2e/test_e2e_owner_token.py."""
    await made.place(owner_token=True)
    secret = (await made.shown()).job.token_secret
    await made.report(
        {"waiting": {"reason": "CreateContainerConfigError", "message": f'secret "{secret}" not found'}},
        phase="Pending",
    )
    yield


async def running(made: Made) -> Moments:
    await made.run()
    yield


async def being_deleted(made: Made) -> Moments:
    await made.run(annotations=STAYS)
    await made.delete(made.path("pods", await made.pod()), grace=30)
    await made.until(lambda s: s.pods[0].deleted is not None, "the pod is being deleted")
    yield


async def container_ended(made: Made) -> Moments:
    await made.place()
    await made.report(ended(1, "Error"), phase="Running")
    yield


async def evicted_by_node(made: Made) -> Moments:
    await made.place()
    said = "The node was low on resource: memory."
    target = {"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet", "message": said}
    async for _ in _ends(made, ended(137, "Error"), reason="Evicted", message=said, conditions=[target]):
        yield


async def evicted_by_api(made: Made) -> Moments:
    """As `kubectl drain` does it."""
    await made.run(annotations=STAYS)
    pod = await made.pod()
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
    await made.kube.request("POST", f"{made.path('pods', pod)}/eviction", body=eviction)
    await _disrupted(made, "EvictionByEvictionAPI")
    async for _ in _ends(made, ended(143, "Error")):
        yield


async def preempted(made: Made) -> Moments:
    """A pod that matters more wants the only node that both can have."""
    node = {"kubernetes.io/hostname": await made.node()}
    half = {"requests": {"cpu": "600"}}
    await made.run(annotations=STAYS, nodeSelector=node, resources=half)
    await made.beside("/apis/scheduling.k8s.io/v1/priorityclasses", {"metadata": {"name": made.name}, "value": 1000})
    spec = {
        "priorityClassName": made.name,
        "nodeSelector": node,
        "tolerations": [{"operator": "Exists"}],
        "containers": [{"name": "c", "image": "x", "resources": half}],
    }
    pod = {"metadata": {"name": made.name}, "spec": spec}

    async def taken() -> bool:
        """The admission plugin learns of a new PriorityClass a moment later."""
        try:
            await made.beside(made.path("pods"), pod)
        except KubeError as error:
            if "no PriorityClass" not in str(error):
                raise
            return False
        return True

    await until(taken, lambda: f"the PriorityClass {made.name} is known", limit=LIMIT)
    await _disrupted(made, "PreemptionByScheduler")
    async for _ in _ends(made, ended(143, "Error")):
        yield


async def node_lost(made: Made) -> Moments:
    node = await made.node()
    await made.run(nodeSelector={"kubernetes.io/hostname": node})
    await made.delete(f"/api/v1/nodes/{node}")
    await made.finished(limit=NODE_LOST_LIMIT)
    yield


async def node_out_of_service(made: Made) -> Moments:
    node = await made.node()
    await made.place(annotations=STAYS, nodeSelector={"kubernetes.io/hostname": node})
    await made.report({"running": {"startedAt": "2026-01-01T00:00:00Z"}}, phase="Running")
    await out_of_service(made.kube, node)
    await made.finished(limit=NODE_LOST_LIMIT)
    yield


async def deadline_of_job(made: Made) -> Moments:
    await made.run(annotations=STAYS)
    await made.change(
        f"/apis/batch/v1/namespaces/{made.namespace}/jobs/{made.job}", {"spec": {"activeDeadlineSeconds": 1}}
    )
    await made.until(lambda s: s.pods[0].deleted is not None, "the Job controller ends the pod")
    await made.report(ended(143, "Error"), phase="Failed")
    await made.finished()
    yield
    await made.delete(made.path("pods", await made.pod()), force=True)
    await made.until(lambda s: not s.pods, "the pod is gone")
    yield


async def deadline_of_pod(made: Made) -> Moments:
    """That of the pod template, which the kubelet keeps."""
    await made.place()
    async for _ in _ends(made, ended(137, "Error"), reason="DeadlineExceeded", message="Pod was active too long"):
        yield


async def pod_deleted(made: Made) -> Moments:
    await made.run(annotations=STAYS)
    pod = made.path("pods", await made.pod())
    await made.delete(pod)
    await made.until(lambda s: s.pods[0].deleted is not None, "the pod is being deleted")
    await made.report(ended(143, "Error"), phase="Failed")
    await made.delete(pod, force=True)
    await made.until(lambda s: not s.pods and s.job.finished, "the pod is gone, the Job has failed")
    yield


async def pod_gone(made: Made) -> Moments:
    """Taken away with its finalizer, before the Job controller has counted it."""
    await made.run()
    pod = made.path("pods", await made.pod())
    async with made.without_controllers():
        await made.change(pod, {"metadata": {"finalizers": None}})
        await made.delete(pod, force=True)
        await made.until(lambda s: not s.pods, "the pod is gone")
        yield


async def complete(made: Made) -> Moments:
    await made.place()
    await made.report(ended(0, "Completed"), phase="Succeeded")
    await made.finished()
    yield
    await made.delete(made.path("pods", await made.pod()), force=True)
    await made.until(lambda s: not s.pods, "the pod is gone")
    made.restart()
    yield


def waits(reason: str, message: str = "") -> Way:
    """The task's container cannot start."""

    async def way(made: Made) -> Moments:
        await made.place()
        await made.report({"waiting": {"reason": reason, "message": message or reason}}, phase="Pending")
        yield

    return way


def ends(code: int, reason: str) -> Way:
    """The task's container, and with it the pod."""

    async def way(made: Made) -> Moments:
        await made.place()
        async for _ in _ends(made, ended(code, reason)):
            yield

    return way


async def _ends(made: Made, state: dict[str, Any], **status: Any) -> Moments:
    """The pod's end: before the Job controller has seen it, and after."""
    code = state["terminated"]["exitCode"]
    async with made.without_controllers():
        await made.report(state, phase="Failed" if code else "Succeeded", **status)
        yield
    await made.finished()
    yield


async def _disrupted(made: Made, reason: str) -> None:
    def is_marked(shown: Any) -> bool:
        (pod,) = shown.pods
        found = pod.condition("DisruptionTarget")
        return found is not None and found.reason == reason and pod.deleted is not None

    await made.until(is_marked, f"the pod is ended with the reason {reason}")


async def _webhook(made: Made, client: dict[str, Any]) -> None:
    """Asked before a pod is made in the namespace; ``client``: where it is."""
    webhook = {
        "name": f"{made.name}.example.com",
        "clientConfig": client,
        "rules": PODS_MADE,
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": made.namespace}},
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": 5,
    }
    await made.beside(
        f"{ADMISSION}/validatingwebhookconfigurations", {"metadata": {"name": made.name}, "webhooks": [webhook]}
    )


async def _refused_job(made: Made, manifest: dict[str, Any], said: str) -> None:
    await made.refused(manifest)
    await made.create(manifest)
    await made.until(
        lambda s: any(e.reason == "FailedCreate" and said in e.message for e in s.events), f"an event says {said!r}"
    )


_RUNS = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}


async def ranks_without_a_node(made: Made) -> Moments:
    """Two pods that are to be apart, and one node for both."""
    node = {"kubernetes.io/hostname": await made.node()}
    await made.create(made.manifest(annotations=BY_HAND, ranks=2, apart=True, nodeSelector=node))

    def half(shown: Any) -> bool:
        waits = [pod for pod in shown.pods if pod.scheduled is not None and pod.scheduled.status == "False"]
        return len(waits) == 1 and sum(pod.node is not None for pod in shown.pods) == 1

    shown = await made.until(half, "one pod has a node and the other none")
    (rank,) = [pod.rank for pod in shown.pods if pod.node is not None]
    await made.report(_RUNS, phase="Running", rank=rank)
    yield


async def ranks_run(made: Made) -> Moments:
    await made.place_ranks()
    for rank in range(2):
        await made.report(_RUNS, phase="Running", rank=rank)
    yield


def rank_ended_well(rank: int) -> Way:
    async def way(made: Made) -> Moments:
        await made.place_ranks()
        await made.report(_RUNS, phase="Running", rank=1 - rank)
        await made.report(ended(0, "Completed"), phase="Succeeded", rank=rank)
        yield

    return way


async def rank_failed(made: Made) -> Moments:
    """Before and after the Job controller has ended the other."""
    await made.place_ranks(annotations=STAYS)
    await made.report(_RUNS, phase="Running", rank=0)
    async with made.without_controllers():
        await made.report(ended(3, "Error"), phase="Failed", rank=1)
        yield
    await made.until(lambda s: any(pod.rank == 0 and pod.deleted for pod in s.pods), "the other is told to end")
    yield


async def rank_being_deleted(made: Made) -> Moments:
    await made.place_ranks(annotations=STAYS)
    for rank in range(2):
        await made.report(_RUNS, phase="Running", rank=rank)
    (pod,) = [pod.name for pod in (await made.shown()).pods if pod.rank == 1]
    await made.delete(made.path("pods", pod), grace=30)
    await made.until(lambda s: any(pod.rank == 1 and pod.deleted for pod in s.pods), "one is being deleted")
    yield


async def rank_evicted(made: Made) -> Moments:
    await made.place_ranks()
    await made.report(_RUNS, phase="Running", rank=0)
    await made.report(ended(137, "Error"), phase="Failed", rank=1, reason="Evicted", message="low on memory")
    await made.finished()
    yield


WAYS: dict[str, tuple[Way, ...]] = {
    "suspended": (suspended,),
    "suspended by Kueue": (suspended_by_kueue,),
    "suspended, pod ending": (suspended_while_it_ends,),
    "suspended, pod gone": (suspended_pod_gone,),
    "failed: evicted by Kueue": (evicted_by_kueue(evicted("PodsReadyTimeout", "Exceeded the timeout")),),
    "failed: preempted by Kueue": (evicted_by_kueue(evicted("Preempted", PREEMPTED_TEXT)),),
    "failed: evicted, let in again": (let_in_again,),
    "failed: stopped in Kueue": (
        evicted_by_kueue(evicted("Deactivated", "The workload is deactivated"), active=False),
    ),
    "no pod yet": (no_pod_yet, webhook_away),
    "no pod: quota": (quota,),
    "no pod: LimitRange": (limit_range,),
    "no pod: Pod Security": (pod_security,),
    "no pod: admission": (admission_policy, admission_webhook),
    "pod unscheduled": (unscheduled, other_scheduler),
    "pod starting": (starting,),
    **dict.fromkeys((LACKS, GIVEN, ENDS), (without_owner_token,)),
    "image name": (waits("InvalidImageName"), waits("ErrImageNeverPull")),
    "image pull": (waits("ErrImagePull", "connection refused"), waits("ImagePullBackOff", "Back-off pulling image")),
    "container config": (waits("CreateContainerConfigError", 'secret "x" not found'), waits("RunContainerError")),
    "running": (running,),
    "running, limited": (running,),
    "running, being deleted": (being_deleted,),
    "task's container ended": (container_ended,),
    "succeeded": (ends(0, "Completed"),),
    "failed: exit code": (ends(1, "Error"),),
    "failed: OOM": (ends(137, "OOMKilled"),),
    "failed: evicted": (evicted_by_node, evicted_by_api),
    "failed: preempted": (preempted,),
    "failed: node lost": (node_lost,),
    "failed: out of service": (node_out_of_service,),
    "failed: deadline": (deadline_of_job, deadline_of_pod),
    "pod gone, Job failed": (pod_deleted,),
    "pod gone, Job not": (pod_gone,),
    "Job complete": (complete,),
    "ranks: some without a node": (ranks_without_a_node,),
    "ranks: all run": (ranks_run,),
    "ranks: 1 ended well": (rank_ended_well(1),),
    "ranks: 0 ended well": (rank_ended_well(0),),
    "ranks: 1 failed": (rank_failed,),
    "ranks: 1 being deleted": (rank_being_deleted,),
    "ranks: 1 evicted, gone": (rank_evicted,),
}
"""By row of the table."""

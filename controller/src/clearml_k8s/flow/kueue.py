"""What Kueue says of a Job, in words: why it waits, and why its pod was ended. Pure."""

from __future__ import annotations

import re

from clearml_k8s.flow.diagnosis import Category, Diagnosis
from clearml_k8s.kube.slim import JobRecord
from clearml_k8s.kube.workload import WorkloadRecord

_ADMIN = "ask the cluster's administrator"
_BEFORE = "Previously: "
"""How the message of an eviction begins once Kueue has let the Workload in again; the reason is lost then."""

_CHECKS = "AdmissionCheck"
_INADMISSIBLE = "Inadmissible"
_OTHER = re.compile(r" *\(UID: [^)]*\)")
"""Who takes the place of a preempted one is another task, which its user need not see by its uid."""


def waits(job: JobRecord) -> Diagnosis:
    """Why Kueue keeps the Job suspended. No patience: Kueue decides, and for as long as it likes."""
    workload, where = job.workload, f"LocalQueue {job.local_queue}"
    if workload is None:
        return Diagnosis(
            category=Category.KUEUE_UNSEEN,
            summary=f"The Job waits for Kueue ({where}), which has made no Workload of it yet",
            advice=f"If this lasts, Kueue does not run or does not manage this namespace: {_ADMIN}",
        )
    if not workload.active:
        return _deactivated(workload, what="does not admit the task any more")
    reserved = workload.condition("QuotaReserved")
    if reserved is not None and reserved.status == "True":
        admitted = workload.condition("Admitted")
        if admitted is not None and admitted.status == "True":
            return Diagnosis(category=Category.STARTING, summary=f"Kueue has admitted the Job ({where}): it starts")
        return Diagnosis(
            category=Category.KUEUE_CHECKS,
            summary=f"Kueue has room for the task ({where}), and its admission checks are not done",
            advice=f"If this lasts, {_ADMIN}: kubectl describe workload {workload.name}",
        )
    said = f": {reserved.message}" if reserved is not None and reserved.message else ""
    if reserved is not None and reserved.reason == _INADMISSIBLE:
        return Diagnosis(
            category=Category.KUEUE_QUEUE,
            summary=f"Kueue cannot admit the task ({where}){said}",
            advice="Correct kueue.queueName of the queue, or let the administrator create or start the LocalQueue and "
            "its ClusterQueue",
        )
    return Diagnosis(
        category=Category.KUEUE_QUOTA,
        summary=f"The task waits for its turn in Kueue ({where}){_OTHER.sub('', said)}",
        advice="It starts by itself when Kueue has room for it",
    )


def evicted(workload: WorkloadRecord | None) -> Diagnosis | None:
    """Why Kueue took the Job's place away; None when it did not, or nothing is known of it."""
    if workload is None:
        return None
    found = workload.condition("Evicted")
    if found is None:
        return None if workload.active else _deactivated(workload, what="stopped the task")
    now = found.status == "True"
    reason, said = found.reason if now else "", _OTHER.sub("", found.message.removeprefix(_BEFORE))
    text = f": {said}" if said else ""
    if "MaximumExecutionTime" in reason:
        return Diagnosis(
            category=Category.DEADLINE,
            summary=f"The task ran longer than Kueue lets it{text}",
            advice="The time is the label kueue.x-k8s.io/max-exec-time-seconds of its template",
        )
    if now and not workload.active:
        return _deactivated(workload, what="stopped the task")
    if reason == "Preempted" or (not now and workload.condition("Preempted") is not None):
        return Diagnosis(category=Category.PREEMPTED, summary=f"Kueue preempted the task{text}")
    if reason == "NodeFailures":
        return Diagnosis(category=Category.NODE_LOST, summary=f"Kueue gave the task up, as its node was lost{text}")
    why = f" ({reason})" if reason else ""
    return Diagnosis(category=Category.EVICTED, summary=f"Kueue evicted the task{why}{text}")


def _deactivated(workload: WorkloadRecord, *, what: str) -> Diagnosis:
    found = workload.condition("Evicted")
    said = f": {found.message}" if found is not None and found.message else ""
    return Diagnosis(
        category=Category.KUEUE_DEACTIVATED,
        summary=f"Kueue {what}, as its Workload was deactivated{said}",
        advice=f"Abort the task and enqueue it again, or {_ADMIN} to activate Workload {workload.name}",
    )

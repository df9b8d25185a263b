"""Why a pod waits, from the cluster states and events that tell it; texts are those of Kubernetes 1.37."""

from __future__ import annotations

from typing import Any

import pytest
from clearml_k8s.config import ClearMLConfig, Config, QueueConfig, QueueSettings, ResolvedQueue, TaskCredentials
from clearml_k8s.config.file import package_schema
from clearml_k8s.flow.diagnosis import PATIENCE, Category, key_of, patience
from clearml_k8s.flow.pending import pending
from clearml_k8s.kube.events import EventRecord, event_record
from clearml_k8s.kube.slim import Condition, JobRecord, PodRecord
from flow_parts import make_container, make_job, make_pod

JOB, POD = make_job(), make_pod()


def event(reason: str, message: str, *, about: str, last: str = "2026-01-15T07:00:00Z") -> EventRecord:
    return EventRecord(
        uid=f"{reason}-{last}", about=about, kind="Pod", reason=reason, message=message, warning=True, last=last
    )


def unscheduled(message: str) -> PodRecord:
    condition = Condition(type="PodScheduled", status="False", reason="Unschedulable", message=message)
    return make_pod(node=None, conditions=(condition,))


UNSCHEDULED = unscheduled("0/1 nodes are available: 1 Insufficient cpu.").conditions


@pytest.mark.parametrize(
    ("pods", "category", "patience", "words"),
    [
        ([], Category.NO_POD, None, "not made the pod yet"),
        ([make_pod()], Category.STARTING, None, "starting"),
        ([make_pod("t", make_container(waiting="ContainerCreating"))], Category.STARTING, None, "starting"),
        ([make_pod(node=None, conditions=UNSCHEDULED)], Category.UNSCHEDULABLE, None, "Insufficient cpu"),
        ([make_pod("t", make_container(waiting="InvalidImageName"))], Category.IMAGE_NAME, 0.0, "InvalidImageName"),
        ([make_pod("t", make_container(waiting="ErrImageNeverPull"))], Category.IMAGE_NAME, 0.0, "Correct the image"),
        ([make_pod("t", make_container(waiting="ErrImagePull"))], Category.IMAGE_PULL, 300.0, "imageCredentials"),
        (
            [make_pod("t", make_container("pre", init=True, waiting="ImagePullBackOff", message="Back-off"))],
            Category.IMAGE_PULL,
            300.0,
            "Container pre: ImagePullBackOff: Back-off",
        ),
        (
            [make_pod("t", make_container(waiting="CreateContainerConfigError", message='secret "x" not found'))],
            Category.CONTAINER_CONFIG,
            60.0,
            'secret "x" not found',
        ),
        ([make_pod("t", make_container(waiting="RunContainerError"))], Category.CONTAINER_CONFIG, 60.0, "Secrets"),
    ],
)
def test_why_it_waits(pods: list[PodRecord], category: Category, patience: float | None, words: str) -> None:
    found = pending(job=make_job(), pods=pods)
    assert found is not None
    assert (found.category, found.patience) == (category, patience)
    assert words in str(found)


def test_a_scheduler_that_is_not_there() -> None:
    """Nobody looks at the pod, and nothing in its status says so."""
    found = pending(job=JOB, pods=[make_pod(node=None, scheduler="volcano")], patience={Category.UNSCHEDULABLE: 60.0})
    assert found is not None
    assert (found.category, found.patience) == (Category.UNSCHEDULABLE, 60.0)
    assert str(found).startswith("The scheduler volcano has not looked at the pod yet. If this lasts, it does not run")
    looked_at = make_pod(node=None, scheduler="volcano", conditions=UNSCHEDULED)
    for pod, words in ((looked_at, "Insufficient cpu"), (make_pod(scheduler="volcano"), "The pod is starting")):
        seen = pending(job=JOB, pods=[pod])
        assert seen is not None
        assert words in seen.summary


def test_a_suspended_job_says_so() -> None:
    """Whatever was refused before it was suspended."""
    refused = event("FailedCreate", "exceeded quota", about=JOB.uid)
    found = pending(job=make_job(suspend=True), pods=[], events=[refused])
    assert found is not None
    assert (found.category, found.summary, found.patience) == (Category.SUSPENDED, "The Job is suspended", None)


@pytest.mark.parametrize(
    ("job", "pods"),
    [
        (make_job(finished="Failed"), []),
        (make_job(), [make_pod("t", make_container(running=True), phase="Running")]),
        (make_job(), [make_pod(phase="Succeeded")]),
    ],
)
def test_what_does_not_wait(job: JobRecord, pods: list[PodRecord]) -> None:
    assert pending(job=job, pods=pods) is None


QUOTA = 'Error creating: pods "a-x" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1'
SECURITY = (
    'Error creating: pods "a-x" is forbidden: violates PodSecurity "restricted:latest": '
    "allowPrivilegeEscalation != false"
)
LIMIT = 'Error creating: pods "a-x" is forbidden: maximum cpu usage per Container is 500m, but limit is 1'
WEBHOOK = 'Error creating: admission webhook "policy.example.com" denied the request: no latest tag'
DOWN = 'Error creating: Internal error occurred: failed calling webhook "policy.example.com": connection refused'


@pytest.mark.parametrize(
    ("message", "category", "seconds"),
    [
        (QUOTA, Category.QUOTA, None),
        (SECURITY, Category.POD_SECURITY, 300.0),
        (LIMIT, Category.LIMIT_RANGE, 300.0),
        (WEBHOOK, Category.ADMISSION, 300.0),
        ('Error creating: pods "a" is forbidden: no PriorityClass with name x was found', Category.ADMISSION, 300.0),
        (DOWN, Category.NO_POD, None),
    ],
)
def test_why_no_pod_is_made(message: str, category: Category, seconds: float | None) -> None:
    """Only the Job's event tells it; the latest counts."""
    events = [event("FailedCreate", "something older", about=JOB.uid), event("FailedCreate", message, about=JOB.uid)]
    found = pending(job=JOB, pods=[], events=events)
    assert found is not None
    assert (found.category, found.patience) == (category, seconds)
    assert found.summary.endswith(
        message.removeprefix("Error creating: ").partition(" is forbidden: ")[2] or message[16:]
    )
    assert "a-x" not in found.summary
    other = pending(job=JOB, pods=[], events=[event("FailedCreate", message, about="another")])
    assert other is not None
    assert other.category is Category.NO_POD
    assert message not in other.summary


@pytest.mark.parametrize(
    ("message", "category", "advice"),
    [
        ("0/2 nodes are available: 1 Insufficient nvidia.com/gpu, 1 node(s) had untolerated taint {x: y}. "
         "preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.",
         Category.UNSCHEDULABLE, "until a node has room"),
        ("0/1 nodes are available: 1 Too many pods.", Category.UNSCHEDULABLE, "until a node has room"),
        ("0/2 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, 1 node(s) had untolerated "
         "taint {nvidia.com/gpu: present}.", Category.UNSCHEDULABLE, "affinity and tolerations"),
        ("0/1 nodes are available: 1 node(s) had untolerated taint {a: b}.", Category.UNSCHEDULABLE, "set tolerations"),
        ("0/1 nodes are available: 1 node(s) were unschedulable.", Category.UNSCHEDULABLE,
         "cordoned, or are being drained: it waits until one is uncordoned, or another one comes"),
        ("0/3 nodes are available: 1 node(s) were unschedulable, 2 node(s) didn't match Pod's node affinity/selector.",
         Category.UNSCHEDULABLE, "comes; else compare nodeSelector"),
        ("0/2 nodes are available: 1 Insufficient cpu, 1 node(s) were unschedulable.", Category.UNSCHEDULABLE, "room"),
        ("0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector. preemption: 0/2 nodes are "
         "available: Insufficient victims.", Category.UNSCHEDULABLE, "Compare nodeSelector"),
        ("0/1 nodes are available: 1 node(s) didn't match pod topology spread constraints.", Category.UNSCHEDULABLE,
         "topologySpreadConstraints"),
        ("0/1 nodes are available: persistentvolumeclaim \"data\" not found.", Category.VOLUME, "volume claims"),
        ("0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.", Category.VOLUME, "claims"),
        ("no nodes available to schedule pods", Category.UNSCHEDULABLE, "Compare resources"),
    ],
)  # fmt: skip
def test_why_no_node_takes_it(message: str, category: Category, advice: str) -> None:
    found = pending(job=JOB, pods=[unscheduled(message)])
    assert found is not None
    assert (found.category, found.patience) == (category, None)
    assert advice in found.advice
    assert "preemption" not in found.summary.lower()
    assert ".." not in str(found)


def test_an_autoscaler_that_adds_a_node_begins_the_time_anew() -> None:
    pod = unscheduled("0/1 nodes are available: 1 Insufficient cpu.")

    def since(*events: EventRecord) -> str:
        found = pending(job=JOB, pods=[pod], events=events)
        assert found is not None
        assert found.category is Category.UNSCHEDULABLE
        return found.since

    scales = event("TriggeredScaleUp", "pod triggered scale-up", about=pod.uid, last="2026-01-15T07:05:00Z")
    gave_up = event("NotTriggerScaleUp", "max node group size reached", about=pod.uid, last="2026-01-15T07:09:00Z")
    assert since() == ""
    assert since(scales) == "2026-01-15T07:05:00Z"
    assert since(scales, gave_up) == ""


@pytest.mark.parametrize(
    ("reason", "category"),
    [
        ("FailedMount", Category.VOLUME),
        ("FailedAttachVolume", Category.VOLUME),
        ("FailedCreatePodSandBox", Category.SANDBOX),
        ("NodeNotReady", Category.STARTING),
    ],
)
def test_what_the_node_says_counts_until_it_got_over_it(reason: str, category: Category) -> None:
    said = event(reason, "trouble", about=POD.uid)
    found = pending(job=JOB, pods=[POD], events=[said])
    assert found is not None
    assert found.category is category
    assert ("trouble" in found.summary) is (category is not Category.STARTING)
    later = event("Pulling", "Pulling image", about=POD.uid)
    found = pending(job=JOB, pods=[POD], events=[said, later])
    assert found is not None
    assert found.category is Category.STARTING


def test_every_patience_can_be_set_and_has_the_default_of_the_values() -> None:
    keys: dict[str, Any] = package_schema()["properties"]["patienceSeconds"]["properties"]
    assert {key_of(category): seconds for category, seconds in PATIENCE.items()} == {
        key: schema["default"] for key, schema in keys.items()
    }


def test_a_queues_patience_counts_before_that_of_all() -> None:
    settings = QueueSettings(patience_seconds={"imagePull": 5, "quota": None})
    queue = ResolvedQueue(config=QueueConfig(name="a", settings=settings), id="1", name="a")
    config = Config(
        release_name="r",
        fullname="r",
        namespace="n",
        clearml=ClearMLConfig(api_server="http://x", task_credentials=TaskCredentials(secret_name="s")),
        queues={},
        patience_seconds={"imagePull": 7, "quota": 9, "containerConfig": None},
    )
    found = patience(config=config, queue=queue)
    assert (found[Category.IMAGE_PULL], found[Category.QUOTA]) == (5, 9)
    assert (found[Category.CONTAINER_CONFIG], found[Category.ADMISSION]) == (None, 300.0)
    assert patience(config=config, queue=None)[Category.IMAGE_PULL] == 7
    waits = make_pod("t", make_container(waiting="ErrImagePull"))
    diagnosis = pending(job=JOB, pods=[waits], patience=found)
    assert diagnosis is not None
    assert diagnosis.patience == 5


@pytest.mark.parametrize(
    ("times", "last"),
    [
        ({"lastTimestamp": "2026-01-15T07:00:01Z", "firstTimestamp": "2026-01-15T07:00:00Z"}, "2026-01-15T07:00:01Z"),
        ({"eventTime": "2026-01-15T07:00:02.5Z", "lastTimestamp": None}, "2026-01-15T07:00:02.5Z"),
        ({"eventTime": "2026-01-15T07:00:02Z", "series": {"lastObservedTime": "2026-01-15T07:00:09Z"}},
         "2026-01-15T07:00:09Z"),
        ({}, "2026-01-15T06:00:00Z"),
    ],
)  # fmt: skip
def test_both_kinds_of_events_have_a_time(times: dict[str, Any], last: str) -> None:
    meta = {"uid": "e", "creationTimestamp": "2026-01-15T06:00:00Z"}
    about = {"kind": "Pod", "uid": "p"}
    found = event_record({"metadata": meta, "involvedObject": about, "type": "Warning", "reason": "R", **times})
    assert (found.last, found.about, found.warning, found.line) == (last, "p", True, "Pod R: ")


@pytest.mark.parametrize("damaged", [{}, {"metadata": None, "involvedObject": None, "message": None, "series": None}])
def test_an_event_without_anything_is_no_crash(damaged: dict[str, Any]) -> None:
    assert event_record(damaged).about == ""

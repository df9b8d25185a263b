"""Slim records, found by task, and which tasks a change makes dirty."""

import sys

from clearml_k8s.kube.store import Store, slim_job, slim_pod
from clearml_k8s.kube.watch import Gone, Listed, Upsert

TASK = "0123456789abcdef0123456789abcdef"


def job(uid="j1", task=TASK, **status):
    return {
        "metadata": {
            "name": f"clearml-id-{task}",
            "uid": uid,
            "resourceVersion": "7",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"clearml-task-id": task, "clearml-k8s.io/controller": "abc"},
            "annotations": {
                "clearml-k8s.io/attempt": "2026-01-01T00:00:00.1+00:00",
                "clearml-k8s.io/queue-id": "q1",
                "clearml-k8s.io/worker-id": "worker-a",
            },
            "managedFields": [{"x": "y" * 5000}],
        },
        "spec": {"suspend": True, "template": {"spec": {"containers": [{"env": [{"name": "S", "value": "secret"}]}]}}},
        "status": status,
    }


def pod(uid="p1", **parts):
    return {
        "metadata": {
            "name": f"clearml-id-{TASK}-x7k2p",
            "uid": uid,
            "ownerReferences": [{"kind": "Job", "uid": "j1"}],
            "labels": {"clearml-task-id": TASK},
            "annotations": {"clearml-k8s.io/queue-id": "q1"},
            "deletionTimestamp": "2026-01-01T00:01:00Z",
            "deletionGracePeriodSeconds": 30,
        },
        "spec": {"nodeName": "n1"},
        "status": {
            "phase": "Failed",
            "reason": "Evicted",
            "message": "The node was low on resource: memory.",
            "conditions": [
                {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"},
                {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"},
            ],
            "initContainerStatuses": [
                {"name": "init", "state": {"waiting": {"reason": "ErrImagePull", "message": "x" * 5000}}}
            ],
            "containerStatuses": [
                {
                    "name": "task",
                    "restartCount": 1,
                    "state": {"terminated": {"reason": "OOMKilled", "exitCode": 137, "finishedAt": "t"}},
                    "lastState": {"terminated": {"reason": "Error", "exitCode": 1}},
                }
            ],
            **parts,
        },
    }


def test_a_job_record_holds_what_reconciling_reads():
    record = slim_job(
        job(active=1, conditions=[{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}])
    )
    assert (record.uid, record.task, record.queue, record.controller) == ("j1", TASK, "q1", "abc")
    assert record.attempt == "2026-01-01T00:00:00.1+00:00"
    assert record.worker == "worker-a"
    assert record.suspend
    assert record.active == 1
    assert record.finished
    assert record.condition("Failed").reason == "BackoffLimitExceeded"
    assert record.condition("Complete") is None
    assert record.deleted is None
    assert "secret" not in repr(record)


def test_a_pod_record_holds_every_container():
    record = slim_pod(pod())
    assert (record.job_uid, record.node, record.phase, record.reason) == ("j1", "n1", "Failed", "Evicted")
    assert record.scheduled.reason == "Unschedulable"
    assert record.condition("DisruptionTarget").reason == "EvictionByEvictionAPI"
    assert record.condition("PodScheduled") is None
    init, task = record.containers
    assert (init.init, init.waiting, len(init.message)) == (True, "ErrImagePull", 1024)
    assert (task.terminated, task.exit_code, task.last_exit_code, task.restarts) == ("OOMKilled", 137, 1, 1)
    assert record.grace_seconds == 30
    assert record.queue == "q1"
    assert record.finished


def test_objects_without_any_status_are_read():
    record = slim_pod({"metadata": {"uid": "u", "name": "clearml-id-ab"}})
    assert (record.task, record.phase, record.containers) == ("ab", "Pending", ())
    assert slim_job({"metadata": {"uid": "u", "name": "other"}, "status": None}).task is None


def test_pods_of_the_glue_are_recognised():
    record = slim_pod({"metadata": {"uid": "u", "name": "clearml-id-ab12", "labels": {"CLEARML": "agent-5c12cafb"}}})
    assert (record.task, record.legacy_agent, record.job_uid) == ("ab12", "agent-5c12cafb", None)


def test_a_record_is_small():
    def size(value):
        own = sys.getsizeof(value)
        if isinstance(value, tuple):
            return own + sum(size(item) for item in value)
        if hasattr(value, "__slots__") and not isinstance(value, str):
            return own + sum(size(getattr(value, name)) for name in value.__slots__)
        return own

    assert size(slim_pod(pod())) + size(slim_job(job())) < 5 * 1024


def store():
    dirty = []
    return Store(dirty=dirty.append), dirty


def test_the_first_list_syncs():
    records, dirty = store()
    assert not records.synced.is_set()
    records.apply(Listed(items=(slim_job(job()),)))
    assert records.synced.is_set()
    assert dirty == [TASK]
    assert records.of_task(TASK)[0].uid == "j1"
    assert records.named(f"clearml-id-{TASK}").uid == "j1"


def test_a_new_list_is_diffed():
    records, dirty = store()
    one, two = slim_job(job("j1", "aa")), slim_job(job("j2", "bb"))
    records.apply(Listed(items=(one, two)))
    dirty.clear()
    records.apply(Listed(items=(two, slim_job(job("j3", "cc")))))
    assert sorted(dirty) == ["aa", "cc"]
    assert records.tasks() == {"bb", "cc"}
    assert len(records) == 2


def test_a_job_made_again_under_its_name():
    records, _ = store()
    old, new = slim_job(job("j1")), slim_job(job("j2"))
    records.apply(Upsert(item=old))
    records.apply(Upsert(item=new))
    assert {record.uid for record in records.of_task(TASK)} == {"j1", "j2"}
    records.apply(Gone(item=old))
    assert records.named(new.name) == new
    assert records.of_task(TASK) == (new,)
    records.apply(Gone(item=new))
    assert records.named(new.name) is None
    assert records.of_task(TASK) == ()
    assert records.tasks() == frozenset()


def test_an_event_without_a_change_makes_nothing_dirty():
    records, dirty = store()
    records.apply(Upsert(item=slim_job(job())))
    records.apply(Upsert(item=slim_job(job())))
    records.apply(Gone(item=slim_job(job("other"))))
    assert dirty == [TASK]


def test_what_a_write_answered_is_known_at_once_and_never_overwrites():
    records, _ = store()
    records.note(slim_job(job()))
    assert len(records.of_task(TASK)) == 1
    records.apply(Upsert(item=slim_job(job(active=1))))
    records.note(slim_job(job()))
    assert records.get("j1").active == 1


def test_iterating_survives_changes():
    records, _ = store()
    records.apply(Listed(items=(slim_job(job("j1", "aa")), slim_job(job("j2", "bb")))))
    for record in records:
        records.apply(Gone(item=record))
    assert len(records) == 0

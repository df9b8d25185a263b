"""What is kept of objects, and how little it is."""

import sys

from clearml_k8s.kube.slim import slim_job, slim_pod
from clearml_k8s.kube.uses import Uses
from kube_objects import TASK, job, pod


def test_a_job_record_holds_what_reconciling_reads():
    record = slim_job(job(conditions=[{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]))
    assert (record.uid, record.task, record.queue, record.controller) == ("j1", TASK, "q1", "abc")
    assert record.attempt == "2026-01-01T00:00:00.1+00:00"
    assert record.worker == "worker-a"
    assert record.suspend
    assert record.finished
    assert record.condition("Failed").reason == "BackoffLimitExceeded"
    assert record.condition("Complete") is None
    assert record.deleted is None
    assert "secret" not in repr(record).replace("token_secret=None", "")


def test_the_secret_that_a_jobs_pod_waits_for():
    named = job()
    named["metadata"]["annotations"]["clearml-k8s.io/token-secret"] = "owner-token-t-1"
    assert slim_job(named).token_secret == "owner-token-t-1"
    assert slim_job(job()).token_secret is None


def test_a_pod_record_holds_every_container():
    record = slim_pod(pod())
    assert (record.job_uid, record.node, record.phase, record.reason) == ("j1", "n1", "Failed", "Evicted")
    assert record.scheduled.reason == "Unschedulable"
    assert record.condition("DisruptionTarget").reason == "EvictionByEvictionAPI"
    assert record.condition("PodScheduled") is None
    init, task = record.containers
    assert (init.init, init.waiting, len(init.message)) == (True, "ErrImagePull", 1024)
    assert (task.terminated, task.exit_code) == ("OOMKilled", 137)
    assert record.grace_seconds == 30
    assert record.queue == "q1"
    assert record.finished


def test_objects_without_any_status_are_read():
    record = slim_pod({"metadata": {"uid": "u", "name": "clearml-id-ab"}})
    assert (record.task, record.phase, record.containers) == ("ab", "Pending", ())
    assert slim_job({"metadata": {"uid": "u", "name": "other"}, "status": None}).task is None


def test_another_scheduler_is_kept():
    for name, kept in (("volcano", "volcano"), ("default-scheduler", None), (None, None), (7, None)):
        found = slim_pod({"metadata": {"uid": "u", "name": "n"}, "spec": {"schedulerName": name}})
        assert found.scheduler == kept


def test_a_job_that_was_resumed():
    told = [{"type": "Suspended", "status": "False", "reason": "JobResumed", "lastTransitionTime": "2026"}]
    found = slim_job({"metadata": {"uid": "u", "name": "n"}, "status": {"conditions": told}})
    assert (found.resumed, found.local_queue) == ("2026", None)
    suspended = {"metadata": {"uid": "u", "name": "n", "labels": {"kueue.x-k8s.io/queue-name": "team"}}}
    found = slim_job({**suspended, "spec": {"suspend": True}, "status": {"conditions": told}})
    assert (found.resumed, found.local_queue, found.workload) == ("", "team", None)


def test_pods_of_the_glue_are_recognised():
    record = slim_pod({"metadata": {"uid": "u", "name": "clearml-id-ab12", "labels": {"CLEARML": "agent-5c12cafb"}}})
    assert (record.task, record.job_uid) == ("ab12", None)


def test_a_record_is_small():
    def size(value):
        own = sys.getsizeof(value)
        if isinstance(value, Uses):
            return 0  # one for all that use the same
        if isinstance(value, tuple):
            return own + sum(size(item) for item in value)
        if hasattr(value, "__slots__") and not isinstance(value, str):
            return own + sum(size(getattr(value, name)) for name in value.__slots__)
        return own

    assert size(slim_pod(pod())) + size(slim_job(job())) < 5 * 1024


def test_a_job_remembers_what_its_pod_reports_as():
    made = job()
    assert slim_job(made).reports_as is None
    made["metadata"]["annotations"]["clearml-k8s.io/reports-as"] = "k8s:a:b"
    assert slim_job(made).reports_as == "k8s:a:b"


def test_a_sessions_port_and_the_nodes_address():
    with_port = job()
    for text, port in (("10022", 10022), ("0", None), ("65536", None), ("ssh", None), ("\u0661", None), (7, None)):
        with_port["metadata"]["annotations"]["clearml-k8s.io/session-port"] = text
        assert slim_job(with_port).session_port == port
    assert slim_job(job()).session_port is None
    assert slim_pod(pod(hostIP="192.0.2.1")).host_ip == "192.0.2.1"
    assert slim_pod(pod()).host_ip is None

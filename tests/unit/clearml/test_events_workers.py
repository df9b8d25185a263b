"""Console lines in bounded packets; the worker's reports."""

import json
from datetime import UTC, datetime

from clearml_k8s.clearml import events, workers
from clearml_k8s.clearml.events import LogLine
from clearml_k8s.clearml.projects import FRESH_SECONDS, ProjectNames
from hypothesis import given
from hypothesis import strategies as st
from scripted_clearml import Reply


def line(msg, task="ab"):
    return LogLine(task=task, worker="w", msg=msg, timestamp_ms=1_700_000_000_000)


async def test_many_tasks_in_one_call(api, session):
    api.script("events.add_batch", Reply(data={"added": 2, "errors": 0, "errors_info": {}}))
    report = await events.add_log_batch(session, [line("one"), line("zwei ü", task="cd")])
    assert report == events.LogReport(added=2)
    (call,) = [call for call in api.calls if call.endpoint == "events.add_batch"]
    assert call.content_type == "application/json-lines"
    assert call.body[1] == {
        "type": "log",
        "task": "cd",
        "worker": "w",
        "level": "INFO",
        "msg": "zwei ü",
        "timestamp": 1_700_000_000_000,
    }


async def test_refused_lines_are_reported(api, session):
    api.script(
        "events.add_batch",
        Reply(data={"added": 1, "errors": 1, "errors_info": {"Invalid task id": 1}}),
        Reply(code=400, subcode=131, message="Events not added: Invalid task id"),
    )
    report = await events.add_log_batch(session, [line("a"), line("b", task="none")])
    assert report == events.LogReport(added=1, errors=("Invalid task id (1 lines)",))
    report = await events.add_log_batch(session, [line("b", task="none")])
    assert report.added == 0
    assert report.errors == ("Events not added: Invalid task id",)


async def test_no_lines_no_call(api, session):
    assert await events.add_log_batch(session, []) == events.LogReport(added=0)
    assert api.calls == []


@given(st.lists(st.text(max_size=300).map(lambda text: text * 700), max_size=12))
def test_packets_and_messages_are_bounded_and_complete(messages):
    packets = list(events.packets([line(message) for message in messages]))
    decoded = [json.loads(row) for packet in packets for row in packet.split(b"\n")]
    assert all(len(packet) <= events.MAX_PACKET_BYTES for packet in packets)
    assert all(len(row["msg"].encode()) <= events.MAX_MESSAGE_BYTES for row in decoded)
    assert "".join(row["msg"] for row in decoded) == "".join(messages)


async def test_worker_calls(api, session):
    for action in ("register", "status_report", "unregister"):
        api.script(f"workers.{action}", Reply())
    at = datetime(2026, 1, 1, tzinfo=UTC)
    await workers.register(session, "w", queues=["q"])
    await workers.status_report(session, "w", at=at, queues=["q"], task="ab")
    await workers.unregister(session, "w")
    assert api.of("workers.register") == [{"worker": "w", "queues": ["q"], "timeout": 600}]
    assert api.of("workers.status_report") == [
        {"worker": "w", "timestamp": int(at.timestamp()), "queues": ["q"], "task": "ab"}
    ]
    assert api.of("workers.unregister") == [{"worker": "w"}]


async def test_cluster_reports(api, session):
    for action in ("cluster_report", "cluster_unregister"):
        api.script(f"workers.{action}", Reply())
    await workers.cluster_report(
        session,
        workers.ClusterReport(
            worker="k8s:w",
            category="k8s",
            resource_groups=("k8s:a", "k8s:b"),
            partial=True,
            at=datetime(2026, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC),
            timeout_seconds=1200,
            max_gpus=8,
            max_cpus=64,
            max_workers=0,
        ),
    )
    await workers.cluster_unregister(session, "k8s")
    assert api.of("workers.cluster_report") == [
        {
            "worker": "k8s:w",
            "partial": True,
            "key": "k8s",
            "timestamp": 1767225600500,
            "timeout": 1200,
            "resource_groups": ["k8s:a", "k8s:b"],
            "properties": {"max_gpus": 8, "max_cpus": 64, "max_workers": 0},
        }
    ]
    assert api.of("workers.cluster_unregister") == [{"key": "k8s"}]


async def test_names_of_projects_are_read_once(api, session, caplog):
    names = ProjectNames(session=session)
    assert await names.of(None) == ""
    api.script("projects.get_all", Reply(code=403, subcode=20), Reply(data={"projects": [{"id": "p", "name": "a/b"}]}))
    assert await names.of("p") == ""
    assert "the name of project p cannot be read" in caplog.text
    assert [await names.of("p") for _ in range(3)] == ["a/b"] * 3
    assert api.of("projects.get_all") == [{"id": ["p"], "only_fields": ["id", "name"]}] * 2
    api.script("projects.get_all", Reply(data={"projects": []}))
    assert await names.of("gone") == ""
    await session.clock.advance(FRESH_SECONDS)
    api.script("projects.get_all", Reply(data={"projects": [{"id": "p", "name": "new"}]}))
    assert await names.of("p") == "new", "somebody has renamed it"


async def test_the_probe_touches_what_a_take_touches(api, session):
    api.script("workers.status_report", Reply())
    await workers.probe(session, "w")
    assert "machine_stats" in api.of("workers.status_report")[0]

"""What only the development server can do: faults, down times, a half-failing database (section 7), its own log."""

from __future__ import annotations

import http.client
import threading
import urllib.error
from collections.abc import Iterator
from typing import Any

import pytest
from clearml_server.process import CallFailed, DevServer, wait_for

from .client import Client

pytestmark = pytest.mark.devserver
_LIMIT_SECONDS = 20.0


@pytest.fixture(scope="module")
def process() -> Iterator[DevServer]:
    with DevServer() as dev:
        yield dev


@pytest.fixture
def dev(process: DevServer) -> Iterator[DevServer]:
    yield process
    process.up()
    process.reset()


@pytest.fixture
def client(dev: DevServer) -> Client:
    return Client(dev.url, dev.access_key, dev.secret_key)


def _queue_with_task(dev: DevServer) -> tuple[str, str]:
    queue = dev.create_queue("some queue")
    return queue, dev.create_task(queue="some queue")


def _answer(client: Client, endpoint: str, **data: Any) -> str:
    """The code of the answer, or ``lost``."""
    try:
        return client.code(endpoint, **data)
    except (OSError, http.client.HTTPException):
        return "lost"


@pytest.mark.parametrize(
    ("kind", "answer", "done"),
    [
        ("error_before", "500/100", False),
        ("error_after_commit", "500/100", True),
        ("drop_before", "lost", False),
        ("drop_reply", "lost", True),
        ("unauthorized", "401/30", False),
    ],
)
def test_kinds_of_faults(dev: DevServer, client: Client, kind: str, answer: str, done: bool) -> None:
    queue, task = _queue_with_task(dev)
    dev.add_fault(kind=kind, endpoint=r"^queues\.remove_task$", task=task, count=1)
    assert _answer(client, "queues.remove_task", queue=queue, task=task) == answer
    assert dev.entries(queue) == ([] if done else [task])
    record = dev.calls(endpoint="queues.remove_task")[-1]
    assert (record["fault"], record["done"], record["task"], record["queue"]) == (kind, done, task, queue)
    assert _answer(client, "queues.remove_task", queue=queue, task=task) == ("400/703" if done else "200/0")


@pytest.mark.parametrize("hang", [False, True])
def test_a_late_call_lands_after_its_client_has_given_up(dev: DevServer, client: Client, hang: bool) -> None:
    queue, task = _queue_with_task(dev)
    dev.add_fault(kind="late", seconds=0.5, endpoint="queues.remove_task", count=1, hang=hang)
    assert _answer(client, "queues.remove_task", queue=queue, task=task) == "lost"
    if not hang:
        assert dev.entries(queue) == [task]
    wait_for(lambda: dev.entries(queue) == [], timeout=_LIMIT_SECONDS)
    record = dev.calls(endpoint="queues.remove_task")[-1]
    assert (record["fault"], record["done"], record["summary"]) == ("late", True, {"removed": 1})


def test_a_slow_call_lands_after_its_client_has_timed_out(dev: DevServer) -> None:
    queue, task = _queue_with_task(dev)
    dev.add_fault(kind="delay", seconds=1.0, endpoint="queues.remove_task", count=1)
    with pytest.raises(TimeoutError):
        dev.call("queues.remove_task", timeout=0.2, queue=queue, task=task)
    assert dev.entries(queue) == [task]
    wait_for(lambda: dev.entries(queue) == [], timeout=_LIMIT_SECONDS)
    assert dev.calls(endpoint="queues.remove_task")[-1]["summary"] == {"removed": 1}


def test_a_proxy_may_answer(dev: DevServer) -> None:
    dev.add_fault(kind="http", status=502, body="<html>Bad Gateway</html>", count=1)
    with pytest.raises(CallFailed) as failure:
        dev.call("queues.get_all")
    assert failure.value.code == 502
    assert dev.call("queues.get_all")["queues"]


def test_which_calls_a_rule_hits(dev: DevServer, client: Client) -> None:
    dev.add_fault(kind="error_before", endpoint="get_default", nth=2, every=2, count=2, client="contract")
    codes = [_answer(client, "queues.get_default") for _ in range(7)]
    assert codes == ["200/0", "500/100", "200/0", "500/100", "200/0", "200/0", "200/0"]
    assert [(rule["seen"], rule["hits"]) for rule in dev.faults()] == [(7, 2)]
    dev.clear_faults()
    dev.add_fault(kind="error_before", endpoint="get_default", probability=0.5, seed=7)
    first = [_answer(client, "queues.get_default") for _ in range(20)]
    dev.clear_faults()
    dev.add_fault(kind="error_before", endpoint="get_default", probability=0.5, seed=7)
    assert [_answer(client, "queues.get_default") for _ in range(20)] == first
    assert 0 < first.count("500/100") < 20


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ({"kind": "explode"}, "kind: found 'explode'"),
        ({"kind": "delay"}, "seconds"),
        ({"kind": "delay", "seconds": 1, "endpont": "x"}, "unknown field endpont"),
        ({"kind": "step_delay", "seconds": 1}, "step"),
        ({"kind": "drop_reply", "endpoint": "("}, "regular expression"),
    ],
)
def test_a_bad_rule_is_refused_in_words(dev: DevServer, rule: dict[str, Any], text: str) -> None:
    with pytest.raises(CallFailed, match=text) as failure:
        dev.add_fault(**rule)
    assert failure.value.code == 400
    assert dev.faults() == []


def test_enqueue_is_four_steps(dev: DevServer, client: Client) -> None:
    """A task that is moved while its enqueue still runs is taken out of its new queue again (section 8)."""
    queue, parking = dev.create_queue("some queue"), dev.create_queue("parking")
    task = dev.create_task()
    gaps = ("status_set", "pushed", "execution_queue_set")
    for gap in gaps:
        dev.add_fault(kind="step_delay", step=gap, seconds=1.0, endpoint="tasks.enqueue", client="contract")
    producer = threading.Thread(target=client.ok, args=("tasks.enqueue",), kwargs={"task": task, "queue": queue})
    producer.start()
    try:
        wait_for(lambda: dev.task(task)["status"] == "queued", timeout=_LIMIT_SECONDS, poll=0.01)
        assert dev.entries(queue) == []
        wait_for(lambda: dev.entries(queue) == [task], timeout=_LIMIT_SECONDS, poll=0.01)
        assert "queue" not in dev.task(task)["execution"]
        assert dev.call("queues.get_next_task", queue=queue)["entry"]["task"] == task
        dev.call("queues.add_task", queue=parking, task=task, update_execution_queue=False)
        wait_for(lambda: dev.task(task)["execution"].get("queue") == queue, timeout=_LIMIT_SECONDS, poll=0.01)
        assert dev.entries(parking) == [task]
    finally:
        producer.join(_LIMIT_SECONDS)
    assert dev.entries(parking) == []
    assert dev.task(task)["status"] == "queued"


def test_a_step_can_fail(dev: DevServer, client: Client) -> None:
    queue, task = dev.create_queue("some queue"), dev.create_task()
    dev.add_fault(kind="step_error", step="status_set", endpoint="tasks.enqueue", count=1)
    assert _answer(client, "tasks.enqueue", task=task, queue=queue) == "500/100"
    assert (dev.task(task)["status"], dev.entries(queue)) == ("queued", [])


def test_a_database_that_fails_half_way(dev: DevServer, client: Client) -> None:
    """Section 7: the metrics write after the change fails."""
    queue, task = _queue_with_task(dev)
    waiting, worker = dev.create_task(queue="some queue"), "worker"
    fresh, empty = dev.create_task(), dev.create_queue("empty queue")
    dev.elasticsearch(probability=1.0)
    assert _answer(client, "queues.get_next_task", queue=queue) == "500/100"
    assert (dev.entries(queue), dev.task(task)["status"]) == ([waiting], "queued")
    assert _answer(client, "queues.get_next_task", queue=empty) == "500/100"
    assert _answer(client, "queues.remove_task", queue=queue, task=waiting) == "500/100"
    assert dev.entries(queue) == []
    assert _answer(client, "tasks.enqueue", queue=queue, task=fresh) == "500/100"
    assert (dev.entries(queue), dev.task(fresh)["status"]) == ([fresh], "created")
    assert _answer(client, "tasks.started", task=task) == "200/0"
    report: dict[str, Any] = {"worker": worker, "timestamp": 0}
    assert _answer(client, "workers.status_report", **report) == "200/0"
    assert _answer(client, "workers.status_report", **report, machine_stats={"cpu_usage": [1]}) == "500/100"
    dev.elasticsearch()
    assert _answer(client, "queues.get_next_task", queue=queue) == "200/0"
    assert dev.task(fresh)["status"] == "created"


@pytest.mark.parametrize("mode", ["refuse", "close", "503"])
def test_the_server_may_be_away(dev: DevServer, client: Client, mode: str) -> None:
    assert _answer(client, "queues.get_default") == "200/0"
    dev.down(mode=mode)
    if mode == "503":
        with pytest.raises(ValueError):  # a proxy's 503 carries no JSON
            client.code("queues.get_default")
    else:
        assert [_answer(client, "queues.get_default") for _ in range(2)] == ["lost", "lost"]
    assert dev.state()["down"] == mode
    # the control port stays
    assert dev.call("queues.get_default")["name"] == "default"
    dev.up()
    assert _answer(client, "queues.get_default") == "200/0"
    dev.down(mode=mode, seconds=0.3)
    wait_for(lambda: dev.state()["down"] is None, timeout=_LIMIT_SECONDS)
    assert _answer(client, "queues.get_default") == "200/0"


def test_tokens_and_credentials_can_be_revoked_early(dev: DevServer, client: Client) -> None:
    dev.revoke_tokens()
    assert _answer(client, "queues.get_default") == "401/30"
    key, secret = dev.add_credentials(role="admin")
    other = Client(dev.url, key, secret)
    assert other.code("server.config") == "200/0"
    dev.revoke_credentials(key)
    assert other.code("server.config") == "200/0"
    assert other.request("POST", "auth.login", headers=other.basic()).code == "401/22"


def test_a_protected_user_makes_no_credentials(dev: DevServer) -> None:
    protected = Client(dev.url, *dev.add_credentials(user="__tests__", protected=True))
    assert protected.code("auth.create_credentials") == "400/301"
    assert protected.code("auth.revoke_credentials", access_key="any") == "400/301"


def test_the_clock_can_be_moved(dev: DevServer, client: Client) -> None:
    """600 s of silence: stop ends the task at once. 30 days: the token is dead."""
    task = dev.create_task()
    client.ok("tasks.started", task=task)
    client.ok("workers.status_report", worker="silent", task=task, timestamp=0)
    client.ok("tasks.stop", task=task)
    assert dev.task(task)["status"] == "in_progress"
    dev.advance_clock(601)
    assert "silent" not in {worker["id"] for worker in client.ok("workers.get_all")["workers"]}
    client.ok("tasks.stop", task=task)
    assert dev.task(task)["status"] == "stopped"
    dev.advance_clock(30 * 24 * 3600)
    answer = client.post("queues.get_default")
    assert answer.code == "401/30"
    assert "Signature has expired" in answer.meta["result_msg"]


def test_bulk_tasks_and_the_log(dev: DevServer, client: Client) -> None:
    ids = dev.bulk_tasks(2000, queue="many", tags=["bulk"])
    state = dev.state()
    assert (state["tasks"]["queued"], state["queues"]["many"]["entries"]) == (2000, 2000)
    since = dev.last_call()
    for _ in range(3):
        client.ok("queues.get_next_task", queue=state["queues"]["many"]["id"])
    popped = [record["summary"]["popped"] for record in dev.calls(since=since, endpoint="get_next_task")]
    assert popped == ids[:3]
    assert dev.counters()["by_result"]["queues.get_next_task 200/0"] >= 3
    assert dev.calls(since=dev.last_call()) == []
    with pytest.raises(CallFailed, match="known"):
        dev._dev("GET", "nothing")


def test_a_stopped_server_is_gone_and_starts_again_on_its_port() -> None:
    dev = DevServer()
    with dev:
        url = dev.url
        assert dev.call("queues.get_default")["name"] == "default"
    with pytest.raises(urllib.error.URLError):
        dev.call("queues.get_default")
    with dev:
        assert dev.url == url
        assert dev.call("queues.get_default")["name"] == "default"


def test_the_enterprise_edition_takes_cluster_reports() -> None:
    with DevServer(edition="enterprise") as dev:
        client = Client(dev.url, dev.access_key, dev.secret_key)
        assert client.claims()["feature_set"] == "enterprise"
        report: dict[str, Any] = {"worker": "controller", "partial": True, "key": "gpus", "properties": {"max_gpus": 8}}
        client.ok("workers.cluster_report", **report)
        assert dev.cluster_reports()["gpus"]["controller"]["properties"] == {"max_gpus": 8}
        client.ok("workers.cluster_unregister", key="gpus")
        assert dev.cluster_reports() == {}

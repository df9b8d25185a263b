"""The start of a task on several nodes: its pods begin together or not at all; rank 0 alone speaks for the task."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from clearml_k8s.spec.script import EXIT_CANNOT_TELL, EXIT_NOT_OURS, EXIT_STOPPED_EARLY, gather
from spec_pod import LIMIT, Pod, unused_port, wait_for_line
from spec_support import ATTEMPT, TASK_ID

ASKS_AT_ONCE = gather().replace("= 1024, 10, 60, 30", "= 1024, 10, 0, 0")
LATER = "2026-01-15T07:00:00.000000+00:00"


class Ranks:
    """The pods of one task on this machine."""

    def __init__(self, pod: Pod, folder: Path) -> None:
        self.pod = replace(pod, further=("", "", ASKS_AT_ONCE))
        self.folder = folder
        self.port = unused_port()
        self.started: list[subprocess.Popen[str]] = []

    def start(self, rank: int, *, pods: int = 2, **env: str) -> subprocess.Popen[str]:
        process = self.pod.popen(
            NODE_RANK=str(rank),
            RANK=str(rank),
            CLEARML_K8S_PODS=str(pods),
            CLEARML_K8S_GATHER_PORT=str(self.port),
            MASTER_ADDR="localhost",
            CLEARML_WORKER_ID="worker:task",
            RECORD=str(self.record(rank)),
            **env,
        )
        self.started.append(process)
        return process

    def record(self, rank: int) -> Path:
        return self.folder / f"record-{rank}.json"

    def agent(self, rank: int) -> dict[str, Any] | None:
        record = self.record(rank)
        return json.loads(record.read_text()) if record.exists() else None


@pytest.fixture
def ranks(pod: Pod, tmp_path: Path) -> Iterator[Ranks]:
    made = Ranks(pod, tmp_path)
    yield made
    for process in made.started:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=LIMIT)


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = process.communicate(timeout=LIMIT)
    return process.returncode, output


def connected(port: int) -> socket.socket:
    """To rank 0, as soon as it listens."""
    for _ in range(LIMIT * 10):
        try:
            return socket.create_connection(("localhost", port), timeout=LIMIT)
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"nobody listens on port {port}")


@pytest.mark.parametrize("first", [0, 1])
def test_ranks_begin_together_whoever_comes_first(ranks: Ranks, first: int) -> None:
    before = ranks.start(first)
    wait_for_line(before, "1 of 2 pods of the task are there" if first == 0 else "is not there yet")
    assert (ranks.agent(0), ranks.agent(1)) == (None, None)
    assert [path for path, _ in ranks.pod.server.calls if path == "/tasks.get_all"] == [] or first == 1
    after = ranks.start(1 - first)
    assert [ended(one)[0] for one in (before, after)] == [0, 0]
    agents = [ranks.agent(0), ranks.agent(1)]
    assert [agent["argv"] for agent in agents if agent] == [
        ["execute", "--full-monitoring", "--require-queue", "--id", TASK_ID]
    ] * 2
    # So that the one's end does not take the other's worker away.
    assert [agent["environ"]["CLEARML_WORKER_ID"] for agent in agents if agent] == ["worker:task", "worker:task:rank1"]


def test_none_begins_for_a_task_that_is_not_to_run_any_more(ranks: Ranks) -> None:
    first = ranks.start(0)
    wait_for_line(first, "1 of 2 pods")
    ranks.pod.server.task = {"id": TASK_ID, "status": "stopped", "status_changed": ATTEMPT}
    second = ranks.start(1)
    assert [ended(one)[0] for one in (first, second)] == [EXIT_NOT_OURS, EXIT_NOT_OURS]
    assert (ranks.agent(0), ranks.agent(1)) == (None, None)


def test_what_rank_0_cannot_tell_nobody_begins(ranks: Ranks) -> None:
    first = ranks.start(0, CLEARML_API_SECRET_KEY="wrong")
    second = ranks.start(1)
    assert [ended(one)[0] for one in (first, second)] == [EXIT_CANNOT_TELL, EXIT_CANNOT_TELL]
    assert (ranks.agent(0), ranks.agent(1)) == (None, None)


def test_a_second_pod_of_a_rank_is_refused_while_the_first_one_waits(ranks: Ranks) -> None:
    first = ranks.start(0, pods=3)
    wait_for_line(first, "1 of 3 pods")
    second = ranks.start(1, pods=3)
    wait_for_line(first, "2 of 3 pods")
    code, output = ended(ranks.start(1, pods=3))
    assert code == EXIT_NOT_OURS, output
    wait_for_line(first, "a second pod of rank 1 is refused")
    third = ranks.start(2, pods=3)
    assert [ended(one)[0] for one in (first, second, third)] == [0, 0, 0]
    assert all(ranks.agent(rank) for rank in range(3))


def test_a_second_pod_of_a_rank_is_refused_after_the_begin(ranks: Ranks) -> None:
    ranks.pod.server.task = {
        "id": TASK_ID,
        "status": "in_progress",
        "status_changed": "2026-01-15T07:00:00.000000+00:00",
    }
    code, output = ended(ranks.start(1))
    assert code == EXIT_NOT_OURS, output
    assert "is in_progress, not queued any more" in output
    assert ranks.agent(1) is None


def test_strangers_are_sent_away(ranks: Ranks) -> None:
    first = ranks.start(0)
    wait_for_line(first, "1 of 2 pods")
    for hello in (
        b"GET / HTTP/1.1\n",
        f"{TASK_ID} another-attempt rank 1 a\n".encode(),
        f"{TASK_ID} {ATTEMPT} rank 0 a\n".encode(),
        f"{TASK_ID} {ATTEMPT} rank 2 a\n".encode(),
        f"{TASK_ID} {ATTEMPT} rank \u00b2 a\n".encode(),
        b"\xff" * 5000,
    ):
        with connected(ranks.port) as stranger:
            stranger.sendall(hello)
            with contextlib.suppress(ConnectionResetError):  # what it said was not read to its end
                assert stranger.recv(100) == b""
    with connected(ranks.port):
        pass  # hangs up at once
    assert first.poll() is None
    assert ranks.agent(0) is None
    second = ranks.start(1)
    assert [ended(one)[0] for one in (first, second)] == [0, 0]


def test_a_port_that_another_task_has_on_the_node_is_waited_for(ranks: Ranks) -> None:
    """As on the node's own network."""
    with socket.create_server(("", ranks.port)):
        first = ranks.start(0)
        wait_for_line(first, f"port {ranks.port} is in use")
    second = ranks.start(1)
    assert [ended(one)[0] for one in (first, second)] == [0, 0]


def test_one_that_hangs_up_is_counted_out(ranks: Ranks) -> None:
    first = ranks.start(0, pods=3)
    wait_for_line(first, "1 of 3 pods")
    with connected(ranks.port) as one:
        one.sendall(f"{TASK_ID} {ATTEMPT} rank 2 a\n".encode())
        wait_for_line(first, "2 of 3 pods")
    wait_for_line(first, "the pod of rank 2 is gone")
    wait_for_line(first, "1 of 3 pods")
    others = [ranks.start(1, pods=3), ranks.start(2, pods=3)]
    assert [ended(one)[0] for one in (first, *others)] == [0, 0, 0]


@pytest.mark.parametrize("rank", [0, 1])
def test_told_to_stop_while_it_waits(ranks: Ranks, rank: int) -> None:
    process = ranks.start(rank)
    wait_for_line(process, "pods of the task are there" if rank == 0 else "is not there yet")
    process.send_signal(signal.SIGTERM)
    assert ended(process)[0] == EXIT_STOPPED_EARLY


def test_rank_0_speaks_for_the_task_and_no_other(ranks: Ranks) -> None:
    """The agent reports a SIGTERM as its user's abort, of whatever rank."""
    processes = [ranks.start(0, AGENT_WAITS="1"), ranks.start(1, AGENT_WAITS="1")]
    for process in processes:
        wait_for_line(process, "agent is running")
        process.send_signal(signal.SIGTERM)
    assert [ended(process)[0] for process in processes] == [0, EXIT_STOPPED_EARLY]
    assert ranks.record(0).with_suffix(".term").exists()
    assert not ranks.record(1).with_suffix(".term").exists()


def test_a_rank_ends_as_its_agent_does(ranks: Ranks) -> None:
    processes = [ranks.start(0, AGENT_ENDS="0"), ranks.start(1, AGENT_ENDS="3")]
    assert [ended(process)[0] for process in processes] == [0, 3]


def test_a_task_of_one_pod_begins_alone(ranks: Ranks) -> None:
    assert ended(ranks.start(0, pods=1))[0] == 0
    assert ranks.agent(0) is not None

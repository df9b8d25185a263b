"""`clearml-k8s status`: the page as it is printed, exit codes, and what is said when nobody answers."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from clearml_k8s import cli
from clearml_k8s.cli.status import page, well

TASK = "5e6f0a1b2c3d4e5f60718293a4b5c6d7"


def queue(key: str = "default", **changes: Any) -> dict[str, Any]:
    return {
        "key": key,
        "id": f"id-{key}",
        "name": key,
        "problem": False,
        "reason": "",
        "hints": [],
        "waiting": 12,
        "oldest": "2026-01-15T06:20:00+00:00",
        "taking": 0,
        "pending": 2,
        "running": 5,
        "ending": 0,
        "placesLeft": 30,
        "gpus": 0.0,
        "limits": [],
        **changes,
    }


def document(**changes: Any) -> dict[str, Any]:
    return {
        "release": "gpu",
        "namespace": "clearml",
        "state": "serving",
        "leader": "pod-1_ab",
        "at": "2026-01-15T06:30:00+00:00",
        "worker": "clearml-agent-gpu-1a2b3c4d",
        "clearml": {"address": "https://api.example.com", "state": "healthy", "reason": ""},
        "kubernetes": {"known": True, "reason": ""},
        "secondsSinceLastPoll": 1.2,
        "limits": [],
        "nodes": None,
        "dashboard": None,
        "queues": [queue()],
        "waiting": [],
        "waitingMore": 0,
        "leftAlone": [],
        "leftAloneMore": 0,
        **changes,
    }


def waits(**changes: Any) -> dict[str, Any]:
    return {
        "task": TASK,
        "job": f"clearml-id-{TASK}",
        "queue": "id-default",
        "since": "2026-01-15T06:22:12Z",
        "category": "unschedulable",
        "why": "No node takes the pod",
        **changes,
    }


def limit(name: str, *, used: float, most: float = 1e6) -> dict[str, Any]:
    return {"limit": name, "setting": f"the {name}", "used": used, "most": most}


def test_the_page() -> None:
    found = document(
        nodes="2 nodes; 8 GPUs on 1 nodes",
        limits=[limit("pods", used=7, most=1234567)],
        queues=[
            queue(),
            queue(
                "gpu",
                placesLeft=0,
                limits=[
                    limit("gpus", used=2.5, most=8),
                    limit("cpus", used=0),
                    limit("requests.memory", used=1.5 * 1024**3, most=1024**4),
                ],
                hints=["asks for amd.com/gpu: 1"],
                reason="limit of 5 pods is reached",
            ),
            queue(
                "typo",
                id=None,
                name=None,
                waiting=None,
                placesLeft=None,
                problem=True,
                reason="no queue of that name",
            ),
        ],
        waiting=[waits()],
        waitingMore=3,
        leftAlone=[{"task": TASK[::-1], "queue": "id-gone", "why": "its entry was gone when we came"}],
    )
    assert list(page(found)) == [
        "controller  serving",
        "release     gpu in namespace clearml",
        "worker      clearml-agent-gpu-1a2b3c4d",
        "ClearML     https://api.example.com healthy",
        "Kubernetes  what exists is known",
        "nodes       2 nodes; 8 GPUs on 1 nodes",
        "queues      read 1.2 s ago",
        "",
        "QUEUE    WAITING  TAKING  PENDING  RUNNING  ENDING  LEFT  STATE",
        "default  12       0       2        5        0       30    served",
        "gpu      12       0       2        5        0       0     limit of 5 pods is reached; asks for amd.com/gpu: 1",
        "typo     -        0       2        5        0       -     no queue of that name",
        "",
        "LIMIT            QUEUE  USED   OF       SET BY",
        "pods             all    7      1234567  the pods",
        "gpus             gpu    2.5    8        the gpus",
        "requests.memory  gpu    1.5Gi  1Ti      the requests.memory",
        "",
        "Waiting for the cluster:",
        f"  {TASK} (default, 7 min): No node takes the pod",
        "  and 3 more",
        "",
        "Left alone for now:",
        f"  {TASK[::-1]} (id-gone): its entry was gone when we came",
    ]


def test_a_standby_names_the_one_to_ask() -> None:
    found = {"release": "gpu", "namespace": "clearml", "state": "standby: pod-1_ab leads", "leader": "pod-1_ab"}
    assert list(page(found)) == [
        "controller  standby: pod-1_ab leads",
        "            ask the leader: kubectl -n clearml exec pod-1 -- clearml-k8s status",
    ]


@pytest.mark.parametrize(
    ("changes", "is_well"),
    [
        ({}, True),
        ({"state": "standby: pod-1_ab leads"}, True),
        ({"queues": [queue(placesLeft=0, reason="full")]}, True),
        ({"queues": [queue(problem=True, reason="no such queue")]}, False),
        ({"state": "starting"}, False),
        ({"kubernetes": {"known": False, "reason": "nothing was heard of the Jobs"}}, False),
        ({"clearml": {"address": "a", "state": "unreachable", "reason": "no route"}}, False),
    ],
)
def test_what_counts_as_well(changes: dict[str, Any], is_well: bool) -> None:
    assert well(document(**changes)) is is_well


@pytest.fixture
def served() -> Iterator[tuple[str, dict[str, tuple[int, bytes]]]]:
    """A server's address, and what it answers by path."""
    answers: dict[str, tuple[int, bytes]] = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            code, body = answers.get(self.path, (404, b"not found"))
            self.send_response(code)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", answers
        finally:
            server.shutdown()
            thread.join()


def test_it_is_read_and_printed(
    served: tuple[str, dict[str, tuple[int, bytes]]], capsys: pytest.CaptureFixture[str]
) -> None:
    address, answers = served
    answers["/status"] = 200, json.dumps(document()).encode()
    assert cli.main(["status", "--address", address]) == 0
    assert capsys.readouterr().out.startswith("controller  serving\n")
    assert cli.main(["status", "--address", address + "/", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == document()
    answers["/status"] = 200, json.dumps(document(state="stopping")).encode()
    assert cli.main(["status", "--address", address]) == 1


def test_the_port_of_the_pods_own_controller_is_the_default(
    served: tuple[str, dict[str, tuple[int, bytes]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, answers = served
    answers["/status"] = 200, json.dumps(document()).encode()
    monkeypatch.setenv("CLEARML_K8S_PORT", address.rpartition(":")[2])
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert cli.main(["status"]) == 0


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        pytest.param((404, b"no"), "answers 404: is it a controller of this version?", id="an older version"),
        pytest.param((200, b"<html>"), "does not answer with the state of a controller", id="a web page"),
        pytest.param((200, b"[1]"), "does not answer with the state of a controller", id="other JSON"),
    ],
)
def test_what_is_no_controller_is_told(
    served: tuple[str, dict[str, tuple[int, bytes]]],
    capsys: pytest.CaptureFixture[str],
    answer: tuple[int, bytes],
    said: str,
) -> None:
    address, answers = served
    answers["/status"] = answer
    assert cli.main(["status", "--address", address]) == 1
    assert said in capsys.readouterr().err


def test_nobody_there(unused_tcp_port: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", "--address", f"http://127.0.0.1:{unused_tcp_port}"]) == 1
    said = capsys.readouterr().err
    assert "kubectl exec deploy/NAME -- clearml-k8s status" in said
    assert "Connection refused" in said


def test_a_watch_goes_on_while_nobody_answers(
    unused_tcp_port: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("clearml_k8s.cli.status.time.sleep", sleep)
    with contextlib.suppress(KeyboardInterrupt):
        cli.main(["status", "--address", f"http://127.0.0.1:{unused_tcp_port}", "--watch", "7"])
    assert waits == [7, 7, 7]
    assert capsys.readouterr().out.count("no controller answers at") == 3


def test_wrong_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", "--address", "example.com"]) == 2
    assert "found 'example.com'; expected a URL as in http://127.0.0.1:8080" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["status", "--watch", "0"])
    assert "from 0.1 to 86400" in capsys.readouterr().err

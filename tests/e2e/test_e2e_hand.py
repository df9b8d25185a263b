"""The user's hand in the UI on a task that waits, is pending or runs (real agent, scheduler, kubelet).

Agents of the queue `deaf` look but once in ten minutes whether their task was ended: who ends it is the controller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from clearml_server.process import DevServer
from e2e_programs import Helm, Kubectl, until, values_for
from e2e_tasks import WAITS_FOR_FILE, NewTask, enqueue
from e2e_watch import Audit, account, watched

LIMIT = 120.0
GRACE_SECONDS = 10
SIGTERM_EXIT = 1
"""What the agent ends with when it is told to; who does not hear it is killed, and ends with 137."""

MARKS_ITSELF = f"import pathlib\npathlib.Path('/tmp/begun').touch()\n{WAITS_FOR_FILE}"
"""Its begin is seen in its pod: a deaf agent does not hand on what it prints either."""

POLLING = "CLEARML_AGENT_QUEUE_POLL_FREQ_SEC"


def polling(seconds: int) -> dict[str, Any]:
    """What pods that start from now on of the queue `deaf` go by."""
    data = {"seconds": str(seconds)}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "polling"}, "data": data}


@pytest.fixture(scope="module")
def kubectl(namespaces: Any) -> Kubectl:
    made: Kubectl = namespaces()
    made.apply(polling(600))
    return made


@pytest.fixture(scope="module")
def helm(kubectl: Kubectl, server: DevServer, folder: Path) -> Iterator[Helm]:
    release = Helm("hand", kubectl.namespace)
    skip = {"name": "CLEARML_AGENT_SKIP_PYTHON_ENV_INSTALL", "value": "1"}
    quick = [skip, {"name": POLLING, "value": "1"}]
    deaf = [skip, {"name": POLLING, "valueFrom": {"configMapKeyRef": {"name": "polling", "key": "seconds"}}}]
    values = values_for(
        url=server.url,
        access_key=server.access_key,
        secret_key=server.secret_key,
        queues={
            "deaf": {"templateOverrides": {"env": deaf}},
            "quick": {},
            "nowhere": {"templateOverrides": {"nodeSelector": {"pool": "nowhere"}}},
            "full": {"queueSettings": {"maxPods": 1}},
        },
        base={"env": quick, "terminationGracePeriodSeconds": GRACE_SECONDS},
    )
    release.upgrade(values, folder)
    yield release
    release.uninstall()


@pytest.fixture(scope="module")
def audit(kubectl: Kubectl, helm: Helm) -> Audit:
    return Audit(kubectl)


def begun(kubectl: Kubectl, task: str, *, job: str = "") -> dict[str, Any]:
    """The task's pod in which its script runs; ``job``: one of another Job than this (uid)."""

    def found() -> dict[str, Any] | None:
        for pod in kubectl.pods_of(task):
            name, owner = pod["metadata"]["name"], pod["metadata"]["ownerReferences"][0]["uid"]
            if owner == job or pod["status"].get("phase") != "Running":
                continue
            if "begun" in kubectl("exec", name, "--", "ls", "/tmp", check=False):
                return pod
        return None

    return until(f"the script of task {task} runs", found, limit=LIMIT)


def ended_well(server: DevServer, task: str) -> None:
    found = server.wait_for_status(task, "completed", "failed", "stopped", timeout=LIMIT)
    assert found["status"] == "completed", server.console(task)


# ---- while it runs --------------------------------------------------------------------------------------------------


def call(endpoint: str, **data: Any) -> Callable[[DevServer, str], object]:
    return lambda server, task: server.call(endpoint, task=task, **data)


RUNNING = {
    "abort": (call("tasks.stopped"), "stopped"),
    "reset": (call("tasks.reset", force=True), "created"),
    "delete": (call("tasks.delete", force=True), None),
}


@pytest.fixture(scope="module")
def running(helm: Helm, kubectl: Kubectl, audit: Audit, server: DevServer) -> dict[str, str]:
    """A task for each hand, all enqueued before the first is looked at; their scripts run."""
    made = enqueue(server.environment(), *(NewTask(name=name, queue="deaf", script=MARKS_ITSELF) for name in RUNNING))
    for task in made:
        begun(kubectl, task)
    return dict(zip(RUNNING, made, strict=True))


@pytest.mark.parametrize("how", RUNNING)
def test_a_running_task_is_ended_by_the_controller(
    how: str, running: dict[str, str], helm: Helm, kubectl: Kubectl, server: DevServer, audit: Audit, folder: Path
) -> None:
    """SIGTERM, which its agent hears, however long it sleeps."""
    task = running[how]
    hand, status = RUNNING[how]
    with watched(kubectl, task, folder) as pods:
        hand(server, task)
        kubectl.gone(task)
        until("the watch has shown the end", pods.exit_codes, limit=30)
    assert pods.exit_codes() == {SIGTERM_EXIT}
    assert pods.grace_periods() == {GRACE_SECONDS}
    assert audit.deleted_by(task) == [account(helm)]
    assert len(audit.made(task)) == 1
    found = server.call("tasks.get_all", id=[task], only_fields=["status", "status_message"])["tasks"]
    assert [one["status"] for one in found] == ([status] if status else [])
    assert not [one for one in found if one["status_message"].startswith("Kubernetes: ")]


def test_an_abort_in_the_ui_is_the_agents_first(helm: Helm, kubectl: Kubectl, server: DevServer, audit: Audit) -> None:
    """`tasks.stop` leaves it running, "stopping", for its agent to end; the Job goes when that has said so."""
    (task,) = enqueue(server.environment(), NewTask(name="stop", queue="quick", script=MARKS_ITSELF))
    begun(kubectl, task)
    server.call("tasks.stop", task=task)
    kubectl.gone(task)
    assert server.task(task)["status"] == "stopped"
    assert audit.deleted_by(task) == [account(helm)]


def test_a_clone_runs_beside_its_original(helm: Helm, kubectl: Kubectl, server: DevServer) -> None:
    (task,) = enqueue(server.environment(), NewTask(name="original", queue="quick", script=MARKS_ITSELF))
    original = begun(kubectl, task)
    clone: str = server.call("tasks.clone", task=task, new_task_name="clone")["id"]
    server.call("tasks.enqueue", task=clone, queue_name="quick")
    cloned = begun(kubectl, clone)
    assert server.task(task)["status"] == server.task(clone)["status"] == "in_progress"
    assert [pod["metadata"]["uid"] for pod in kubectl.pods_of(task)] == [original["metadata"]["uid"]]
    for one, pod in ((task, original), (clone, cloned)):
        kubectl.let_go(pod)
        ended_well(server, one)
        assert server.console(one).count("it went on to its end") == 1


# ---- while it is pending --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pending(helm: Helm, audit: Audit, server: DevServer) -> dict[str, str]:
    """Tasks that no node takes; by what will be done to them."""
    hands = ("reset", "delete", "abort", "move")
    made = enqueue(server.environment(), *(NewTask(name=name, queue="nowhere", script="print(1)\n") for name in hands))
    return dict(zip(hands, made, strict=True))


@pytest.mark.parametrize(
    ("how", "status"), [("reset", "created"), ("delete", None), ("abort", "stopped"), ("move", "completed")]
)
def test_a_pending_task(
    how: str,
    status: str | None,
    pending: dict[str, str],
    helm: Helm,
    kubectl: Kubectl,
    server: DevServer,
    audit: Audit,
) -> None:
    task = pending[how]
    until("it has a pod", lambda: kubectl.pods_of(task), limit=LIMIT)
    first = kubectl.job_of(task)
    hands = {**{name: hand for name, (hand, _) in RUNNING.items()}, "abort": call("tasks.stop")}
    {**hands, "move": call("tasks.enqueue", queue_name="quick")}[how](server, task)
    if how == "move":
        ended_well(server, task)
        kubectl.gone(task)
        assert len(set(audit.made(task))) == 2
    else:
        kubectl.gone(task)
        assert [first and first["metadata"]["uid"]] == audit.made(task)
    assert set(audit.deleted_by(task)) == {account(helm)}
    found = server.call("tasks.get_all", id=[task], only_fields=["status"])["tasks"]
    assert [one["status"] for one in found] == ([status] if status else [])
    for queue in ("nowhere", "quick", "k8s_scheduler"):
        assert task not in server.entries(server.queue_id(queue))


# ---- while it waits in its queue ------------------------------------------------------------------------------------


def test_tasks_that_wait_in_their_queue(helm: Helm, kubectl: Kubectl, server: DevServer, audit: Audit) -> None:
    """Another task has the only place: what is done to those behind it is done, and no Job comes of it."""
    hands = {**{name: hand for name, (hand, _) in RUNNING.items()}, "abort": call("tasks.stop")}
    names = ["holder", *hands, "move", "stays"]
    scripts = {"holder": MARKS_ITSELF}
    new = (NewTask(name=name, queue="full", script=scripts.get(name, "print('ran', 1)\n")) for name in names)
    tasks = dict(zip(names, enqueue(server.environment(), *new), strict=True))
    holder = begun(kubectl, tasks["holder"])
    queue = server.queue_id("full")
    assert server.entries(queue) == [tasks[name] for name in names[1:]]
    for name, hand in hands.items():
        hand(server, tasks[name])
    server.call("tasks.enqueue", task=tasks["move"], queue_name="quick")
    ended_well(server, tasks["move"])
    assert server.entries(queue) == [tasks["stays"]]
    kubectl.let_go(holder)
    for name in ("holder", "stays"):
        ended_well(server, tasks[name])
    assert {name: len(audit.made(task)) for name, task in tasks.items()} == {
        **dict.fromkeys(names, 1),
        **dict.fromkeys(hands, 0),
    }
    states = server.call("tasks.get_all", id=[tasks[name] for name in hands], only_fields=["status"])["tasks"]
    assert {one["id"]: one["status"] for one in states} == {
        tasks[name]: {"reset": "created", "abort": "stopped"}[name] for name in hands if name != "delete"
    }

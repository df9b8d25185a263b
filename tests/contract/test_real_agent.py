"""The real clearml-agent against the server: ``execute`` as task pods run it, and a plain ``daemon``."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from .client import Client
from .conftest import Maker
from .programs import LIMIT_SECONDS, agent

_EXECUTE = ("execute", "--full-monitoring", "--require-queue", "--id")
_ENDLESS = "import time\nprint('still running')\nwhile True:\n    time.sleep(1)\n"
Server = tuple[str, str, str]


def _until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + LIMIT_SECONDS
    while not condition():
        assert time.monotonic() < end, f"not within {LIMIT_SECONDS} s: {what}"
        time.sleep(0.2)


def _task(make: Maker, queue: str, source: str) -> str:
    script = {"binary": "python3", "entry_point": "job.py", "working_dir": ".", "diff": source, "requirements": {}}
    return make.task(queue=queue, script=script)


def _console(api: Client, task: str) -> str:
    events = api.ok("events.get_task_log", task=task, navigate_earlier=False, batch_size=5000)["events"]
    return "\n".join(event.get("msg", "") for event in events)


def _execute(task: str, tmp_path: Path, server: Server) -> int:
    with agent(*_EXECUTE, task, home=tmp_path, server=server) as process:
        return process.wait(LIMIT_SECONDS)


def test_a_task_completes(api: Client, make: Maker, server: Server, tmp_path: Path) -> None:
    queue = make.queue()
    task = _task(make, queue, "print('the task spoke')\n")
    assert _execute(task, tmp_path, server) == 0
    found = api.task(task)
    assert (found["status"], found["status_reason"]) == ("completed", "worker execution done")
    assert found["last_worker"]
    assert found["started"] <= found["completed"]
    assert api.entries(queue) == []
    _until(lambda: "the task spoke" in _console(api, task), "the task's line on its console")


def test_a_task_fails(api: Client, make: Maker, server: Server, tmp_path: Path) -> None:
    task = _task(make, make.queue(), "raise ValueError('broken on purpose')\n")
    assert _execute(task, tmp_path, server) == 1
    found = api.task(task)
    assert (found["status"], found["status_reason"]) == ("failed", "worker execution exit code 1")
    _until(lambda: "ValueError: broken on purpose" in _console(api, task), "the traceback on the task's console")


def test_a_running_task_is_aborted_and_runs_again_after_the_next_enqueue(
    api: Client, make: Maker, server: Server, tmp_path: Path
) -> None:
    queue = make.queue()
    task = _task(make, queue, _ENDLESS)
    with agent(*_EXECUTE, task, home=tmp_path, server=server) as process:
        _until(lambda: "still running" in _console(api, task).splitlines(), "the task's line on its console")
        api.ok("tasks.stop", task=task)
        assert process.wait(LIMIT_SECONDS) == 0
    found = api.task(task)
    assert (found["status"], found["status_reason"]) == ("stopped", "task was stopped by tasks.stop")
    # not queued: the agent refuses
    assert _execute(task, tmp_path, server) == 1
    assert api.status(task) == "stopped"
    api.ok("tasks.edit", task=task, force=True, script={"diff": "print('second run')\n"})
    api.ok("tasks.enqueue", task=task, queue=queue)
    assert _execute(task, tmp_path, server) == 0
    assert api.status(task) == "completed"


def test_the_agents_own_end_is_reported_as_an_abort(api: Client, make: Maker, server: Server, tmp_path: Path) -> None:
    task = _task(make, make.queue(), _ENDLESS)
    with agent(*_EXECUTE, task, home=tmp_path, server=server) as process:
        _until(lambda: "still running" in _console(api, task).splitlines(), "the task's line on its console")
        process.terminate()
        process.wait(LIMIT_SECONDS)
    found = api.task(task)
    assert (found["status"], found["status_reason"]) == ("stopped", "user abort")


def test_a_parked_task_is_run_and_its_parking_entry_stays(
    api: Client, make: Maker, server: Server, tmp_path: Path
) -> None:
    """As a controller leaves it: taken out of its queue, in the pending queue, ``execution.queue`` unchanged."""
    queue, parking = make.queue(), make.queue(system_tags=["k8s-glue"])
    task = _task(make, queue, "print('parked')\n")
    assert api.ok("queues.remove_task", queue=queue, task=task) == {"removed": 1}
    api.ok("queues.add_task", queue=parking, task=task, update_execution_queue=False)
    assert _execute(task, tmp_path, server) == 0
    assert api.status(task) == "completed"
    assert api.entries(parking) == [task]


def test_a_daemon_takes_tasks_by_plain_pops(api: Client, make: Maker, server: Server, tmp_path: Path) -> None:
    name = make.name("queue")
    queue = make.queue(name=name)
    tasks = [_task(make, queue, f"print('number {number}')\n") for number in range(2)]
    with agent("daemon", "--queue", name, "--foreground", home=tmp_path, server=server):
        _until(lambda: all(api.status(task) == "completed" for task in tasks), "both tasks completed")
    assert api.entries(queue) == []

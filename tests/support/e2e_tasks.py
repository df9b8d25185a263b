"""Tasks made by the real `clearml` SDK, in a process of its own as a user's program is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

FOREIGN = ("CLEARML", "TRAINS")
LIMIT_SECONDS = 120.0


@dataclass(frozen=True, kw_only=True)
class NewTask:
    """What is handed to `Task.create`, and the queue it is enqueued to."""

    name: str
    queue: str
    script: str
    packages: Sequence[str] = ()
    docker: str | None = None
    docker_args: str | None = None
    setup_script: str | None = None
    parameters: Mapping[str, object] = field(default_factory=dict)
    system_tags: Sequence[str] = ()
    properties: Mapping[str, str] = field(default_factory=dict)
    """User properties."""


WAITS_FOR_FILE = """\
import pathlib, time
print("it runs", flush=True)
while not pathlib.Path("/tmp/go").exists():
    time.sleep(0.2)
print("it went on to its end", flush=True)
"""
"""A script that runs until `let_go` is called with its pod."""

_PROGRAM = """
import json, sys
from clearml import Task
ids = []
for item in json.loads(sys.stdin.read()):
    task = Task.create(
        project_name="end to end",
        task_name=item["name"],
        script=item["file"],
        docker=item["docker"],
        docker_args=item["docker_args"],
        docker_bash_setup_script=item["setup_script"],
        add_task_init_call=False,
    )
    # Not `packages=`: Task.create adds clearml to it, which scripts without the SDK need not install.
    task.set_packages(list(item["packages"]))
    if item["parameters"]:
        task.set_parameters(item["parameters"])
    if item["system_tags"]:
        task.set_system_tags(item["system_tags"])
    if item["properties"]:
        task.set_user_properties(**item["properties"])
    Task.enqueue(task, queue_name=item["queue"])
    ids.append(task.id)
print("RESULT", json.dumps(ids))
"""


class SdkFailed(Exception):
    """The program with the SDK did not end well; the text ends with its output."""


def environment(server: Mapping[str, str], home: Path) -> dict[str, str]:
    """The machine's environment without its own ClearML settings, with the server's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    return {**kept, "HOME": str(home), "PYTHONUNBUFFERED": "1", **server}


def enqueue(server: Mapping[str, str], *tasks: NewTask) -> list[str]:
    """Create and enqueue; the ids, in order. ``server``: what `DevServer.environment` gives."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        program = home / "create_tasks.py"
        program.write_text(_PROGRAM)
        items = []
        for number, task in enumerate(tasks):
            place = home / str(number)  # each alone: the SDK reads the imports of what lies beside a script
            place.mkdir()
            (place / "script.py").write_text(task.script)
            items.append({**asdict(task), "file": str(place / "script.py")})
        try:
            done = subprocess.run(
                [sys.executable, str(program)],
                input=json.dumps(items),
                cwd=home,
                env=environment(server, home),
                capture_output=True,
                text=True,
                timeout=LIMIT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise SdkFailed(f"the ClearML SDK did not create the task within {LIMIT_SECONDS:.0f} s") from None
    line = next((line for line in done.stdout.splitlines() if line.startswith("RESULT ")), None)
    if done.returncode != 0 or line is None:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-20:])
        raise SdkFailed(f"the ClearML SDK could not create the task (exit code {done.returncode}):\n{tail}")
    ids: list[str] = json.loads(line.removeprefix("RESULT "))
    return ids

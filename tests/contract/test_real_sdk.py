"""The real ClearML SDK against the server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .client import Client
from .conftest import Maker
from .programs import run_python


def _run(source: str, tmp_path: Path, server: tuple[str, str, str]) -> dict[str, Any]:
    """The JSON object that the program prints in a line that begins with RESULT."""
    output = run_python(source, home=tmp_path, server=server)
    line = next(line for line in output.splitlines() if line.startswith("RESULT "))
    found = json.loads(line.removeprefix("RESULT "))
    assert isinstance(found, dict)
    return found


@pytest.fixture
def project(api: Client, make: Maker) -> Any:
    name = f"{make.prefix}/sdk"
    yield name
    for found in api.ok("projects.get_all", name=f"^{make.prefix}", search_hidden=True)["projects"]:
        api.post("projects.delete", project=found["id"], force=True, delete_contents=True)


def test_a_task_is_created_and_enqueued(
    api: Client, make: Maker, project: str, server: tuple[str, str, str], tmp_path: Path
) -> None:
    name = make.name("queue")
    queue = make.queue(name=name)
    (tmp_path / "job.py").write_text("print('job')\n")
    found = _run(
        f"""
import json
from clearml import Task
task = Task.create(project_name={project!r}, task_name="created by the SDK", script="job.py", add_task_init_call=False)
task.set_parameters({{"General/rate": 0.5}})
task.set_user_properties(origin="contract")
Task.enqueue(task, queue_name={name!r})
print("RESULT", json.dumps({{"id": task.id, "status": str(task.get_status())}}))
""",
        tmp_path,
        server,
    )
    assert found["status"] == "queued"
    assert api.entries(queue) == [found["id"]]
    task = api.task(found["id"])
    assert task["execution"]["queue"] == queue
    assert task["hyperparams"]["General"]["rate"]["value"] == "0.5"
    assert task["hyperparams"]["properties"]["origin"]["value"] == "contract"
    api.ok("tasks.delete", task=found["id"], force=True)


def test_a_script_runs_to_its_end(
    api: Client, make: Maker, project: str, server: tuple[str, str, str], tmp_path: Path
) -> None:
    found = _run(
        f"""
import json
from clearml import Task
task = Task.init(
    project_name={project!r}, task_name="run by the SDK", auto_connect_frameworks=False, auto_resource_monitoring=False
)
task.connect({{"rate": 0.1, "epochs": 3}})
task.set_user_properties(origin="contract")
for epoch in range(3):
    task.get_logger().report_scalar("loss", "train", value=1.0 / (epoch + 1), iteration=epoch)
print("a line for the console")
task.upload_artifact("table", {{"a": 1}}, wait_on_upload=True)
task.flush(wait_for_uploads=True)
print("RESULT", json.dumps({{"id": task.id, "parameters": task.get_parameters()}}))
""",
        tmp_path,
        server,
    )
    assert found["parameters"]["General/epochs"] == "3"
    task = api.task(found["id"])
    assert task["status"] == "completed"
    assert task["hyperparams"]["properties"]["origin"]["value"] == "contract"
    assert task["last_iteration"] == 2
    scalars = [variant for variants in task["last_metrics"].values() for variant in variants.values()]
    assert [(item["metric"], item["variant"], round(item["value"], 3)) for item in scalars] == [
        ("loss", "train", 0.333)
    ]
    assert [artifact["key"] for artifact in task["execution"]["artifacts"]] == ["table"]
    console = _run(
        f"""
import json
from clearml import Task
task = Task.get_task(task_id={found["id"]!r})
print("RESULT", json.dumps({{"lines": task.get_reported_console_output(100), "table": task.artifacts["table"].get()}}))
""",
        tmp_path,
        server,
    )
    assert any("a line for the console" in line for line in console["lines"])
    assert console["table"] == {"a": 1}
    api.ok("tasks.delete", task=found["id"], force=True)

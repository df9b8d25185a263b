"""Every recipe of docs/customisation.md, rendered, and the Job of a task that uses it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from chart_job import asked_of, pod_of_task
from chart_render import CREDENTIALS, merged, render
from clearml_k8s.config.file import config_from_document

PAGE = Path(__file__).resolve().parents[2] / "docs/customisation.md"
Pod = dict[str, Any]


def recipes() -> dict[str, dict[str, Any]]:
    """By heading: the values."""
    text = PAGE.read_text(encoding="utf-8").partition("\n## Recipes\n")[2]
    parts = re.split(r"^### (.+)$", text, flags=re.MULTILINE)[1:]
    found = {}
    for heading, body in zip(parts[::2], parts[1::2], strict=True):
        (block,) = re.findall(r"^```yaml\n(.*?)^```$", body, flags=re.MULTILINE | re.DOTALL)
        found[heading] = yaml.safe_load(block)
    return found


def container(pod: Pod) -> dict[str, Any]:
    return dict(pod["containers"][0])


def volumes(pod: Pod) -> dict[str, Any]:
    """By path in the container: what is mounted there."""
    by_name = {volume["name"]: {k: v for k, v in volume.items() if k != "name"} for volume in pod.get("volumes", [])}
    mounts = container(pod).get("volumeMounts", [])
    shown = ("subPath", "readOnly")
    return {m["mountPath"]: {**by_name[m["name"]], **{key: m[key] for key in shown if key in m}} for m in mounts}


CLAIM = {"persistentVolumeClaim": {"claimName": "datasets"}, "readOnly": True}
SHM = {"/dev/shm": {"emptyDir": {"medium": "Memory", "sizeLimit": "32Gi"}}}

#: (recipe, queue, docker arguments, what the pod shows, how many arguments are left out)
USES: list[tuple[str, str, str, Callable[[Pod], Any], Any, int]] = [
    ("PyTorch with many workers", "default", "--shm-size 64g", volumes, SHM, 1),
    ("PyTorch with many workers", "default", "--shm-size 32g --ipc=host", volumes, SHM, 1),
    ("Datasets of a shared claim", "cpu", "-v datasets:/data:ro", volumes, {"/data": CLAIM}, 0),
    ("Datasets of a shared claim", "cpu", "-v /scratch:/scratch", volumes, {}, 1),
    (
        "Datasets of a shared claim",
        "gpu",
        "-v datasets:/data -v /scratch/a:/a",
        volumes,
        {"/data": CLAIM, "/a": {"hostPath": {"path": "/scratch"}, "subPath": "a"}},
        1,
    ),
    (
        "Without the internet",
        "default",
        "",
        lambda pod: "CLEARML_AGENT_NO_UPDATE=1" in container(pod)["command"][5],
        True,
        0,
    ),
    (
        "A label and a folder of each project",
        "default",
        "",
        lambda pod: [mount.get("subPath") for mount in container(pod)["volumeMounts"]],
        ["project-of-the-task"],
        0,
    ),
    (
        "Tasks that say what they need",
        "research",
        "--gpus 4 -m 64g",
        lambda pod: container(pod)["resources"],
        {"limits": {"nvidia.com/gpu": 4, "memory": "64Gi"}, "requests": {"memory": "64Gi"}},
        0,
    ),
    (
        "A claim for each project",
        "default",
        "-v /tmp/a",
        volumes,
        {
            "/project": {"persistentVolumeClaim": {"claimName": "project-project-of-the-task"}},
            "/tmp/a": {"emptyDir": {}},
        },
        0,
    ),
    (
        "A debugger in the container",
        "debug",
        "--cap-add SYS_PTRACE",
        lambda pod: container(pod)["securityContext"]["capabilities"]["add"],
        ["SYS_PTRACE"],
        0,
    ),
    ("A debugger in the container", "default", "--cap-add SYS_PTRACE", lambda pod: "SYS_PTRACE" in str(pod), False, 1),
    (
        "Files that belong to the user",
        "default",
        "-u 1042:100 -v home:/home/me",
        lambda pod: {key: container(pod)["securityContext"].get(key) for key in ("runAsUser", "runAsGroup")},
        {"runAsUser": 1042, "runAsGroup": 100},
        0,
    ),
]


@pytest.mark.parametrize(("recipe", "queue", "arguments", "look", "expected", "left_out"), USES)
def test_a_recipe_does_what_it_says(
    tmp_path: Path, recipe: str, queue: str, arguments: str, look: Callable[[Pod], Any], expected: Any, left_out: int
) -> None:
    values = recipes()[recipe]
    for file in values["agentk8sglue"].get("fileMounts", []):
        (tmp_path / file["name"]).write_text(file["fileContent"], encoding="utf-8")
    rendered = render("helm4", merged(CREDENTIALS, values))
    built = asked_of(rendered, queue=queue, arguments=arguments, folder=str(tmp_path))
    assert look(pod_of_task(built)) == expected
    assert len(built.ignored) == left_out


SESSIONS = "Interactive sessions from outside"


def test_the_recipe_for_sessions() -> None:
    found = config_from_document(render("helm4", merged(CREDENTIALS, recipes()[SESSIONS])).config, source="rendered")
    assert found.sessions is not None
    assert (found.sessions.node_ports, found.sessions.external_address) == (range(30501, 30511), "gpu.example.com")


def test_every_recipe_is_used() -> None:
    assert {use[0] for use in USES} | {SESSIONS} == set(recipes())

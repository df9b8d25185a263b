"""Every recipe of docs/customisation.md, rendered, and the Job of a task that uses it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from chart_job import asked_of, mounted_files, pod_of_task
from chart_render import CREDENTIALS, merged, render
from clearml_k8s.clock import SystemClock
from clearml_k8s.config import pod_commands
from clearml_k8s.config.file import config_from_document
from clearml_k8s.hooks.shell import Ended, Shell
from clearml_k8s.spec.job import SAMPLE_TASK_ID
from recipes import recipes

Pod = dict[str, Any]


def container(pod: Pod) -> dict[str, Any]:
    return dict(pod["containers"][0])


def volumes(pod: Pod) -> dict[str, Any]:
    """By path in the container: what is mounted there."""
    by_name = {volume["name"]: {k: v for k, v in volume.items() if k != "name"} for volume in pod.get("volumes", [])}
    mounts = container(pod).get("volumeMounts", [])
    shown = ("subPath", "readOnly")
    return {m["mountPath"]: {**by_name[m["name"]], **{key: m[key] for key in shown if key in m}} for m in mounts}


def variables(pod: Pod) -> dict[str, Any]:
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container(pod)["env"]}


CERTIFICATES = "/etc/clearml-k8s-certificates"
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
        lambda pod: ([one["name"] for one in pod["initContainers"]], variables(pod)["PIP_CERT"], sorted(volumes(pod))),
        (
            ["clearml-k8s-prepare"],
            f"{CERTIFICATES}/ca-certificates.crt",
            ["/clearml-k8s", "/clearml-k8s-work", CERTIFICATES],
        ),
        0,
    ),
    (
        "An index with a password, repositories with a token",
        "default",
        "",
        lambda pod: ("PASSWORD" in str(pod), sorted(volumes(pod)), variables(pod)["CLEARML_AGENT_GIT_PASS"]),
        (False, ["/etc/pip.conf"], {"secretKeyRef": {"name": "git", "key": "password"}}),
        0,
    ),
    (
        "Behind a proxy",
        "default",
        "",
        lambda pod: {name: variables(pod)[name] for name in ("https_proxy", "HTTPS_PROXY")},
        dict.fromkeys(("https_proxy", "HTTPS_PROXY"), "http://proxy.example.com:3128"),
        0,
    ),
    ("Caches that pods share", "default", "", volumes, {}, 0),
    (
        "Caches that pods share",
        "training",
        "",
        lambda pod: (volumes(pod), variables(pod)["CLEARML_AGENT_VENV_CACHE_PATH"]),
        (
            {
                "/caches": {"persistentVolumeClaim": {"claimName": "caches"}},
                "/caches/pip/wheels": {"emptyDir": {}},
            },
            "/caches/venvs",
        ),
        0,
    ),
    (
        "Images that have everything",
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
        "Shares of GPUs",
        "quarter",
        "",
        lambda pod: (container(pod)["resources"], variables(pod)["CLEARML_AGENT_GPU_FRACTIONS"]),
        ({"limits": {"nvidia.com/mig-2g.10gb": 1}}, "0.25"),
        0,
    ),
    (
        "Shares of GPUs",
        "half",
        "",
        lambda pod: (container(pod)["resources"], variables(pod)["CLEARML_AGENT_GPU_FRACTIONS"]),
        ({"limits": {"nvidia.com/gpu": 1}}, "0.5"),
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
    (
        "A claim for each task, by commands",
        "scratch",
        "",
        volumes,
        {"/scratch": {"persistentVolumeClaim": {"claimName": f"clearml-id-{SAMPLE_TASK_ID}"}}},
        0,
    ),
    ("A claim for each task, by commands", "default", "", volumes, {}, 0),
    ("A debugger in the container", "default", "--cap-add SYS_PTRACE", lambda pod: "SYS_PTRACE" in str(pod), False, 1),
    (
        "Files that belong to the user",
        "default",
        "-u 1042:100 -v home:/home/me",
        lambda pod: {key: container(pod)["securityContext"].get(key) for key in ("runAsUser", "runAsGroup")},
        {"runAsUser": 1042, "runAsGroup": 100},
        0,
    ),
    (
        "Training on four nodes",
        "four-nodes",
        "",
        lambda pod: (variables(pod)["WORLD_SIZE"], container(pod)["resources"], "podAntiAffinity" in pod["affinity"]),
        ("32", {"limits": {"nvidia.com/gpu": 8}}, True),
        0,
    ),
]


@pytest.mark.parametrize(("recipe", "queue", "arguments", "look", "expected", "left_out"), USES)
def test_a_recipe_does_what_it_says(
    recipe: str, queue: str, arguments: str, look: Callable[[Pod], Any], expected: Any, left_out: int
) -> None:
    values = recipes()[recipe]
    rendered = render("helm4", merged(CREDENTIALS, values))
    built = asked_of(rendered, queue=queue, arguments=arguments)
    assert look(pod_of_task(built)) == expected
    assert len(built.ignored) == left_out


def test_the_proxy_is_the_controllers_too() -> None:
    rendered = render("helm4", merged(CREDENTIALS, recipes()["Behind a proxy"]))
    assert {"name": "HTTPS_PROXY", "value": "http://proxy.example.com:3128"} in rendered.container["env"]


def test_the_caches_settings_are_the_agents(tmp_path: Path) -> None:
    """Read by the agent's own configuration; a name that it does not know would change nothing."""
    job = asked_of(
        render("helm4", merged(CREDENTIALS, recipes()["Caches that pods share"])), queue="training", arguments=""
    )
    env = {key: value for key, value in variables(pod_of_task(job)).items() if key.startswith("CLEARML_AGENT__")}
    code = (
        "from clearml_agent.session import Session; from clearml_agent.definitions import ENV_VENV_CACHE_PATH as e\n"
        "from clearml_agent.backend_config import Config; c = Config(verbose=False)\n"
        "c.initialize_logging; c.reload()\n"
        "print(c['agent.vcs_cache.path'], int(c['agent.venvs_cache.max_entries']), "
        "repr(c.get('agent.vcs_cache.clone_on_pull_fail', False)), e.vars)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.split()[:3] == ["/caches/vcs", "40", "True"], done.stderr
    assert "CLEARML_AGENT_VENV_CACHE_PATH" in done.stdout


SESSIONS = "Interactive sessions from outside"


def test_the_recipe_for_sessions() -> None:
    found = config_from_document(render("helm4", merged(CREDENTIALS, recipes()[SESSIONS])).config, source="rendered")
    assert found.sessions is not None
    assert (found.sessions.node_ports, found.sessions.external_address) == (range(30501, 30511), "gpu.example.com")


KUBECTL = """#!/bin/sh
echo "$@" >>"$0.calls"
[ "$1" != apply ] || cat >>"$0.calls"
"""
"""Writes down its arguments, and what it is to apply."""


@pytest.mark.parametrize(("queue", "applies"), [("scratch", True), ("default", False), ("scratch; touch pwned", False)])
async def test_the_recipe_for_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, queue: str, applies: bool
) -> None:
    """Rendered, read by the controller, and run by its shell with a kubectl that writes down what it is told."""
    rendered = render("helm4", merged(CREDENTIALS, recipes()["A claim for each task, by commands"]))
    (tools,) = [volume for volume in rendered.spec["volumes"] if volume["name"] == "tools"]
    assert tools == {"name": "tools", "emptyDir": {}}
    assert {"name": "tools", "mountPath": "/usr/bin/kubectl", "subPath": "kubectl", "readOnly": True} in (
        rendered.container["volumeMounts"]
    )
    assert rendered.one("Role", "claims-of-tasks")["rules"][0]["resources"] == ["persistentvolumeclaims"]
    bound = [one["roleRef"]["name"] for one in rendered.objects if one["kind"] == "RoleBinding"]
    assert "claims-of-tasks" in bound
    commands = config_from_document(rendered.config, source="rendered").pod_commands
    for path, content in mounted_files(rendered, rendered.spec).items():
        (tmp_path / Path(path).name).write_text(content, encoding="utf-8")
    (tmp_path / "kubectl").write_text(KUBECTL, encoding="utf-8")
    (tmp_path / "kubectl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.chdir(tmp_path)
    shell, calls = Shell(seconds=30.0, clock=SystemClock()), tmp_path / "kubectl.calls"

    async def run(command: str) -> Ended:
        filled = pod_commands.filled(
            command.replace("/mnt/yaml-manifests", str(tmp_path)), pod_name="clearml-id-1", namespace="ns"
        )
        return await shell(filled, variables=pod_commands.variables(queue_name=queue))

    assert await run(commands.pre_apply) == Ended(code=0)
    assert calls.exists() is applies
    assert not (tmp_path / "pwned").exists()
    if applies:
        arguments, _, manifest = calls.read_text().partition("\n")
        assert arguments == "apply -n ns -f -"
        assert yaml.safe_load(manifest)["metadata"]["name"] == "clearml-id-1"
        calls.unlink()
    assert (await run(commands.post_delete)).code == 0
    assert calls.read_text() == "delete pvc clearml-id-1 -n ns --ignore-not-found --wait=false\n"
    (tmp_path / "kubectl").write_text("#!/bin/sh\nexit 3\n", encoding="utf-8")
    assert (await run(commands.pre_apply)).code == (3 if applies else 0), "a failure of kubectl is the command's"


def test_every_recipe_is_used() -> None:
    assert {use[0] for use in USES} | {SESSIONS} == set(recipes())

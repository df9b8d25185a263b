"""Tasks with anything in them, and templates beside them: what a Job is made of."""

from __future__ import annotations

from typing import Any

from clearml_k8s.clearml.tasks import Container, TaskView
from clearml_k8s.config import ClearMLConfig, Config, QueueConfig, ResolvedQueue, TaskCredentials
from hostile import texts
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

TASK_ID = "5e6f0a1b2c3d4e5f60718293a4b5c6d7"
ATTEMPT = "2026-01-15T06:22:11.065000+00:00"

_NAMES = st.sampled_from(
    ["A", "..", ".", "..x", ".a", "1A", "A-B.C", "CLEARML_API_SECRET_KEY", "CLEARML_K8S_TASK_ID", "CLEARML_AUTH_TOKEN",
     "CLEARML_K8S_SETUP_SCRIPT", "PATH", "é", "A B", ""]
)  # fmt: skip
_WORDS = st.sampled_from(
    ["-e", "--env", "--env=", "-it", "--gpus all", "-v /a:/b", "--privileged", "'", '"', "\\", "-"]
)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\"'\"'") + "'"


_SETTINGS = st.builds(lambda name, value: f"-e {name}={_quoted(value)}", _NAMES, texts())
_GOOD_IMAGES = st.sampled_from(
    ["", "python:3.11", "a.b:5000/c/d:e", "a@sha256:" + "0" * 64, "python -e A=B", "[::1]:5/a"]
)


def arguments() -> SearchStrategy[str]:
    """A docker command line, well quoted or not."""
    return st.lists(_SETTINGS | _WORDS | texts(), max_size=5).map(" ".join)


def tasks() -> SearchStrategy[TaskView]:
    """Those that a Job can be made of more often than not, and any others."""
    return _tasks(
        ids=st.just(TASK_ID), images=_GOOD_IMAGES, arguments=st.lists(_SETTINGS, max_size=5).map(" ".join)
    ) | _tasks(ids=st.just(TASK_ID) | texts(), images=_GOOD_IMAGES | texts(), arguments=arguments())


def _tasks(
    *, ids: SearchStrategy[str], images: SearchStrategy[str], arguments: SearchStrategy[str]
) -> SearchStrategy[TaskView]:
    scripts = texts() | st.just("x" * 200_000)
    container = st.builds(Container, image=images, arguments=arguments, setup_shell_script=scripts)
    return st.builds(
        TaskView,
        id=ids,
        name=texts(max_size=400),
        status=st.just("queued"),
        status_changed=st.just(ATTEMPT) | texts(),
        parent=st.none() | texts(),
        container=container,
        script_repository=texts(),
    )


TEMPLATES: tuple[dict[str, Any], ...] = (
    {},
    {"labels": {"team": "a"}, "annotations": {"note": "$(A)"}, "env": [{"name": "A", "value": "$(B)"}]},
    {"env": [{"name": "CLEARML_API_SECRET_KEY", "value": "mine"}, {"name": "CLEARML_WORKER_ID", "value": "mine"}]},
    {
        "resources": {"limits": {"cpu": "1"}},
        "nodeSelector": {"a": "b"},
        "volumes": [{"name": "v", "emptyDir": {}}],
        "volumeMounts": [{"name": "v", "mountPath": "/v"}],
        "initContainers": [{"name": "init", "image": "busybox:1", "command": ["true"]}],
    },
)


def queues() -> SearchStrategy[ResolvedQueue]:
    """Their names are the server's, their templates an administrator's."""
    configured = st.builds(QueueConfig, name=st.just("default"), template_overrides=st.sampled_from(TEMPLATES))
    return st.builds(ResolvedQueue, config=configured, id=texts(), name=texts())


def config(*, namespace: str = "clearml") -> Config:
    return Config(
        release_name="gpu",
        fullname="gpu-clearml-agent",
        namespace=namespace,
        clearml=ClearMLConfig(
            api_server="https://api.example.com", task_credentials=TaskCredentials(secret_name="gpu-clearml-agent-ac")
        ),
        queues={"default": QueueConfig(name="default")},
    )

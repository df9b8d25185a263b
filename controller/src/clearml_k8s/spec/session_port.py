"""Which tasks are sessions of clearml-session, and where the SSH server in their container listens."""

from __future__ import annotations

from typing import Final

from clearml_k8s import names
from clearml_k8s.clearml.tasks import TaskView

DEFAULT_PORT: Final = 10022
"""The first one that clearml-session tries; in a pod of its own it is free."""


def port_of(task: TaskView) -> int | None:
    """The port of the container; None for a task that is no session."""
    asked = task.runtime.get(names.RUNTIME_SESSION_PORT)
    if names.SESSION_TAG not in task.system_tags and asked is None:
        return None
    text = str(asked)
    number = int(text) if text.isascii() and text.isdecimal() and len(text) <= 5 else 0
    return number if 1 <= number <= 65535 else DEFAULT_PORT


def annotation(task: TaskView, *, on: bool) -> dict[str, str]:
    """What the Job carries of it, where sessions are to be reached (``on``)."""
    port = port_of(task) if on else None
    return {} if port is None else {names.ANNOTATION_SESSION_PORT: str(port)}

"""Worker ids: the controller's, those of task pods, made by a template, and what the dashboard reads in them.

The Orchestration Dashboard sorts workers by their ids, ``<category>:<resource group>:<workload>``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from clearml_k8s import names
from clearml_k8s.errors import ConfigError

CATEGORY: Final = "k8s"
GROUP: Final = "group"
"""Those of ClearML's own chart, where an id names none."""

_VARIABLE = re.compile(r"\{([^{}]*)\}")
_PART = re.compile(r"worker_id_parts\[([0-9]{1,3})\]")
_NOT_PLAIN = re.compile(r"[\s:{}\x00-\x1f\x7f]+")
_LONGEST_VALUE: Final = 80


class WorkerIdError(ConfigError):
    """The template cannot be filled in for this controller."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskFacts:
    """What a template may name of a task; ``pod_name`` is the name of its Job."""

    task_id: str
    pod_name: str
    task_name: str = ""
    project: str = ""
    queue: str = ""


def controller_worker_id(*, chosen: str | None, release: str, namespace_uid: str, reports: bool) -> str:
    """The controller's id: the chosen one, else one of the release's name and the namespace's uid.

    With ``reports`` to the dashboard it is in the category `CATEGORY`. Servers hide both forms from their dashboard
    (``^clearml-agent[^:]*$``, ``^k8s:clearml-agent[^:]*$``): the controller itself uses none of the resources.
    """
    made = names.default_worker_id(release=release, namespace_uid=namespace_uid)
    return chosen or (f"{CATEGORY}:{made}" if reports else made)


def task_worker_id(template: str | None, *, worker_id: str, namespace: str, task: TaskFacts) -> str:
    """The worker id of one task's pod; without a template ``<worker id>:<task id>``. Raises WorkerIdError.

    The schema knows which variables there are. In names of tasks, projects and queues blanks, colons and braces become
    ``-``: a colon would be another group.
    """
    if not template:
        return names.task_worker_id(worker_id=worker_id, task_id=task.task_id)
    parts = worker_id.split(":")

    def value(match: re.Match[str]) -> str:
        variable = match[1]
        part = _PART.fullmatch(variable)
        if part is not None:
            if int(part[1]) >= len(parts):
                raise WorkerIdError(
                    f"{template!r}: there is no part {part[1]} of the controller's worker id {worker_id!r}, which has "
                    f"{len(parts)}, counted from 0: set agentk8sglue.workerIdOverride, or name another part"
                )
            return parts[int(part[1])]
        if variable == "worker_id":
            return worker_id
        if variable == "namespace":
            return namespace
        return _NOT_PLAIN.sub("-", getattr(task, variable))[:_LONGEST_VALUE]

    return _VARIABLE.sub(value, template)


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where the dashboard shows a worker."""

    category: str
    group: str

    @property
    def resource_group(self) -> str:
        """As reports name it."""
        return f"{self.category}:{self.group}"


def place_of(worker_id: str) -> Place:
    """Where a worker of this id is shown; what the id does not name is as in ClearML's own chart."""
    parts = worker_id.split(":")
    return Place(
        category=parts[0] if len(parts) > 1 and parts[0] else CATEGORY,
        group=parts[1] if len(parts) > 2 and parts[1] else GROUP,
    )

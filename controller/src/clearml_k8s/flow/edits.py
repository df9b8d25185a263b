"""Pod templates on their way through a template module."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import replace
from typing import Any, Final, Protocol

from clearml_k8s.clearml.tasks import TaskView
from clearml_k8s.config import Config, ResolvedQueue
from clearml_k8s.spec.container_rules import NO_RULES, ContainerRules
from clearml_k8s.spec.job import SAMPLE_TASK, pod_template


class Module(Protocol):
    """`hooks.template_module.TemplateModule`."""

    def __call__(
        self, *, template: Mapping[str, Any], task: Mapping[str, Any], queue: str, queue_name: str
    ) -> Awaitable[dict[str, Any]]: ...


class Edits:
    """What the module makes of a queue's template. Without a module there is nothing to do: None."""

    def __init__(self, *, config: Config, module: Module | None, worker_id: str) -> None:
        self._config = config
        self._module = module
        self._worker_id = worker_id

    def __bool__(self) -> bool:
        return self._module is not None

    async def of_task(
        self, task: TaskView, queue: ResolvedQueue, *, rules: ContainerRules = NO_RULES, config: Config | None = None
    ) -> Mapping[str, Any] | None:
        """Of a task whose `document` was read. ``config``: another one than ours, as of a `Variant`.

        Raises SpecError: that task's template cannot be made; HookUnavailable: none can.
        """
        if self._module is None:
            return None
        template = pod_template(
            config=config or self._config, queue=queue, task=task, worker_id=self._worker_id, rules=rules
        )
        return await self._module(template=template, task=task.document or {}, queue=queue.id, queue_name=queue.name)

    async def of_sample(self, queue: ResolvedQueue, *, config: Config | None = None) -> Mapping[str, Any] | None:
        """Of a task that there is not, to try the template. Raises SpecError: the module may want a real one."""
        sample = replace(SAMPLE_TASK, document={**SAMPLE, "execution": {"queue": queue.id}})
        return await self.of_task(sample, queue, config=config)


SAMPLE: Final[Mapping[str, Any]] = {
    "id": SAMPLE_TASK.id,
    "name": SAMPLE_TASK.name,
    "type": "training",
    "status": "queued",
    "status_changed": SAMPLE_TASK.status_changed,
    "user": "sample",
    "company": "sample",
    "project": SAMPLE_TASK.project,
    "tags": [],
    "system_tags": [],
    "hyperparams": {},
    "configuration": {},
    "container": {},
    "script": {},
}

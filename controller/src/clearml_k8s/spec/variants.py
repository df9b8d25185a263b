"""Every pod template that a queue's tasks may get: its own, and with each conditional template laid over it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from clearml_k8s.clearml.tasks import TaskView
from clearml_k8s.config import Config, QueueConfig
from clearml_k8s.config.conditions import ConditionalTemplate, holds
from clearml_k8s.spec.merge import merge_templates


@dataclass(frozen=True, kw_only=True)
class Variant:
    """Config and queue without conditions, of one template alone. ``condition``: where that stands; "": the queue's
    own template; ``where``: what to look at when it is refused."""

    config: Config
    queue: QueueConfig
    condition: str = ""

    @property
    def where(self) -> str:
        queue = f"agentk8sglue.queues.{self.queue.name}.templateOverrides or agentk8sglue.basePodTemplate"
        return self.condition or queue


def conditions(config: Config, queue: QueueConfig) -> tuple[ConditionalTemplate, ...]:
    """In the order in which they are looked at: the queue's own, then those of all queues."""
    return (*queue.conditional_templates, *config.conditional_templates)


def chosen(*, config: Config, queue: QueueConfig, task: TaskView) -> ConditionalTemplate | None:
    """The first one whose condition holds; None also for a task that was not read as a whole."""
    document = task.document
    if document is None:
        return None
    return next((found for found in conditions(config, queue) if holds(found.when, document)), None)


def variants(*, config: Config, queue: QueueConfig) -> Iterator[Variant]:
    """The queue's own template first. As one condition counts at most, there are no others."""
    without = replace(config, conditional_templates=())
    yield Variant(config=without, queue=replace(queue, conditional_templates=()))
    for found in conditions(config, queue):
        template = merge_templates(base=queue.template_overrides, override=found.template)
        laid_over = replace(queue, template_overrides=template, conditional_templates=())
        yield Variant(config=without, queue=laid_over, condition=found.place)

"""String templates of a pod template (`config.strings`), filled in for one task."""

from __future__ import annotations

from dataclasses import replace

from clearml_k8s import errors, names
from clearml_k8s.clearml.tasks import TaskView
from clearml_k8s.config import Config, RawTemplate, ResolvedQueue, strings
from clearml_k8s.spec.container_rules import NO_RULES, ContainerRules
from clearml_k8s.spec.expansion import joined
from clearml_k8s.spec.template import PodParts
from clearml_k8s.spec.variants import conditions


def names_project(*, config: Config, queue: ResolvedQueue, rules: ContainerRules = NO_RULES) -> bool:
    """Whether Jobs of the queue hold the name of their task's project, which a task as read does not, or go by it."""
    worker_id = queue.config.settings.worker_id_template or config.task_worker_id or ""
    named = strings.uses(_templates(config, queue), "PROJECT_NAME")
    return rules.needs_project or named or "{project}" in worker_id


def names_task(*, config: Config, queue: ResolvedQueue, rules: ContainerRules = NO_RULES) -> bool:
    """Whether Jobs of the queue hold more of their task than is read of every task (`TaskView.document`), or go by
    it."""
    named = strings.uses(_templates(config, queue), strings.TASK)
    return rules.needs_task or named or bool(conditions(config, queue.config))


def _templates(config: Config, queue: ResolvedQueue) -> list[RawTemplate | None]:
    conditional = [found.template for found in conditions(config, queue.config)]
    return [config.base_pod_template, config.base_pod_spec, queue.config.template_overrides, *conditional]


def fill(parts: PodParts, *, queue: ResolvedQueue, task: TaskView, worker_id: str) -> PodParts:
    """The parts with their string templates filled in. What is filled in is never looked at again.

    Raises `errors.SpecError`, naming the template, for what is not there or does not fit its place.
    """
    values = {
        "QUEUE_NAME": encodable(queue.name),
        "QUEUE_ID": queue.id,
        "WORKER_ID": worker_id,
        "PROJECT_NAME": encodable(task.project_name or task.project or ""),
        "PROJECT_ID": task.project or "",
        strings.TASK: strings.SAMPLE if task.document is None else task.document,
    }
    try:
        labels = strings.filled(parts.labels, values)
        filled = replace(
            parts,
            labels=labels,
            annotations=strings.filled(parts.annotations, values),
            spec=strings.filled(parts.spec, values, join=joined),
            container=strings.filled(parts.container, values, join=joined),
            sidecars=strings.filled(parts.sidecars, values, join=joined),
        )
    except strings.Missing as error:
        raise errors.SpecError(f"the pod template of queue {queue.name}: {error}") from None
    # Kubernetes' own answer names neither the label nor the template.
    for key, value in labels.items():
        if value != parts.labels[key] and not names.is_label_value(value):
            raise errors.SpecError(
                f"the pod template of queue {queue.name}: label {key}, {parts.labels[key]}: found {value[:80]!r}; a "
                "label takes up to 63 letters, digits, '-', '_' and '.', as |label makes them"
            )
    return filled


def encodable(text: str) -> str:
    """`text` without what cannot be sent as UTF-8 (lone surrogates)."""
    return text.encode(errors="replace").decode()

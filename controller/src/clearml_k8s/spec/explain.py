"""Which layer has set each field of a Job: the Job is built with ever more of the layers, and compared."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from clearml_k8s import errors
from clearml_k8s.clearml.tasks import Container, TaskView
from clearml_k8s.config import Config, ResolvedQueue
from clearml_k8s.spec.container_rules import NO_RULES, ContainerRules
from clearml_k8s.spec.job import build_job


class Layer(enum.Enum):
    """In the order in which they are laid over each other."""

    CONTROLLER = "controller"
    """Also what the queue's settings say, and what the chart gives every task pod."""
    BASE = "basePodTemplate"
    QUEUE = "templateOverrides"
    CONDITION = "conditional"
    TASK = "task"


@dataclass(frozen=True, kw_only=True, slots=True)
class Field:
    """``path`` has `.` between its parts; of list items it has the name, the path that is mounted, or the number."""

    path: str
    value: Any
    layer: Layer


def explain(
    *,
    config: Config,
    queue: ResolvedQueue,
    task: TaskView,
    attempt: str,
    worker_id: str,
    controller_id: str,
    rules: ContainerRules = NO_RULES,
) -> list[Field]:
    """Every field of the Job that `build_job` makes. Raises `errors.SpecError` as that does."""
    bare_task = dataclasses.replace(task, container=Container(), script_repository="")
    plain_config = dataclasses.replace(config, conditional_templates=())
    bare_config = dataclasses.replace(plain_config, base_pod_template={}, base_pod_spec=None)
    plain_queue = dataclasses.replace(queue, config=dataclasses.replace(queue.config, conditional_templates=()))
    bare_queue = dataclasses.replace(plain_queue, config=dataclasses.replace(plain_queue.config, template_overrides={}))

    def leaves(with_config: Config, with_queue: ResolvedQueue, with_task: TaskView) -> dict[str, Any]:
        built = build_job(
            config=with_config,
            queue=with_queue,
            task=with_task,
            attempt=attempt,
            worker_id=worker_id,
            controller_id=controller_id,
            rules=rules,
        )
        return dict(_leaves(built.manifest))

    def below(with_config: Config, with_queue: ResolvedQueue) -> dict[str, Any]:
        try:
            return leaves(with_config, with_queue, bare_task)
        except errors.SpecError:
            # A string template that a layer above replaces may name what the task has not.
            return leaves(with_config, with_queue, dataclasses.replace(bare_task, document=None))

    built = {
        Layer.CONTROLLER: below(bare_config, bare_queue),
        Layer.BASE: below(plain_config, bare_queue),
        Layer.QUEUE: below(plain_config, plain_queue),
        Layer.CONDITION: leaves(config, queue, bare_task),
        Layer.TASK: leaves(config, queue, task),
    }
    return [
        Field(path=path, value=value, layer=_since(path, value, built)) for path, value in built[Layer.TASK].items()
    ]


def _since(path: str, value: Any, built: Mapping[Layer, Mapping[str, Any]]) -> Layer:
    """The first layer from which on the field is as it is in the end."""
    first = Layer.TASK
    for layer in reversed(Layer):
        if path not in built[layer] or built[layer][path] != value:
            break
        first = layer
    return first


def _leaves(thing: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Lists of objects are taken apart, other lists are one value."""
    if isinstance(thing, Mapping) and thing:
        for key, value in thing.items():
            # Keys of labels and annotations have dots of their own.
            yield from _leaves(value, f"{path}[{key}]" if "." in key else f"{path}.{key}" if path else key)
    elif isinstance(thing, list) and any(isinstance(item, Mapping) for item in thing):
        for number, item in enumerate(thing):
            known = item.get("mountPath") or item.get("name") if isinstance(item, Mapping) else None
            yield from _leaves(item, f"{path}[{number if known is None else known}]")
    else:
        yield path, thing

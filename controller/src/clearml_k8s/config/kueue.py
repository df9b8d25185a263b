"""Which LocalQueue of Kueue the Jobs of a queue go to; keys `kueue`, for all queues and in `queueSettings`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from clearml_k8s import names


@dataclass(frozen=True, kw_only=True)
class KueueConfig:
    """Of a queue whose Jobs Kueue admits."""

    queue_name: str
    """A LocalQueue in the namespace of the Jobs."""
    priority_class: str | None = None
    """A WorkloadPriorityClass; None: Kueue goes by the pod's priority."""


def read(general: Mapping[str, Any] | None, own: Mapping[str, Any] | None) -> KueueConfig | None:
    """Of a checked document: what stands for all queues and, over it, for one. None: Kueue has no part in it.

    An empty ``queueName`` of the queue's own takes it away from Kueue.
    """
    given = {**_set(general), **_set(own)}
    if not given.get("queueName"):
        return None
    return KueueConfig(queue_name=given["queueName"], priority_class=given.get("priorityClass") or None)


def problems(document: Mapping[str, Any]) -> Iterator[str]:
    """What the schema cannot say of it, with paths."""
    general = document.get("kueue")
    if _set(general).get("priorityClass") and not _named(document):
        yield "kueue.priorityClass: no queue has a LocalQueue; set kueue.queueName, too"
    for name, queue in document["queues"].items():
        own = ((queue or {}).get("queueSettings") or {}).get("kueue")
        if _set(own).get("priorityClass") and read(general, own) is None:
            yield f"queues.{name}.queueSettings.kueue.priorityClass: the queue has no LocalQueue; set queueName, too"
    for place, template in _templates(document):
        for label in names.KUEUE_LABELS & (template.get("labels") or {}).keys():
            yield (
                f"{place}.labels: found {label}; write kueue.queueName or kueue.priorityClass in its place: "
                "the label belongs on the Job alone, and tasks are told what Kueue says only then"
            )


def _set(given: Mapping[str, Any] | None) -> dict[str, Any]:
    return {key: value for key, value in (given or {}).items() if value is not None}


def _named(document: Mapping[str, Any]) -> bool:
    settings = [(queue or {}).get("queueSettings") or {} for queue in document["queues"].values()]
    return any(read(document.get("kueue"), one.get("kueue")) is not None for one in settings)


def _templates(document: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every pod template, by its path."""
    yield "basePodTemplate", document.get("basePodTemplate") or {}
    yield from _conditional(document, "")
    for name, queue in document["queues"].items():
        yield f"queues.{name}.templateOverrides", (queue or {}).get("templateOverrides") or {}
        yield from _conditional(queue or {}, f"queues.{name}.")


def _conditional(holder: Mapping[str, Any], place: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for index, entry in enumerate(holder.get("conditionalTemplates") or ()):
        yield f"{place}conditionalTemplates[{index}].template", entry.get("template") or {}

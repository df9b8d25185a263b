"""Pod templates that count for some tasks alone: those of which a condition holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clearml_k8s.config import strings


@dataclass(frozen=True, kw_only=True)
class ConditionalTemplate:
    """``when``: path in the task as `tasks.get_by_id` answers it -> the text that stands there; all have to hold.

    ``place``: where an administrator finds it, for messages.
    """

    when: Mapping[str, str]
    template: Mapping[str, Any]
    place: str


def problems(raw: Any, *, place: str) -> Iterator[str]:
    """What a schema cannot say of a list of them."""
    for number, entry in enumerate(raw or ()):
        yield from strings.problems(entry.get("template"), place=f"{place}[{number}].template")


def read(raw: Sequence[Mapping[str, Any]] | None, *, place: str) -> tuple[ConditionalTemplate, ...]:
    """A list of the config file, as it was checked."""
    return tuple(
        ConditionalTemplate(when=entry["when"], template=entry["template"] or {}, place=f"{place}[{number}]")
        for number, entry in enumerate(raw or ())
    )


def holds(when: Mapping[str, str], task: Mapping[str, Any]) -> bool:
    """Whether all of ``when`` is so in the task's document. What is not there is an empty text; of a list of texts one
    has to be as wanted."""
    return all(_fits(_at(task, path), wanted) for path, wanted in when.items())


def _at(task: Mapping[str, Any], path: str) -> Any:
    found: Any = task
    for part in path.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _fits(found: Any, wanted: str) -> bool:
    if isinstance(found, list):
        return any(strings.shown(one) == wanted for one in found if not isinstance(one, Mapping | list))
    if isinstance(found, Mapping):
        return False
    return ("" if found is None else strings.shown(found)) == wanted

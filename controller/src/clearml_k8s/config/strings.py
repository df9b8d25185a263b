"""String templates of ClearML's Enterprise chart: `${CLEARML_<variable>[.path][:default][|operation...]}`.

They may stand in any text of a pod template, and are filled in after it was read as YAML: what is filled in stays text.
Other names behind `${CLEARML_` are the shell's business and stay as they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from clearml_k8s import names

TASK: Final = "TASK"
SIMPLE: Final = ("QUEUE_NAME", "QUEUE_ID", "WORKER_ID", "PROJECT_NAME", "PROJECT_ID")
ELSEWHERE: Final = ("USER", "CONFIG", "USER_VAULTS", "PROVIDERS_INFO")
"""Variables of ClearML's own controller that nothing fills in here."""

_START = re.compile(rf"\$\{{CLEARML_({'|'.join((*SIMPLE, TASK, *ELSEWHERE))})(?![A-Z_0-9])")
_WHOLE = re.compile(
    rf"\$\{{CLEARML_(?P<variable>{'|'.join((*SIMPLE, TASK, *ELSEWHERE))})"
    r"(?P<path>(?:\.[^.:|{} \t\r\n]+)*)(?::(?P<default>[^|{}]*))?(?P<operations>(?:\|[a-z_]+(?:\([^)|{}]*\))?)*)\}"
)
_OPERATION = re.compile(r"\|([a-z_]+)(?:\(([^)]*)\))?")
_OPERATIONS: Mapping[str, Callable[[str, str], str]] = {
    "capitalize": lambda text, _: text.capitalize(),
    "label": lambda text, _: names.label_value(text),
    "lower": lambda text, _: text.lower(),
    "raw": lambda text, _: text,
    "remove_newlines": lambda text, _: re.sub(r"[\r\n]+", "", text),
    "strip": lambda text, chars: text.strip(chars or None),
}


SAMPLE: Final = "sample"
"""What stands for all of a task that does not exist, where a template is tried."""


class Missing(ValueError):
    """What cannot be filled in: the template as written, and what is missing or stands in the way."""


def problems(thing: Any, *, place: str) -> Iterator[str]:
    """What is wrong with the templates in a structure, with paths."""
    for path, text in _texts(thing, place):
        for found in _START.finditer(text):
            whole = _WHOLE.match(text, found.start())
            if found[1] in ELSEWHERE:
                known = ", ".join((*SIMPLE, f"{TASK}.<path>"))
                yield f"{path}: found ${{CLEARML_{found[1]}...}}, which nothing fills in here; there are {known}"
            elif whole is None:
                yield (
                    f"{path}: found {text[found.start() : found.start() + 60]!r}; expected a string template such as "
                    "${CLEARML_TASK.name:none|lower}"
                )
            elif found[1] in SIMPLE and whole["path"]:
                yield f"{path}: found {whole[0]!r}; {found[1]} is a text and has no {whole['path']}"
            elif found[1] == TASK and not whole["path"]:
                yield f"{path}: found {whole[0]!r}; expected a path in the task, as in ${{CLEARML_TASK.name}}"
            else:
                for name, _ in _OPERATION.findall(whole["operations"]):
                    if name not in _OPERATIONS:
                        yield f"{path}: found the operation {name!r}; there are {', '.join(_OPERATIONS)}"


def uses(thing: Any, variable: str) -> bool:
    """Whether a template in the structure names the variable."""
    return any(found[1] == variable for _, text in _texts(thing, "") for found in _START.finditer(text))


Join = Callable[[Sequence[str]], str]


def filled(thing: Any, values: Mapping[str, Any], *, join: Join = "".join) -> Any:
    """A new structure with all templates filled in; keys stay. ``values`` by variable: texts, and the task as an
    object, or `SAMPLE`.

    Raises Missing. ``join``: makes the text where Kubernetes would expand it, of what stands there and what is filled
    in by turns. What is filled into a path below a volume must be one folder's name, so that it keeps to its own
    folder.
    """
    return _filled(thing, values, join, "")


def _filled(thing: Any, values: Mapping[str, Any], join: Join, key: str) -> Any:
    if isinstance(thing, Mapping):
        return {name: _filled(value, values, join, str(name)) for name, value in thing.items()}
    if isinstance(thing, list):
        return [_filled(value, values, join, key) for value in thing]
    if not isinstance(thing, str) or "${CLEARML_" not in thing:
        return thing

    def value(match: re.Match[str]) -> str:
        text = _value(match, values)
        if key in _SUB_PATHS and (text in ("", ".", "..") or "/" in text):
            found = f"found {text[:60]!r}" if text else "found nothing"
            raise Missing(f"{match[0]} in a {key}: {found}; expected the name of one folder, as |label makes one")
        return text

    pieces, end = [], 0
    for match in _WHOLE.finditer(thing):
        pieces += [thing[end : match.start()], value(match)]
        end = match.end()
    pieces.append(thing[end:])
    return join(pieces) if key in _EXPANDED else "".join(pieces)


_SUB_PATHS: Final = ("subPath", "subPathExpr")
_EXPANDED: Final = ("value", "command", "args", "subPathExpr")


def _value(match: re.Match[str], values: Mapping[str, Any]) -> str:
    found: Any = values.get(match["variable"])
    for part in match["path"].split(".")[1:] if found != SAMPLE else ():
        found = found.get(part) if isinstance(found, Mapping) else None
    if isinstance(found, Mapping):
        raise Missing(f"{match[0]}: that is an object; name one of its members: {', '.join(map(str, found))[:200]}")
    if isinstance(found, list) and any(isinstance(one, Mapping | list) for one in found):
        raise Missing(f"{match[0]}: that is a list of objects, which has no text")
    text = "" if found is None else ",".join(map(shown, found)) if isinstance(found, list) else shown(found)
    # Judged as it will stand there: a line break alone is nothing, too.
    text = _operated(match, text)
    if text:
        return text
    if match["default"] is None:
        if match["variable"] == TASK and found is not None:
            return text  # as ClearML's own: it is there, and empty, as the tags of many tasks are
        raise Missing(f"{match[0]}: there is no such value; give a default, as in ${{CLEARML_TASK.name:none}}")
    return _operated(match, match["default"])


def _operated(match: re.Match[str], text: str) -> str:
    operations = _OPERATION.findall(match["operations"])
    if not any(name in ("raw", "remove_newlines") for name, _ in operations):
        text = _OPERATIONS["remove_newlines"](text, "")
    for name, argument in operations:
        if name not in _OPERATIONS:
            raise Missing(f"{match[0]}: found the operation {name!r}; there are {', '.join(_OPERATIONS)}")
        text = _OPERATIONS[name](text, argument)
    return text


def shown(value: Any) -> str:
    """A member of the task as text."""
    return value if isinstance(value, str) else json.dumps(value)


def _texts(thing: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(thing, Mapping):
        for key, value in thing.items():
            yield from _texts(value, f"{path}.{key}")
    elif isinstance(thing, list):
        for number, value in enumerate(thing):
            yield from _texts(value, f"{path}[{number}]")
    elif isinstance(thing, str):
        yield path, thing

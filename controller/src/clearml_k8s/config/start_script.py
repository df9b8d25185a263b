"""`containerCustomBashScript`: a start script of the administrator's own, with the placeholders of ClearML's glue.

As there, `{name}` is filled in, and a brace that is meant literally is written twice: `${{HOME}}`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

PLACEHOLDERS: Final = (
    "agent_install_args",
    "default_execution_agent_args",
    "extra_bash_init_cmd",
    "extra_docker_bash_script",
    "task_id",
)
_TOKEN = re.compile(r"\{\{|\}\}|\{(\w*)\}|[{}]", re.ASCII)
_EXECUTES = re.compile(r"clearml[-_]agent[^A-Za-z0-9_](?:[\s\S]*[^A-Za-z0-9_])?execute([^A-Za-z0-9_]|$)")

MAX_BYTES: Final = 120_000
"""Of a script as UTF-8, with what is filled in: Linux takes 128 KiB as one argument."""


def size_problem(text: str) -> str:
    """Why the script is too long for a pod, or ""."""
    size = len(text.encode(errors="replace"))
    return f"{size} bytes; at most {MAX_BYTES} are possible: have it download the rest" if size > MAX_BYTES else ""


def problems(text: str, *, preparation: str = "") -> Iterator[str]:
    """What is wrong with the script, "" is none. ``preparation``: the script that may be filled in."""
    if not text.strip():
        return
    if too_long := size_problem(text.replace("{extra_bash_init_cmd}", preparation)):
        yield too_long
    for found in _TOKEN.finditer(text):
        if found[0] in ("{{", "}}") or found[1] in PLACEHOLDERS:
            continue
        line = text.count("\n", 0, found.start()) + 1
        yield (
            f"line {line}: found {found[0]}; expected one of {{{'}, {'.join(PLACEHOLDERS)}}}, or a brace that is meant "
            "literally written twice, as in ${{HOME}}"
        )
        return
    if not _EXECUTES.search(text):
        advice = "end it with clearml_agent execute {default_execution_agent_args} --id {task_id}"
        yield f"it does not run the task: {advice}"


def filled(text: str, values: Mapping[str, str]) -> str:
    """The script that runs; ``values`` by name in `PLACEHOLDERS`. What is filled in is not looked at again."""
    single = {"{{": "{", "}}": "}"}
    return _TOKEN.sub(lambda found: single.get(found[0]) or values[found[1]], text)

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
_EXECUTES = re.compile(r"clearml[-_]agent\b.*\bexecute\b")


def problems(text: str) -> Iterator[str]:
    """What is wrong with the script, "" is none."""
    if not text.strip():
        return
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

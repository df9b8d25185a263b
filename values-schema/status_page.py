"""Writes docs/values-status.md: every key of ClearML's charts, and what it does here."""

from __future__ import annotations

from schema_sources import Schema
from status import Row, rows

HEADER = """\
# Every value of ClearML's charts, and what it does here

Built by `values-schema/build.py` from `values-schema/values-status.yaml`: change it there.

*From*: OSS (ClearML's open-source chart 5.3.2), DOCS (ClearML's documentation of the Enterprise chart), HIST (earlier
versions of the open-source chart), CODE (the Python package `clearml-agent`), INF (inferred; the name is a guess),
"mistake" (a key of no chart that people write all the same). *State*: "works"; "refused" (`helm lint`, `template` and
`upgrade` end with the text); "later" (refused as well; a later version will take it). Keys that this chart adds are not
listed: `helm show values` shows them.
"""


def status_page(table: Schema) -> str:
    """The text of the page."""
    found = list(rows(table))
    counts = {state: sum(1 for row in found if state_of(row) == state) for state in ("works", "refused", "later")}
    lines = [HEADER, ", ".join(f"{count} {state}" for state, count in counts.items()) + ".", ""]
    section = None
    for row in found:
        if row.section != section:
            section = row.section
            lines += [f"## {section}", "", "| key | from | state | |", "|---|---|---|---|"]
            lines += [line(other) for other in found if other.section == section] + [""]
    return "\n".join(lines).rstrip("\n") + "\n"


def state_of(row: Row) -> str:
    return "works" if row.advice is None else "later" if row.later else "refused"


def line(row: Row) -> str:
    notes = row.note if row.advice is None else row.advice
    if row.accept:
        notes += f" (accepted: {', '.join(text(value) for value in row.accept)})"
    return f"| `{row.key}` | {row.origin} | {state_of(row)} | {notes.replace('|', chr(92) + '|')} |"


def text(value: object) -> str:
    shown = {None: "null", True: "true", False: "false"}
    return f"`{shown[value] if value is None or isinstance(value, bool) else value!r}`"

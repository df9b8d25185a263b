"""Writes values.yaml: the defaults of the source, with descriptions and examples as comments (helm-docs format)."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

import yaml
from schema_sources import Schema, children

WIDTH = 120
HEADER = """\
# Values of the chart clearml-agent.
# Built by values-schema/build.py from values-schema/values.schema.yaml: change it there.
"""


def values_yaml(source: Schema) -> str:
    """The text of values.yaml."""
    lines = [HEADER]
    for name, child in source["properties"].items():
        lines.extend(entry(name=name, schema=child, definitions=source["definitions"], indent=0))
        lines.append("")
    return "\n".join(lines)


def entry(*, name: str, schema: Schema, definitions: Schema, indent: int) -> Iterator[str]:
    """The lines of one key and of all below it."""
    below = children(schema=schema, definitions=definitions)
    pad = "  " * indent
    marker = "# " if below else "# -- "
    yield from textwrap.wrap(
        schema["description"], WIDTH, initial_indent=pad + marker, subsequent_indent=pad + "# ", break_on_hyphens=False
    )
    if below:
        yield f"{pad}{name}:"
        for child_name, child in below.items():
            yield from entry(name=child_name, schema=child, definitions=definitions, indent=indent + 1)
        return
    yield from indented(dump(name, schema["default"]), prefix=pad)
    if "example" in schema:
        yield f"{pad}# For example:"
        yield from indented(dump(name, schema["example"]), prefix=pad + "#   ")


class _Dumper(yaml.SafeDumper):
    """Block style with lists indented below their key, and text of several lines as a block."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def dump(name: str, value: Any) -> str:
    return yaml.dump({name: value}, Dumper=_Dumper, sort_keys=False, width=WIDTH).rstrip("\n")


def indented(text: str, *, prefix: str) -> Iterator[str]:
    for line in text.splitlines():
        yield (prefix + line).rstrip()

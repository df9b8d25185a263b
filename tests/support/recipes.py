"""The recipes of docs/customisation.md, as values."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

PAGE = Path(__file__).resolve().parents[2] / "docs/customisation.md"


def recipes() -> dict[str, dict[str, Any]]:
    """By heading: the values."""
    text = PAGE.read_text(encoding="utf-8").partition("\n## Recipes\n")[2]
    parts = re.split(r"^### (.+)$", text, flags=re.MULTILINE)[1:]
    found = {}
    for heading, body in zip(parts[::2], parts[1::2], strict=True):
        (block,) = re.findall(r"^```yaml\n(.*?)^```$", body, flags=re.MULTILINE | re.DOTALL)
        found[heading] = yaml.safe_load(block.replace("MIIB...", "MIEDYWJj"))  # as short as a certificate can be
    return found

"""What a cluster started, on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .processes import Identity


class State:
    """What was started, in `state.json`: written at each change, so that nothing made is ever forgotten."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.data: dict[str, Any] = json.loads(path.read_text())
        except (OSError, ValueError):
            self.data = {}

    def put(self, **values: Any) -> None:
        self.data |= values
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".new")
        temporary.write_text(json.dumps(self.data, indent=1))
        temporary.rename(self.path)

    def process(self, name: str) -> Identity | None:
        entry = self.data.get("processes", {}).get(name)
        return Identity(**entry) if entry else None

    def put_process(self, name: str, identity: Identity | None) -> None:
        entries = dict(self.data.get("processes", {}))
        entries.pop(name, None)
        if identity:
            entries[name] = identity.__dict__
        self.put(processes=entries)

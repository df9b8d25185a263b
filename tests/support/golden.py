"""Whole manifests that are kept as files: one for each rule of what becomes of a task."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import yaml
from clearml_k8s.spec.script import start_command

FOLDER = Path(__file__).resolve().parents[1] / "unit" / "spec" / "golden"

Manifest = dict[str, Any]


def check(name: str, manifest: Manifest) -> None:
    """Compares with golden/<name>.yaml; UPDATE_GOLDEN=1 in the environment rewrites it, but never where CI runs.

    Our own scripts stand there by name: they have tests of their own."""
    shown = json.loads(json.dumps(manifest))
    (container, *_) = shown["spec"]["template"]["spec"]["containers"]
    if "command" in container:
        container["command"] = [_SCRIPTS.get(word, word) for word in container["command"]]
    path = FOLDER / f"{name}.yaml"
    if os.environ.get("UPDATE_GOLDEN"):
        assert not os.environ.get("CI"), "goldens are rewritten by people, who read what has changed"
        path.write_text(yaml.safe_dump(shown, sort_keys=False, width=120, allow_unicode=False), encoding="utf-8")
    assert path.exists(), f"no {path}; UPDATE_GOLDEN=1 writes it"
    assert shown == yaml.safe_load(path.read_text(encoding="utf-8")), (
        f"differs from {path}; UPDATE_GOLDEN=1 rewrites it"
    )


def manifests() -> dict[str, Manifest]:
    """Of all files, by name."""
    return {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.yaml"))}


_SCRIPTS = dict(
    zip(
        (*start_command()[3:5], start_command(gathers=True)[-1]),
        ("<start.sh>", "<start_check.py.txt>", "<gather.py.txt>"),
        strict=True,
    )
)

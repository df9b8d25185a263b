"""Continuous integration elsewhere calls the make targets that there are, with actions of a fixed version."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from ci.paths import ROOT

MATRIX = "${{ matrix.target }}"
FILES = sorted((ROOT / ".github/workflows").glob("*.y*ml"))


def jobs() -> Iterator[tuple[str, dict[str, Any]]]:
    for file in FILES:
        for name, job in yaml.safe_load(file.read_text())["jobs"].items():
            yield f"{file.name}:{name}", job


JOBS = dict(jobs())


@pytest.mark.parametrize("name", JOBS)
def test_every_action_has_a_version(name: str) -> None:
    used = [step["uses"] for step in JOBS[name]["steps"] if "uses" in step]
    assert used
    assert [action for action in used if not re.fullmatch(r"[\w.-]+/[\w./-]+@v\d+\.\d+\.\d+", action)] == []


@pytest.mark.parametrize("name", JOBS)
def test_every_target_exists(name: str) -> None:
    job = JOBS[name]
    rows = job.get("strategy", {}).get("matrix", {}).get("include", [{}])
    commands = [step["run"] for step in job["steps"] if re.search(r"\bmake\b", step.get("run", ""))]
    assert commands, "the work is done by make"
    texts = [command.replace(MATRIX, row.get("target", "")) for row in rows for command in commands]
    wanted = {target for text in texts for target in text.partition("make ")[2].split()}
    known = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert wanted <= known

"""Building the tools: what was built in part, by a build that failed or was killed, is never taken as done."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ci.paths import ROOT
from ci.tools.catalog import TOOLS

KUBERNETES = next(tool for tool in TOOLS if tool.name == "kubernetes")
PROGRAMS = [program.name for program in KUBERNETES.programs]
# Writes half a program, and the rest unless it is the chosen one, which then fails or waits to be killed.
GO = """
while [ "$1" != -o ]; do shift; done
printf half >"$2"
case "$3" in */"$CHOSEN")
    [ "$WHAT" != fail ] || exit 1
    echo $$ >"$HERE/waiting.new"; mv "$HERE/waiting.new" "$HERE/waiting"
    while [ -e "$HERE/waiting" ]; do sleep 0.05; done ;;
esac
printf whole >"$2"
"""


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@dataclass(frozen=True, kw_only=True)
class Build:
    """`ci/tools/build.py kubernetes`, started; what it says is in a file."""

    process: subprocess.Popen[bytes]
    said: Path

    def ends(self, code: int) -> None:
        assert self.process.wait(60) == code, self.said.read_text()


@pytest.fixture
def build(machine, tmp_path: Path, cache: Path) -> Iterator[Callable[..., Build]]:
    """Starts builds, with a `go` that does `what` (fail, wait) at the program `chosen`."""
    machine.program("go", does=GO)
    started: list[Build] = []

    def start(*, chosen: str = "none", what: str = "") -> Build:
        settings = {"CHOSEN": chosen, "WHAT": what, "HERE": str(tmp_path), "CLEARML_K8S_CACHE": str(cache)}
        command = [sys.executable, str(ROOT / "ci/tools/build.py"), "kubernetes"]
        said = tmp_path / f"said-{len(started)}"
        with said.open("wb") as sink:
            process = subprocess.Popen(command, env=machine.environment(settings), stderr=sink)
        started.append(Build(process=process, said=said))
        return started[-1]

    yield start
    (tmp_path / "waiting").unlink(missing_ok=True)
    for one in started:
        one.process.kill()
        one.process.wait()


def until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def built(cache: Path) -> dict[str, str]:
    """What is in the folders that count as built, by program."""
    return {
        program.name: program.read_text()
        for folder in (cache / "tools").glob("kubernetes-*")
        for program in folder.iterdir()
        if program.suffix != ".log"
    }


def calls(machine, program: str) -> int:
    return sum(call.endswith(f"/cmd/{program}") for call in machine.calls)


def assert_whole(cache: Path) -> None:
    assert built(cache) == dict.fromkeys(PROGRAMS, "whole")
    assert not list((cache / "tools").glob(".kubernetes-*")), "a build left its folder"


def test_a_build_that_was_killed_half_way_is_made_again(build, machine, cache, tmp_path) -> None:
    first = build(chosen=PROGRAMS[2], what="wait")
    until((tmp_path / "waiting").exists, "the build is half-way")
    first.process.kill()
    first.process.wait()
    assert built(cache) == {}
    (tmp_path / "waiting").unlink()
    build().ends(0)
    assert_whole(cache)
    assert [calls(machine, name) for name in PROGRAMS] == [2, 2, 2, 1, 1, 1]


def test_a_build_that_failed_half_way_is_made_again(build, cache) -> None:
    first = build(chosen=PROGRAMS[3], what="fail")
    first.ends(1)
    assert f"{PROGRAMS[3]} could not be built" in first.said.read_text()
    assert built(cache) == {}
    build().ends(0)
    assert_whole(cache)


def test_one_of_two_builds_at_one_time_builds(build, machine, cache, tmp_path) -> None:
    first = build(chosen=PROGRAMS[0], what="wait")
    until((tmp_path / "waiting").exists, "the build has begun")
    second = build()
    until(lambda: "waiting for the build of kubernetes" in second.said.read_text(), "the second waits")
    (tmp_path / "waiting").unlink()
    first.ends(0)
    second.ends(0)
    assert_whole(cache)
    assert [calls(machine, name) for name in PROGRAMS] == [1] * len(PROGRAMS)

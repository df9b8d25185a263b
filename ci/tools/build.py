"""Builds the pinned programs into the cache, once per version.

    python3 ci/tools/build.py [NAME...]       build what is missing (all, or the named tools or programs)
    python3 ci/tools/build.py --path NAME     print a program's path, building it first when needed
    python3 ci/tools/build.py --bin-dir       print a folder with links to all programs, for PATH

Each folder beside this file holds a Go module that pins one tool with its go.sum. A module's folder in the cache is
named by its version and a hash of all that goes into the build, so a changed pin never meets an old program.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from ci.locks import locked
from ci.paths import cache_dir
from ci.tools.catalog import LINKS, BuildError, Program, Tool, select

HEARTBEAT_SECONDS = 30.0


def say(text: str) -> None:
    """Progress goes to stderr: stdout is for paths."""
    print(text, file=sys.stderr, flush=True)


def on_path(tool: Tool) -> dict[str, Path] | None:
    """The tool's programs on PATH, when each of them is there in the pinned version."""
    if not tool.pinned_by:
        return None
    memory_file = cache_dir() / "tools" / "on-path.json"
    try:
        memory: dict[str, str] = json.loads(memory_file.read_text())
    except (OSError, ValueError):
        memory = {}
    asked = False
    found: dict[str, Path] = {}
    for program in tool.programs:
        place = shutil.which(program.command or program.name)
        if place is None:
            return None
        stat = Path(place).stat()
        key = f"{place} {stat.st_mtime_ns} {stat.st_size} {' '.join(program.version_args)}"
        if key not in memory:
            try:
                done = subprocess.run(
                    [place, *program.version_args], capture_output=True, text=True, timeout=20, check=False
                )
                memory[key] = done.stdout
            except (OSError, subprocess.TimeoutExpired):
                memory[key] = ""
            asked = True
        if asked:
            memory_file.parent.mkdir(parents=True, exist_ok=True)
            temporary = memory_file.with_suffix(f".{os.getpid()}")
            temporary.write_text(json.dumps(memory, indent=1))
            temporary.rename(memory_file)
        if not re.search(rf"(?<![\w.]){re.escape(tool.version)}(?![\w.-])", memory[key].replace("v", " ")):
            return None
        found[program.name] = Path(place)
    return found


def installed(tool: Tool) -> dict[str, Path] | None:
    """Paths by program name, when the tool needs no build: from the cache, else from PATH."""
    if tool.home.is_dir():
        return {program.name: tool.home / program.name for program in tool.programs}
    return on_path(tool)


def _compile(tool: Tool, program: Program, output: Path, log: Path, label: str) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in ("GOFLAGS", "GOOS", "GOARCH")}
    environment |= {"CGO_ENABLED": "0", "GOWORK": "off"}
    command = ["go", "build", "-trimpath", "-ldflags", tool.ldflags, "-o", str(output), program.package]
    started = time.monotonic()
    say(f"{label}: building")
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command, cwd=tool.folder, env=environment, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink
        )
        try:
            while True:
                try:
                    code = process.wait(timeout=HEARTBEAT_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    say(f"{label}: still building, {time.monotonic() - started:.0f} s")
        except BaseException:
            process.kill()
            process.wait()
            raise
    if code != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise BuildError(f"{program.name} could not be built ({' '.join(command)} in {tool.folder}):\n{tail}")
    say(f"{label}: done in {time.monotonic() - started:.0f} s")


def source(name: str) -> Path:
    """The folder of the pinned module of the tool `name`, downloaded when needed, not built. Raises BuildError."""
    (tool,) = select([name])
    command = ["go", "mod", "download", "-json", tool.pinned_by]
    environment = {k: v for k, v in os.environ.items() if k != "GOFLAGS"} | {"GOWORK": "off"}
    try:
        found = subprocess.run(command, cwd=tool.folder, env=environment, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise BuildError(f"Go is needed to download {tool.pinned_by}, and there is no `go` on PATH") from None
    if found.returncode != 0:
        raise BuildError(f"{' '.join(command)} in {tool.folder}: {(found.stderr or found.stdout).strip()[-500:]}")
    return Path(json.loads(found.stdout)["Dir"])


def ensure(names: Iterable[str] = ()) -> dict[str, Path]:
    """Builds what is missing; returns the path of each program of the selected tools, by program name.

    Raises BuildError. Safe to run in parallel: one process builds a tool, the others wait and use it.
    """
    tools = select(names)
    ready = {tool.name: installed(tool) for tool in tools}
    missing = [tool for tool in tools if ready[tool.name] is None]
    if missing and shutil.which("go") is None:
        raise BuildError(f"Go is needed to build {', '.join(t.name for t in missing)}, and there is no `go` on PATH")
    total = sum(len(tool.programs) for tool in missing)
    started = time.monotonic()
    step = 0
    for tool in missing:
        with locked(cache_dir() / "tools" / f".{tool.name}.lock", f"the build of {tool.name} {tool.version}"):
            ready[tool.name] = installed(tool)  # another process may have built it meanwhile
            if ready[tool.name] is None:
                home = tool.home
                for old in home.parent.glob(f".{tool.name}-*"):  # of a build that was killed
                    shutil.rmtree(old, ignore_errors=True)
                temporary = Path(tempfile.mkdtemp(prefix=f".{home.name}.", dir=home.parent))
                temporary.chmod(0o755)
                try:
                    for i, program in enumerate(tool.programs):
                        elapsed = time.monotonic() - started
                        label = f"[{step + i + 1}/{total}] {program.name} {tool.version} ({elapsed:.0f} s so far)"
                        _compile(tool, program, temporary / program.name, temporary / "build.log", label)
                    temporary.rename(home)
                finally:
                    shutil.rmtree(temporary, ignore_errors=True)
                ready[tool.name] = installed(tool)
        step += len(tool.programs)
    if missing:
        say(f"tools ready after {time.monotonic() - started:.0f} s")
    return {name: path for programs in ready.values() for name, path in (programs or {}).items()}


def bin_dir(names: Iterable[str] = ()) -> Path:
    """A folder with a link to each program of the selected tools, made in one step and never changed after."""
    programs = ensure(names)
    links = programs | {link: programs[target] for link, target in LINKS.items() if target in programs}
    text = json.dumps({name: str(path) for name, path in sorted(links.items())})
    folder = cache_dir() / "tools" / f"bin-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    if not folder.is_dir():
        temporary = Path(tempfile.mkdtemp(prefix=".bin.", dir=folder.parent))
        temporary.chmod(0o755)
        for name, path in links.items():
            (temporary / name).symlink_to(path)
        try:
            temporary.rename(folder)
        except OSError:  # another process made the same folder
            shutil.rmtree(temporary)
    return folder


def _program(programs: dict[str, Path], name: str) -> Path:
    path = programs.get(LINKS.get(name, name))
    if path is None:
        raise BuildError(f"{name} has several programs: {', '.join(programs)}; name one of them")
    return path


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="ci/tools/build.py", description="Build the pinned tools into the cache.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="tools or programs; none: all")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--path", action="store_true", help="print the path of each named program")
    what.add_argument("--bin-dir", action="store_true", help="print a folder with links to the programs")
    options = parser.parse_args(arguments)
    try:
        if options.bin_dir:
            print(bin_dir(options.names))
            return 0
        programs = ensure(options.names)
        if options.path:
            print("\n".join(str(_program(programs, name)) for name in options.names))
    except BuildError as error:
        say(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

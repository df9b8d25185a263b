"""Runs the tests, all parts in one pytest run.

    python3 -m ci.test [PART...] [--long]

Without PART: all parts but those that SKIP_PARTS names (`SKIP_PARTS=cluster,e2e`); what is switched off stands in
pytest's header. A part whose needs cannot be met fails the run. `--long` runs the tests marked `long`, and only these.
PYTEST_ARGS is handed on to pytest, after our own arguments.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from ci import run
from ci.cluster.choice import current_chosen
from ci.cluster.errors import ClusterError
from ci.paths import ROOT


@dataclass(frozen=True, kw_only=True)
class Part:
    """What one folder below tests/ needs."""

    tools: tuple[str, ...] = ()
    cluster: bool = False


# Their order is the order of the run when one process runs everything.
PARTS = {
    "unit": Part(),
    "model": Part(),
    "chart": Part(tools=("helm3", "helm314", "helm4", "helm-docs", "kubeconform")),
    "contract": Part(),
    "cluster": Part(cluster=True),
    "e2e": Part(cluster=True),
}
WITHOUT_CLUSTER = ",".join(name for name, part in PARTS.items() if part.cluster)
IMAGES = ["controller", "task", "bare"]
WORKERS_MOST = 4
WORKERS_WAITING = 1
"""More workers than processors: most of what the cluster's tests do is to wait."""
TEST_SECONDS, LONG_TEST_SECONDS = 900, 3600


class PartError(Exception):
    """The parts asked for cannot be run; the message says what to change."""


def chosen(named: Sequence[str], *, skip: str) -> list[str]:
    """The parts to run, in order; ``skip`` counts only when none is named. Raises PartError."""
    skipped = [name for name in skip.replace(",", " ").split() if not named]
    unknown = [name for name in (*named, *skipped) if name not in PARTS]
    if unknown:
        raise PartError(f"no part of the tests is called {unknown[0]!r}; the parts are {', '.join(PARTS)}")
    parts = [name for name in PARTS if (name in named if named else name not in skipped)]
    if not parts:
        raise PartError("SKIP_PARTS leaves no part to run")
    missing = [name for name in parts if not (ROOT / "tests" / name).is_dir()]
    if missing:
        raise PartError(f"tests/{missing[0]} is not there")
    return parts


def pytest_command(parts: Sequence[str], *, long: bool, extra: Sequence[str]) -> list[str]:
    """The pytest command line. Tests that share a cluster are in one worker (tests/conftest.py)."""
    workers = min(WORKERS_MOST, (os.cpu_count() or 1) + WORKERS_WAITING)
    command = ["python", "-m", "pytest", "-n", str(workers)]
    command.append(f"--timeout={LONG_TEST_SECONDS if long else TEST_SECONDS}")
    if long:
        command += ["-m", "long"]
    return [*command, *extra, *(f"tests/{name}" for name in parts)]


def main() -> int:  # noqa: RET503 - exec does not return
    parser = argparse.ArgumentParser(prog="python3 -m ci.test", description="Run the tests.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--long", action="store_true", help="only the tests marked `long`")
    options = parser.parse_args()
    try:
        parts = chosen(options.parts, skip=os.environ.get("SKIP_PARTS", ""))
        extra = shlex.split(os.environ.get("PYTEST_ARGS", ""))
        current = current_chosen()
    except (PartError, ClusterError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    cluster = any(PARTS[name].cluster for name in parts)
    if cluster and not current:
        subprocess.run([ROOT / "ci/tools/apt.sh", "tests"], check=True)
    tools = sorted({tool for name in parts for tool in PARTS[name].tools})
    try:
        values = run.environment(tools=["all"] if cluster else tools, images=IMAGES if cluster else [], cluster=cluster)
    except run.FAILURES as error:
        print(f"error: {error}", file=sys.stderr)
        if cluster:
            print(
                f"These parts of the tests need it: {', '.join(name for name in parts if PARTS[name].cluster)}. "
                f"To run the others: make test SKIP_PARTS={WITHOUT_CLUSTER}",
                file=sys.stderr,
            )
        return 1
    command = pytest_command(parts, long=options.long, extra=extra)
    os.chdir(ROOT)
    os.execvpe(command[0], command, values)  # noqa: S606 - our own command


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.CalledProcessError as failure:
        sys.exit(f"error: {failure.cmd[0]} failed with exit code {failure.returncode}")
    except KeyboardInterrupt:
        os._exit(130)

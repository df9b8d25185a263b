"""chart-testing (ct) on the charts of a folder, with the settings of ct.yaml, and their READMEs.

    python3 -m ci.charts lint
    python3 -m ci.charts install [--upgrade]
    python3 -m ci.charts readme [--check]

`install` makes a namespace with the objects that values files expect (ct-objects.yaml), has ct install, test and take
away a release for each charts/*/ci/*-values.yaml there, and takes the namespace away. With `--upgrade`, each release is
upgraded too: from the chart of the target branch, and from itself. The pods' image is IMAGE_CONTROLLER_NAME.
`readme` writes charts/*/README.md from README.md.gotmpl by helm-docs; with `--check` it fails when one would change.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ci.paths import ROOT

README = (
    "helm-docs",
    "--dry-run",
    "--sort-values-order=file",
    "--template-files=README.md.gotmpl",
    "--log-level=warning",
)
SETTINGS = ("--config", "ci/ct.yaml", "--all")


class ChartError(Exception):
    """A program failed, and has said why itself; or a README is not up to date."""


def _run(command: list[str], *, folder: Path, env: Mapping[str, str] | None = None) -> None:
    done = subprocess.run(command, cwd=folder, env=env, check=False, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise ChartError(f"{' '.join(command[:2])} failed with exit code {done.returncode}")


def lint(*, folder: Path = ROOT) -> None:
    """Every chart below ``folder``/charts, with each of its values files. Raises ChartError."""
    _run(["ct", "lint", *SETTINGS], folder=folder)


def install(*, folder: Path = ROOT, upgrade: bool = False) -> None:
    """The same on the cluster of KUBECONFIG. Raises ChartError."""
    arguments = [*SETTINGS, *_image(os.environ.get("IMAGE_CONTROLLER_NAME", ""))]
    with _namespace(folder) as namespace:
        more = ["--upgrade"] if upgrade else []
        _run(["ct", "install", *arguments, "--namespace", namespace, *more], folder=folder)


def _image(name: str) -> list[str]:
    """The controller's image, ``REPOSITORY:TAG``; "" leaves the chart's own."""
    if not name:
        return []
    repository, _, tag = name.rpartition(":")
    sets = f"--set=agentk8sglue.image.repository={repository} --set=agentk8sglue.image.tag={tag}"
    return ["--helm-extra-set-args", sets]


def readme(*, folder: Path = ROOT, check: bool = False) -> None:
    """Writes, or checks, the README.md of every chart below ``folder``/charts. Raises ChartError."""
    for template in sorted((folder / "charts").glob("*/README.md.gotmpl")):
        chart = template.parent
        made = subprocess.run(
            [*README, f"--chart-search-root={chart}"], cwd=folder, stdout=subprocess.PIPE, text=True, check=False
        )
        if made.returncode != 0 or not made.stdout.strip():
            raise ChartError(f"helm-docs made no README of {chart}")
        text = made.stdout.strip() + "\n"
        file = chart / "README.md"
        if file.exists() and file.read_text(encoding="utf-8") == text:
            continue
        if check:
            raise ChartError(f"{file.relative_to(folder)} is not what helm-docs makes of {template.name}")
        file.write_text(text, encoding="utf-8")


@contextmanager
def _namespace(folder: Path) -> Iterator[str]:
    """One namespace for all releases: ct's own ones are empty, and values files expect Secrets."""
    name = f"ct-{uuid.uuid4().hex[:8]}"
    _run(["kubectl", "create", "namespace", name], folder=folder)
    try:
        _run(["kubectl", "apply", "--namespace", name, "--filename", "ci/ct-objects.yaml"], folder=folder)
        yield name
    finally:
        _run(["kubectl", "delete", "namespace", name, "--wait=false"], folder=folder)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m ci.charts", description="Run chart-testing and helm-docs.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("lint", help="ct lint")
    commands.add_parser("install", help="ct install").add_argument("--upgrade", action="store_true")
    commands.add_parser("readme", help="helm-docs").add_argument("--check", action="store_true")
    options = parser.parse_args()
    try:
        if options.command == "lint":
            lint()
        elif options.command == "install":
            install(upgrade=options.upgrade)
        else:
            readme(check=options.check)
    except ChartError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

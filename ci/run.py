"""Runs a command in the development environment of this checkout.

    python3 -m ci.run [--tools NAME,...] [--images NAME,...] [--cluster] COMMAND [ARGUMENT...]

PATH begins with the Python environment and the pinned tools, PYTHONPATH holds the checkout's packages. `--images` are
built first, each named to the command as IMAGE_<NAME>=<archive>; with `--cluster` the local cluster is brought up and
its KUBECONFIG and CLUSTER_* are set (CLUSTER=current: those of the current kube context). IMAGE_<NAME>_NAME is what
pods call the image; with `--cluster` and IMAGE_REGISTRY it is pushed there.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ci import venv
from ci.cluster.choice import current_chosen
from ci.cluster.current import CurrentCluster
from ci.cluster.errors import ClusterError
from ci.cluster.local import LocalCluster
from ci.images import registry
from ci.images.build import ImageError
from ci.images.build import ensure as ensure_image
from ci.paths import ROOT
from ci.tools import build
from ci.tools.catalog import BuildError

PACKAGES = (ROOT, ROOT / "controller/src", ROOT / "tests/fakes", ROOT / "tests/support")
CLIENTS = ("helm3", "helm4", "ct")
FAILURES = (venv.VenvError, BuildError, ImageError, ClusterError, ValueError)
"""What `environment` raises, each with words for the user."""


def environment(*, tools: list[str], images: list[str], cluster: bool) -> dict[str, str]:
    """The command's environment; builds and starts what it needs, and says what took long. Raises FAILURES."""
    current = CurrentCluster() if current_chosen() and cluster else None
    images_registry = registry.chosen()
    if current and images:  # what is refused is said now, not after minutes of building
        current.require_host_address()
        if images_registry is None:
            current.load_command(Path())
    with _timed("the Python environment"):
        home = venv.ensure()
    bins = [str(home / "bin")]
    if tools:
        with _timed("the tools"):
            bins.append(str(build.bin_dir(_needed(tools, current))))
    inherited = [path for path in (os.environ.get("PYTHONPATH"),) if path]
    values = dict(os.environ) | {
        "VIRTUAL_ENV": str(home),
        "PATH": os.pathsep.join([*bins, os.environ.get("PATH", os.defpath)]),
        "PYTHONPATH": os.pathsep.join([*map(str, PACKAGES), *inherited]),
    }
    for name in images:
        with _timed(f"the image {name}"):
            archive = ensure_image(name)
            values |= {f"IMAGE_{name.upper()}": str(archive)}
            values |= {f"IMAGE_{name.upper()}_NAME": registry.pod_name(name, archive)}
        if cluster and images_registry:
            with _timed(f"the image {name} in {images_registry.path}"):
                images_registry.push(name, archive)
    if current:
        values |= current.environment()
    elif cluster:
        with _timed("the local cluster"):
            local = LocalCluster()
            local.up()
        values |= local.environment()
    return values


def _needed(tools: list[str], current: CurrentCluster | None) -> list[str]:
    """`all` are those that a cluster of our own is made of, too."""
    if tools != ["all"]:
        return tools
    return [*CLIENTS, *([] if shutil.which("kubectl") else ["kubectl"])] if current else []


@contextmanager
def _timed(what: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    seconds = time.monotonic() - started
    if seconds >= 1:
        print(f"{what}: ready after {seconds:.0f} s", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m ci.run", description="Run a command in the environment.")
    parser.add_argument("--tools", default="", help="comma-separated tools for PATH, or `all`")
    parser.add_argument("--images", default="", help="comma-separated images to build")
    parser.add_argument("--cluster", action="store_true", help="bring the cluster up and name it to the command")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    if not options.command:
        parser.error("no command")
    try:
        values = environment(
            tools=[name for name in options.tools.split(",") if name],
            images=[name for name in options.images.split(",") if name],
            cluster=options.cluster,
        )
    except FAILURES as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    try:
        os.execvpe(options.command[0], options.command, values)  # noqa: S606 - the caller's own command
    except OSError as error:
        print(f"error: {options.command[0]}: {error.strerror}", file=sys.stderr)
        return 127


if __name__ == "__main__":
    sys.exit(main())

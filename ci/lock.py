"""Writes all Python lock files anew, with hashes and without a word about where the packages came from."""

from __future__ import annotations

import subprocess
import sys

from ci.paths import ROOT

CONTROLLER = "controller/requirements.lock"
LOCKS = (
    (CONTROLLER, ("controller/pyproject.toml",)),
    ("controller/requirements-build.lock", ("controller/requirements-build.in",)),
    ("ci/images/task/requirements.lock", ("ci/images/task/requirements.in",)),
    ("tests/e2e/wheels.lock", ("tests/e2e/wheels.in",)),
    # The controller is developed with the versions that it ships with.
    ("ci/requirements-dev.lock", ("ci/requirements-dev.in", "controller/pyproject.toml", "-c", CONTROLLER)),
)
OPTIONS = ("--generate-hashes", "--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links")


def main() -> int:
    for target, sources in LOCKS:
        command = ["uv", "pip", "compile", "--quiet", "--upgrade", "--python-version=3.11", *OPTIONS, *sources]
        done = subprocess.run([*command, "-o", target], cwd=ROOT, check=False)
        if done.returncode != 0:
            return done.returncode
        print(target)
    return 0


if __name__ == "__main__":
    sys.exit(main())

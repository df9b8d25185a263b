"""The Python development environment, in the cache and named by the hash of its lock file.

It holds only what the lock names. The code of a checkout gets in by PYTHONPATH (ci/run.py), so several checkouts
with the same lock share one environment. `python3 -m ci.venv` prints its folder, making it when it is missing.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ci.locks import locked
from ci.paths import ROOT, cache_dir

LOCK = ROOT / "ci/requirements-dev.lock"
# The command as users know it; the package itself comes from the checkout.
SCRIPT = """#!{python}
import sys
from clearml_k8s.cli import main
sys.exit(main())
"""


class VenvError(Exception):
    """The environment could not be made; the message shows the end of pip's output."""


def folder() -> Path:
    """Where the environment of this lock file and this Python is, made or not."""
    digest = hashlib.sha256(LOCK.read_bytes() + SCRIPT.encode() + sys.base_prefix.encode()).hexdigest()[:12]
    return cache_dir() / "venv" / f"py{sys.version_info.major}.{sys.version_info.minor}-{digest}"


def ensure() -> Path:
    """The environment's folder; makes it when it is missing. Raises VenvError."""
    if sys.version_info < (3, 11):  # noqa: UP036 - whoever has an older one is told here
        raise VenvError(f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}: make PYTHON=python3.11 ...")
    home = folder()
    done = home / "complete"
    if done.exists():
        return home
    with locked(home.parent / f".{home.name}.lock", "the Python environment"):
        if done.exists():
            return home
        started = time.monotonic()
        print(f"making the Python environment {home}", file=sys.stderr, flush=True)
        # A virtual environment cannot be moved, so it is made in place and counts only once it is marked complete.
        shutil.rmtree(home, ignore_errors=True)
        _run([sys.executable, "-m", "venv", str(home)])
        _run([str(home / "bin/pip"), "install", "--disable-pip-version-check", "--require-hashes", "-r", str(LOCK)])
        script = home / "bin/clearml-k8s"
        script.write_text(SCRIPT.format(python=home / "bin/python"))
        script.chmod(0o755)
        done.touch()
        print(f"Python environment ready after {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    return home


def _run(command: list[str]) -> None:
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        started = time.monotonic()
        while True:
            try:
                code = process.wait(timeout=30)
                break
            except subprocess.TimeoutExpired:
                seconds = time.monotonic() - started
                print(f"{Path(command[0]).name} {command[1]}: {seconds:.0f} s", file=sys.stderr, flush=True)
        if code != 0:
            output.seek(0)
            tail = "\n".join(output.read().splitlines()[-15:])
            hint = "\non Debian: apt-get install python3-venv" if "ensurepip" in tail else ""
            raise VenvError(f"failed with exit code {code}: {' '.join(command)}\n{tail}{hint}")


if __name__ == "__main__":
    try:
        print(ensure())
    except (VenvError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        os._exit(130)

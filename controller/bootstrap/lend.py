"""Lends an image's Python that can make no virtual environments the virtualenv of another Python.

    lend.py FOLDER PYTHON MAKER

Writes into FOLDER a program for each Python on PATH, named as it, and prints the one that stands for PYTHON. Each is
the Python of the image, but for `-m virtualenv`.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

NAMES = ("python3", *(f"python3.{minor}" for minor in range(20, 7, -1)), "python")
PROGRAM = """\
#!/bin/sh
if [ "$1 $2" = "-m virtualenv" ]; then
    shift 2
    exec {maker} -m virtualenv --no-download --python {python} "$@"
fi
exec {python} "$@"
"""


def lend(folder: Path, *, python: str, maker: str) -> Path:
    """Writes the programs; the one for ``python``, an absolute path. `maker`: the Python that has virtualenv."""
    found = {name: path for name in NAMES if (path := shutil.which(name))}
    if python not in found.values():
        found |= {"python3": python, "python": python}
    for name, path in found.items():
        program = folder / name
        program.write_text(PROGRAM.format(maker=shlex.quote(maker), python=shlex.quote(path)))
        program.chmod(0o755)
    return folder / next(name for name, path in found.items() if path == python)


if __name__ == "__main__":
    print(lend(Path(sys.argv[1]), python=sys.argv[2], maker=sys.argv[3]))

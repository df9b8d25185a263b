"""Which installed packages go into which part of the bundle, and the pips that the agent asks for."""

from __future__ import annotations

import re
import shutil
import zipfile
from collections.abc import Iterable
from importlib.metadata import Distribution, distributions
from pathlib import Path

PIPS = {
    "20.1.1": "python_version < '3.10'",
    "22.2.2": "python_version >= '3.10' and python_version <= '3.11'",
    "25.3": "python_version >= '3.12'",
}
"""The newest of each range that clearml-agent has in `agent.package_manager.pip_version`; pips.lock has the same."""


class MissingPackage(Exception):
    """A package that has to be put in is not installed; the text names it."""


def normal(name: str) -> str:
    """A distribution's name as comparisons need it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def closure(root: str, installed: dict[str, Distribution]) -> set[str]:
    """Names of `root` and all that it requires. Raises MissingPackage."""
    found: set[str] = set()
    waiting = [root]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        if name not in installed:
            raise MissingPackage(f"the package {name} is not installed")
        found.add(name)
        for requirement in installed[name].requires or ():
            what, _, marker = requirement.partition(";")
            required = normal(re.match(r"[\w.-]+", what.strip())[0])  # type: ignore[index]
            if "extra" not in marker and (required in installed or not marker):
                waiting.append(required)
    return found


def copy_packages(names: Iterable[str], installed: dict[str, Distribution], *, target: Path) -> None:
    """The files of these packages below ``target``, without programs, compiled files and tests."""
    for name in sorted(names):
        for file in installed[name].files or ():
            if file.parts[0] == ".." or "__pycache__" in file.parts or "tests" in file.parts[1:-1]:
                continue
            copy = target / file
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(str(file.locate()), copy)


def separate(folder: Path, *, agent: Path, python: Path) -> None:
    """Of the packages in ``folder``: clearml-agent and what it needs into `agent`, virtualenv and what that needs into
    `python`, which both see. Raises MissingPackage."""
    installed = {normal(found.metadata["Name"]): found for found in distributions(path=[str(folder)])}
    for_all = closure("virtualenv", installed)
    copy_packages(for_all, installed, target=python)
    copy_packages(closure("clearml-agent", installed) - for_all, installed, target=agent)


def pip_wheel(wheels: Path, version: str) -> Path:
    """The wheel of this pip. Raises MissingPackage."""
    found = sorted(wheels.glob(f"pip-{version}-*.whl"))
    if not found:
        raise MissingPackage(f"there is no wheel of pip {version} in {wheels}")
    return found[0]


def install_pip(wheels: Path, *, target: Path) -> None:
    """The newest pip into ``target``: a wheel without compiled parts is a zip of its files."""
    with zipfile.ZipFile(pip_wheel(wheels, list(PIPS)[-1])) as wheel:
        wheel.extractall(target)


def pip_versions(wheels: Path) -> str:
    """The value of `agent.package_manager.pip_version` (a HOCON list) with which the agent takes these files."""
    wanted = (f'" @ file://{pip_wheel(wheels, version)} ; {marker}"' for version, marker in PIPS.items())
    return f"[{', '.join(wanted)}]\n"

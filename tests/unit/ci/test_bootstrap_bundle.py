"""What goes into the bundle that the controller's image has for task pods. The whole of it is tried in tests/e2e."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from assemble import CannotAssemble, libraries, make_agent
from bundle_packages import PIPS, MissingPackage, install_pip, pip_versions, separate

from ci.paths import ROOT

LISTING = """\
\tlinux-vdso.so.1 (0x00007ffd0a5f2000)
\tlibm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x00007f0000000000)
\t/lib64/ld-linux-x86-64.so.2 (0x00007f0000100000)
"""


def installed(folder: Path, name: str, *requires: str) -> None:
    """A package of one module, with a program, a test and what was compiled of it."""
    info = folder / f"{name}-1.dist-info"
    files = [f"{name}/__init__.py", f"{name}/tests/test_it.py", f"{name}/__pycache__/x.pyc", f"../../bin/{name}"]
    for file in (*files[:3], f"{info.name}/METADATA"):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    needs = "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n{needs}")
    (info / "RECORD").write_text("".join(f"{file},,\n" for file in (*files, f"{info.name}/METADATA")))


def test_libraries_of_a_program() -> None:
    assert libraries(LISTING) == {
        "libm.so.6": Path("/lib/x86_64-linux-gnu/libm.so.6"),
        "ld-linux-x86-64.so.2": Path("/lib64/ld-linux-x86-64.so.2"),
    }
    with pytest.raises(CannotAssemble, match="libgone"):
        libraries("\tlibgone.so.1 => not found\n")


def test_packages_that_both_need_are_put_in_once(tmp_path: Path) -> None:
    packages, agent, python = (tmp_path / name for name in ("packages", "agent", "python"))
    installed(
        packages,
        "clearml_agent",
        "requests (>=2)",
        "virtualenv",
        'colorama ; sys_platform == "win32"',
        "x[y] ; extra == 'z'",
    )
    installed(packages, "requests")
    installed(packages, "virtualenv", "file_lock>=3")
    installed(packages, "File.Lock")
    installed(packages, "kubernetes", "requests")
    separate(packages, agent=agent, python=python)
    assert {path.name for path in agent.iterdir() if "-" not in path.name} == {"clearml_agent", "requests"}
    assert {path.name for path in python.iterdir() if "-" not in path.name} == {"virtualenv", "File.Lock"}
    assert [path.name for path in sorted((agent / "requests").iterdir())] == ["__init__.py"]
    assert not (tmp_path / "bin").exists()


def test_the_agent_sees_no_packages_of_the_image(tmp_path: Path) -> None:
    """PYTHONPATH is the image's, for a Python of its own; the programs that the agent starts get it as ever."""
    image, agent, shared = (tmp_path / name for name in ("image", "agent", "shared"))
    for folder in (image, shared):
        folder.mkdir()
        (folder / "both.py").write_text(f"print({folder.name!r})")
    own = make_agent(agent, python=Path(sys.executable).resolve(), shared=shared)
    (own / "requests.py").write_text("print('its own')")
    (image / "requests.py").write_text("print('of the image')")
    code = "import both, requests, os; print(os.environ['PYTHONPATH'])"
    for given in (str(image), f"{image}/../image:", "image"):
        environment = {"PYTHONPATH": given}
        command = [agent / "bin/python", "-c", code]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.stdout.splitlines() == ["shared", "its own", given], done.stderr


def test_a_package_that_is_not_there_is_named(tmp_path: Path) -> None:
    installed(tmp_path, "virtualenv", "distlib")
    with pytest.raises(MissingPackage, match="distlib"):
        separate(tmp_path, agent=tmp_path / "a", python=tmp_path / "b")


def test_pips_are_named_by_their_files_and_the_newest_is_installed(tmp_path: Path) -> None:
    for version in PIPS:
        with zipfile.ZipFile(tmp_path / f"pip-{version}-py3-none-any.whl", "w") as wheel:
            wheel.writestr("pip/__init__.py", version)
    found = pip_versions(tmp_path)
    assert found.endswith("]\n")
    for version, marker in PIPS.items():
        assert f'" @ file://{tmp_path}/pip-{version}-py3-none-any.whl ; {marker}"' in found
    install_pip(tmp_path, target=tmp_path / "site")
    assert (tmp_path / "site/pip/__init__.py").read_text() == "25.3"
    with pytest.raises(MissingPackage, match="no wheel of pip"):
        pip_versions(tmp_path / "site")


def test_the_lock_has_the_same_pips() -> None:
    lines = (ROOT / "controller/bootstrap/pips.lock").read_text().splitlines()
    assert [line.split()[0] for line in lines] == [f"pip=={version}" for version in PIPS]

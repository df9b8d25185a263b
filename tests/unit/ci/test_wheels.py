"""The wheels of the end-to-end tests' package index: those that are locked, by their hashes, or none."""

from __future__ import annotations

import hashlib
import re
import zipfile
from pathlib import Path

import e2e_index
import pytest

NAME = "locked_thing-1.0-py3-none-any.whl"


@pytest.fixture(autouse=True)
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of a package index, and a cache of its own."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("CLEARML_K8S_CACHE", str(tmp_path / "cache"))
    return folder


def write_wheel(folder: Path, *, text: str = "") -> str:
    """A wheel that pip takes; its sha256."""
    info = "locked_thing-1.0.dist-info"
    with zipfile.ZipFile(folder / NAME, "w") as wheel:
        wheel.writestr("locked_thing.py", text)
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: locked-thing\nVersion: 1.0\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    return hashlib.sha256((folder / NAME).read_bytes()).hexdigest()


def write_lock(folder: Path, digest: str) -> Path:
    lock = folder / "wheels.lock"
    lock.write_text(f"locked-thing==1.0 --hash=sha256:{digest}\n")
    return lock


def test_a_locked_wheel_is_fetched_once(index: Path, tmp_path: Path) -> None:
    lock = write_lock(tmp_path, write_wheel(index))
    folder = e2e_index.fetch_wheels(lock)
    assert [file.name for file in folder.iterdir()] == [NAME]
    (index / NAME).unlink()
    assert e2e_index.fetch_wheels(lock) == folder


def test_another_wheel_of_the_same_name_is_refused_and_not_kept(index: Path, tmp_path: Path) -> None:
    lock = write_lock(tmp_path, write_wheel(index))
    digest = write_wheel(index, text="print('another')\n")
    for _ in range(2):
        with pytest.raises(e2e_index.WheelsNotFetched, match=digest):
            e2e_index.fetch_wheels(lock)
    assert not list((tmp_path / "cache/wheels").glob("[!.]*"))


def test_every_wheel_of_the_real_lock_has_a_hash() -> None:
    named = re.findall(r"^([a-z]+)==\S+ \\\n    --hash=sha256:[0-9a-f]{64}", e2e_index.LOCK.read_text(), re.MULTILINE)
    assert {e2e_index.PACKAGE, "pip", "setuptools", "wheel"} <= set(named)

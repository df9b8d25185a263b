"""chart-testing (ct) on the real cluster, as `make ct-lint` and `make ct-install` run it, for each values file in ci/.

ct works on a git checkout: here one of its own, with a remote whose main has the version before.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest
from e2e_programs import run

from ci import charts
from ci.paths import ROOT

CHART = Path("charts/clearml-agent")
FILES = sorted(path.name for path in (ROOT / CHART / "ci").glob("*-values.yaml"))
AUTHOR = ("-c", "user.name=test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false")


def git(folder: Path, *words: str) -> str:
    return run("git", "-C", folder, *AUTHOR, *words).out


def checkout(tmp_path: Path, *files: str) -> Path:
    """The chart as it is here with these values files, a change of the version before, which its remote's main has."""
    folder = tmp_path / "checkout"
    (folder / "ci").mkdir(parents=True)
    shutil.copytree(ROOT / CHART, folder / CHART)
    for file in (ROOT / "ci").glob("ct*.yaml"):
        shutil.copy(file, folder / "ci")
    for file in (folder / CHART / "ci").glob("*-values.yaml"):
        if file.name not in files:
            file.unlink()
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message=the version before")
    git(folder, "clone", "--quiet", "--bare", str(folder), str(tmp_path / "remote.git"))
    git(folder, "remote", "add", "origin", str(tmp_path / "remote.git"))
    git(folder, "fetch", "--quiet", "origin")
    text = (folder / CHART / "Chart.yaml").read_text()
    version = re.search(r"^version: (\d+\.\d+)\.(\d+)$", text, re.MULTILINE)
    assert version
    higher = f"version: {version[1]}.{int(version[2]) + 1}"
    (folder / CHART / "Chart.yaml").write_text(text.replace(version[0], higher))
    git(folder, "commit", "--quiet", "--all", "--message=the version that is tested")
    return folder


def said(capfd: pytest.CaptureFixture[str]) -> str:
    out, err = capfd.readouterr()
    return out + err


def values_files(text: str, what: str) -> list[str]:
    return re.findall(rf'{what} with values file "(?:[^"]*/)?([^"/]+)"', text)


def test_lint(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    charts.lint(folder=checkout(tmp_path, *FILES))
    text = said(capfd)
    assert values_files(text, "Linting chart") == FILES
    assert "[WARNING]" not in text


def test_lint_fails_on_wrong_values_and_on_a_careless_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = checkout(tmp_path, *FILES)
    file = folder / CHART / "ci/wrong-values.yaml"
    for text, complaint in (
        ("agentk8sglue:\n  quues: {}\n", "quues"),
        ("agentk8sglue:\n  queues: {}\n  queues: {}\n", 'duplication of key "queues"'),
    ):
        file.write_text(text)
        with pytest.raises(charts.ChartError):
            charts.lint(folder=folder)
        assert complaint in said(capfd)


@pytest.mark.usefixtures("images")
@pytest.mark.parametrize("files", [FILES[:2], pytest.param(FILES, marks=pytest.mark.long)])
def test_install(tmp_path: Path, capfd: pytest.CaptureFixture[str], files: list[str]) -> None:
    charts.install(folder=checkout(tmp_path, *files))
    text = said(capfd)
    assert values_files(text, "Installing chart") == files
    # Not at a line's begin alone: ct joins what several of its programs print.
    assert len(re.findall(r"TEST SUITE: ", text)) == len(files), text
    assert len(re.findall(r"Phase: +Succeeded", text)) == len(files), text


def assert_upgraded(text: str, files: list[str]) -> None:
    """From the version before, from itself, and installed anew; each of these five steps with a test that passed."""
    assert "skipped" not in text.lower()
    assert values_files(text, r'Installing chart "[^\n]*ct-previous-revision[^\n]*"') == files
    assert len(re.findall(r"has been upgraded", text)) == 2 * len(files)
    assert len(re.findall(r"Phase: +Succeeded", text)) == 5 * len(files), text


@pytest.mark.usefixtures("images")
def test_upgrade(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    charts.install(folder=checkout(tmp_path, "queues-values.yaml"), upgrade=True)
    assert_upgraded(said(capfd), ["queues-values.yaml"])


@pytest.mark.long
@pytest.mark.usefixtures("images")
@pytest.mark.parametrize("program", ["helm4", "helm3"])
def test_upgrade_with_every_file(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    helm = shutil.which(program)
    assert helm
    (tmp_path / "helm").symlink_to(helm)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    charts.install(folder=checkout(tmp_path, *FILES), upgrade=True)
    assert_upgraded(said(capfd), FILES)

"""README.md is what helm-docs makes of its template and values.yaml, and `make verify` would tell."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from chart_render import CHART, load_yaml

from ci import charts


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A folder with a copy of the chart."""
    shutil.copytree(CHART, tmp_path / "charts/clearml-agent")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "old"), [("values.yaml", "cpu: 50m"), ("README.md.gotmpl", "## Install"), ("README.md", "## Install")]
)
def test_a_change_of_any_of_the_three_is_told(copy: Path, name: str, old: str) -> None:
    charts.readme(folder=copy, check=True)
    file = copy / "charts/clearml-agent" / name
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, f"{old}1"))
    with pytest.raises(charts.ChartError, match="README"):
        charts.readme(folder=copy, check=True)
    charts.readme(folder=copy)
    charts.readme(folder=copy, check=True)


def test_it_lists_every_top_level_key() -> None:
    text = (CHART / "README.md").read_text()
    for key in load_yaml(CHART / "values.yaml"):
        assert f"| `{key}" in text, key

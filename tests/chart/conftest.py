"""Fixtures of the chart's tests: all is rendered by each of the three Helms, by two of them in `make test-long`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from chart_render import CREDENTIALS, HELMS, Rendered, merged
from chart_render import render as render_values

HERE = Path(__file__).resolve().parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each case by one Helm, in turn; by the other two in `make test-long`: that they differ is rare."""
    numbers: dict[str, int] = {}
    for item in items:
        name = getattr(item, "callspec", None) and item.callspec.params.get("helm_name")
        if name is None or HERE not in item.path.parents:
            continue
        number = numbers.setdefault(item.nodeid.replace(name, "", 1), len(numbers))
        if name != HELMS[number % len(HELMS)]:
            item.add_marker(pytest.mark.long)


@pytest.fixture(params=HELMS)
def helm_name(request: pytest.FixtureRequest) -> str:
    """Which Helm; a missing one fails the test that asks for it."""
    name: str = request.param
    return name


@pytest.fixture
def render(helm_name: str) -> Callable[..., Rendered]:
    """Renders the given values over fake credentials."""

    def with_credentials(values: Mapping[str, Any] | None = None, **named: str) -> Rendered:
        return render_values(helm_name, merged(CREDENTIALS, values or {}), **named)

    return with_credentials


@pytest.fixture
def render_bare(helm_name: str) -> Callable[..., Rendered]:
    """Renders the given values and nothing else."""

    def bare(values: Mapping[str, Any], **named: str) -> Rendered:
        return render_values(helm_name, values, **named)

    return bare

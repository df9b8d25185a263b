"""Fixtures of the chart's tests: everything is rendered by each of the three Helms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from chart_render import CREDENTIALS, HELMS, Rendered, merged
from chart_render import render as render_values


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

"""Cases of a matrix that only `make test-long` runs, where the others find most of what is wrong."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def rest_is_long(cases: Iterable[Any], *, but: Iterable[Any], name: str | None = None) -> list[Any]:
    """The cases, those that are not in ``but`` marked `long`; ``name``: the attribute that ``but`` tells them by.

    Raises ValueError for one of ``but`` that is no case.
    """
    every = [(case, case if name is None else getattr(case, name)) for case in cases]
    kept = list(but)
    if unknown := [key for key in kept if key not in [known for _, known in every]]:
        raise ValueError(f"no such cases: {unknown}")
    return [case if key in kept else pytest.param(case, marks=pytest.mark.long) for case, key in every]

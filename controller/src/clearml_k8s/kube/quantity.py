"""Quantities as Kubernetes writes them: ``500m``, ``2``, ``0.5``, ``1e3``, ``4Gi``."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

_QUANTITY = re.compile(
    r"(?P<number>[+-]?(?:[0-9]{1,24}(?:\.[0-9]{0,24})?|\.[0-9]{1,24}))(?P<suffix>[A-Za-z]{0,2}|[eE][+-]?[0-9]{1,2})"
)
_SUFFIXES: Final = {
    "": Fraction(1),
    **{suffix: Fraction(1, 1000**power) for power, suffix in enumerate("mun", start=1)},
    **{suffix: Fraction(1000**power) for power, suffix in enumerate("kMGTPE", start=1)},
    **{f"{suffix}i": Fraction(1024**power) for power, suffix in enumerate("KMGTPE", start=1)},
}


def quantity(value: object) -> Fraction | None:
    """The number, exactly; None for what is no quantity. YAML's plain numbers count, too."""
    if isinstance(value, bool):
        return None
    match = _QUANTITY.fullmatch(str(value)) if isinstance(value, str | int | float) else None
    if match is None:
        return None
    suffix = match["suffix"]
    if suffix in _SUFFIXES:
        factor = _SUFFIXES[suffix]
    elif suffix[0] in "eE" and len(suffix) > 1 and suffix[1:].lstrip("+-").isdecimal():
        factor = Fraction(10) ** int(suffix[1:])
    else:
        return None
    return Fraction(match["number"]) * factor

"""Amounts as Kubernetes writes them: `500m`, `2`, `1.5Gi`, `1e3`."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

LONGEST: Final = 40
"""Characters of a quantity; what is longer is none."""

_QUANTITY = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(?:[eE]([+-]?\d{1,2})|([numkMGTPE]|[KMGTPE]i))?", re.ASCII)
_DECIMAL = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY: dict[str, int] = {
    suffix: 1024**power for power, suffix in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), start=1)
}


def quantity(value: object) -> Decimal | None:
    """The amount, exact; None for what is none, and for a negative one, as nobody uses less than nothing."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    text = str(value).strip()
    found = _QUANTITY.fullmatch(text.removeprefix("+")) if len(text) <= LONGEST else None
    if found is None:
        return None
    number, exponent, suffix = found.groups()
    if exponent is not None:
        return Decimal(number).scaleb(int(exponent))
    if suffix in _BINARY:
        return Decimal(number) * Decimal(_BINARY[suffix])
    return Decimal(number).scaleb(_DECIMAL.get(suffix or "", 0))


def shown(amount: Decimal) -> str:
    """For a person: without an exponent, and without zeros at its end."""
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text

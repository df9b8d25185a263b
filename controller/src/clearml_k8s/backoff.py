"""Full-jitter exponential back-off: how long to wait before the n-th repeat."""

from __future__ import annotations

from random import Random


class Backoff:
    """Waits drawn evenly from ``0`` to ``first * 2**n``, the upper end at most ``cap`` seconds.

    `floor` is the part of the upper end that is always waited (0.1 of it), so that no draw makes a tight loop.
    """

    def __init__(self, *, first: float = 0.5, cap: float = 30.0, random: Random | None = None) -> None:
        self._first = first
        self._cap = cap
        self._random = random or Random()
        self._failures = 0

    @property
    def failures(self) -> int:
        """How many waits were drawn since the last `reset`."""
        return self._failures

    def reset(self) -> None:
        self._failures = 0

    def next(self) -> float:
        """Seconds to wait before the next try."""
        upper = min(self._cap, self._first * 2.0 ** min(self._failures, 30))
        self._failures += 1
        return self._random.uniform(upper * 0.1, upper)

"""The write to Elasticsearch that queue calls make after the database change and before the answer.

Nothing is stored. What matters is when it happens and that it can be slow or fail: section 7 of the API contract.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

from . import errors


@dataclass(kw_only=True)
class MetricsSink:
    """``probability`` of failing with 500/100 and a delay drawn evenly from ``delay`` (seconds), for every write."""

    probability: float = 0.0
    delay: tuple[float, float] = (0.0, 0.0)
    remaining: int | None = None
    failures: int = 0
    random: random.Random = field(default_factory=lambda: random.Random(0))

    def configure(
        self, *, probability: float, delay: tuple[float, float], remaining: int | None, seed: int = 0
    ) -> None:
        """``remaining``: fail that many times, then be well; None for as long as it stays configured."""
        self.probability, self.delay, self.remaining = probability, delay, remaining
        self.random = random.Random(seed)

    async def write(self) -> None:
        if self.delay[1] > 0:
            await asyncio.sleep(self.random.uniform(*self.delay))
        if self.probability <= 0 or (self.remaining is not None and self.remaining <= 0):
            return
        if self.random.random() < self.probability:
            if self.remaining is not None:
                self.remaining -= 1
            self.failures += 1
            raise errors.general_data_error("elasticsearch: unavailable_shards_exception")

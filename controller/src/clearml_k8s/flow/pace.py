"""How many Jobs Kubernetes gets at one time: about as many as it has looked after in the last seconds.

A small control plane executes some three Jobs a second, whatever it is sent. What it has not got to yet waits in
ClearML's queues instead, where users see it and can reorder it. Only the pace goes by a clock, never a count.
"""

from __future__ import annotations

from collections import deque

from clearml_k8s.clock import Clock

WINDOW_SECONDS = 10.0
"""How much work Kubernetes has before it at most, at its own pace."""

LEAST = 30
"""For a control plane that looks after three Jobs a second, and to learn the pace of a faster one."""

MOST = 1000


class Pace:
    """Follows how fast Kubernetes finds nodes for pods, or sees that there is none."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._known: set[str] | None = None
        self._seen: deque[tuple[float, int]] = deque()
        self.most = LEAST
        """How many may be before it now."""

    def look(self, got_to: set[str]) -> None:
        """``got_to``: the uids of all Jobs that it has looked after."""
        now = self._clock.monotonic()
        if self._known is not None:
            new = len(got_to - self._known)
            if new:
                self._seen.append((now, new))
        self._known = got_to
        while self._seen and self._seen[0][0] <= now - WINDOW_SECONDS:
            self._seen.popleft()
        self.most = min(MOST, max(LEAST, sum(number for _, number in self._seen)))

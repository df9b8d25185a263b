"""Running other programs."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from .errors import ClusterError


def run(command: Sequence[str | Path], *, given: str | None = None, check: bool = True, limit: float = 60) -> str:
    """Standard output of a command; ClusterError with its standard error when it fails or exceeds `limit` s."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, input=given, capture_output=True, text=True, timeout=limit, check=False)
    except FileNotFoundError:
        raise ClusterError(f"the program {words[0]} is missing") from None
    except subprocess.TimeoutExpired:
        raise ClusterError(f"no end after {limit:.0f} s: {' '.join(words)}") from None
    if check and done.returncode != 0:
        reason = done.stderr.strip() or done.stdout.strip() or "no message"
        raise ClusterError(f"failed with exit code {done.returncode}: {' '.join(words)}\n{reason}")
    return done.stdout

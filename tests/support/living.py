"""Which processes there are."""

from __future__ import annotations

from pathlib import Path


def runs(pid: int) -> bool:
    """Whether there is such a process that has not ended; one that nobody waits for stays a zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in ("Z", "X")

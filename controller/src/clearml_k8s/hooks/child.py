"""A process of the administrator's own code: without our credentials, ended in time with all that it has started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clearml_k8s.clock import Clock

MOST_AT_ONE_TIME: Final = 4
"""Processes of one kind; others of it wait."""

LOOK_SECONDS: Final = 0.02
"""Between two looks at whether it has ended: no thread waits for it, which something else would want."""

MOST_ROUNDS: Final = 20
"""Looks for what its session still starts while it is ended."""

_SECRETS: Final = ("CLEARML_API_ACCESS_KEY", "CLEARML_API_SECRET_KEY", "CLEARML_AUTH_TOKEN")
_PROC: Final = Path("/proc")


def environment() -> dict[str, str]:
    """Ours, without credentials."""
    return {name: value for name, value in os.environ.items() if name not in _SECRETS}


async def ended(process: subprocess.Popen[bytes], *, seconds: float, clock: Clock) -> bool:
    """Whether it has ended in time; after that, or when this is cancelled, nothing of its session runs any more.

    ``process``: begun with ``start_new_session``.
    """
    try:
        async with clock.timeout(seconds):
            while process.poll() is None:
                await clock.sleep(LOOK_SECONDS)
    except TimeoutError:
        return False
    finally:
        # With whatever it has started, and in any case.
        _end(process.pid)
        process.wait()
        _bury()
    return True


@dataclass(frozen=True, kw_only=True, slots=True)
class _Process:
    """As /proc shows it."""

    pid: int
    parent: int
    session: int
    dead: bool


def _end(session: int) -> None:
    """End the session's processes, also those that have a process group of their own (`timeout`, `set -m`)."""
    with contextlib.suppress(OSError):
        os.killpg(session, signal.SIGKILL)
    told = {session}  # which is ours to wait for
    for _ in range(MOST_ROUNDS):
        left = {one.pid for one in _processes() if one.session == session and not one.dead} - told
        if not left:
            return
        told |= left
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)


def _bury() -> None:
    """Take note of the end of what became our child as its own parent has ended: in a container we are process 1.

    Whom we have started ourselves is in our session, or the first of its own.
    """
    own, session = os.getpid(), os.getsid(0)
    for one in _processes():
        if one.dead and one.parent == own and one.session not in (session, one.pid):
            with contextlib.suppress(OSError):
                os.waitpid(one.pid, os.WNOHANG)


def _processes() -> Iterator[_Process]:
    for folder in _PROC.iterdir() if _PROC.is_dir() else ():
        if not folder.name.isdecimal():
            continue
        with contextlib.suppress(OSError, ValueError, IndexError):
            # The name, in brackets, may hold anything.
            state, parent, _group, session = (
                (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[:4]
            )
            yield _Process(pid=int(folder.name), parent=int(parent), session=int(session), dead=state in ("Z", "X"))

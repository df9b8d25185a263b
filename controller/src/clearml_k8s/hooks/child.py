"""A process of the administrator's own code: without our credentials, ended in time with all that it has started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from typing import Final

from clearml_k8s.clock import Clock

MOST_AT_ONE_TIME: Final = 4
"""Processes of one kind; others of it wait."""

LOOK_SECONDS: Final = 0.02
"""Between two looks at whether it has ended: no thread waits for it, which something else would want."""

_SECRETS: Final = ("CLEARML_API_ACCESS_KEY", "CLEARML_API_SECRET_KEY", "CLEARML_AUTH_TOKEN")


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
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return True

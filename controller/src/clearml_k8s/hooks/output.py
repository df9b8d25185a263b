"""What code of the administrator's own prints: the last of it, with what looks secret blanked."""

from __future__ import annotations

import asyncio
import os
from typing import Final

from clearml_k8s.hidden import hiding, without_secrets

MOST_KEPT: Final = 4000
"""Bytes of what a command prints: the last ones."""

AT_ONCE: Final = 65536
"""Bytes that are read in one go, and for nothing else waits meanwhile."""

FREELY: Final = 16
"""Reads before it has to take its time."""

PAUSE_SECONDS: Final = 0.05


class Output:
    """The last of what comes through a pipe. Who writes much has to take its time: the loop has more to do."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._reader, self.writer = os.pipe()
        os.set_blocking(self._reader, False)
        self._kept, self._cut, self._reads = b"", False, 0
        self._later: asyncio.TimerHandle | None = None
        self._loop.add_reader(self._reader, self._more)

    def _more(self) -> None:
        if not self._read():
            self._loop.remove_reader(self._reader)
            return
        self._reads += 1
        if self._reads > FREELY:
            self._loop.remove_reader(self._reader)
            self._later = self._loop.call_later(PAUSE_SECONDS, self._loop.add_reader, self._reader, self._more)

    def _read(self) -> bool:
        """Whether there may be more."""
        try:
            data = os.read(self._reader, AT_ONCE)
        except BlockingIOError:
            return True
        self._cut = self._cut or len(self._kept) + len(data) > MOST_KEPT
        self._kept = (self._kept + data)[-MOST_KEPT:]
        return bool(data)

    def end(self) -> str:
        """What there is by now, without a line that is cut, no secrets: whoever has the pipe still writes to nobody."""
        if self._later is not None:
            self._later.cancel()
        self._loop.remove_reader(self._reader)
        # As much as a pipe holds; whoever fills it anew has escaped, and is not waited for.
        self._read()
        os.close(self._reader)
        text = self._kept.decode(errors="replace")
        return hidden((text.partition("\n")[2] if self._cut else text).strip())


def hidden(text: str) -> str:
    """Without what looks secret in it, by its name or in our environment."""
    return without_secrets(hiding(os.environ.items())(text))

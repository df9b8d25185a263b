"""Commands of the administrator's own, each in a shell that is ended with all that it has started."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from clearml_k8s.clock import Clock, in_turns
from clearml_k8s.errors import HookUnavailable
from clearml_k8s.hidden import hiding, without_secrets
from clearml_k8s.hooks.child import MOST_AT_ONE_TIME, ended, environment

MOST_KEPT: Final = 4000
"""Bytes of what a command prints: the last ones."""

AT_ONCE: Final = 65536
"""Bytes that are read in one go, and for nothing else waits meanwhile."""

FREELY: Final = 16
"""Reads before it has to take its time."""

PAUSE_SECONDS: Final = 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """``code``: None when it was ended for taking too long; ``output``: the last of what it printed, no secrets."""

    code: int | None
    output: str = ""


class Shell:
    """Runs commands of one kind, a few at one time; the others wait as long as these last."""

    def __init__(self, *, seconds: float, clock: Clock, may_run: Callable[[], bool] = lambda: True) -> None:
        """``may_run``: asked once more when it is a command's turn, which may be long after it came."""
        self._may_run = may_run
        self._seconds = seconds
        self._clock = clock
        self._places = asyncio.Semaphore(MOST_AT_ONE_TIME)
        self._program = shutil.which("bash") or "/bin/sh"

    async def __call__(self, command: str, *, variables: Mapping[str, str]) -> Ended:
        """Run it, with these variables beside those of the process. Raises HookUnavailable when it cannot be begun,
        or may not any more."""
        await in_turns(self._places.acquire, clock=self._clock)
        try:
            if not self._may_run():
                raise HookUnavailable("it is not run: this process may not lead any more")
            return await self._run(command, variables)
        finally:
            self._places.release()

    async def _run(self, command: str, variables: Mapping[str, str]) -> Ended:
        output = _Output()
        try:
            try:
                process = subprocess.Popen(  # noqa: S603, ASYNC220 - the administrator's own, nothing waits for it here
                    [self._program, "-c", command],
                    stdin=subprocess.DEVNULL,
                    stdout=output.writer,
                    stderr=output.writer,
                    start_new_session=True,
                    env={**environment(), **variables},
                )
            except (OSError, ValueError) as error:
                raise HookUnavailable(f"no process for it: {error}") from None
            finally:
                os.close(output.writer)
            in_time = await ended(process, seconds=self._seconds, clock=self._clock)
        finally:
            text = output.end()
        hidden = without_secrets(hiding(os.environ.items())(text))
        return Ended(code=process.returncode if in_time else None, output=hidden)


class _Output:
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
        """What there is by now, without a line that is cut: whoever has the pipe still writes to nobody."""
        if self._later is not None:
            self._later.cancel()
        self._loop.remove_reader(self._reader)
        # As much as a pipe holds; whoever fills it anew has escaped, and is not waited for.
        self._read()
        os.close(self._reader)
        text = self._kept.decode(errors="replace")
        return (text.partition("\n")[2] if self._cut else text).strip()

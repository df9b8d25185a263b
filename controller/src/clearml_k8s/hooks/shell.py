"""Commands of the administrator's own, each in a shell that is ended with all that it has started."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from clearml_k8s.clock import Clock, in_turns
from clearml_k8s.errors import HookUnavailable
from clearml_k8s.hooks.child import MOST_AT_ONE_TIME, ended, environment
from clearml_k8s.hooks.output import Output


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
        output = Output()
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
        return Ended(code=process.returncode if in_time else None, output=text)

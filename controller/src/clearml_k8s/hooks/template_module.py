"""The controller's side of a template module: a process for each call, which is ended with all that it has started.

Request and answer are files, not pipes: whoever holds one open makes nobody wait.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import IO, Any, Final

from clearml_k8s.clock import Clock, in_turns
from clearml_k8s.config import TemplateModuleConfig
from clearml_k8s.errors import HookUnavailable, SpecError
from clearml_k8s.hooks.child import MOST_AT_ONE_TIME, ended, environment
from clearml_k8s.hooks.output import Output, hidden

log = logging.getLogger(__name__)

LONGEST_ANSWER: Final = 4_000_000
"""Bytes; a Job takes a quarter of it."""


class TemplateModule:
    """Calls the function, a few calls at one time; the others wait as long as these last."""

    def __init__(self, config: TemplateModuleConfig, *, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._places = asyncio.Semaphore(MOST_AT_ONE_TIME)

    async def __call__(
        self, *, template: Mapping[str, Any], task: Mapping[str, Any], queue: str, queue_name: str
    ) -> dict[str, Any]:
        """The template that the function makes of this one, a Pod's `metadata` and `spec`; ``task``: as
        `tasks.get_by_id` answers it, ``queue``: an id.

        Raises SpecError, with what went wrong, when the function raises, takes too long, or returns something else, and
        HookUnavailable when it cannot be called at all.
        """
        request = json.dumps(
            {
                "template": template,
                "task_dict": task,
                "queue": queue,
                "queue_name": queue_name,
                "providers_info": {},
            }
        )
        await in_turns(self._places.acquire, clock=self._clock)
        try:
            with tempfile.TemporaryFile("w+b") as answer:
                try:
                    in_time = await self._run(request, answer)
                except OSError as error:
                    raise HookUnavailable(self._named(f"no process for it: {error}")) from None
                answer.seek(0)
                lines = answer.read(LONGEST_ANSWER).decode(errors="replace").splitlines()
        finally:
            self._places.release()
        return self._template(lines, in_time=in_time)

    async def _run(self, request: str, answer: IO[bytes]) -> bool:
        """Whether the process has ended in time."""
        output, in_time = Output(), False
        try:
            try:
                process = self._begin(request, answer, output)
            finally:
                os.close(output.writer)
            in_time = await ended(process, seconds=self._config.timeout_seconds, clock=self._clock)
        finally:
            for line in output.end().splitlines():
                log.info("template module: %s", line)
        return in_time

    def _begin(self, request: str, answer: IO[bytes], output: Output) -> subprocess.Popen[bytes]:
        with tempfile.TemporaryFile("w+b") as given:
            given.write(request.encode())
            given.seek(0)
            return subprocess.Popen(  # noqa: S603 - our own program, and nothing waits for it here
                [
                    sys.executable,
                    "-m",
                    "clearml_k8s.hooks.worker",
                    str(answer.fileno()),
                    self._config.function,
                    *self._config.path,
                ],
                stdin=given,
                stdout=subprocess.DEVNULL,
                stderr=output.writer,
                pass_fds=(answer.fileno(),),
                start_new_session=True,
                env=environment(),
            )

    def _template(self, lines: list[str], *, in_time: bool) -> dict[str, Any]:
        answers = [found for line in lines if isinstance(found := _parsed(line), dict)]
        error = next((str(found["error"]) for found in answers if "error" in found), "")
        error = hidden(error)
        if not any("loaded" in found for found in answers):
            raise HookUnavailable(self._named(f"it cannot be loaded: {error or self._silent(in_time=in_time)}"))
        if not in_time:
            raise SpecError(self._named(f"it took more than {self._config.timeout_seconds:g} s, and was ended"))
        if error:
            raise SpecError(self._named(f"it raised {error}"))
        result = next((found["result"] for found in answers if "result" in found), None)
        if len(answers) < 2:
            raise SpecError(self._named("its process has ended without an answer that could be read"))
        template = result.get("template") if isinstance(result, dict) else None
        if not isinstance(template, dict):
            raise SpecError(self._named('it has to return {"template": {...}}'))
        return template

    def _silent(self, *, in_time: bool) -> str:
        """Why nothing was said of it."""
        if in_time:
            return "its process has ended; see the log"
        return f"that took more than {self._config.timeout_seconds:g} s; raise templateModule.timeoutSeconds"

    def _named(self, what: str) -> str:
        return f"the template module {self._config.function}: {what}"


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None

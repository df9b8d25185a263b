"""The controller's side of a template module: a process that is started when it is needed, and ended when it hangs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Mapping
from typing import Any, Final

from clearml_k8s.config import TemplateModuleConfig
from clearml_k8s.errors import HookBusy, SpecError

LONGEST_ANSWER: Final = 4_000_000
"""Bytes of one line; a Job takes a quarter of it."""
_SECRETS: Final = ("CLEARML_API_ACCESS_KEY", "CLEARML_API_SECRET_KEY", "CLEARML_AUTH_TOKEN")


class TemplateModule:
    """Calls the function, one call after the other."""

    def __init__(self, config: TemplateModuleConfig) -> None:
        self._config = config
        self._process: asyncio.subprocess.Process | None = None
        self._one = asyncio.Lock()

    async def __call__(
        self, *, template: Mapping[str, Any], task: Mapping[str, Any], queue: str, queue_name: str
    ) -> dict[str, Any]:
        """The template that the function makes of this one, a Pod's `metadata` and `spec`; ``task``: as
        `tasks.get_by_id` answers it, ``queue``: an id.

        Raises SpecError, with what went wrong, when the function raises, takes too long, or returns something else, and
        HookBusy when it is at others for as long.
        """
        request = {
            "template": template,
            "task_dict": task,
            "queue": queue,
            "queue_name": queue_name,
            "providers_info": {},
        }
        try:
            await asyncio.wait_for(self._one.acquire(), self._config.timeout_seconds)
        except TimeoutError:
            raise HookBusy(f"the template module {self._config.function} is at other tasks") from None
        try:
            async with asyncio.timeout(self._config.timeout_seconds):
                answer = await self._answer(json.dumps(request))
        except TimeoutError:
            await self.stop()
            raise self._wrong(f"it took more than {self._config.timeout_seconds:g} s, and was ended") from None
        except asyncio.CancelledError:
            # Half an answer would be taken for the next one.
            await self.stop()
            raise
        finally:
            self._one.release()
        return self._template(answer)

    async def stop(self) -> None:
        """End the process, if there is one."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _answer(self, request: str) -> Any:
        if self._process is None or self._process.returncode is not None:
            self._process = await self._start()
            begun = await self._read()
            if "error" in begun:
                await self.stop()
                raise self._wrong(f"it cannot be loaded: {begun['error']}")
        assert self._process.stdin is not None  # noqa: S101 - it was asked for
        with contextlib.suppress(ConnectionError):
            self._process.stdin.write(request.encode() + b"\n")
            await self._process.stdin.drain()
        return await self._read()

    async def _start(self) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "clearml_k8s.hooks.worker",
            self._config.function,
            *self._config.path,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LONGEST_ANSWER,
            env={name: value for name, value in os.environ.items() if name not in _SECRETS},
        )

    async def _read(self) -> Mapping[str, Any]:
        """One line of the process. Raises SpecError when it has ended, or writes something else."""
        assert self._process is not None  # noqa: S101 - it was started
        assert self._process.stdout is not None  # noqa: S101 - it was asked for
        try:
            line = await self._process.stdout.readline()
            answer: Any = json.loads(line) if line else None
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            await self.stop()
            raise self._wrong("its process has ended without an answer")
        return answer

    def _template(self, answer: Mapping[str, Any]) -> dict[str, Any]:
        if "error" in answer:
            raise self._wrong(f"it raised {answer['error']}")
        result = answer.get("result")
        template = result.get("template") if isinstance(result, dict) else None
        if not isinstance(template, dict):
            raise self._wrong('it has to return {"template": {...}}')
        return template

    def _wrong(self, what: str) -> SpecError:
        return SpecError(f"the template module {self._config.function}: {what}")

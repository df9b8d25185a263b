"""The clearml.conf of task pods, followed while it changes: what the controller itself goes by of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from clearml_k8s import hocon
from clearml_k8s.clearml import conf
from clearml_k8s.clock import Clock, holding, in_turns
from clearml_k8s.config.file import ConfigProblems
from clearml_k8s.errors import ConfigError
from clearml_k8s.logs import kv
from clearml_k8s.names import ENV_TASK_CONF
from clearml_k8s.spec.container_rules import NO_RULES, SECTION, ContainerRules, read_rules

log = logging.getLogger(__name__)

CREDENTIALS: Final = "api.credentials"

LOOK_SECONDS: Final = 10.0
"""Longest time for which a changed file goes unseen while tasks are taken."""


class TaskConf:
    """``rules`` are those of the last file that could be read; ``problem`` says why the present one cannot be, naming
    places and never showing what stands there."""

    def __init__(self, path: Path | None, *, clock: Clock) -> None:
        """``path``: None where there is no such file."""
        self._path = path
        self._clock = clock
        self._one = asyncio.Lock()
        self._looked: float | None = None
        self._text: str | None = None
        self._rules: ContainerRules | None = None
        self.problem = ""
        self.credentials = ""
        """Why nobody may run as somebody else with this file: a key pair stands in it; "" when none does."""

    @property
    def rules(self) -> ContainerRules:
        """Those that count now."""
        return self._rules or NO_RULES

    @property
    def usable(self) -> bool:
        """Whether tasks may be taken: False while no file could be read yet, as their image is not known."""
        return self._path is None or self._rules is not None

    async def look(self, *, now: bool = False) -> None:
        """Read the file again if it has changed; looked at every `LOOK_SECONDS`, unless ``now``."""
        if self._path is None:
            return
        async with holding(self._one, clock=self._clock):
            at = self._clock.monotonic()
            if now or self._looked is None or at - self._looked >= LOOK_SECONDS:
                self._looked = at
                await self._read(self._path)

    async def _read(self, path: Path) -> None:
        text = self._changed(path)
        if text is None:
            return
        # In a thread: the parser takes a second for 20 kB, and there may be a whole megabyte in a Secret.
        reading = asyncio.ensure_future(asyncio.to_thread(_parsed, text, path=path))
        try:
            rules, credentials = await in_turns(lambda: asyncio.shield(reading), clock=self._clock)
        except ConfigError as error:
            self._text = text
            self._tell(str(error))
            return
        self._text = text
        if self._rules is not None and rules != self._rules:
            log.info("the rules for containers have changed", extra=kv(file=str(path), rules=len(rules.rules)))
        self._rules, self.credentials = rules, credentials
        self.problem = ""

    def _changed(self, path: Path) -> str | None:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            self._tell(f"{path} cannot be read ({type(error).__name__})")
            self._text = None
            return None
        return None if text == self._text else text

    def _tell(self, problem: str) -> None:
        if problem != self.problem:
            log.error("%s%s", problem, "; the rules read before are used" if self._rules is not None else "")
        self.problem = problem


def read_file(path: Path) -> ContainerRules:
    """Raises ConfigError."""
    try:
        return read_text(path.read_text(encoding="utf-8"), path=path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read ({type(error).__name__})") from None


def read_text(text: str, *, path: Path) -> ContainerRules:
    """Raises ConfigError: in words what is wrong, and where."""
    return _parsed(text, path=path)[0]


def _parsed(text: str, *, path: Path) -> tuple[ContainerRules, str]:
    """The rules, and why nobody may run as somebody else with this file ("" when nothing speaks against it)."""
    places = (SECTION.split("."), CREDENTIALS.split("."))
    section, credentials = hocon.parts(text, *places, source=str(path), folder=path.parent)
    try:
        rules = read_rules(section)
    except ConfigProblems as error:
        raise ConfigProblems([f"{path}: {problem}" for problem in error.problems]) from None
    if not credentials:
        return rules, ""
    return rules, (
        f"the clearml.conf of task pods has {CREDENTIALS}, which every task could read: with "
        "agentk8sglue.useOwnerToken take them out of it"
    )


def find(environ: Mapping[str, str], *, home: Path | None = None) -> Path | None:
    """Where the file is: mounted by the chart, else that of the controller itself. Raises ConfigError."""
    mounted = environ.get(ENV_TASK_CONF, "").strip()
    return Path(mounted) if mounted else conf.find(environ, home=home)

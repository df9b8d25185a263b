"""The process in which a template module runs, for one call.

    python -m clearml_k8s.hooks.worker <fd> module:function [folder...] < request

The request on stdin is a JSON object of keyword arguments. Lines of JSON go to the file descriptor: {"loaded": true}
once the function is there, then {"result": ...} or {"error": text}. What the function prints goes to stderr, the
last of which is in the controller's log. Nothing of the controller is imported.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TextIO

TASK_CONFIG = "task_config"
TASK_OBJECT = "task_data"

LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Of the container, by either version of control groups."""

LEAST_MEMORY, MOST_MEMORY = 64 << 20, 1 << 30
"""Bytes, whatever the container's limit is."""


class NoConfig:
    """In place of the agent's configuration with its vaults, which an open-source server does not have."""

    def get(self, _key: str, default: Any = None) -> Any:
        return default


def as_object(thing: Any) -> Any:
    """A structure whose members are read as attributes; objects of the server's API have those."""
    if isinstance(thing, Mapping):
        return SimpleNamespace(**{str(key): as_object(value) for key, value in thing.items()})
    if isinstance(thing, list):
        return [as_object(value) for value in thing]
    return thing


def load(reference: str) -> Callable[..., Any]:
    """The function of ``module:function``. Raises ImportError, AttributeError and whatever the module raises."""
    module, _, name = reference.partition(":")
    function = getattr(importlib.import_module(module), name)
    if not callable(function):
        raise TypeError(f"{reference} is no function")
    return function  # type: ignore[no-any-return]


def most_memory(limits: Iterable[Path] = LIMITS) -> int:
    """Bytes that the function may take: half of the container's limit, which ends the controller, too."""
    for path in limits:
        try:
            given = int(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue  # not there, or "max"
        return max(LEAST_MEMORY, min(MOST_MEMORY, given // 2))
    return MOST_MEMORY


def main(reference: str, *, request: str, out: TextIO) -> None:
    """One call, whatever the function does."""
    here = os.getpid()

    def say(**answer: Any) -> None:
        # A fork of the function that comes back here has nothing to say.
        if os.getpid() == here:
            print(json.dumps(answer), file=out, flush=True)

    try:
        function = load(reference)
        say(loaded=True)
        given: dict[str, Any] = json.loads(request)
        task = given["task_dict"]
        say(result=function(**given, **{TASK_OBJECT: as_object(task), TASK_CONFIG: NoConfig(), "worker": None}))
    except BaseException as error:
        traceback.print_exc()
        said = f"it may take {most_memory() >> 20} MiB" if isinstance(error, MemoryError) else error
        say(error=f"{type(error).__name__}: {said}"[:500])


if __name__ == "__main__":
    number, named, *folders = sys.argv[1:]
    text = sys.stdin.read()
    # What the function reads or prints is none of our request and answer.
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    sys.path[:0] = folders
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    if hard == resource.RLIM_INFINITY or hard > most_memory():
        resource.setrlimit(resource.RLIMIT_DATA, (most_memory(), hard))
    with os.fdopen(int(number), "w", encoding="utf-8") as channel:
        main(named, request=text, out=channel)

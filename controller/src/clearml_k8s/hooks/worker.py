"""The process in which a template module runs: one request in a line of JSON on stdin, one answer in a line on stdout.

    python -m clearml_k8s.hooks.worker module:function [folder...]

A request holds the keyword arguments of the function, an answer {"result": ...} or {"error": text}. What the function
prints goes to stderr, which is the controller's log. Nothing of the controller is imported.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any, TextIO

TASK_CONFIG = "task_config"
TASK_OBJECT = "task_data"


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


def answers(function: Callable[..., Any], requests: Iterator[str]) -> Iterator[str]:
    """One line for each; whatever the function does."""
    for line in requests:
        try:
            given: dict[str, Any] = json.loads(line)
            task = given["task_dict"]
            result = function(**given, **{TASK_OBJECT: as_object(task), TASK_CONFIG: NoConfig(), "worker": None})
            yield json.dumps({"result": result})
        except Exception as error:
            traceback.print_exc()
            yield json.dumps({"error": f"{type(error).__name__}: {error}"[:500]})


def load(reference: str) -> Callable[..., Any]:
    """The function of ``module:function``. Raises ImportError, AttributeError and whatever the module raises."""
    module, _, name = reference.partition(":")
    function = getattr(importlib.import_module(module), name)
    if not callable(function):
        raise TypeError(f"{reference} is no function")
    return function  # type: ignore[no-any-return]


def main(arguments: list[str], *, requests: TextIO, out: TextIO) -> int:
    """Serve until stdin ends. The first line out tells whether the function could be loaded."""
    reference, *folders = arguments
    sys.path[:0] = folders
    try:
        function = load(reference)
    except BaseException as error:
        traceback.print_exc()
        print(json.dumps({"error": f"{type(error).__name__}: {error}"[:500]}), file=out, flush=True)
        return 1
    print(json.dumps({"result": None}), file=out, flush=True)
    for line in answers(function, iter(requests.readline, "")):
        print(line, file=out, flush=True)
    return 0


if __name__ == "__main__":
    # What the function prints must not be taken for an answer.
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.exit(main(sys.argv[1:], requests=sys.stdin, out=channel))

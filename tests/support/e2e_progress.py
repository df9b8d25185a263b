"""What `make demo` prints: its steps with their times, and a task's console without the agent's own lines."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import e2e_index
import e2e_programs as programs
import e2e_tasks
from clearml_server.process import CallFailed, ServerNotReady

BEAT_SECONDS = 10.0


class DemoFailed(Exception):
    """What went wrong, in words, with where to look."""


class Progress:
    """Lines with the time since the start."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._lock = threading.Lock()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start

    def say(self, text: str) -> None:
        with self._lock:
            print(f"[{self.seconds:6.1f} s] {text}", flush=True)

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Say what is done, and every few seconds that it still is; a failure names it."""
        self.say(what)
        begun, over = time.monotonic(), threading.Event()

        def beat() -> None:
            while not over.wait(BEAT_SECONDS):
                self.say(f"  ... {time.monotonic() - begun:.0f} s")

        beater = threading.Thread(target=beat, daemon=True)
        beater.start()
        try:
            yield
        except (
            AssertionError,
            CallFailed,
            OSError,
            ServerNotReady,
            TimeoutError,
            programs.ProgramFailed,
            e2e_index.WheelsNotFetched,
            e2e_tasks.SdkFailed,
        ) as error:
            raise DemoFailed(f"{what}: {error}") from error
        finally:
            over.set()
            beater.join()


def folded(console: str) -> list[str]:
    """The console without what clearml-agent prints of its configuration and of its installation steps."""
    result: list[str] = []
    hidden, fold = 0, False
    for line in filter(None, (line.rstrip() for line in console.splitlines())):
        if line.startswith("Using custom configuration file"):
            fold = True
        elif line.startswith(("Executing task id", "Collecting ", "Running task id")):
            fold = False
        elif line.startswith(("INFO: acquiring lock", "created virtual environment", "  Attempting uninstall")):
            fold = True
        if fold or line.startswith(("/opt/", "  from pkg_resources", "Using environment ")):
            hidden += 1
            continue
        if hidden:
            result.append(f"({hidden} lines of clearml-agent's own)")
            hidden = 0
        result.append(line)
    return result

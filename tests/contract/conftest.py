"""Against which server the suite runs, and things that clean up after themselves.

``CLEARML_CONTRACT_URL``, ``CLEARML_CONTRACT_ACCESS_KEY``, ``CLEARML_CONTRACT_SECRET_KEY`` name a server; without them
the development server is started on a free loopback port. Tests marked ``devserver`` need the development server's own
endpoints; against another server they are left out, and the report says so.
"""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "fakes"))

from clearml_server.process import DevServer

from .client import Client

_NAMES = ("CLEARML_CONTRACT_URL", "CLEARML_CONTRACT_ACCESS_KEY", "CLEARML_CONTRACT_SECRET_KEY")
_left_out = pytest.StashKey[int]()


def external_server() -> tuple[str, str, str] | None:
    """URL, access key and secret key from the environment; None if none is set. All three or none."""
    values = [os.environ.get(name, "") for name in _NAMES]
    if not any(values):
        return None
    missing = [name for name, value in zip(_NAMES, values, strict=True) if not value]
    if missing:
        raise pytest.UsageError(f"{missing[0]} is not set; set all of {', '.join(_NAMES)}, or none of them")
    return values[0], values[1], values[2]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "devserver: needs the development server's own endpoints")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if external_server() is None:
        return
    left_out = [item for item in items if item.get_closest_marker("devserver")]
    items[:] = [item for item in items if not item.get_closest_marker("devserver")]
    config.stash[_left_out] = len(left_out)
    config.hook.pytest_deselected(items=left_out)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if left_out := config.stash.get(_left_out, 0):
        terminalreporter.write_line(
            f"contract: {left_out} tests need the development server and were not run against {os.environ[_NAMES[0]]}"
        )


@pytest.fixture(scope="session")
def server() -> Iterator[tuple[str, str, str]]:
    """URL, access key, secret key of the server under test."""
    found = external_server()
    if found is not None:
        yield found
        return
    with DevServer() as dev:
        yield dev.url, dev.access_key, dev.secret_key


@pytest.fixture(scope="session")
def api(server: tuple[str, str, str]) -> Client:
    return Client(*server)


class Maker:
    """Makes queues and tasks with names of their own, and deletes them at the end of the test."""

    def __init__(self, api: Client) -> None:
        self._api = api
        self._tasks: list[str] = []
        self._queues: list[str] = []
        self._workers: list[str] = []
        self.prefix = f"contract-{uuid.uuid4().hex[:12]}"

    def name(self, what: str = "thing") -> str:
        return f"{self.prefix}-{what}-{uuid.uuid4().hex[:6]}"

    def queue(self, **fields: Any) -> str:
        queue: str = self._api.ok("queues.create", **{"name": self.name("queue"), **fields})["id"]
        self._queues.append(queue)
        return queue

    def keep_queue(self, queue_id: str) -> None:
        """A queue that the test made by other means, to be deleted too."""
        self._queues.append(queue_id)

    def worker(self) -> str:
        worker = self.name("worker")
        self._workers.append(worker)
        return worker

    def task(self, *, queue: str | None = None, status: str = "created", **fields: Any) -> str:
        """A task, enqueued if ``queue`` is given, else brought into ``status`` without force."""
        task: str = self._api.ok("tasks.create", **{"name": self.name("task"), "type": "training", **fields})["id"]
        self._tasks.append(task)
        if queue is not None:
            self._api.ok("tasks.enqueue", task=task, queue=queue)
        elif status == "queued":
            self._api.ok("tasks.enqueue", task=task, queue=self.queue())
        else:
            for endpoint in _ROADS[status]:
                self._api.ok(endpoint, task=task)
        assert self._api.status(task) == ("queued" if queue else status)
        return task

    def clean(self) -> None:
        for task in self._tasks:
            self._api.post("tasks.delete", task=task, force=True)
        for queue in self._queues:
            self._api.post("queues.delete", queue=queue, force=True)
        for worker in self._workers:
            self._api.post("workers.unregister", worker=worker)


_ROADS: dict[str, tuple[str, ...]] = {
    "created": (),
    "in_progress": ("tasks.started",),
    "stopped": ("tasks.started", "tasks.stopped"),
    "failed": ("tasks.started", "tasks.failed"),
    "completed": ("tasks.started", "tasks.completed"),
    "closed": ("tasks.started", "tasks.stopped", "tasks.close"),
    "published": ("tasks.started", "tasks.stopped", "tasks.publish"),
}


@pytest.fixture
def make(api: Client) -> Iterator[Maker]:
    maker = Maker(api)
    yield maker
    maker.clean()

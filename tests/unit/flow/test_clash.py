"""Another one under our worker id is found by the tasks that run under it, and named."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

import pytest
from clearml_k8s import names
from clearml_k8s.app.connect import clearml_session
from clearml_k8s.clearml.keys import Credentials
from clearml_k8s.clearml.session import Session
from clearml_k8s.clock import SystemClock
from clearml_k8s.errors import ApiUnanswered
from clearml_k8s.flow.clash import WorkerClash, found
from clearml_server.process import DevServer
from flow_parts import make_config
from scripted_clearml import Api, Reply

OURS, THEIRS = "0000000001", "0000000002"


@pytest.fixture
async def real(server: DevServer) -> AsyncIterator[Session]:
    """A session to the development server."""
    credentials = Credentials(access_key=server.access_key, secret_key=server.secret_key, source="the test")
    config = make_config(api_server=server.url)
    async with clearml_session(config, credentials=credentials, clock=SystemClock()) as session:
        yield session


def runs(server: DevServer, *, marks: dict[str, str], worker: str = "lab") -> str:
    """A task whose agent reports under the worker id; ``marks``: controller id -> attempt."""
    task = str(server.create_task(queue="default"))
    items = [
        {"section": "properties", "name": names.mark_key(owner), "value": names.mark_value(attempt=at, instance="1")}
        for owner, at in marks.items()
    ]
    if items:
        server.call("tasks.edit_hyper_params", task=task, hyperparams=items, replace_hyperparams="none")
    server.call("workers.status_report", worker=f"{worker}:{task}", task=task, timestamp=1)
    return task


async def others(session: Session) -> dict[str, str]:
    return dict(await found(session, worker_id="lab", controller=OURS))


async def test_our_own_tasks_are_no_clash(server: DevServer, real: Session) -> None:
    assert await others(real) == {}
    runs(server, marks={OURS: "2026-01-01T00:00:00+00:00"})
    assert await others(real) == {}


async def test_another_controller_is_named_by_its_id_and_task(server: DevServer, real: Session) -> None:
    runs(server, marks={OURS: "2026-01-01T00:00:00+00:00"})
    task = runs(server, marks={THEIRS: "2026-01-01T00:00:00+00:00"})
    assert await others(real) == {THEIRS: task}


async def test_the_newest_mark_says_whose_task_it_is(server: DevServer, real: Session) -> None:
    """A task may have been another's in an earlier attempt."""
    runs(server, marks={THEIRS: "2026-01-01T00:00:00+00:00", OURS: "2026-01-02T00:00:00+00:00"})
    assert await others(real) == {}
    task = runs(server, marks={OURS: "2026-01-01T00:00:00+00:00", THEIRS: "2026-01-02T00:00:00+00:00"})
    assert await others(real) == {THEIRS: task}


async def test_without_a_mark_it_is_an_agent_of_another_kind(server: DevServer, real: Session) -> None:
    assert await others(real) == {}
    task = runs(server, marks={})
    assert await others(real) == {"": task}


@pytest.mark.parametrize("worker", ["lab2", "la", "host:lab"])
async def test_other_worker_ids_are_nothing_to_us(server: DevServer, real: Session, worker: str) -> None:
    runs(server, marks={THEIRS: "2026-01-01T00:00:00+00:00"}, worker=worker)
    assert await others(real) == {}


async def test_told_once_as_long_as_it_lasts(
    server: DevServer, real: Session, caplog: pytest.LogCaptureFixture
) -> None:
    clash = WorkerClash(session=real, worker_id="lab", controller=OURS)
    await clash.look()
    assert clash.problem == ""
    task = runs(server, marks={THEIRS: "2026-01-01T00:00:00+00:00"})
    for _ in range(2):
        await clash.look()
    (message,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert message == clash.problem
    assert f"worker id 'lab' is also that of controller {THEIRS} (task {task})" in message
    assert "agentk8sglue.workerIdOverride" in message
    server.call("workers.unregister", worker=f"lab:{task}")
    await clash.look()
    assert clash.problem == ""


@pytest.mark.parametrize("data", [{}, {"workers": None}, {"workers": {"id": "lab:ab"}}])
async def test_an_answer_without_workers_says_nothing(api: Api, session: Session, data: dict[str, object]) -> None:
    api.script("workers.get_all", Reply(data=data))
    with pytest.raises(ApiUnanswered, match="no list of workers"):
        await others(session)

"""The controller on the Workers page."""

from __future__ import annotations

import pytest
from clearml_k8s.clearml.session import Session
from clearml_k8s.errors import NotFound
from clearml_k8s.report.worker import ControllerWorker
from scripted_clearml import Api, Reply

AT = 1767225600


@pytest.fixture
def page(api: Api) -> Api:
    for action in ("register", "status_report", "unregister"):
        api.script(f"workers.{action}", Reply())
    return api


async def test_it_registers_reports_and_goes(page: Api, session: Session) -> None:
    queues = ["q2", "q1"]
    worker = ControllerWorker(session=session, worker_id="w", seconds=30, queues=lambda: queues)
    await worker.withdraw()
    await worker.report()
    await worker.report()
    assert page.of("workers.register") == [{"worker": "w", "queues": ["q1", "q2"], "timeout": 600}]
    assert page.of("workers.status_report") == [{"worker": "w", "timestamp": AT, "queues": ["q1", "q2"]}] * 2
    queues.append("q3")
    await worker.report()
    assert page.of("workers.register")[1:] == [{"worker": "w", "queues": ["q1", "q2", "q3"], "timeout": 600}]
    assert page.of("workers.status_report")[-1]["queues"] == ["q1", "q2", "q3"]
    await worker.withdraw()
    await worker.withdraw()
    assert page.of("workers.unregister") == [{"worker": "w"}]


async def test_rare_reports_have_a_longer_time(page: Api, session: Session) -> None:
    await ControllerWorker(session=session, worker_id="w", seconds=3600, queues=lambda: []).report()
    assert page.of("workers.register") == [{"worker": "w", "queues": [], "timeout": 10800}]


async def test_a_queue_that_was_just_deleted_is_left_to_the_next_time(page: Api, session: Session) -> None:
    page.script("workers.register", Reply(code=400, subcode=701, message="Invalid queue id"), Reply())
    worker = ControllerWorker(session=session, worker_id="w", seconds=30, queues=lambda: ["gone"])
    with pytest.raises(NotFound):
        await worker.report()
    assert page.of("workers.status_report") == []
    await worker.report()
    assert len(page.of("workers.register")) == 2

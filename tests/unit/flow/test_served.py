"""One queue's creation fails, whichever it is and however: the others are served."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from clearml_k8s import names
from clearml_k8s.config import QueueConfig
from clearml_k8s.errors import Refused, Unanswered
from clearml_k8s.flow.served import LONGEST_PAUSE
from clearml_server.process import DevServer
from flow_parts import Side, make_config
from scripted_kube import Cluster

EXISTS_AND_IS_NOT_SEEN = {"kind": "error_before", "status": 400, "subcode": 801}
FORBIDDEN = {"kind": "error_before", "status": 403, "subcode": 20}
ERROR = {"kind": "error_before", "status": 500}
ERROR_AFTERWARDS = {"kind": "error_after_commit", "status": 500}
LOST = {"kind": "drop_reply"}


@pytest.fixture
async def side(server: DevServer, cluster: Cluster) -> AsyncIterator[Side]:
    """A queue that is there between two that may be made."""
    queues = {key: QueueConfig(name=key) for key in ("first", "default", "last")}
    config = make_config(api_server=server.url, queues=queues, create_queues=True)
    side = Side(server=server, cluster=cluster, config=config)
    yield side
    await side.close()


def active(side: Side) -> list[str]:
    return [queue.name for queue in side.served.active()]


@pytest.mark.parametrize("fault", [EXISTS_AND_IS_NOT_SEEN, FORBIDDEN, ERROR, ERROR_AFTERWARDS, LOST])
async def test_the_pending_queue_stops_nothing(
    side: Side, server: DevServer, caplog: pytest.LogCaptureFixture, fault: dict[str, Any]
) -> None:
    server.create_queue("first")
    server.create_queue("last")
    server.add_fault(endpoint="^queues.create$", **fault)
    await side.served.refresh()
    assert active(side) == ["first", "default", "last"]
    assert side.served.pending_queue is None
    server.clear_faults()
    await side.served.refresh()
    assert side.served.pending_queue == server.queue_id(names.PENDING_QUEUE)
    (warning,) = [entry for entry in caplog.records if entry.levelno == logging.WARNING]
    assert names.PENDING_QUEUE in warning.getMessage()


async def test_the_pending_queue_is_warned_of_once_for_each_reason(
    side: Side, server: DevServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.create_queue("first")
    server.create_queue("last")
    for fault in (EXISTS_AND_IS_NOT_SEEN, FORBIDDEN):
        server.clear_faults()
        server.add_fault(endpoint="^queues.create$", **fault)
        for _ in range(3):
            await side.served.refresh()
    found = [entry.getMessage() for entry in caplog.records if entry.levelno >= logging.WARNING]
    assert len(found) == 2
    assert "cannot see it" in found[0]
    assert "403/20" in found[1]


@pytest.mark.parametrize("fault", [EXISTS_AND_IS_NOT_SEEN, FORBIDDEN, ERROR, LOST])
async def test_a_queue_that_cannot_be_made_stops_no_other(side: Side, server: DevServer, fault: dict[str, Any]) -> None:
    server.create_queue(names.PENDING_QUEUE)
    server.add_fault(endpoint="^queues.create$", count=1, **fault)
    await side.served.refresh()
    assert active(side) == ["default", "last"]
    assert "it does not exist and cannot be created" in side.served.states["first"].problem
    await side.served.refresh()
    assert active(side) == ["first", "default", "last"]
    # None was made twice.
    queues = [queue["name"] for queue in server.call("queues.get_all", search_hidden=True)["queues"]]
    assert sorted(queues) == sorted(["first", "default", "last", names.PENDING_QUEUE])


@pytest.mark.parametrize(("fault", "error"), [(FORBIDDEN, Refused), (ERROR, Unanswered)])
async def test_a_lookup_that_fails_as_a_whole_is_raised(
    side: Side, server: DevServer, fault: dict[str, Any], error: type[Exception]
) -> None:
    server.add_fault(endpoint="^queues.get_all$", **fault)
    with pytest.raises(error):
        await side.served.refresh()


async def test_why_a_queue_is_paused_is_known_as_long_as_it_is(side: Side) -> None:
    await side.served.refresh()
    queue = side.served.by_name("default")
    assert queue is not None
    assert side.served.paused("default") == ""
    side.served.pause(queue, "exceeded quota: team")
    assert side.served.paused("default") == "exceeded quota: team"
    assert "default" not in active(side)
    await side.clock.advance(LONGEST_PAUSE)
    assert side.served.paused("default") == ""
    assert "default" in active(side)

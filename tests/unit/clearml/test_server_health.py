"""The server's state: what begins and what ends it."""

import asyncio

import pytest
from clearml_k8s.clearml.health import State
from clearml_k8s.errors import (
    ApiRefused,
    Refused,
    Unanswered,
)
from scripted_clearml import Reply


@pytest.mark.parametrize(
    "reply", [Reply(code=405, raw="<html>"), Reply(code=301, raw="", headers={"Location": "https://api.example.com"})]
)
async def test_a_login_that_no_api_server_answers_is_no_health(api, session, reply):
    api.script("auth.login", reply)
    with pytest.raises(ApiRefused):
        await session.call("queues.get_all", read=True)
    assert session.health.state is State.UNREACHABLE
    assert api.url in session.health.reason


async def test_a_half_way_failure_ends_only_with_the_probe(api, session, clock):
    api.script("queues.remove_task", Reply(code=500, subcode=100, message="General data error"))
    api.script("queues.get_all", Reply(data={"queues": []}))
    api.script("workers.status_report", Reply(code=500, subcode=100), Reply(code=500, subcode=100), Reply())

    async def probe():
        await session.call("workers.status_report", {})

    session.health.use_probe(probe)
    with pytest.raises(Unanswered):
        await session.call("queues.remove_task")
    assert session.health.state is State.HALF_WAY
    assert "General data error" in session.health.reason
    await session.call("queues.get_all", read=True)
    assert not session.health.healthy
    await asyncio.gather(*(session.health.ready() for _ in range(10)))
    assert session.health.healthy
    assert session.health.reason == ""
    assert len(api.of("workers.status_report")) == 3


async def test_waits_between_probes_grow_to_30_seconds(api, session, clock):
    replies = [Reply(code=503)] * 12
    api.script("queues.get_all", *replies, Reply(data={"queues": []}))
    session.health.failed(State.UNREACHABLE, "lost")
    await session.health.ready()
    assert len(api.of("queues.get_all")) == 13
    assert max(clock.slept) > 5
    assert all(0 < wait <= 30 for wait in clock.slept)


async def test_any_answer_ends_an_outage(api, session):
    api.script("queues.get_all", Reply(drop=True), Reply(data={}))
    with pytest.raises(Unanswered):
        await session.call("queues.get_all")
    assert session.health.state is State.UNREACHABLE
    await session.call("queues.get_all")
    assert session.health.healthy
    await session.health.ready()


async def test_a_refusal_is_no_failure_of_the_server(api, session):
    api.script("queues.remove_task", Reply(code=400, subcode=703))
    with pytest.raises(Refused):
        await session.call("queues.remove_task")
    assert session.health.healthy

"""The three endings of a call, the login, and what is repeated."""

import asyncio
import logging
import socket

import pytest
from clearml_k8s.clearml.health import State
from clearml_k8s.clearml.transport import MAX_CONNECTIONS
from clearml_k8s.errors import (
    ApiRefused,
    ApiUnanswered,
    AuthRefused,
    Forbidden,
    InvalidStatus,
    NotFound,
    NotSent,
    NotSupported,
    Refused,
    Unanswered,
)
from scripted_clearml import SECRET, Reply, make_session, started
from scripted_servers import waiting_for_a_connection


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def test_answered(api, session):
    api.script("queues.get_all", Reply(data={"queues": []}))
    assert await session.call("queues.get_all", {"page": 0}) == {"queues": []}
    call = api.calls[-1]
    assert call.body == {"page": 0}
    assert call.auth.startswith("Bearer ")
    assert api.logins == 1
    assert session.info.server_version == "2.3.0"
    assert session.info.basic
    assert session.info.role == "admin"


async def test_a_guarded_write_is_not_sent_and_reads_are(api, clock):
    closed = False

    def guard():
        if closed:
            raise NotSent("not ours any more")

    api.script("queues.get_all", Reply(data={"queues": []}))
    api.script("queues.add_task", Reply(code=401))
    async with make_session(api.url, clock, guard=guard) as session:
        closed = True
        assert await session.call("queues.get_all", read=True) == {"queues": []}
        with pytest.raises(NotSent, match="not ours any more"):
            await session.call("queues.add_task")
        with pytest.raises(NotSent, match="not ours any more"):
            await session.send_lines("events.add_batch", b"{}")
        assert [call.endpoint for call in api.calls] == ["auth.login", "queues.get_all"]


async def test_the_guard_is_asked_again_after_a_401(api, clock):
    asked = []

    def guard():
        asked.append(1)
        if len(asked) > 1:
            raise NotSent("not ours any more")

    api.script("queues.add_task", Reply(code=401))
    async with make_session(api.url, clock, guard=guard) as session:
        with pytest.raises(NotSent):
            await session.call("queues.add_task")
    assert len(api.of("queues.add_task")) == 1


async def test_the_guard_is_asked_when_the_connection_is_there(api, clock):
    closed = False

    def guard():
        if closed:
            raise NotSent("not ours any more")

    api.script("queues.get_all", Reply(stall=True))
    async with make_session(api.url, clock, guard=guard) as session:
        await session.login()
        reads = [session.call("queues.get_all") for _ in range(MAX_CONNECTIONS)]
        async with started(asyncio.wait_for(asyncio.gather(*reads), 5), api, 1 + MAX_CONNECTIONS):
            write = asyncio.ensure_future(session.call("queues.add_task"))
            await waiting_for_a_connection(session._transport._http, count=1)
            closed = True
            api.release()
            with pytest.raises(NotSent, match="not ours any more"):
                await write
    assert not api.of("queues.add_task")


async def test_a_closed_session_sends_nothing(api, clock):
    session = make_session(api.url, clock)
    await session.login()
    await session.close()
    with pytest.raises(NotSent, match="closed"):
        await session.call("queues.add_task")
    assert [call.endpoint for call in api.calls] == ["auth.login"]


async def test_the_version_stands_in_the_path(api, session):
    api.script("queues.get_next_task", Reply())
    await session.call("queues.get_next_task", version="2.14")
    assert api.calls[-1].path == "/v2.14/queues.get_next_task"


@pytest.mark.parametrize(
    ("code", "subcode", "kind"),
    [
        (400, 110, InvalidStatus),
        (400, 701, NotFound),
        (400, 101, NotFound),
        (400, 703, ApiRefused),
        (403, 20, Forbidden),
        (404, 0, NotSupported),
        (429, 0, ApiRefused),
    ],
)
async def test_every_4xx_but_408_is_refused(api, session, code, subcode, kind):
    api.script("queues.add_task", Reply(code=code, subcode=subcode, message="no such thing"))
    with pytest.raises(Refused) as caught:
        await session.call("queues.add_task", {})
    error = caught.value
    assert type(error) is kind
    assert (error.code, error.subcode, error.endpoint) == (code, subcode, "queues.add_task")
    assert error.message == "no such thing"
    assert len(api.of("queues.add_task")) == 1


@pytest.mark.parametrize("code", [408, 500, 502, 503, 504])
async def test_5xx_and_408_to_a_write_are_doubt_and_not_repeated(api, session, code):
    api.script("queues.remove_task", Reply(code=code, subcode=100, message="General data error"))
    with pytest.raises(ApiUnanswered) as caught:
        await session.call("queues.remove_task", {})
    assert caught.value.code == code
    assert len(api.of("queues.remove_task")) == 1


async def test_a_dropped_reply_to_a_write_is_doubt(api, session):
    api.script("queues.remove_task", Reply(drop=True))
    with pytest.raises(Unanswered):
        await session.call("queues.remove_task", {})
    assert len(api.of("queues.remove_task")) == 1


async def test_no_request_outlives_20_seconds(api, session, clock):
    await session.login()
    api.script("queues.remove_task", Reply(stall=True))
    until = clock.monotonic() + 3600
    async with started(session.call("queues.remove_task", {}, deadline=until), api, 2) as task:
        await clock.advance(19)
        assert not task.done()
        await clock.advance(2)
        with pytest.raises(Unanswered, match="no answer within 20 s"):
            await task


async def test_a_deadline_in_the_past_sends_nothing(api, session, clock):
    await session.login()
    with pytest.raises(NotSent):
        await session.call("queues.remove_task", {}, deadline=clock.monotonic())
    assert api.of("queues.remove_task") == []


async def test_reads_are_repeated_until_they_succeed(api, session, clock):
    api.script("queues.get_all", Reply(drop=True), Reply(code=500), Reply(code=429), Reply(data={"queues": []}))
    assert await session.call("queues.get_all", {}, read=True) == {"queues": []}
    assert len(api.of("queues.get_all")) == 4
    assert len(clock.slept) == 3


async def test_reads_end_with_their_deadline(api, session, clock):
    api.script("queues.get_all", Reply(code=500))
    began = clock.monotonic()
    with pytest.raises(Unanswered):
        await session.call("queues.get_all", {}, read=True, deadline=began + 10)
    assert clock.monotonic() <= began + 10
    assert len(api.of("queues.get_all")) > 2


async def test_refused_reads_are_not_repeated(api, session):
    api.script("tasks.get_all", Reply(code=400, subcode=12))
    with pytest.raises(ApiRefused):
        await session.call("tasks.get_all", {}, read=True)
    assert len(api.of("tasks.get_all")) == 1


async def test_a_revoked_token_leads_to_one_login_and_one_repeat_with_the_new_header(api, session):
    api.script("queues.remove_task", Reply(data={"removed": 1}))
    await session.login()
    api.revoke()
    assert await session.call("queues.remove_task", {}) == {"removed": 1}
    sent = [call.auth for call in api.calls if call.endpoint == "queues.remove_task"]
    assert len(sent) == 2
    assert sent[0] != sent[1]
    assert api.logins == 2


async def test_many_callers_share_one_login(api, session):
    api.script("queues.get_all", Reply(data={}))
    await asyncio.gather(*(session.call("queues.get_all") for _ in range(30)))
    assert api.logins == 1
    api.revoke()
    await asyncio.gather(*(session.call("queues.get_all") for _ in range(30)))
    assert api.logins == 2


async def test_a_token_is_renewed_before_it_ends_and_not_with_every_call(api, session, clock):
    api.life = 600
    api.script("queues.get_all", Reply())
    for _ in range(5):
        await session.call("queues.get_all")
    assert api.logins == 1
    await clock.advance(500)
    await session.call("queues.get_all")
    assert api.logins == 2


async def test_a_failed_renewal_uses_the_token_while_it_lives(api, session, clock):
    api.life = 600
    api.script("queues.get_all", Reply())
    await session.call("queues.get_all")
    await clock.advance(500)
    api.script("auth.login", Reply(code=503))
    await session.call("queues.get_all")
    assert len(api.of("queues.get_all")) == 2


async def test_wrong_credentials_are_named_in_the_servers_words_and_never_shown(api, clock, caplog):
    caplog.set_level(logging.DEBUG)
    async with make_session(api.url, clock, secret="wrong-secret-value") as session:
        with pytest.raises(AuthRefused, match="invalid credentials") as caught:
            await session.call("queues.get_all", read=True)
        assert len(api.calls) == 1
        assert session.health.state is State.UNAUTHORIZED
        assert "wrong-secret-value" not in str(caught.value) + session.health.reason + caplog.text


async def test_a_login_that_stays_refused_ends_after_one_repeat(api, session):
    await session.login()
    api.tokens = {"none": 0}
    api.login = lambda call: Reply(data={"token": "x.y.z"})
    with pytest.raises(AuthRefused):
        await session.call("queues.remove_task", {})
    assert len(api.of("queues.remove_task")) == 2


async def test_metrics_count_by_ending(api, session, meters):
    api.script("queues.remove_task", Reply(), Reply(code=400, subcode=703), Reply(code=500))
    await session.call("queues.remove_task")
    for _ in range(2):
        with pytest.raises((Refused, Unanswered)):
            await session.call("queues.remove_task")

    def count(outcome):
        labels = {"api": "clearml", "endpoint": "queues.remove_task", "outcome": outcome}
        return meters.registry.get_sample_value("clearml_k8s_api_requests_total", labels)

    assert [count(o) for o in ("answered", "refused", "unanswered")] == [1, 1, 1]


async def test_neither_repr_nor_errors_show_the_secret(api, session):
    assert SECRET not in repr(session) + repr(vars(session).get("_token")) + repr(session.info)

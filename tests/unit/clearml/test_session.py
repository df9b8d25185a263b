"""The three endings of a call, the login, and what is repeated."""

import asyncio
import base64
import logging
import socket

import pytest
from clearml_k8s.clearml.health import State
from clearml_k8s.errors import (
    ApiRefused,
    ApiUnanswered,
    AuthRefused,
    ConfigError,
    Forbidden,
    InvalidStatus,
    NotFound,
    NotSent,
    NotSupported,
    Refused,
    Unanswered,
    Unreachable,
)
from scripted_clearml import SECRET, Reply, make_session, started


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


async def test_refused_connections_are_certainly_not_done(clock):
    async with make_session(f"http://127.0.0.1:{free_port()}", clock) as session:
        with pytest.raises(Unreachable, match="ClearML API at http://127.0.0.1"):
            await session.call("queues.remove_task", {})
        assert session.health.state is State.UNREACHABLE


async def test_unknown_hosts_are_certainly_not_done(clock):
    async with make_session("http://no-such-host.invalid", clock) as session:
        with pytest.raises(Unreachable):
            await session.call("queues.remove_task", {})


async def test_failed_tls_is_certainly_not_done(api, clock):
    async with make_session(api.url.replace("http://", "https://"), clock) as session:
        with pytest.raises(Unreachable):
            await session.call("queues.remove_task", {})


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


async def test_the_web_servers_address_is_recognised(api, session):
    api.script("auth.login", Reply(raw="<html>the web UI</html>"))
    with pytest.raises(Unanswered, match="web server's address"):
        await session.call("queues.remove_task", {})


async def test_a_redirect_is_not_followed_but_named(api, session):
    await session.login()
    api.script("queues.remove_task", Reply(code=301, raw="", headers={"Location": "https://api.example.com/x"}))
    with pytest.raises(ApiRefused, match="redirects to https://api.example.com"):
        await session.call("queues.remove_task", {})
    assert len(api.of("queues.remove_task")) == 1


@pytest.mark.parametrize(
    "reply", [Reply(code=405, raw="<html>"), Reply(code=301, raw="", headers={"Location": "https://api.example.com"})]
)
async def test_a_login_that_no_api_server_answers_is_no_health(api, session, reply):
    api.script("auth.login", reply)
    with pytest.raises(ApiRefused):
        await session.call("queues.get_all", read=True)
    assert session.health.state is State.UNREACHABLE
    assert api.url in session.health.reason


@pytest.mark.parametrize("address", ["", "api.clear.ml", "ftp://x", "https://", "https://key:secret@api.clear.ml"])
def test_bad_addresses_are_refused_with_the_key(address, clock):
    with pytest.raises(ConfigError, match="clearml.apiServer") as caught:
        make_session(address, clock)
    assert "secret@" not in str(caught.value)


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


async def test_the_environments_proxy_is_used_unless_it_says_not(api, clock, monkeypatch):
    api.script("queues.get_all", Reply())
    for name in ("http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", api.url.replace("http://", "http://me:pass%20word@"))
    async with make_session("http://clearml.example", clock) as session:
        await session.call("queues.get_all")
        assert "pass" not in session.address
    assert {call.host for call in api.calls} == {"clearml.example"}
    assert api.calls[0].proxy_auth == "Basic " + base64.b64encode(b"me:pass word").decode()
    monkeypatch.setenv("no_proxy", "127.0.0.1,.example")
    async with make_session(api.url, clock) as session:
        await session.call("queues.get_all")
    assert api.calls[-1].host.startswith("127.0.0.1:")
    assert api.calls[-1].proxy_auth == ""


async def test_a_proxy_that_is_away_is_named_without_its_password(clock, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://me:proxy-password@127.0.0.1:{free_port()}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    async with make_session("http://clearml.example", clock) as session:
        with pytest.raises(Unreachable) as caught:
            await session.call("queues.remove_task")
    assert "proxy-password" not in str(caught.value)


@pytest.mark.parametrize("proxy", ["http://", "//"])
def test_a_bad_proxy_is_named(proxy, clock, monkeypatch):
    monkeypatch.setenv("https_proxy", proxy)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(ConfigError, match="https_proxy"):
        make_session("https://clearml.example", clock)


async def test_neither_repr_nor_errors_show_the_secret(api, session):
    assert SECRET not in repr(session) + repr(vars(session).get("_token")) + repr(session.info)


# ---- health --------------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize(("no_proxy", "by_proxy"), [("", True), ("other.example", True), (".example", False)])
async def test_the_environments_proxy_is_used(api, clock, monkeypatch, no_proxy, by_proxy):
    monkeypatch.setenv("http_proxy", api.url)
    monkeypatch.setenv("no_proxy", no_proxy)
    api.script("x.y", Reply(data={"a": 1}))
    async with make_session("http://clearml.example", clock) as session:
        if by_proxy:
            assert await session.call("x.y") == {"a": 1}
        else:
            with pytest.raises(Unreachable):
                await session.call("x.y")
    assert bool(api.calls) == by_proxy

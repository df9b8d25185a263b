"""What cannot be reached, and by which way: addresses, TLS, proxies, and servers that are not the API's."""

import base64
import socket

import pytest
from clearml_k8s.clearml.health import State
from clearml_k8s.errors import (
    ApiRefused,
    ConfigError,
    Unanswered,
    Unreachable,
)
from scripted_clearml import Reply, make_session


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


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


@pytest.mark.parametrize("address", ["", "api.clear.ml", "ftp://x", "https://", "https://key:secret@api.clear.ml"])
def test_bad_addresses_are_refused_with_the_key(address, clock):
    with pytest.raises(ConfigError, match="clearml.apiServer") as caught:
        make_session(address, clock)
    assert "secret@" not in str(caught.value)


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

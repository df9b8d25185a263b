"""The scripted server and a session to it."""

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from clearml_k8s import metrics
from manual_clock import ManualClock
from scripted_clearml import Api, make_session


@pytest.fixture
async def api():
    """The server, running."""
    api = Api()
    app = web.Application(client_max_size=8 * 1024 * 1024)
    app.router.add_route("*", "/{tail:.*}", api.handle)
    api.server = TestServer(app)
    await api.server.start_server(shutdown_timeout=0.1)
    yield api
    api.release()
    await api.server.close()


@pytest.fixture
def clock():
    """A clock whose sleeps return at once."""
    return ManualClock(auto=True)


@pytest.fixture
def meters():
    return metrics.create()


@pytest.fixture
async def session(api, clock, meters):
    """A session to the server, with good credentials."""
    async with make_session(api.url, clock, meters) as session:
        yield session

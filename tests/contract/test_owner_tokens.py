"""Logins in the name of a task's owner: the real clearml-agent is the judge of the development server's and of ours."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clearml_k8s.clearml import owners, token
from clearml_k8s.clearml.keys import Credentials
from clearml_k8s.clearml.session import Session
from clearml_k8s.clock import SystemClock
from clearml_k8s.errors import ApiRefused
from clearml_server.process import DevServer

from .programs import LIMIT_SECONDS, environment

pytestmark = pytest.mark.devserver

ELSEWHERE = "0123456789abcdef0123456789abcdef"
"""Another company than that of the server's tasks."""

# What the glue does for a task that it has popped, by the agent's own code.
AGENT = """
import json, sys
from clearml_agent.backend_api.session import Session
from clearml_agent.commands.worker import Worker
from clearml_agent.backend_api.config import load

session = Session(config=load(), initialize_logging=False)
worker = Worker.__new__(Worker)
worker._session = session
try:
    Worker._use_owner_token(worker, True)
    usable = ""
except ValueError as error:
    usable = str(error)
found = Worker.get_task_session(sys.argv[1], sys.argv[2], session)
print("RESULT", json.dumps({"usable": usable, "token": found and found.token}))
"""


@pytest.fixture(scope="module")
def server() -> Iterator[DevServer]:
    with DevServer(edition="enterprise", role="admin") as dev:
        dev.add_credentials(user="ada")
        dev.add_credentials(user="bob", company=ELSEWHERE)
        yield dev


def as_agent(server: DevServer, home: Path, user: str, *, keys: tuple[str, str] | None = None) -> dict[str, Any]:
    script = home / "agent.py"
    script.write_text(AGENT)
    done = subprocess.run(
        [sys.executable, str(script), user, company(server)],
        check=False, cwd=home, env=environment(home, (server.url, *(keys or (server.access_key, server.secret_key)))),
        capture_output=True, text=True, timeout=LIMIT_SECONDS,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    found: dict[str, Any] = json.loads(line.removeprefix("RESULT "))
    return found


def company(server: DevServer) -> str:
    """Of all tasks."""
    found: str = server.task(server.create_task())["company"]
    return found


def claims(value: str) -> dict[str, Any]:
    body = value.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return {key: found[key] for key in ("identity", "tenant", "feature_set")}


def logins(server: DevServer) -> list[tuple[str, int]]:
    return [(call["user"], call["code"]) for call in server.calls(endpoint=r"^auth\.login$")]


async def ours(server: DevServer, user: str, *, keys: tuple[str, str] | None = None) -> tuple[str, token.Token]:
    access, secret = keys or (server.access_key, server.secret_key)
    credentials = Credentials(access_key=access, secret_key=secret, source="test")
    async with Session(api_server=server.url, credentials=credentials, clock=SystemClock()) as session:
        info = await session.login()
        return owners.unsuitable(info), await owners.owner_token(session, user=user, company=company(server))


@pytest.mark.parametrize("user", ["ada", "bob"])
async def test_we_get_the_token_that_the_agent_gets(server: DevServer, tmp_path: Path, user: str) -> None:
    theirs = as_agent(server, tmp_path, user)
    assert theirs["usable"] == ""
    unsuitable, got = await ours(server, user)
    assert unsuitable == ""
    assert claims(got.value) == claims(theirs["token"])
    assert claims(got.value)["identity"]["user"] == user
    assert claims(got.value)["tenant"] == company(server)


async def test_a_user_that_is_not_there(server: DevServer, tmp_path: Path) -> None:
    assert as_agent(server, tmp_path, "nobody")["token"] is None
    with pytest.raises(ApiRefused, match="unknown user"):
        await ours(server, "nobody")


async def test_an_account_that_may_not(server: DevServer, tmp_path: Path) -> None:
    keys = server.add_credentials(user="eve", role="user")
    theirs = as_agent(server, tmp_path, "ada", keys=keys)
    assert theirs["token"] is None
    assert "User role not suitable" in theirs["usable"]
    with pytest.raises(ApiRefused, match="impersonation not allowed"):
        await ours(server, "ada", keys=keys)


async def test_a_service_account_may(server: DevServer, tmp_path: Path) -> None:
    keys = server.add_credentials(user="robot", role="user", service_account_type=2)
    theirs = as_agent(server, tmp_path, "ada", keys=keys)
    assert theirs["usable"] == ""
    unsuitable, got = await ours(server, "ada", keys=keys)
    assert unsuitable == ""
    assert claims(got.value) == claims(theirs["token"])


async def test_the_open_source_server_is_refused_as_the_agent_refuses_it(tmp_path: Path) -> None:
    with DevServer(role="admin") as server:
        server.add_credentials(user="ada")
        assert as_agent(server, tmp_path, "ada")["usable"] == "Server does not support --use-owner-token option"
        credentials = Credentials(access_key=server.access_key, secret_key=server.secret_key, source="test")
        async with Session(api_server=server.url, credentials=credentials, clock=SystemClock()) as session:
            assert "feature set is basic" in owners.unsuitable(await session.login())

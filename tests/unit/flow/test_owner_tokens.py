"""Tasks that run as their owners: for whom a token is asked, when, the Secret that has it, and what may go wrong."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from clearml_k8s import names
from clearml_k8s.clearml.token import read
from clearml_k8s.config import ClearMLConfig, Config, SecretKey, TaskCredentials
from clearml_k8s.flow.owner_tokens import ALLOWED_SECONDS, GIVEN_SECONDS, REFUSED_SECONDS
from clearml_k8s.flow.served import State
from clearml_k8s.logs import JsonFormatter, PlainFormatter, Redactor
from clearml_server.process import DevServer
from flow_parts import Side, make_config, make_container, make_job, make_pod
from reconcile_loop import Loop, start
from scripted_kube import Cluster, Fault, status

CREATING = make_container(waiting="ContainerCreating")
LOGIN = r"^auth\.login$"


@pytest.fixture(scope="module")
def running_server() -> Iterator[DevServer]:
    """The server of ClearML that has owner tokens, and the controller an administrator's keys."""
    with DevServer(edition="enterprise", role="admin") as server:
        yield server


@pytest.fixture
def ada(server: DevServer) -> tuple[str, str]:
    """Keys of a user."""
    return server.add_credentials(user="ada")


def config(server: DevServer, **changes: Any) -> Config:
    return make_config(clearml=ClearMLConfig(api_server=server.url, **changes))


@pytest.fixture
async def side(server: DevServer, cluster: Cluster) -> AsyncIterator[Side]:
    side = Side(server=server, cluster=cluster, config=config(server))
    yield await side.start()
    await side.close()


@pytest.fixture
def loop(side: Side) -> Loop:
    return Loop(side)


def new_task(server: DevServer, keys: tuple[str, str]) -> str:
    task: str = server.call("tasks.create", keys=keys, name="a task", type="training")["id"]
    server.call("tasks.enqueue", keys=keys, task=task, queue_name="default")
    return task


def logins(server: DevServer, user: str) -> int:
    """How often the server was asked for a token of this user, by whomever."""
    return len([call for call in server.calls(endpoint=LOGIN) if call["user"] == user])


def secrets(cluster: Cluster) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = cluster.objects.get("secrets", {})
    return found


async def waiting_pod(loop: Loop, server: DevServer, keys: tuple[str, str], *, node: str | None = "node-1") -> str:
    """A task with a Job whose pod waits for its container, on a node or for one."""
    task = new_task(server, keys)
    assert await loop.side.poll() == 1
    loop.pod(task, *([CREATING] if node else []), node=node)
    return task


def lacking(loop: Loop, task: str) -> Any:
    said = f'secret "{loop.job(task).token_secret}" not found'
    return make_container(waiting="CreateContainerConfigError", message=said)


async def console(loop: Loop, task: str) -> str:
    await loop.side.teller.flush()
    found: str = loop.side.server.console(task)
    return found


# ---- the way it goes ------------------------------------------------------------------------------------------------


async def test_a_pod_gets_a_token_of_the_tasks_owner_once_it_has_a_node(
    loop: Loop, server: DevServer, cluster: Cluster, ada: tuple[str, str]
) -> None:
    task = await waiting_pod(loop, server, ada, node=None)
    (job,) = loop.side.created(task)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    env = {item["name"]: item for item in container["env"]}
    assert not {"CLEARML_API_ACCESS_KEY", "CLEARML_API_SECRET_KEY"} & env.keys()
    reference = env["CLEARML_AUTH_TOKEN"]["valueFrom"]["secretKeyRef"]
    assert reference == {"name": loop.job(task).token_secret, "key": "token"}
    await loop.look(task)
    assert secrets(cluster) == {}  # whatever it waits for, the token would grow old
    loop.pod(task, CREATING)
    await loop.look(task)
    (secret,) = secrets(cluster).values()
    assert secret["metadata"]["name"] == reference["name"]
    assert secret["immutable"] is True
    assert secret["metadata"]["ownerReferences"] == [
        {"apiVersion": "batch/v1", "kind": "Job", "name": job["metadata"]["name"], "uid": loop.job(task).uid}
    ]
    assert secret["metadata"]["labels"]["clearml-task-id"] == task
    assert read(secret["stringData"]["token"], at=0.0).info.user == "ada"
    assert cluster.of("GET", "/secrets") + cluster.of("DELETE", "/secrets") + cluster.of("PATCH", "/secrets") == []


async def test_each_is_made_once(loop: Loop, server: DevServer, cluster: Cluster, ada: tuple[str, str]) -> None:
    task = await waiting_pod(loop, server, ada)
    for _ in range(5):
        await loop.look(task)
        await loop.side.clock.advance(20.0)
    assert len(cluster.of("POST", "/secrets")) == 1


@pytest.mark.parametrize("running", [True, False], ids=["runs", "ended"])
async def test_a_container_that_has_begun_needs_none(
    loop: Loop, server: DevServer, cluster: Cluster, ada: tuple[str, str], running: bool
) -> None:
    """A process that starts does not make them for all Jobs there are."""
    task = await waiting_pod(loop, server, ada)
    start(server, task, worker=f"worker-a:{task}")
    state = {"running": True} if running else {"terminated": "Error", "exit_code": 1}
    loop.pod(task, make_container(**state), phase="Running")
    await loop.look(task)
    assert secrets(cluster) == {}


async def test_another_process_finds_it_made(
    loop: Loop, server: DevServer, cluster: Cluster, ada: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    task = await waiting_pod(loop, server, ada)
    await loop.look(task)
    made = dict(secrets(cluster))
    other = Loop(loop.side)
    other.reconciler._owners = Side(server=server, cluster=cluster, config=loop.side.config).owners
    other.pod(task, CREATING)
    await other.look(task)
    assert other.reconciler._owners is not None
    assert not other.reconciler._owners.lacks(other.job(task), other.pods.of_task(task))
    await other.reconciler._owners._session.close()
    await other.reconciler._owners._client.close()
    assert secrets(cluster) == made
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


async def test_two_jobs_of_one_task_never_share_one(
    loop: Loop, server: DevServer, cluster: Cluster, ada: tuple[str, str]
) -> None:
    """The Secret of the former Job may still be there, about to be removed."""
    task = await waiting_pod(loop, server, ada)
    await loop.look(task)
    (first,) = secrets(cluster)
    cluster.drop("jobs", names.job_name(task))
    loop.pod_goes(task)
    loop.side.relist()
    server.call("tasks.stopped", task=task, force=True)
    server.call("tasks.enqueue", keys=ada, task=task, queue_name="default")
    assert await loop.side.poll() == 1
    await loop.reads.refresh([task])
    loop.pod(task, CREATING)
    await loop.look(task)
    assert len(secrets(cluster)) == 2
    assert loop.job(task).token_secret in secrets(cluster)
    assert loop.job(task).token_secret != first


async def test_one_that_somebody_deleted_is_made_again(
    loop: Loop, server: DevServer, cluster: Cluster, ada: tuple[str, str]
) -> None:
    task = await waiting_pod(loop, server, ada)
    await loop.look(task)
    cluster.drop("secrets", loop.job(task).token_secret)
    loop.pod(task, lacking(loop, task))
    again = await loop.look(task)
    assert again is not None
    assert secrets(cluster) == {}  # its node looks for it now and then
    await loop.side.clock.advance(GIVEN_SECONDS)
    await loop.look(task)
    assert loop.job(task).token_secret in secrets(cluster)


def rank(number: int, *containers: Any, **fields: Any) -> Any:
    return make_pod("t", *containers, rank=number, uid=f"pod-{number}", **fields)


@pytest.mark.parametrize(
    ("pods", "lacks"),
    [
        ((rank(0, CREATING), rank(1, node=None)), True),  # its node would say that the Secret is missing
        ((rank(0, node=None), rank(1, CREATING)), True),
        ((rank(0, node=None), rank(1, node=None)), False),
        ((rank(0, CREATING), rank(1, make_container(running=True), phase="Running")), True),
        ((rank(0, make_container(running=True)), rank(1, make_container(running=True))), False),
        ((rank(0, CREATING, deleted="2026-01-15T06:23:00Z"), rank(1, node=None)), False),
    ],
)
async def test_of_several_pods_any_that_is_to_start_needs_it(side: Side, pods: tuple[Any, ...], lacks: bool) -> None:
    """One of them may have waited for its node, or was looked at before somebody deleted the Secret."""
    assert side.owners is not None
    assert side.owners.lacks(make_job("t", pods=2, ranked=True, token_secret="owner-token-t"), pods) is lacks


async def test_the_server_is_asked_once_for_many_tasks_of_one_user(
    side: Side, server: DevServer, ada: tuple[str, str]
) -> None:
    before = logins(server, "ada")
    for _ in range(3):
        new_task(server, ada)
    assert await side.poll() == 3
    assert logins(server, "ada") == before + 1
    await side.clock.advance(ALLOWED_SECONDS)
    new_task(server, ada)
    assert await side.poll() == 1
    assert logins(server, "ada") == before + 2


# ---- the server refuses ---------------------------------------------------------------------------------------------


async def test_a_task_whose_owners_token_is_refused_stays_where_it_is_and_others_are_taken(
    side: Side, server: DevServer, ada: tuple[str, str]
) -> None:
    gone = server.add_credentials(user="bob")
    his, hers = new_task(server, gone), new_task(server, ada)
    server.revoke_credentials(gone[0])
    entry = server.entries(server.queue_id("default"))[0]
    assert await side.poll() == 1
    assert side.created(hers)
    assert server.entries(server.queue_id("default")) == [entry] == [his]
    assert server.task(his)["status"] == "queued"
    assert side.mark(his) is None  # nor is it marked: another controller may take it
    await side.teller.flush()
    told = "Waiting in queue default: the ClearML server gives no token of its owner (bob)"
    assert told in server.console(his)
    await side.poll()
    await side.teller.flush()
    assert server.console(his).count(told) == 1
    server.add_credentials(user="bob")
    assert await side.poll() == 0
    await side.clock.advance(REFUSED_SECONDS)
    assert await side.poll() == 1


async def test_a_refusal_after_the_job_was_made_is_told_and_tried_again(
    loop: Loop, server: DevServer, cluster: Cluster
) -> None:
    keys = server.add_credentials(user="bob")
    task = await waiting_pod(loop, server, keys)
    server.revoke_credentials(keys[0])
    await loop.look(task)
    assert "Waiting for its owner's token: the ClearML server gives none: Impersonation error" in await console(
        loop, task
    )
    assert server.task(task)["status"] == "queued"
    server.add_credentials(user="bob")
    await loop.side.clock.advance(40.0)
    await loop.look(task)
    assert loop.job(task).token_secret in secrets(cluster)


@pytest.mark.parametrize("kind", ["unauthorized", "error_before", "drop_reply"])
async def test_a_server_that_fails_costs_no_task(
    loop: Loop, server: DevServer, cluster: Cluster, ada: tuple[str, str], kind: str
) -> None:
    task = await waiting_pod(loop, server, ada)
    fault = server.add_fault(kind=kind, endpoint=LOGIN)
    again = await loop.look(task)
    assert again is not None
    assert secrets(cluster) == {}
    server.clear_faults(fault)
    await loop.side.clock.advance(40.0)
    await loop.look(task)
    assert loop.job(task).token_secret in secrets(cluster)
    assert server.task(task)["status"] == "queued"


async def test_ids_that_fit_into_no_header_harm_nobody(side: Side, server: DevServer, ada: tuple[str, str]) -> None:
    strange = server.add_credentials(user="a\r\nX-Clearml-Impersonate-As: ada")
    his, hers = new_task(server, strange), new_task(server, ada)
    assert await side.poll() == 1
    assert side.created(hers)
    assert not side.created(his)


# ---- servers and accounts without them ------------------------------------------------------------------------------


async def test_an_account_that_may_not_is_named_and_nothing_is_taken(server: DevServer, cluster: Cluster) -> None:
    task = server.create_task(queue="default")
    access_key, secret_key = server.add_credentials(user="eve", role="user")
    account = SimpleNamespace(url=server.url, access_key=access_key, secret_key=secret_key)
    side = Side(server=account, cluster=cluster, config=config(server))
    await side.start()
    (served,) = side.served.states.values()
    assert served.kind is State.OWNER_TOKENS_UNAVAILABLE
    assert "the role user" in served.problem
    assert "clearml.existingAgentk8sglueSecret" in served.problem
    assert await side.poll() == 0
    assert server.entries(server.queue_id("default")) == [task]
    await side.close()


async def test_keys_in_the_clearml_conf_of_all_tasks_are_named_and_nothing_is_taken(
    server: DevServer, cluster: Cluster, tmp_path: Path
) -> None:
    server.create_task(queue="default")
    conf = tmp_path / "clearml.conf"
    conf.write_text('api { credentials { access_key: "A", secret_key: "c4n4ry" } }\n')
    config_secret = SecretKey(name="conf", key="clearml.conf")
    side = Side(server=server, cluster=cluster, config=config(server, config_secret=config_secret), conf=conf)
    await side.start()
    (served,) = side.served.states.values()
    assert "api.credentials, which every task could read" in served.problem
    assert "c4n4ry" not in served.problem
    assert await side.poll() == 0
    conf.write_text("api.web_server: x\n")
    await side.clock.advance(10.0)
    await side.served.refresh()
    assert await side.poll() == 1
    await side.close()


# ---- Kubernetes refuses ---------------------------------------------------------------------------------------------

NO_RIGHT = 'secrets is forbidden: User "x" cannot create resource "secrets" in API group "" in the namespace "ns"'
QUOTA = 'secrets "t" is forbidden: exceeded quota: q, requested: count/secrets=1, used: 5, limited: 5'


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (NO_RIGHT, "the agent may not make Secrets in this cluster; its administrator can allow it"),
        (QUOTA, f"Kubernetes does not take the Secret with it: {QUOTA}"),
    ],
    ids=["no right", "quota"],
)
async def test_a_secret_that_is_refused_is_told_and_tried_again(
    loop: Loop, server: DevServer, cluster: Cluster, ada: tuple[str, str], message: str, told: str,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    task = await waiting_pod(loop, server, ada)
    refused = Fault(code=403, status=status(403, "Forbidden", message))
    cluster.fault("POST", refused, refused, path="/secrets")
    for _ in range(2):
        await loop.look(task)
        await loop.side.clock.advance(40.0)
    assert (await console(loop, task)).count(f"Waiting for its owner's token: {told}") == 1
    said = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    advice = "this account may not create Secrets in namespace ns, so no task gets its owner's token: the chart's Role "
    advice += "gives it with agentk8sglue.useOwnerToken: true; clearml-k8s check tells what is missing"
    assert said == ([advice] if message == NO_RIGHT else []) + ["pod waits for its owner's token"]
    assert server.task(task)["status"] == "queued"
    await loop.look(task)
    assert loop.job(task).token_secret in secrets(cluster)


async def test_a_write_whose_answer_is_lost_is_not_doubled(
    loop: Loop, server: DevServer, cluster: Cluster, ada: tuple[str, str]
) -> None:
    task = await waiting_pod(loop, server, ada)
    cluster.fault("POST", Fault(after=True, drop=True), path="/secrets")
    await loop.look(task)
    await loop.side.clock.advance(40.0)
    await loop.look(task)
    assert len(cluster.of("POST", "/secrets")) == 2
    assert list(secrets(cluster)) == [loop.job(task).token_secret]


async def test_a_pod_without_its_secret_waits_and_its_user_reads_why(
    loop: Loop, server: DevServer, cluster: Cluster, ada: tuple[str, str]
) -> None:
    """For longer than a Secret of the template's may be missing."""
    task = await waiting_pod(loop, server, ada)
    cluster.fault("POST", *[Fault(code=403, status=status(403, "Forbidden", QUOTA))] * 4, path="/secrets")
    loop.pod(task, lacking(loop, task))
    for _ in range(4):
        await loop.look(task)
        again = await loop.look(task)
        assert again is not None
        await loop.side.clock.advance(again + 30.0)
    assert server.task(task)["status"] == "queued"
    message = server.task(task)["status_message"]
    assert message.startswith("Kubernetes: The Secret with the token of the task's owner is not there yet")


async def test_patience_ends_it(server: DevServer, cluster: Cluster, ada: tuple[str, str]) -> None:
    """Where the administrator says so: the pod holds a node."""
    side = Side(
        server=server,
        cluster=cluster,
        config=make_config(clearml=ClearMLConfig(api_server=server.url), patience_seconds={"ownerToken": 100}),
    )
    loop = Loop(await side.start())
    task = await waiting_pod(loop, server, ada)
    cluster.fault("POST", *[Fault(code=403, status=status(403, "Forbidden", QUOTA))] * 20, path="/secrets")
    loop.pod(task, lacking(loop, task))
    await loop.looks(task, most=40)
    found = server.task(task)
    assert (found["status"], found["status_reason"]) == ("failed", "Kubernetes: owner-token")
    assert loop.jobs() == set()
    await side.close()


# ---- the feature was switched off -----------------------------------------------------------------------------------


async def test_a_job_that_waits_for_a_token_that_nobody_makes_any_more_gives_way_to_one_with_keys(
    loop: Loop, server: DevServer, cluster: Cluster, ada: tuple[str, str]
) -> None:
    task = await waiting_pod(loop, server, ada)
    keys = TaskCredentials(secret_name="ac")
    later = Side(server=server, cluster=cluster, config=config(server, task_credentials=keys))
    await later.start()
    other = Loop(later)
    other.pod(task, CREATING)
    await other.look(task)
    assert names.job_name(task) in other.jobs()  # it may be about to start, with the Secret that it has
    other.pod(task, lacking(other, task))
    await other.look(task)
    assert other.jobs() == set()
    other.pod_goes(task)
    later.relist()
    await later.rest()
    env = [item["name"] for item in later.created(task)[-1]["spec"]["template"]["spec"]["containers"][0]["env"]]
    assert "CLEARML_API_SECRET_KEY" in env
    assert "CLEARML_AUTH_TOKEN" not in env
    await later.close()


# ---- nobody sees it -------------------------------------------------------------------------------------------------


async def test_the_token_stands_in_its_secret_alone(
    loop: Loop, server: DevServer, cluster: Cluster, ada: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """Not even where an admission plugin quotes what it refuses."""
    caplog.set_level(logging.DEBUG)
    task = await waiting_pod(loop, server, ada)
    quoting = {}

    class Quotes(Fault):
        """A refusal with the object in it, in both of its forms."""

        def __init__(self) -> None:
            super().__init__(code=403)

        @property
        def status(self) -> dict[str, Any]:
            body = json.loads(json.dumps(cluster.seen[-1].body))
            token = body["stringData"]["token"]
            quoting["token"] = token
            encoded = base64.b64encode(token.encode()).decode()
            return status(
                403, "Forbidden", f"denied: {encoded[-90:]} {token[-60:]} {token[:120]} {encoded[:120]} {token}"
            )

        @status.setter
        def status(self, _: object) -> None: ...

    cluster.fault("POST", Quotes(), path="/secrets")
    await loop.look(task)
    await loop.side.clock.advance(40.0)
    await loop.look(task)
    (secret,) = secrets(cluster).values()
    tokens = [quoting["token"], secret["stringData"]["token"]]
    formatters = (PlainFormatter(Redactor()), JsonFormatter(Redactor()))
    told = {
        "log": "\n".join(f.format(record) for f in formatters for record in caplog.records),
        "console": await console(loop, task),
        "task": json.dumps(server.task(task)),
        "objects": json.dumps({key: value for key, value in cluster.objects.items() if key != "secrets"}),
        "states": str(loop.side.served.states) + str(loop.job(task)),
        "parts": repr(vars(loop.side.owners)),
    }
    for where, text in told.items():
        for token in tokens:
            assert token not in text, where
            assert base64.b64encode(token.encode()).decode() not in text, where

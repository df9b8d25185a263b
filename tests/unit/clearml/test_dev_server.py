"""The ClearML layer against the development server: the same calls, now with its own idea of the API."""

import asyncio
from random import Random

import pytest
from clearml_k8s.clearml import events, queues, tasks, workers
from clearml_k8s.clearml.events import LogLine
from clearml_k8s.clearml.health import State
from clearml_k8s.clearml.keys import Credentials
from clearml_k8s.clearml.session import Session
from clearml_k8s.clock import SystemClock
from clearml_k8s.errors import AuthRefused, InvalidStatus, NotFound, NotSupported, Unanswered, Unreachable
from clearml_server.process import DevServer


@pytest.fixture(scope="module")
def process():
    with DevServer() as process:
        yield process


@pytest.fixture
def server(process):
    yield process
    process.reset()


@pytest.fixture
async def session(server):
    async with open_session(server) as session:
        yield session


def open_session(server, **changes):
    credentials = Credentials(
        **{"access_key": server.access_key, "secret_key": server.secret_key, "source": "the test", **changes}
    )
    return Session(api_server=server.url, credentials=credentials, clock=SystemClock(), random=Random(7))


async def test_login_and_server_info(session):
    info = await session.login()
    assert info.basic
    assert info.server_version
    assert info.api_version


async def test_wrong_credentials(server):
    async with open_session(server, secret_key="wrong") as session:
        with pytest.raises(AuthRefused):
            await session.ping()


async def test_queues_and_takes(server, session):
    gpu = server.create_queue("gpu (a.b)")
    ids = [server.create_task(f"task {number}", queue="gpu (a.b)") for number in range(3)]
    resolution = await queues.resolve(session, ["gpu (a.b)", gpu, "none"])
    assert resolution.found["gpu (a.b)"].id == resolution.found[gpu].id == gpu
    assert resolution.missing == ("none",)
    (queue,) = await queues.get_queues(session, ids=[gpu], max_entries=2)
    assert [entry.task for entry in queue.entries] == ids[:2]
    assert queue.total is None
    assert await queues.num_entries(session, gpu) == 3
    taken = await asyncio.gather(*(queues.remove_task(session, gpu, ids[1]) for _ in range(4)))
    assert sorted(taken) == [False, False, False, True]
    assert await queues.add_task(session, gpu, ids[1])
    assert not await queues.add_task(session, gpu, ids[1])
    assert await queues.move_task_to_front(session, gpu, ids[1])
    assert server.entries(gpu) == [ids[1], ids[0], ids[2]]
    assert not await queues.remove_task(session, "no-such-queue", ids[0])
    with pytest.raises(NotFound):
        await queues.add_task(session, "no-such-queue", ids[0])


async def test_hidden_queues_are_found_and_made_once(server, session):
    made = await queues.ensure_queue(session, "k8s_scheduler", system_tags=["k8s-glue"])
    again = await queues.ensure_queue(session, "k8s_scheduler", system_tags=["k8s-glue"])
    assert made.id == again.id
    assert made.id in {queue.id for queue in await queues.all_entries(session)}


async def test_tasks_are_read_in_one_call(server, session):
    gpu = server.create_queue("gpu")
    task = server.create_task(
        "train", queue="gpu", container={"image": "python:3.11", "arguments": "-e A=B", "setup_shell_script": "true"}
    )
    since = server.last_call()
    found = await tasks.get_many(session, [task, "0" * 32])
    assert len(server.calls(since=since, endpoint="tasks.get_all")) == 1
    assert list(found) == [task]
    view = found[task]
    assert (view.name, view.status, view.execution_queue) == ("train", "queued", gpu)
    assert view.container == tasks.Container(image="python:3.11", arguments="-e A=B", setup_shell_script="true")
    assert view.status_changed
    assert view.last_worker is None
    assert list(await tasks.find_queued(session, queue_ids=[gpu])) == [task]
    assert await tasks.find_queued(session, queue_ids=[gpu], changed_before=view.status_changed) == {}


async def test_properties_merge_by_key(server, session):
    task = server.create_task("a task", queue="gpu")
    await tasks.set_properties(session, task, {"k8s-queue": "gpu", "k8s-claim-a": "1"})
    await tasks.set_properties(session, task, {"k8s-claim-b": "2"})
    await tasks.delete_properties(session, task, ["k8s-claim-a", "none"])
    view = (await tasks.get_many(session, [task]))[task]
    assert view.properties == {"k8s-queue": "gpu", "k8s-claim-b": "2"}


async def test_the_status_message_changes_nothing_else(server, session):
    task = server.create_task("a task", queue="gpu")
    before = (await tasks.get_many(session, [task]))[task]
    await tasks.set_status_message(session, task, "waits for a node")
    after = (await tasks.get_many(session, [task]))[task]
    assert after.status_message == "waits for a node"
    same = ("status", "status_changed", "status_reason", "execution_queue", "last_update")
    assert [getattr(after, name) for name in same] == [getattr(before, name) for name in same]


async def test_ends(server, session):
    one, two = (server.create_task("a task", queue=name) for name in ("q-one", "q-two"))
    with pytest.raises(InvalidStatus):
        await tasks.failed(session, one, reason="r", message="m")
    await tasks.failed(session, one, reason="why", message="words", force=True)
    await tasks.stopped(session, two, reason="why", message="words")
    found = await tasks.get_many(session, [one, two])
    assert (found[one].status, found[one].status_reason, found[one].status_message) == ("failed", "why", "words")
    assert found[two].status == "stopped"
    with pytest.raises(NotFound):
        await tasks.failed(session, "0" * 32, reason="r", message="m")


async def test_console_lines(server, session):
    task = server.create_task("a task")

    def line(task, msg):
        return LogLine(task=task, worker="w", msg=msg, timestamp_ms=1_700_000_000_000)

    report = await events.add_log_batch(session, [line(task, "größe"), line("0" * 32, "lost")])
    assert report.added == 1
    assert len(report.errors) == 1
    assert "größe" in server.console(task)
    assert (await events.add_log_batch(session, [line("0" * 32, "lost")])).added == 0


async def test_worker_calls(server, session):
    gpu = server.create_queue("gpu")
    await workers.register(session, "w", queues=[gpu])
    await workers.status_report(session, "w", at=session.clock.now(), queues=[gpu])
    await workers.probe(session, "w")
    await workers.unregister(session, "w")
    await workers.unregister(session, "w")


async def test_unknown_endpoints_are_not_supported(session):
    with pytest.raises(NotSupported):
        await session.call("workers.cluster_report", {"worker": "w"})


async def test_takes_that_fail_half_way_are_doubt_until_the_probe_succeeds(server, session):
    gpu = server.create_queue("gpu")
    task = server.create_task("a task", queue="gpu")
    await session.login()

    async def probe():
        await workers.probe(session, "w")

    session.health.use_probe(probe)
    server.elasticsearch(probability=1.0)
    with pytest.raises(Unanswered):
        await queues.remove_task(session, gpu, task)
    assert server.entries(gpu) == []
    assert (await queues.get_queues(session, ids=[gpu]))[0].entries == ()
    assert session.health.state is State.HALF_WAY
    with pytest.raises(Unanswered):
        await probe()
    server.elasticsearch()
    async with asyncio.timeout(20):
        await session.health.ready()
    assert session.health.healthy


async def test_dropped_replies_and_revoked_tokens(server, session):
    gpu = server.create_queue("gpu")
    task = server.create_task("a task", queue="gpu")
    await session.login()
    server.add_fault(kind="drop_reply", endpoint=r"^queues\.remove_task$", count=1)
    with pytest.raises(Unanswered):
        await queues.remove_task(session, gpu, task)
    assert not await queues.remove_task(session, gpu, task)
    server.revoke_tokens()
    assert await queues.add_task(session, gpu, task)


async def test_a_server_that_is_down_and_comes_back(server, session):
    await session.login()
    server.down(mode="refuse")
    # The pooled connection may still take the request, which is doubt; a new one is refused.
    with pytest.raises((Unreachable, Unanswered)):
        await session.call("queues.create", {"name": "new queue"})
    with pytest.raises(Unreachable):
        await session.call("queues.create", {"name": "new queue"})
    assert session.health.state is State.UNREACHABLE
    server.up()
    async with asyncio.timeout(20):
        await session.health.ready()

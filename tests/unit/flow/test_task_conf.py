"""The clearml.conf of task pods: followed when its Secret is rotated, and what happens while it cannot be read."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from clearml_k8s.clearml.tasks import Container
from clearml_k8s.errors import ConfigError
from clearml_k8s.flow import task_conf
from clearml_k8s.flow.launch import Launch
from clearml_k8s.flow.served import State
from clearml_k8s.flow.task_conf import LOOK_SECONDS, TaskConf, find, read_file, read_text
from clearml_k8s.spec.container_rules import NO_RULES, ContainerRules
from clearml_server.process import DevServer
from flow_parts import Side, make_queue, make_task
from manual_clock import ManualClock
from scripted_kube import Cluster

GOOD = 'agent.default_docker.image: "conf:1"'
OTHER = 'agent.default_docker.image: "conf:2"'
BAD = 'agent.default_docker.image: "CANARY A"'
BROKEN = "agent { CANARY: ["


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "clearml.conf"


async def test_no_file_means_no_rules() -> None:
    conf = TaskConf(None, clock=ManualClock())
    await conf.look()
    assert (conf.rules, conf.problem, conf.usable) == (NO_RULES, "", True)


async def test_a_rotated_file_is_seen_within_the_time_and_at_once_when_asked(file: Path) -> None:
    clock = ManualClock(auto=True)
    file.write_text(GOOD)
    conf = TaskConf(file, clock=clock)
    await conf.look()
    assert conf.rules.image == "conf:1"
    file.write_text(OTHER)
    await conf.look()
    assert conf.rules.image == "conf:1"
    await clock.advance(LOOK_SECONDS)
    await conf.look()
    assert conf.rules.image == "conf:2"
    file.write_text(GOOD)
    await conf.look(now=True)
    assert conf.rules.image == "conf:1"


@pytest.mark.parametrize("text", [BAD, BROKEN, None, b"\xff"])
async def test_the_last_good_rules_stay_while_a_file_cannot_be_used(
    file: Path, text: str | bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    file.write_text(GOOD)
    conf = TaskConf(file, clock=ManualClock())
    await conf.look()
    if text is None:
        file.unlink()
    else:
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    for _ in range(3):
        await conf.look(now=True)
    assert conf.rules.image == "conf:1"
    assert conf.usable
    assert str(file) in conf.problem
    assert caplog.text.count("the rules read before are used") == 1
    assert "CANARY" not in conf.problem + caplog.text
    file.write_text(OTHER)
    await conf.look(now=True)
    assert (conf.rules.image, conf.problem) == ("conf:2", "")


async def test_a_file_that_comes_back_as_it_was_is_no_problem_any_more(file: Path) -> None:
    file.write_text(GOOD)
    conf = TaskConf(file, clock=ManualClock())
    await conf.look()
    file.unlink()
    await conf.look(now=True)
    assert conf.problem
    file.write_text(GOOD)
    await conf.look(now=True)
    assert conf.problem == ""


async def test_all_else_goes_on_while_a_large_file_is_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    goes_on = threading.Event()

    def slow(text: str, *, path: Path) -> ContainerRules:
        assert goes_on.wait(30), "nothing else was done"
        return read_text(text, path=path)

    monkeypatch.setattr(task_conf, "read_text", slow)
    file.write_text(GOOD)
    conf = TaskConf(file, clock=ManualClock())
    looks = [asyncio.ensure_future(conf.look(now=now)) for now in (False, True, False)]
    await asyncio.sleep(0)
    assert not conf.usable
    goes_on.set()
    await asyncio.gather(*looks)
    assert conf.rules.image == "conf:1"


def test_where_it_is(tmp_path: Path) -> None:
    assert find({}, home=tmp_path) is None
    own = tmp_path / "clearml.conf"
    own.write_text("")
    assert find({}, home=tmp_path) == own
    assert find({"CLEARML_CONFIG_FILE": "/dev/null"}, home=tmp_path) is None
    mounted = {"CLEARML_K8S_TASK_CONF": "/etc/clearml-k8s-conf/clearml.conf", "CLEARML_CONFIG_FILE": str(own)}
    assert find(mounted, home=tmp_path) == Path("/etc/clearml-k8s-conf/clearml.conf")


def test_a_file_read_once(file: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_file(file)
    file.write_text(GOOD)
    assert read_file(file).image == "conf:1"


def test_a_url_is_not_asked_for_while_all_else_waits(file: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        port = listening.getsockname()[1]
        file.write_text(f'{GOOD}\ninclude url("http://user:CANARY@127.0.0.1:{port}/more.conf")')
        with pytest.raises(ConfigError, match="includes a URL") as caught:
            read_file(file)
        assert "CANARY" not in str(caught.value)
        with pytest.raises(BlockingIOError):
            listening.accept()


# ---- with queues and Jobs -------------------------------------------------------------------------------------------


@pytest.fixture
async def side(server: DevServer, cluster: Cluster, file: Path) -> AsyncIterator[Side]:
    side = Side(server=server, cluster=cluster, conf=file)
    yield side
    await side.close()


async def test_nothing_is_taken_while_the_rules_were_never_read(side: Side, file: Path) -> None:
    for text in (None, BROKEN, BAD):
        if text is not None:
            file.write_text(text)
        await side.served.refresh()
        assert side.served.active() == ()
        assert side.served.state_of("default") is State.TEMPLATE_INVALID
        problem = side.served.states["default"].problem
        assert problem.startswith(f"which image its tasks get is not known: {file}")
        assert "CANARY" not in problem
    assert side.served.troubled
    file.write_text(GOOD)
    await side.served.refresh()
    assert len(side.served.active()) == 1
    file.write_text(BROKEN)
    await side.served.refresh()
    assert len(side.served.active()) == 1


async def launched(side: Side, server: DevServer, **fields: Any) -> Any:
    task = server.create_task("train", **fields)
    found = await side.launcher.launch(make_task(task=task, **fields), queue=make_queue("default"))
    assert found.how is Launch.CREATED, found.why
    (job,) = side.created(task)
    return job["spec"]["template"]["spec"]["containers"][0]["image"]


async def test_a_task_is_read_for_rules_alone_and_its_project_for_one_that_names_it(
    side: Side, server: DevServer, file: Path
) -> None:
    file.write_text(GOOD)
    before = server.last_call()
    assert await launched(side, server) == "conf:1"
    assert server.calls(since=before, endpoint="tasks.get_by_id") == []
    file.write_text('agent.default_docker.match_rules: [{image: "rule:1", match.tags: "^gpu$"}]')
    await side.clock.advance(LOOK_SECONDS)
    before = server.last_call()
    assert await launched(side, server, tags=["gpu"]) == "rule:1"
    assert len(server.calls(since=before, endpoint="tasks.get_by_id")) == 1
    assert server.calls(since=before, endpoint="projects.get_all") == []
    project = server.call("projects.create", name="vision/one", description="")["id"]
    file.write_text('agent.default_docker.match_rules: [{image: "rule:2", match.project: "^vision/"}]')
    await side.clock.advance(LOOK_SECONDS)
    assert await launched(side, server, project=project) == "rule:2"


async def test_a_task_is_not_launched_past_a_rule_while_its_projects_name_cannot_be_read(
    side: Side, server: DevServer, file: Path
) -> None:
    file.write_text(
        'agent.default_docker.match_rules: [{image: "locked:1", force_container_rules: true, match.project: "^locked"}]'
    )
    project = server.call("projects.create", name="locked/one", description="")["id"]
    task = server.create_task("train", project=project, container={"image": "own:1"})
    server.add_fault(kind="error_before", endpoint="^projects.get_all$", status=403, count=100)
    view = make_task(task=task, project=project, container=Container(image="own:1"))
    found = await side.launcher.launch(view, queue=make_queue("default"))
    assert (found.how, "cannot be read" in found.why) == (Launch.NOT_NOW, True)
    assert side.created(task) == []

"""Commands around a task's pod: when they run, what is told of those that fail, and what stands in the record."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import pytest
from clearml_k8s import names
from clearml_k8s.config.pod_commands import PodCommandsConfig
from clearml_k8s.errors import HookUnavailable
from clearml_k8s.flow.commands import FIRST_WAIT_SECONDS, LOOK_SECONDS, MOST_TRIES, STAYS_SECONDS, drop
from clearml_k8s.flow.launch import Launch
from clearml_k8s.hooks.shell import Ended
from clearml_k8s.kube.watch import Gone
from clearml_server.process import DevServer
from flow_parts import LATER, Side, make_config, make_queue, make_task
from reconcile_loop import Loop
from scripted_kube import Cluster, Fault, status

ALL = PodCommandsConfig(
    pre_apply="make {pod_name} {namespace}", post_apply="note {pod_name} {pod_number}", post_delete="remove {pod_name}"
)
QUEUE = make_queue("default")


class Shells:
    """In place of processes: what was run, and what comes of it by the first word."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.variables: list[Mapping[str, str]] = []
        self.ends: dict[str, Ended | Exception] = {}
        self.holds: dict[str, asyncio.Event] = {}

    async def __call__(self, command: str, *, variables: Mapping[str, str]) -> Ended:
        self.ran.append(command)
        self.variables.append(variables)
        word = command.split()[0]
        if word in self.holds:
            await self.holds[word].wait()
        found = self.ends.get(word, Ended(code=0))
        if isinstance(found, Exception):
            raise found
        return found

    def words(self) -> list[str]:
        return [command.split()[0] for command in self.ran]


class World:
    """One controller after the other on one cluster; ``side`` is the present one."""

    def __init__(self, new_side: Any, cluster: Cluster, server: DevServer) -> None:
        self._new_side = new_side
        self.cluster, self.server = cluster, server
        self.shells = Shells()

    async def starts(self, commands: PodCommandsConfig = ALL) -> World:
        config = make_config(api_server=self.server.url, pod_commands=commands)
        self.side: Side = await self._new_side(self.cluster, config=config, shell=lambda: self.shells)
        self.loop = Loop(self.side)
        return self

    async def launched(self) -> str:
        task: str = self.server.create_task(queue="default")
        assert await self.side.poll() == 1
        await self.side.book.flush()
        return task

    async def look(self, after: float = LOOK_SECONDS) -> None:
        await self.side.clock.advance(after)
        assert self.side.commands is not None
        for due in self.side.commands.due():
            await self.side.commands.settle(due)
        await self.side.commands.write()

    def job_goes(self, task: str) -> None:
        """By whatever way."""
        self.cluster.drop("jobs", names.job_name(task))
        self.side.relist()

    def owed(self) -> set[str]:
        """The tasks in the record."""
        return {key.removeprefix("owed.") for key in self.side.stored() if key.startswith("owed.")}

    async def console(self, task: str) -> list[str]:
        await self.side.teller.flush()
        return [line for line in self.server.console(task).splitlines() if "command" in line]


@pytest.fixture
async def world(new_side: Any, cluster: Cluster, server: DevServer) -> World:
    return await World(new_side, cluster, server).starts()


async def test_each_runs_once_in_its_time(world: World) -> None:
    task = await world.launched()
    name = names.job_name(task)
    assert world.shells.ran == [f"make {name} ns"]
    assert world.owed() == {task}
    for _ in range(2):
        await world.look()
    assert world.shells.ran[1:] == [f"note {name} 1"]
    world.job_goes(task)
    for _ in range(2):
        await world.look()
    assert world.shells.ran[2:] == [f"remove {name}"]
    assert world.owed() == set()
    assert world.shells.variables == [{"CLEARML_K8S_QUEUE_NAME": "default"}] * 3
    assert await world.console(task) == []


async def test_the_record_comes_before_the_first_command_and_the_job_after_it(world: World) -> None:
    hold = world.shells.holds["make"] = asyncio.Event()
    task = world.server.create_task(queue="default")
    polling = asyncio.create_task(world.side.poll())
    while not world.shells.ran:
        await asyncio.sleep(0.001)
    assert world.owed() == {task}
    assert world.side.created(task) == []
    assert world.side.commands is not None
    await world.side.clock.advance(LOOK_SECONDS)
    assert world.side.commands.due() == [], "its Job is still to come"
    hold.set()
    await polling
    assert len(world.side.created(task)) == 1


async def test_without_commands_for_later_nothing_is_written(world: World) -> None:
    await world.starts(PodCommandsConfig(pre_apply="make"))
    await world.launched()
    assert world.shells.ran == ["make"]
    assert world.owed() == set()


async def test_a_command_before_it_that_fails_fails_its_task_alone(world: World) -> None:
    world.shells.ends["make"] = Ended(code=7, output="trying\nno such class")
    task = world.server.create_task(queue="default")
    assert await world.side.poll() == 0
    assert world.server.task(task)["status"] == "failed"
    why = "the command before its Job failed: exit code 7: no such class"
    assert world.server.task(task)["status_message"] == why
    assert await world.console(task) == [f"The task cannot be launched: {why}"]
    assert world.side.created(task) == []
    del world.shells.ends["make"]
    other = await world.launched()
    assert len(world.side.created(other)) == 1
    await world.look()
    assert world.shells.ran[-1] == f"note {names.job_name(other)} 2" or "remove" in world.shells.words()
    assert f"remove {names.job_name(task)}" in world.shells.ran, "what it may have made half"
    assert world.owed() == {other}


async def test_too_long_is_told_so(world: World) -> None:
    world.shells.ends["make"] = Ended(code=None)
    task = world.server.create_task(queue="default")
    await world.side.poll()
    said = "the command before its Job failed: it took more than 30 s, and was ended"
    assert world.server.task(task)["status_message"] == said


async def test_a_command_that_cannot_be_run_puts_the_task_back(world: World) -> None:
    world.shells.ends["make"] = HookUnavailable("no process for it: no memory")
    task = world.server.create_task(queue="default")
    await world.side.poll()
    assert world.server.task(task)["status"] == "queued"
    assert world.side.served.paused("default") == "the command before its Job: no process for it: no memory"


async def test_a_process_that_may_not_lead_runs_none(world: World) -> None:
    task = await world.launched()
    world.job_goes(task)
    world.side.leads = False
    await world.look()
    assert world.shells.words() == ["make"]
    assert (await world.side.launcher.launch(make_task(), queue=QUEUE)).how is Launch.NOT_NOW
    assert world.shells.words() == ["make"]
    world.side.leads = True
    await world.look(STAYS_SECONDS)
    assert f"remove {names.job_name(task)}" in world.shells.ran


async def test_a_record_that_cannot_be_written_launches_nothing(world: World) -> None:
    refused = Fault(code=403, status=status(403, "Forbidden", "no"))
    for fault in (refused, Fault(drop=True), Fault(drop=True, after=True)):
        world.cluster.fault("PATCH", fault)
        found = await world.side.launcher.launch(make_task(), queue=QUEUE)
        assert found.how is Launch.NOT_NOW
        assert world.shells.ran == []
    assert world.side.created(make_task().id) == []


# ---- when a pod is gone -----------------------------------------------------------------------------------------


async def test_its_pods_are_gone_first(world: World) -> None:
    task = await world.launched()
    world.loop.pod(task, phase="Running")
    world.job_goes(task)
    await world.look()
    assert "remove" not in world.shells.words()
    world.loop.pod_goes(task)
    await world.look()
    assert "remove" in world.shells.words()


async def test_what_the_watch_does_not_show_is_looked_for(world: World) -> None:
    """A Job, or a pod, of whatever controller."""
    task = await world.launched()
    (job,) = world.side.jobs.of_task(task)
    world.side.jobs.apply(Gone(item=job))
    await world.look()
    assert "remove" not in world.shells.words()
    world.job_goes(task)
    labels = {"labels": {names.LABEL_TASK_ID: task}}
    world.cluster.put("pods", "another", metadata=labels, status={"phase": "Running"})
    await world.look(STAYS_SECONDS)
    assert "remove" not in world.shells.words()
    for phase, owners in (("Succeeded", [{"kind": "Job", "uid": "x"}]), ("Running", [])):
        meta = {**labels, "ownerReferences": owners}
        world.cluster.put("pods", "another", metadata=meta, status={"phase": phase})
        await world.look(STAYS_SECONDS)
        assert "remove" not in world.shells.words()
    world.cluster.put("pods", "another", metadata={**labels, "ownerReferences": []}, status={"phase": "Succeeded"})
    await world.look(STAYS_SECONDS)
    assert "remove" in world.shells.words(), "that of an orphan that has ended stays for ever"


@pytest.mark.parametrize("path", ["jobs", "pods"])
async def test_nothing_runs_on_a_read_that_failed(world: World, path: str) -> None:
    task = await world.launched()
    world.job_goes(task)
    for fault in (Fault(code=403, status=status(403, "Forbidden", "no")), Fault(drop=True), Fault(code=500)):
        world.cluster.fault("GET", *[fault] * 200, path=path)
        await world.look(60.0)
        world.cluster.faults.clear()
        assert "remove" not in world.shells.words()
    await world.look(60.0)
    assert "remove" in world.shells.words()


async def test_another_life_runs_what_is_owed(world: World) -> None:
    task = await world.launched()
    world.cluster.drop("jobs", names.job_name(task))
    await world.starts()
    assert world.shells.words() == ["make"]
    await world.look()
    assert world.shells.words() == ["make", "remove"]
    assert world.owed() == set()


async def test_another_life_notes_a_job_that_is_there(world: World) -> None:
    await world.launched()
    await world.starts()
    await world.look()
    assert world.shells.words() == ["make", "note"]
    await world.starts()
    await world.look()
    assert world.shells.words() == ["make", "note"], "it is in the record that it has run"


async def test_a_new_attempt_waits_for_the_command_of_the_old_one(world: World) -> None:
    task = await world.launched()
    world.job_goes(task)
    world.server.call("tasks.reset", task=task, force=True)
    world.server.call("tasks.enqueue", task=task, queue=world.server.queue_id("default"))
    assert await world.side.poll() == 0
    assert world.shells.words() == ["make"]
    found = await world.side.launcher.launch(make_task(task=task, changed=LATER), queue=QUEUE)
    assert (found.how, found.why) == (
        Launch.IN_THE_WAY, "the command after its pod of its former attempt has not run yet"
    )  # fmt: skip
    await world.look(6.0)
    assert await world.side.poll() == 1
    await world.look()
    assert world.shells.words() == ["make", "remove", "make", "note"]


async def test_a_launch_that_meets_the_command_of_the_old_pod_waits(world: World) -> None:
    task = await world.launched()
    attempt = world.server.task(task)["status_changed"]
    world.job_goes(task)
    hold = world.shells.holds["remove"] = asyncio.Event()
    looking = asyncio.create_task(world.look())
    while "remove" not in world.shells.words():
        await asyncio.sleep(0.001)
    again = make_task(task=task, changed=attempt)
    assert (await world.side.launcher.launch(again, queue=QUEUE)).how is Launch.IN_THE_WAY
    hold.set()
    await looking
    assert (await world.side.launcher.launch(again, queue=QUEUE)).how is Launch.CREATED
    assert world.shells.words() == ["make", "remove", "make"]
    assert world.owed() == {task}


async def test_a_launch_after_a_run_that_is_not_written_owes_anew(world: World) -> None:
    task = await world.launched()
    attempt = world.server.task(task)["status_changed"]
    world.job_goes(task)
    world.cluster.fault("PATCH", Fault(code=500))
    with pytest.raises(Exception, match="500"):
        await world.look()
    assert world.owed() == {task}
    assert (await world.side.launcher.launch(make_task(task=task, changed=attempt), queue=QUEUE)).how is Launch.CREATED
    await world.look()
    assert world.owed() == {task}
    world.job_goes(task)
    await world.look()
    assert world.shells.words() == ["make", "remove", "make", "note", "remove"]


async def test_numbers_are_those_of_no_other_pod(world: World) -> None:
    tasks = [await world.launched() for _ in range(3)]
    await world.look()
    numbers = {command.split()[1]: command.split()[2] for command in world.shells.ran if command.startswith("note")}
    assert [numbers[names.job_name(task)] for task in tasks] == ["1", "2", "3"]
    world.job_goes(tasks[1])
    await world.look()
    await world.starts()
    four = await world.launched()
    await world.look()
    assert world.shells.ran[-1] == f"note {names.job_name(four)} 2"


async def test_numbers_of_one_batch_differ(world: World) -> None:
    for _ in range(8):
        world.server.create_task(queue="default")
    assert await world.side.poll() == 8
    assert sorted(owed.number for owed in world.side.record.owed.values()) == list(range(1, 9))


# ---- what goes wrong ---------------------------------------------------------------------------------------------


async def test_a_command_after_it_that_fails_is_tried_again_and_told(world: World) -> None:
    task = await world.launched()
    await world.look()
    world.job_goes(task)
    world.shells.ends["remove"] = Ended(code=1, output="Error from server")
    await world.look()
    said = "The command after its pod failed: exit code 1: Error from server; it is tried again"
    assert await world.console(task) == [said]
    assert world.owed() == {task}
    await world.look()
    assert world.shells.words().count("remove") == 1, "not at once"
    del world.shells.ends["remove"]
    await world.look(FIRST_WAIT_SECONDS)
    assert world.shells.words().count("remove") == 2
    assert world.owed() == set()


@pytest.mark.parametrize("word", ["note", "remove"])
async def test_what_fails_for_long_is_given_up_and_told(
    world: World, caplog: pytest.LogCaptureFixture, word: str
) -> None:
    task = await world.launched()
    if word == "remove":
        world.job_goes(task)
    world.shells.ends[word] = Ended(code=1, output="no right")
    for _ in range(MOST_TRIES + 3):
        await world.look(120.0)
    assert world.shells.words().count(word) == MOST_TRIES
    assert (await world.console(task))[-1].endswith(f"exit code 1: no right; that was the last of {MOST_TRIES} tries")
    assert "command given up" in caplog.text
    assert world.owed() == ({task} if word == "note" else set())


async def test_one_that_hangs_holds_up_no_other_task(world: World) -> None:
    first = await world.launched()
    world.job_goes(first)
    hold = world.shells.holds["remove"] = asyncio.Event()
    assert world.side.commands is not None
    await world.side.clock.advance(LOOK_SECONDS)
    (due,) = world.side.commands.due()
    hanging = asyncio.create_task(world.side.commands.settle(due))
    second = await world.launched()
    await world.look()
    assert f"note {names.job_name(second)} 2" in world.shells.ran
    assert world.side.commands.due() == []
    hold.set()
    await hanging
    await world.look()
    assert world.owed() == {second}


async def test_a_mistake_of_ours_ends_nothing_else(world: World, caplog: pytest.LogCaptureFixture) -> None:
    task = await world.launched()
    world.shells.ends["note"] = KeyError("x")
    await world.look()
    assert "a command around a pod failed" in caplog.text
    del world.shells.ends["note"]
    await world.look(STAYS_SECONDS)
    assert world.shells.words() == ["make", "note", "note"]
    assert world.owed() == {task}


async def test_what_it_prints_is_in_the_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    world.shells.ends["make"] = Ended(code=0, output="persistentvolumeclaim/x created")
    task = await world.launched()
    (record,) = [one for one in caplog.records if one.getMessage() == "command ended"]
    fields = record.kv  # type: ignore[attr-defined]
    assert (fields["task"], fields["command"], fields["code"]) == (task, "before its Job", 0)
    assert fields["output"] == "persistentvolumeclaim/x created"


# ---- commands that are configured no more -------------------------------------------------------------------------


async def test_what_is_owed_is_dropped_when_its_command_is_taken_out(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    task = await world.launched()
    world.job_goes(task)
    await world.starts(PodCommandsConfig(post_apply="note"))
    await world.look()
    assert world.shells.words() == ["make"]
    assert world.owed() == set()
    assert "command dropped: none is to run after its pod any more" in caplog.text


@pytest.mark.parametrize("before", ["post_apply", "post_delete"])
async def test_a_command_that_is_added_is_for_new_pods(world: World, before: str) -> None:
    """What it undoes was not done for those that are there."""
    await world.starts(PodCommandsConfig(**{before: "old {pod_name}"}))
    task = await world.launched()
    await world.look()
    added = {"post_apply": "added 1", "post_delete": "added 2"} | {before: "old {pod_name}"}
    await world.starts(PodCommandsConfig(**added))
    await world.side.record.open()
    world.side.relist()
    await world.look()
    world.job_goes(task)
    await world.look()
    await world.look(STAYS_SECONDS)
    assert world.shells.words() == ["old"]
    assert world.owed() == set()


async def test_nothing_is_said_of_what_never_was_owed(world: World, caplog: pytest.LogCaptureFixture) -> None:
    await world.starts(PodCommandsConfig(post_apply="note"))
    task = await world.launched()
    world.job_goes(task)
    await world.look()
    assert world.owed() == set()
    assert "dropped" not in caplog.text


async def test_all_is_dropped_when_no_command_is_configured(world: World, caplog: pytest.LogCaptureFixture) -> None:
    await world.launched()
    await world.starts(PodCommandsConfig())
    assert world.side.commands is None
    await drop(world.side.record)
    assert world.owed() == set()
    assert "commands around pods dropped: none is configured any more" in caplog.text
    writes = len(world.cluster.of("PATCH"))
    await drop(world.side.record)
    assert len(world.cluster.of("PATCH")) == writes

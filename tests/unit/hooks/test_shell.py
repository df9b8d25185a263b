"""Commands of an administrator's own, really run in a shell, whatever they do."""

from __future__ import annotations

import asyncio
import ctypes
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from clearml_k8s.clock import SystemClock
from clearml_k8s.config import pod_commands
from clearml_k8s.errors import HookUnavailable
from clearml_k8s.hooks.child import MOST_AT_ONE_TIME
from clearml_k8s.hooks.output import MOST_KEPT
from clearml_k8s.hooks.shell import Ended, Shell
from living import runs


def shell(seconds: float = 30.0) -> Shell:
    return Shell(seconds=seconds, clock=SystemClock())


async def run(command: str, *, seconds: float = 30.0, variables: Mapping[str, str] | None = None) -> Ended:
    return await shell(seconds)(command, variables=variables or {})


async def test_exit_code_and_output() -> None:
    assert await run("[[ a == a ]] && echo out; echo err >&2; exit 3") == Ended(code=3, output="out\nerr")
    assert await run("true") == Ended(code=0)


async def test_it_has_no_credentials_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLEARML_API_SECRET_KEY", "s3cret-of-ours")
    assert (await run('echo "${CLEARML_API_SECRET_KEY-none}"')).output == "none"


async def test_secrets_of_the_environment_are_not_in_its_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_TOKEN", "abcdef123456")
    assert "abcdef123456" not in (await run('echo "it is $REGISTRY_TOKEN"; echo password=hunter22')).output
    assert "hunter22" not in (await run("echo password=hunter22")).output


async def test_its_output_is_bounded_and_its_end_is_kept() -> None:
    ended = await run("seq 1 400000; echo the end")
    assert ended.code == 0
    assert len(ended.output) <= MOST_KEPT
    assert ended.output.endswith("400000\nthe end")
    first, second = map(int, ended.output.splitlines()[:2])
    assert second == first + 1, "no line is cut"


async def test_others_go_on_while_one_prints_without_end() -> None:
    """The loop is not kept busy by it, and its memory not filled."""
    printing = asyncio.create_task(run("yes", seconds=3.0))
    for _ in range(5):
        assert (await run("echo other")).output == "other"
    assert (await printing).code is None


async def test_who_hangs_is_ended_and_others_are_served() -> None:
    one = shell(3.0)
    hanging = [asyncio.create_task(one("sleep 600", variables={})) for _ in range(MOST_AT_ONE_TIME - 1)]
    assert (await one("echo other", variables={})).output == "other"
    assert not any(task.done() for task in hanging), "they hang still"
    hanging.append(asyncio.create_task(one("sleep 600", variables={})))
    assert (await one("echo last", variables={})).output == "last", "it had to wait, and is served"
    assert [(await task).code for task in hanging] == [None] * MOST_AT_ONE_TIME


async def test_who_has_waited_for_its_turn_is_not_run_where_nothing_may_be_any_more(tmp_path: Path) -> None:
    leads = [True]
    one = Shell(seconds=3.0, clock=SystemClock(), may_run=lambda: leads[0])
    began = [tmp_path / str(number) for number in range(MOST_AT_ONE_TIME)]
    hanging = [asyncio.create_task(one(f"touch {file}; sleep 600", variables={})) for file in began]
    late = asyncio.create_task(one(f"touch {tmp_path}/ran", variables={}))
    while not all(file.exists() for file in began):
        await asyncio.sleep(0.01)
    leads[0] = False
    with pytest.raises(HookUnavailable, match="may not lead any more"):
        await late
    await asyncio.gather(*hanging)
    assert sorted(tmp_path.iterdir()) == began


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("sleep 600 & echo $! >>pids; (trap '' TERM; sleep 600) & echo $! >>pids; wait", None),
        ("sleep 600 & echo $! >>pids", 0),
        ("nohup sleep 600 >/dev/null 2>&1 & echo $! >>pids; exit 4", 4),
        ("timeout 600 sh -c 'echo $$ >>pids; sleep 600'; true", None),
        ("set -m; sleep 600 & echo $! >>pids; sleep 600 | (echo $BASHPID >>pids; sleep 600); true", None),
        ("set -m; sleep 600 & echo $! >>pids", 0),
    ],
)
async def test_what_it_has_started_ends_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, code: int | None
) -> None:
    monkeypatch.chdir(tmp_path)
    assert (await run(command, seconds=2.0)).code == code
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert pids
    while any(map(runs, pids)):
        await asyncio.sleep(0.01)


@pytest.fixture
def process_one() -> Iterator[None]:
    """Whose parent has ended becomes our child, as in a container."""
    prctl, adopts = ctypes.CDLL(None).prctl, 36
    assert prctl(adopts, 1, 0, 0, 0) == 0
    yield
    assert prctl(adopts, 0, 0, 0, 0) == 0


@pytest.mark.usefixtures("process_one")
async def test_no_dead_processes_are_left_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the pod has no more numbers for processes some day, and nothing can be run."""
    monkeypatch.chdir(tmp_path)
    other = subprocess.Popen(["true"])
    leader = subprocess.Popen(["true"], start_new_session=True)
    await run("(sleep 600 & echo $! >>pids; sleep 600 & echo $! >>pids); exit 1", seconds=5.0)
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        await run("true")
    assert (other.wait(), leader.wait()) == (0, 0), "whom others wait for is left to them"


async def test_a_run_that_is_given_up_ends_its_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pids = tmp_path / "pids"
    running = asyncio.create_task(run("sleep 600 & echo $! >>pids; wait"))
    while not pids.exists() or not pids.read_text():
        await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    while runs(int(pids.read_text())):
        await asyncio.sleep(0.01)


async def test_who_has_left_its_session_keeps_nobody_waiting() -> None:
    """It holds the pipe, and nobody reads it any more."""
    assert await run("setsid sleep 3 & echo done") == Ended(code=0, output="done")


async def test_what_cannot_be_begun_is_nobodys_fault() -> None:
    with pytest.raises(HookUnavailable, match="no process for it"):
        await run("true", variables={"A": "x" * 3_000_000})


HOSTILE = (
    "gpu; touch pwned",
    "$(touch pwned)",
    "`touch pwned`",
    "'; touch pwned; '",
    '"; touch pwned; "',
    "' $(touch pwned) '",
    "a\ntouch pwned\n",
    "-n && touch pwned",
    "\\'; touch pwned #",
    "*",
    "~ {a,b} $HOME ${x:=y}",
    "gpu 1xA100",
    "{pod_name}{queue_name}",
    "грузовик",
    "\udc80 half",
)


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize(
    "command",
    [
        "printf %s {queue_name}",
        'printf %s "{queue_name}"',
        "printf %s '{queue_name}'",
        "[[ {queue_name} == \"$CLEARML_K8S_QUEUE_NAME\" ]] && printf '%s' '{queue_name}'",
        'x={queue_name}; printf %s "$x"',
        'printf %s "$(printf %s "{queue_name}")"',
        "cat <<END\n{queue_name}\nEND",
        "echo 'it'\\''s' {queue_name} # don't {queue_name}",
        'printf %s \\"{queue_name}\\"',
    ],
)
async def test_a_queues_name_is_never_read_as_a_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, command: str
) -> None:
    """Where its author wrote a quote that we do not see as the shell does, it is at worst not filled in."""
    monkeypatch.chdir(tmp_path)
    filled = pod_commands.filled(command, pod_name="clearml-id-1", namespace="ns")
    ended = await run(filled, variables=pod_commands.variables(queue_name=name))
    assert list(tmp_path.iterdir()) == [], "something was run"
    if command.startswith(("printf %s {", 'printf %s "{', "printf %s '{", "[[", "x=")):
        assert ended.code == 0
        assert ended.output == name.replace("\udc80", "?").strip()


@pytest.mark.parametrize(
    ("command", "output"),
    [
        ("# don't do it for others\nprintf %s {queue_name}", "NAME"),
        ("true; # don't\nprintf '%s' \"{queue_name}\" # nor here: \"\nprintf %s {queue_name}", "NAMENAME"),
        ('printf %s "$(printf %s "{queue_name}")"', "NAME"),
        ('printf %s "a $(printf %s "$(printf %s {queue_name})" "{queue_name}") b"', "a NAMENAME b"),
        ('x="$( (printf %s "{queue_name}") )"; printf %s "$x{queue_name}"', "NAMENAME"),
        ('printf %s "${none:-"{queue_name}"}" "${none:-it is {queue_name}}"', "NAMEit is NAME"),
        ('printf %s "`printf %s "{queue_name}"`"', "NAME"),
        ('cat <<END\nit\'s "{queue_name}", # {queue_name}\nEND\nprintf %s {queue_name}', 'it\'s "NAME", # NAME\nNAME'),
        ("cat <<-'END' && printf %s {queue_name}\n\tdon't {namespace} $x\n\tEND", "don't ns $x\nNAME"),
        ("printf %s $((1<<2)) {queue_name}; x=3; printf %s $((1<<x))\nprintf %s '{queue_name}'", "4NAME8NAME"),
        ("printf %s \"$#${#none}\" {queue_name}'#'{queue_name}", "00NAME#NAME"),
    ],
)
async def test_a_queues_name_is_quoted_as_the_shell_reads_its_place(command: str, output: str) -> None:
    name = "*  a'b\"c $HOME"
    filled = pod_commands.filled(command, pod_name="clearml-id-1", namespace="ns")
    ended = await run(filled, variables=pod_commands.variables(queue_name=name))
    assert ended == Ended(code=0, output=output.replace("NAME", name))

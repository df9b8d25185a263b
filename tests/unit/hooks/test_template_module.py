"""Code of an administrator's own, really run in its process, whatever it does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from clearml_k8s.clock import SystemClock
from clearml_k8s.config import TemplateModuleConfig
from clearml_k8s.errors import HookUnavailable, SpecError
from clearml_k8s.hooks.child import MOST_AT_ONE_TIME
from clearml_k8s.hooks.output import MOST_KEPT
from clearml_k8s.hooks.template_module import TemplateModule
from clearml_k8s.hooks.worker import as_object, most_memory
from living import runs

MODULE = """
import json, os, sys, time

def labels(queue, task_data, task_dict, providers_info, template, task_config, worker, queue_name, *args, **kwargs):
    print("this is for the log")
    template["metadata"]["labels"] = {
        "queue": queue, "name": queue_name, "id": task_data.id, "project": task_data.project or "none",
        "team": task_dict["hyperparams"]["team"], "deep": task_data.hyperparams.team,
        "vault": str(task_config.get("nfs")), "providers": str(providers_info), "worker": str(worker),
        "secret": os.environ.get("CLEARML_API_SECRET_KEY", "none"),
    }
    return {"template": template}

def nothing(**kwargs): return None
def no_map(**kwargs): return {"template": [1]}
def not_json(**kwargs): return {"template": {1, 2}}
def raises(**kwargs): raise ValueError("no such team")
def prints(template, **kwargs):
    print("line\\n" * 100_000, os.environ["REGISTRY_TOKEN"], "\\nthe end")
    return {"template": template}
def tells(**kwargs): raise ValueError("no login with " + os.environ["REGISTRY_TOKEN"] + " password=hunter22")
def hangs(**kwargs):
    while True: time.sleep(1)
def hangs_for_some(task_dict, template, **kwargs):
    while task_dict.get("hangs"): time.sleep(1)
    return {"template": template}
def leaves(**kwargs): sys.exit(3)
def dies(**kwargs): os._exit(0)
def takes_memory(**kwargs): bytearray(8 << 30)
def too_much(template, **kwargs): return {"template": {"x": "y" * 5_000_000}}
TEXT = "no function"
def tell(task_dict, pid):
    with open(task_dict["pids"], "a") as file:
        print(pid, file=file)
def tells_and_hangs(task_dict, **kwargs):
    tell(task_dict, os.getpid())
    hangs()
def forks_and_hangs(task_dict, **kwargs):
    if os.fork() == 0:
        tell(task_dict, os.getpid())
    hangs()
def forks_and_returns(task_dict, template, **kwargs):
    child = os.fork()
    if child:
        tell(task_dict, child)
        template = {**template}
    return {"template": template}
def leaves_a_program(task_dict, template, **kwargs):
    import subprocess
    tell(task_dict, subprocess.Popen(["sleep", "600"]).pid)
    return {"template": template}
def reads(template, **kwargs):
    import subprocess
    subprocess.run(["cat"], check=True)
    assert sys.stdin.read() == ""
    return {"template": template}
def writes(template, **kwargs):
    os.write(1, b"not an answer\\n")
    print(json.dumps({"result": {"template": {"mine": 1}}}))
    return {"template": template}
"""
TASK = {"id": "t1", "project": None, "hyperparams": {"team": "vision"}}
Make = Callable[..., TemplateModule]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    (tmp_path / "custom_code.py").write_text(MODULE, encoding="utf-8")
    (tmp_path / "broken.py").write_text("import no_such_module", encoding="utf-8")

    def one(function: str, *, seconds: float = 30.0) -> TemplateModule:
        config = TemplateModuleConfig(function=function, timeout_seconds=seconds, path=(str(tmp_path),))
        return TemplateModule(config, clock=SystemClock())

    return one


async def call(module: TemplateModule, **task: Any) -> dict[str, Any]:
    return await module(template={"metadata": {}}, task={**TASK, **task}, queue="q1", queue_name="gpu")


async def test_it_gets_what_clearmls_documentation_says(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLEARML_API_SECRET_KEY", "s3cret")
    module = make("custom_code:labels")
    for _ in range(2):
        assert await call(module) == {
            "metadata": {
                "labels": {
                    "queue": "q1", "name": "gpu", "id": "t1", "project": "none", "team": "vision", "deep": "vision",
                    "vault": "None", "providers": "{}", "worker": "None", "secret": "none",
                }
            }
        }  # fmt: skip


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("custom_code:nothing", 'it has to return {"template": {...}}'),
        ("custom_code:no_map", 'it has to return {"template": {...}}'),
        ("custom_code:not_json", "it raised TypeError: Object of type set is not JSON serializable"),
        ("custom_code:raises", "it raised ValueError: no such team"),
        ("custom_code:leaves", "it raised SystemExit: 3"),
        ("custom_code:dies", "its process has ended without an answer that could be read"),
        ("custom_code:takes_memory", "it raised MemoryError: it may take 1024 MiB"),
        ("custom_code:too_much", "its process has ended without an answer that could be read"),
    ],
)
async def test_what_goes_wrong_with_a_task(make: Make, function: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        await call(make(function))
    assert str(caught.value).startswith(f"the template module {function}: {said}")


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("custom_code:none", "it cannot be loaded: AttributeError: module 'custom_code' has no attribute 'none'"),
        ("custom_code:TEXT", "it cannot be loaded: TypeError: custom_code:TEXT is no function"),
        ("broken:update", "it cannot be loaded: ModuleNotFoundError: No module named 'no_such_module'"),
        ("missing:update", "it cannot be loaded: ModuleNotFoundError: No module named 'missing'"),
    ],
)
async def test_a_module_that_cannot_be_loaded_is_no_tasks_fault(make: Make, function: str, said: str) -> None:
    with pytest.raises(HookUnavailable) as caught:
        await call(make(function))
    assert str(caught.value).startswith(f"the template module {function}: {said}")


@pytest.mark.parametrize(
    ("text", "seconds", "said"),
    [
        ("import time; time.sleep(600)", 2.0, "that took more than 2 s; raise templateModule.timeoutSeconds"),
        ("import os; os._exit(0)", 60.0, "its process has ended; see the log"),
    ],
)
async def test_a_module_that_does_not_come_to_an_end_of_loading(
    make: Make, tmp_path: Path, text: str, seconds: float, said: str
) -> None:
    (tmp_path / "slow.py").write_text(text, encoding="utf-8")
    with pytest.raises(HookUnavailable) as caught:
        await call(make("slow:update", seconds=seconds))
    assert str(caught.value) == f"the template module slow:update: it cannot be loaded: {said}"


async def test_its_traceback_is_in_the_log_under_its_name(
    make: Make, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """By the logger alone, so that each line has the log's format."""
    caplog.set_level(logging.INFO)
    with pytest.raises(SpecError):
        await call(make("custom_code:raises"))
    assert "template module: Traceback (most recent call last):" in caplog.messages
    assert "template module: ValueError: no such team" in caplog.messages
    assert capfd.readouterr() == ("", "")


async def test_what_it_prints_is_bounded_and_shows_no_secrets(
    make: Make, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGISTRY_TOKEN", "abcdef123456")
    caplog.set_level(logging.INFO)
    assert await call(make("custom_code:prints")) == {"metadata": {}}
    assert caplog.messages[-1] == "template module: the end"
    assert len("".join(line.removeprefix("template module: ") for line in caplog.messages)) <= MOST_KEPT
    assert "abcdef123456" not in caplog.text


async def test_who_hangs_is_ended_and_others_are_served(make: Make) -> None:
    module = make("custom_code:hangs_for_some", seconds=5.0)
    hangs = [call(module, hangs=True) for _ in range(MOST_AT_ONE_TIME)]
    ends = await asyncio.gather(*hangs, call(module), return_exceptions=True)
    assert [str(end) for end in ends[:-1]] == [
        "the template module custom_code:hangs_for_some: it took more than 5 s, and was ended"
    ] * MOST_AT_ONE_TIME
    assert ends[-1] == {"metadata": {}}


@pytest.mark.parametrize("function", ["forks_and_hangs", "forks_and_returns", "leaves_a_program"])
async def test_what_it_has_started_ends_with_it(make: Make, tmp_path: Path, function: str) -> None:
    module = make(f"custom_code:{function}", seconds=5.0)
    pids = tmp_path / "pids"
    end = (await asyncio.gather(call(module, pids=str(pids)), return_exceptions=True))[0]
    if function == "forks_and_hangs":
        assert "it took more than 5 s" in str(end)
    else:
        assert end == {"metadata": {}}
    while any(map(runs, map(int, pids.read_text().split()))):
        await asyncio.sleep(0.01)


async def test_what_it_raises_shows_no_secrets(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told to the task's user, who is not the module's author."""
    monkeypatch.setenv("REGISTRY_TOKEN", "abcdef123456")
    with pytest.raises(SpecError, match="it raised ValueError: no login with") as caught:
        await call(make("custom_code:tells"))
    assert "abcdef123456" not in str(caught.value)
    assert "hunter22" not in str(caught.value)


async def test_calls_at_one_time_get_their_own_answers(make: Make) -> None:
    module = make("custom_code:labels")
    answers = await asyncio.gather(*(call(module, id=f"t{number}") for number in range(12)))
    assert [answer["metadata"]["labels"]["id"] for answer in answers] == [f"t{number}" for number in range(12)]


@pytest.mark.parametrize("function", ["writes", "reads"])
async def test_what_it_prints_and_reads_is_none_of_ours(make: Make, function: str) -> None:
    assert await call(make(f"custom_code:{function}")) == {"metadata": {}}


async def test_a_call_that_is_given_up_ends_its_process(make: Make, tmp_path: Path) -> None:
    module = make("custom_code:tells_and_hangs")
    pids = tmp_path / "pids"
    first = asyncio.create_task(call(module, pids=str(pids)))
    while not pids.exists() or not pids.read_text():
        await asyncio.sleep(0.01)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert not runs(int(pids.read_text()))


@pytest.mark.parametrize(
    ("said", "amount"),
    [
        (None, 1024), ("max", 1024), ("nonsense", 1024), (str(8 << 30), 1024), (str(512 << 20), 256),
        (str(64 << 20), 64),
    ],
)  # fmt: skip
def test_it_may_take_half_of_what_the_controller_has(tmp_path: Path, said: str | None, amount: int) -> None:
    """Kubernetes ends all of a container that takes more than its limit, and that task would come first again."""
    if said is not None:
        (tmp_path / "memory.max").write_text(said + "\n", encoding="utf-8")
    assert most_memory([tmp_path / "none", tmp_path / "memory.max"]) == amount << 20


def test_objects_are_read_by_attribute() -> None:
    found = as_object({"a": [{"b": 1}], "c": {"d": None}})
    assert (found.a[0].b, found.c.d) == (1, None)

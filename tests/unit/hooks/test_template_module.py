"""Code of an administrator's own, really run in its process, whatever it does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from clearml_k8s.config import TemplateModuleConfig
from clearml_k8s.errors import HookBusy, SpecError
from clearml_k8s.hooks.template_module import TemplateModule
from clearml_k8s.hooks.worker import as_object

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
def hangs(**kwargs):
    while True: time.sleep(1)
def hangs_for_some(task_dict, template, **kwargs):
    while task_dict.get("hangs"): time.sleep(1)
    return {"template": template}
def leaves(**kwargs): sys.exit(3)
def dies(**kwargs): os._exit(0)
def writes(template, **kwargs):
    os.write(1, b"not an answer\\n")
    print(json.dumps({"result": {"template": {"mine": 1}}}))
    return {"template": template}
"""
TASK = {"id": "t1", "project": None, "hyperparams": {"team": "vision"}}
Make = Callable[..., TemplateModule]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    (tmp_path / "custom_code.py").write_text(MODULE, encoding="utf-8")
    (tmp_path / "broken.py").write_text("import no_such_module", encoding="utf-8")
    made: list[TemplateModule] = []

    def one(function: str, *, seconds: float = 30.0) -> TemplateModule:
        config = TemplateModuleConfig(function=function, timeout_seconds=seconds, path=(str(tmp_path),))
        made.append(TemplateModule(config))
        return made[-1]

    yield one
    for module in made:
        await module.stop()


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
        ("custom_code:leaves", "its process has ended without an answer"),
        ("custom_code:dies", "its process has ended without an answer"),
        ("custom_code:none", "it cannot be loaded: AttributeError: module 'custom_code' has no attribute 'none'"),
        ("custom_code:MODULE", "it cannot be loaded: "),
        ("broken:update", "it cannot be loaded: ModuleNotFoundError: No module named 'no_such_module'"),
        ("missing:update", "it cannot be loaded: ModuleNotFoundError: No module named 'missing'"),
    ],
)
async def test_what_goes_wrong_is_said_each_time(make: Make, function: str, said: str) -> None:
    module = make(function)
    for _ in range(2):
        with pytest.raises(SpecError) as caught:
            await call(module)
        assert str(caught.value).startswith(f"the template module {function}: {said}")


async def test_who_hangs_is_ended_and_the_next_call_is_served(make: Make) -> None:
    module = make("custom_code:hangs_for_some", seconds=3.0)
    with pytest.raises(SpecError, match="it took more than 3 s, and was ended"):
        await call(module, hangs=True)
    assert await call(module) == {"metadata": {}}


async def test_those_who_wait_behind_one_that_hangs_are_not_to_blame(make: Make) -> None:
    module = make("custom_code:hangs", seconds=1.0)
    ends = await asyncio.gather(*(call(module) for _ in range(3)), return_exceptions=True)
    assert isinstance(ends[0], SpecError)
    assert any(isinstance(end, HookBusy) for end in ends[1:])


async def test_calls_at_one_time_get_their_own_answers(make: Make) -> None:
    module = make("custom_code:labels")
    answers = await asyncio.gather(*(call(module, id=f"t{number}") for number in range(20)))
    assert [answer["metadata"]["labels"]["id"] for answer in answers] == [f"t{number}" for number in range(20)]


async def test_what_it_prints_is_no_answer(make: Make) -> None:
    assert await call(make("custom_code:writes")) == {"metadata": {}}


async def test_a_call_that_is_given_up_leaves_no_answer_to_the_next(make: Make) -> None:
    module = make("custom_code:hangs_for_some")
    first = asyncio.create_task(call(module, hangs=True))
    while module._process is None:
        await asyncio.sleep(0.01)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await call(module) == {"metadata": {}}


def test_objects_are_read_by_attribute() -> None:
    found = as_object({"a": [{"b": 1}], "c": {"d": None}})
    assert (found.a[0].b, found.c.d) == (1, None)

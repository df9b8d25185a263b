"""Going on while a server is away."""

from __future__ import annotations

import asyncio
import logging

import pytest
from clearml_k8s.app.waiting import Rounds, patiently, until
from clearml_k8s.errors import ClearMLK8sError, Fenced, Refused, Unanswered
from manual_clock import ManualClock


class Step:
    """A step with these endings, one after the other; None: it goes well."""

    def __init__(self, *endings: Exception | None) -> None:
        self.endings = list(endings)

    async def __call__(self) -> str:
        ending = self.endings.pop(0)
        if ending is not None:
            raise ending
        return "done"


async def test_a_failure_is_logged_once_for_each_reason_and_again_after_it_went_well(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    rounds = Rounds("looking", level=logging.WARNING)
    step = Step(*(Refused("a") for _ in range(3)), *(Unanswered("b") for _ in range(3)), None, None, Refused("a"))
    while step.endings:
        await rounds.once(step)
    assert [(entry.levelno, entry.getMessage()) for entry in caplog.records] == [
        (logging.WARNING, "looking failed, tried again: a"),
        (logging.WARNING, "looking failed, tried again: b"),
        (logging.INFO, "looking: goes on"),
        (logging.WARNING, "looking failed, tried again: a"),
    ]


@pytest.mark.parametrize("error", [Fenced("another"), ClearMLK8sError("x"), ValueError("ours")])
async def test_what_no_server_said_is_not_waited_out(error: Exception) -> None:
    with pytest.raises(type(error)):
        await Rounds("looking").once(Step(error))


async def test_a_step_is_repeated_until_it_goes_well() -> None:
    clock = ManualClock()
    step = Step(Refused("a"), Unanswered("b"), None)
    running = asyncio.create_task(patiently("opening", step, clock=clock, stop=asyncio.Event()))
    for _ in range(2):
        assert not running.done()
        await clock.advance(30)
    assert await running == "done"


async def test_the_order_to_stop_ends_the_patience() -> None:
    stop = asyncio.Event()
    step = Step(*(Refused("a") for _ in range(9)))
    running = asyncio.create_task(patiently("opening", step, clock=ManualClock(), stop=stop))
    await asyncio.sleep(0)
    stop.set()
    assert await running is None


async def test_loops_run_until_the_stop_and_an_error_of_one_ends_all() -> None:
    stop, ended = asyncio.Event(), []

    async def for_ever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("for ever")

    async def fails(error: Exception) -> None:
        raise error

    fenced = Fenced("another")
    assert await until(stop, [for_ever(), fails(fenced)]) is fenced
    with pytest.raises(ValueError, match="ours"):
        await until(stop, [for_ever(), fails(ValueError("ours"))])

    async def returns() -> None:
        pass

    with pytest.raises(RuntimeError, match="came to an end"):
        await until(stop, [for_ever(), returns()])
    stop.set()
    assert await until(stop, [for_ever()]) is None
    assert ended == ["for ever"] * 4

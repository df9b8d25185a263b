"""The steps of the models, of ADR 0002 and of the code are the same, by name: each makes the call it is named for."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import claim_model
import room_model
import room_recovery
from every_points import POINTS
from every_site import sites, writes

ADR = Path(__file__).parents[2] / "docs" / "adr" / "0002-claim.md"
CLAIM = ("book", "claim", "launch", "marking", "recover", "returning")
"""The modules of the flow that the models are of."""

STEPS = {
    "mark": {"marking._mark tasks.edit_hyper_params"},
    "record": {"claim._recorded PATCH configmaps"},
    "take": {"claim._take queues.remove_task"},
    "show": {"claim._show queues.add_task"},
    "create": {"launch.launch POST jobs"},
    "forget": {"book.flush PATCH configmaps", "book.erase PATCH configmaps", "returning.unmark PATCH configmaps"},
    "give back": {"returning._give_back queues.add_task"},
    "clean": {"claim._clean queues.remove_task", "returning.give_back queues.remove_task"},
    "unmark": {"returning._delete_mark tasks.delete_hyper_params"},
    "move to front": {"returning._to_front queues.move_task_to_front"},
}
"""By name: where the code makes its calls."""

READS = {"read": {"marking._read tasks.get_all"}, "look": {"claim.claim tasks.get_all"}}

NOT_MODELLED = {
    "returning.fail tasks.failed": "the end of a task: the reconcile table",
    "returning._hide queues.remove_task": "the pending queue is for people",
    "recover._tidy queues.remove_task": "the pending queue is for people",
}


def asked(module: object, method: str, place: int) -> set[str]:
    """The names that the model's source gives to its calls, as text at this place of the arguments."""
    tree = ast.parse(Path(str(getattr(module, "__file__", ""))).read_text(encoding="utf-8"))
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and getattr(n.func, "attr", "") == method]
    names = [call.args[place] for call in calls if len(call.args) > place]
    return {name.value for name in names if isinstance(name, ast.Constant)}


def test_the_models_calls_are_the_steps() -> None:
    one = asked(claim_model, "call", 2)
    # In the model of one task the record is written and forgotten in one operation that cannot fail.
    assert one == STEPS.keys() - {"record", "forget", "move to front"}
    two = asked(room_model, "endings", 1) | asked(room_recovery, "endings", 1) | set(room_model.CALLS.values())
    assert two == STEPS.keys() - {"show", "clean"}
    assert READS.keys() <= set(room_model.PHASES)


def test_the_codes_writes_are_the_steps() -> None:
    found = {site for site in sites() if site.partition(".")[0] in CLAIM and site.partition(" ")[2] in writes()}
    assert found == set().union(*STEPS.values()) | NOT_MODELLED.keys()
    assert set().union(*READS.values()) <= sites()


def test_the_decisions_order_is_the_codes() -> None:
    """ADR 0002's numbered steps, the calls of a launch, and the phases of a batch in the model."""
    text = ADR.read_text(encoding="utf-8").partition("**Rejected")[0]
    numbered = re.findall(r"\d\. \*([a-z ]+)\*", text)
    assert numbered == ["mark", "read", "record", "take", "show", "create", "forget"]
    where = {site: name for name, found in {**STEPS, **READS}.items() for site in found}
    points = [line.strip() for line in POINTS["a task is launched"].strip().splitlines()]
    assert [where[point] for point in points if point in where] == ["look", *numbered]
    assert [phase for phase in room_model.PHASES if phase in numbered] == [
        name for name in numbered if name not in ("show", "forget")
    ]

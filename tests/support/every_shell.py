"""In place of processes for the commands around pods: each has its effect in a set, and may go wrong as calls may."""

from __future__ import annotations

from collections.abc import Mapping

from clearml_k8s.hooks.shell import Ended
from every_faults import Answer
from every_site import COMMAND
from every_wires import Life, Wires


class Failed(Exception):
    """A run that did not come to its end."""


class LocalShell:
    """Knows the commands `make NAME`, `apply NAME`, and `remove NAME`, which undoes both. All are idempotent."""

    def __init__(self, *, wires: Wires, life: Life, made: set[str], applied: set[str]) -> None:
        self._wires, self._life = wires, life
        self._made, self._applied = made, applied

    async def __call__(self, command: str, *, variables: Mapping[str, str]) -> Ended:
        assert list(variables) == ["CLEARML_K8S_QUEUE_NAME"]

        def perform() -> Ended:
            match command.split():
                case ["make", name]:
                    self._made.add(name)
                case ["apply", name]:
                    self._applied.add(name)
                case ["remove", name]:
                    self._made.discard(name)
                    self._applied.discard(name)
                case _:
                    raise AssertionError(command)
            return Ended(code=0)

        try:
            found: Ended = await self._wires.call(
                self._life, "shell", COMMAND, read=False, perform=perform, error=_failed, ends_with_it=True
            )
        except Failed as error:
            return Ended(code=1, output=str(error))
        return found


def _failed(answer: Answer) -> Exception:
    return Failed(answer.value)

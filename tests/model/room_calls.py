"""The requests of the controller in the model of two tasks, and how each can end."""

from __future__ import annotations

from collections.abc import Iterator

from room_others import Servers, named
from room_state import TASKS, Late, State, with_claim, with_late


class Calls:
    servers: Servers

    def request(self, s: State, call: str, tasks: tuple[int, ...]) -> Late:
        forgets = tuple(u for u in TASKS if s.claims[u].forgotten) if call in ("record", "forget") else ()
        return Late(call, tasks, forgets, s.life)

    def endings(self, s: State, call: str, tasks: tuple[int, ...]) -> Iterator[tuple[str, State, bool | None]]:
        """A request with its endings: done, answered no, or without an answer (None)."""
        request, name = self.request(s, call, tasks), named(call, tasks)
        after, answer = self.servers.execute(s, request)
        yield f"{name}: {'done' if answer else 'no'}", after, answer
        if s.faults:
            f = s._replace(faults=s.faults - 1, stale=s.stale or call in ("record", "forget"))
            yield f"{name}: not executed, no answer", f, None
            yield f"{name}: executed, answer lost", self.servers.execute(f, request)[0], None
            yield f"{name}: no answer, still under way", with_late(f, request), None

    def written(self, s: State) -> State:
        """A write of the record was answered: all of it is known, and nothing is to be forgotten that is not in it."""
        for u in TASKS:
            if s.claims[u].recorded != s.record[u] or s.claims[u].forgotten:
                s = with_claim(s, u, recorded=s.record[u], forgotten=False)
        return s._replace(stale=False)

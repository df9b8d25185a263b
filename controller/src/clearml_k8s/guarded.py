"""A request that asks a last time, with its connection at hand, whether it may still be sent.

Before that it may have waited for the connection, for seconds, or the process may have been stopped meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

import aiohttp

from clearml_k8s.errors import NotSent

if TYPE_CHECKING:
    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.connector import Connection

Guard = Callable[[], None]
"""Raises NotSent where nothing may be sent."""


def unguarded() -> None:
    """For what changes nothing."""


# aiohttp makes the request itself: what one request is given can reach it in no other way.
_guard: Final[ContextVar[Guard]] = ContextVar("guard", default=unguarded)


@contextmanager
def guarded_by(guard: Guard) -> Iterator[None]:
    """Requests that are made in here ask ``guard``; it raises through them, and nothing has left."""
    token = _guard.set(guard)
    try:
        yield
    finally:
        _guard.reset(token)


class GuardedRequest(aiohttp.ClientRequest):
    """The ``request_class`` of an aiohttp session; see `guarded_by`."""

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        """Without a body all leaves here, unless the guard objects; else see `write_bytes`."""
        if not self.body:
            _guard.get()()
        return await super().send(conn)

    async def write_bytes(
        self, writer: AbstractStreamWriter, conn: Connection, content_length: int | None = None
    ) -> None:
        """Write head and body, unless the guard objects: aiohttp keeps the head back until the body comes."""
        try:
            _guard.get()()
        except NotSent as error:
            # In a task of its own, so it is told to whoever waits for the answer, as aiohttp tells its own errors.
            if conn.protocol is not None:
                conn.protocol.set_exception(error)
            return
        await super().write_bytes(writer, conn, content_length)

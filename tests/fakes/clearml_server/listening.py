"""Listeners: the API's, which can be closed and opened again, and the control port's, which stays."""

from __future__ import annotations

from aiohttp import web

from .app import Server

_SHUTDOWN_SECONDS = 1.0


class Listener:
    """Starts and stops the HTTP side of a :class:`Server`."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._runner = web.ServerRunner(
            web.Server(server.handle, access_log=None, keepalive_timeout=75.0), shutdown_timeout=_SHUTDOWN_SECONDS
        )
        self._site: web.TCPSite | None = None
        self.port = server.settings.port
        self.control_port: int | None = None

    async def start(self) -> None:
        """``OSError`` if an address is taken."""
        await self._runner.setup()
        if self._server.settings.control_port is not None:
            control = web.TCPSite(self._runner, "127.0.0.1", self._server.settings.control_port)
            await control.start()
            self.control_port = self._server.control_port = _port(control)
        await self._open()
        self._server.downtime.on_change = self._set_open

    async def _open(self) -> None:
        self._site = web.TCPSite(self._runner, self._server.settings.host, self.port, backlog=1024, reuse_address=True)
        await self._site.start()
        self.port = _port(self._site)

    async def _set_open(self, is_open: bool) -> None:
        """Connections that are open stay; :class:`Downtime` closes them at their next request."""
        if is_open and self._site is None:
            await self._open()
        elif not is_open and self._site is not None:
            site, self._site = self._site, None
            await site.stop()

    async def stop(self) -> None:
        await self._runner.cleanup()


def _port(site: web.TCPSite) -> int:
    server = site._server
    sockets = getattr(server, "sockets", None)
    if not sockets:
        raise RuntimeError("the listener has no socket")
    return int(sockets[0].getsockname()[1])

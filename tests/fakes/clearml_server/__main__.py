"""``python -m clearml_server``: run until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys

from .app import Server
from .listening import Listener
from .settings import DEFAULT_ACCESS_KEY, DEFAULT_PORT, DEFAULT_SECRET_KEY, SERVER_VERSIONS, Settings


def parse(arguments: list[str] | None = None) -> Settings:
    parser = argparse.ArgumentParser(prog="clearml_server", description="A ClearML API server for tests, in memory.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="0: any free port (default %(default)s)")
    parser.add_argument(
        "--control-port",
        type=int,
        help="a second listener on loopback, which stays when the API is down (0: any free port; default: none)",
    )
    parser.add_argument("--edition", choices=sorted(SERVER_VERSIONS), default="basic", help="default %(default)s")
    parser.add_argument("--access-key", default=os.environ.get("CLEARML_DEV_ACCESS_KEY", DEFAULT_ACCESS_KEY))
    parser.add_argument("--secret-key", default=os.environ.get("CLEARML_DEV_SECRET_KEY", DEFAULT_SECRET_KEY))
    parser.add_argument("--role", default="user", help="role of these credentials (default %(default)s)")
    found = parser.parse_args(arguments)
    return Settings(
        host=found.host,
        port=found.port,
        control_port=found.control_port,
        edition=found.edition,
        access_key=found.access_key,
        secret_key=found.secret_key,
        role=found.role,
    )


async def serve(settings: Settings) -> int:
    listener = Listener(Server(settings))
    try:
        await listener.start()
    except OSError as error:
        print(f"cannot listen on {settings.host}:{settings.port}: {error}; choose another --port", file=sys.stderr)
        return 1
    control = f", control http://127.0.0.1:{listener.control_port}" if listener.control_port else ""
    print(f"listening on http://{settings.host}:{listener.port} ({settings.edition} edition){control}", flush=True)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()
    await listener.stop()
    return 0


def main() -> None:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    sys.exit(asyncio.run(serve(parse())))


if __name__ == "__main__":
    main()

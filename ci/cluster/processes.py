"""Processes: starting them apart from the terminal, knowing them again, finding and ending all that are ours."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True)
class Identity:
    """A process that cannot be mistaken for a later one with the same id: start time in ticks, and the boot."""

    pid: int
    start: int
    boot: str


def boot_id() -> str:
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()


def _stat(pid: int) -> list[str] | None:
    """Fields of /proc/PID/stat after the name; None when there is no such process."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def identify(pid: int) -> Identity | None:
    fields = _stat(pid)
    return None if fields is None else Identity(pid, int(fields[19]), boot_id())


def alive(identity: Identity) -> bool:
    """True while that very process runs; a zombie does not."""
    fields = _stat(identity.pid)
    return fields is not None and int(fields[19]) == identity.start and fields[0] != "Z" and boot_id() == identity.boot


def start(command: Sequence[str], *, log: Path, environment: dict[str, str]) -> Identity:
    """Starts a process that outlives us; its output is appended to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as sink:
        sink.write(f"--- start: {' '.join(command)}\n".encode())
        sink.flush()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            env=environment,
            cwd="/",
            start_new_session=True,
        )
    # It is meant to outlive us; Popen would warn of that when it is collected.
    process.returncode = 0
    identity = identify(process.pid)
    return identity or Identity(process.pid, -1, boot_id())


def stop(identity: Identity, *, patience: float = 5) -> None:
    """SIGTERM, then SIGKILL when it still runs after `patience` seconds; returns when it has ended."""
    for number, limit in ((signal.SIGTERM, patience), (signal.SIGKILL, 10.0)):
        if not alive(identity):
            return
        try:
            os.kill(identity.pid, number)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + limit
        while alive(identity) and time.monotonic() < deadline:
            reap(identity.pid)
            time.sleep(0.02)


def reap(pid: int) -> None:
    """Takes the exit status of a child of ours, so that it does not stay a zombie."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return


def in_network_namespace(namespace: Path) -> Iterator[int]:
    """Processes whose network namespace is the one mounted at `namespace`."""
    try:
        wanted = f"net:[{namespace.stat().st_ino}]"
    except FileNotFoundError:
        return
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            try:
                if str((entry / "ns/net").readlink()) == wanted:
                    yield int(entry.name)
            except OSError:  # ended meanwhile
                continue


def with_command(command: Sequence[str]) -> set[int]:
    """Processes whose command line ends with these words: also one that is about to become it (nsenter)."""
    ending = b"\0".join([b"", *(word.encode() for word in command), b""])
    found = set()
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            try:
                if (b"\0" + (entry / "cmdline").read_bytes()).endswith(ending):
                    found.add(int(entry.name))
            except OSError:  # ended meanwhile
                continue
    return found


def kill_all(find: Callable[[], set[int]], *, limit: float = 20) -> set[int]:
    """SIGKILLs what `find` returns until it returns nothing; the survivors after `limit` seconds."""
    deadline = time.monotonic() + limit
    while True:
        left = {pid for pid in find() if pid != os.getpid()}
        for pid in list(left):
            fields = _stat(pid)
            if fields is None or fields[0] == "Z":
                left.discard(pid)
                reap(pid)
                continue
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.05)

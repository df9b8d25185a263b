"""Slots: small numbers, one per cluster on this machine, from which addresses and device names are made."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ci.locks import locked

from .errors import ClusterError
from .layout import FIRST_OCTET, RUN, SLOTS
from .shell import run

FOLDER = RUN / "slots"


def _lock_file() -> Path:
    return RUN / "slots.lock"


def _networks_in_use() -> set[int]:
    """X of each 10.X.0.0/16 that the machine has a route or an address in."""
    used: set[int] = set()
    routes = json.loads(run(["ip", "-json", "-4", "route", "show", "table", "all"]) or "[]")
    for route in routes:
        parts = str(route.get("dst", "")).partition("/")[0].split(".")
        if len(parts) == 4 and parts[0] == "10":
            used.add(int(parts[1]))
    return used


def find(name: str) -> int | None:
    """The slot that the cluster `name` holds, or None."""
    return next((slot for slot, holder in sorted(_held()) if holder == name), None)


def holders() -> list[str]:
    """Names of all clusters with a slot on this machine."""
    return [holder for _, holder in _held()]


def _held() -> Iterator[tuple[int, str]]:
    for file in FOLDER.glob("*") if FOLDER.is_dir() else ():
        if file.name.isdigit():
            # Another cluster may give its slot back meanwhile.
            with suppress(FileNotFoundError):
                yield int(file.name), file.read_text().strip()


def reserve(name: str) -> int:
    """The slot of the cluster `name`; takes a free one when it has none. Raises ClusterError when all are taken."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with locked(_lock_file(), "a free slot"):
        held = find(name)
        if held is not None:
            return held
        used = _networks_in_use()
        for slot in range(SLOTS):
            if FIRST_OCTET + slot not in used and not (FOLDER / str(slot)).exists():
                (FOLDER / str(slot)).write_text(name + "\n")
                return slot
    raise ClusterError(f"all {SLOTS} networks 10.{FIRST_OCTET}.0.0/16 and up are in use; take a cluster down")


def release(name: str) -> None:
    """Gives the slot of the cluster `name` back; nothing when it has none."""
    if FOLDER.is_dir():
        with locked(_lock_file(), "the slots"):
            held = find(name)
            if held is not None:
                (FOLDER / str(held)).unlink()

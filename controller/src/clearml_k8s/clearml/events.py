"""Console lines of tasks: many tasks in one call."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from clearml_k8s.clearml.session import Session
from clearml_k8s.errors import NotFound, trimmed

MAX_PACKET_BYTES: Final = 1024 * 1024
MAX_MESSAGE_BYTES: Final = 64 * 1024
MAX_ERRORS: Final = 20
ENDPOINT: Final = "events.add_batch"


@dataclass(frozen=True, kw_only=True, slots=True)
class LogLine:
    """One console line: ``timestamp_ms`` since the epoch, ``level`` in the server's words (INFO, WARNING, ERROR)."""

    task: str
    worker: str
    msg: str
    timestamp_ms: int
    level: str = "INFO"


@dataclass(frozen=True, kw_only=True, slots=True)
class LogReport:
    """How many lines the server took, and what it said about the others."""

    added: int
    errors: tuple[str, ...] = ()


async def add_log_batch(session: Session, lines: Iterable[LogLine], *, deadline: float | None = None) -> LogReport:
    """Send lines of any tasks, in packets of at most 1 MiB; a message over 64 KiB becomes several lines.

    Lines of unknown tasks are refused by the server and reported, not raised. Other errors as `Session.call`; a write:
    after `Unanswered` a repeat may show lines twice.
    """
    added = 0
    errors: list[str] = []
    for packet in packets(lines):
        try:
            data = await session.send_lines(ENDPOINT, packet, deadline=deadline)
        except NotFound as error:
            errors.append(error.message)
            continue
        added += _count(data, "added")
        if _count(data, "errors"):
            errors += _infos(data.get("errors_info")) or [f"{_count(data, 'errors')} lines were refused"]
    return LogReport(added=added, errors=tuple(errors))


def packets(lines: Iterable[LogLine]) -> Iterator[bytes]:
    """The JSON lines of ``lines`` in order, in packets of at most `MAX_PACKET_BYTES`."""
    packet: list[bytes] = []
    size = 0
    for line in lines:
        for part in _split(line):
            encoded = json.dumps(
                {
                    "type": "log",
                    "task": part.task,
                    "worker": part.worker,
                    "level": part.level,
                    "msg": part.msg,
                    "timestamp": part.timestamp_ms,
                },
                ensure_ascii=False,
            ).encode("utf-8", "replace")
            if packet and size + len(encoded) + 1 > MAX_PACKET_BYTES:
                yield b"\n".join(packet)
                packet, size = [], 0
            packet.append(encoded)
            size += len(encoded) + 1
    if packet:
        yield b"\n".join(packet)


def _split(line: LogLine) -> Iterator[LogLine]:
    raw = line.msg.encode("utf-8", "replace")
    if len(raw) <= MAX_MESSAGE_BYTES:
        yield line
        return
    while raw:
        end = MAX_MESSAGE_BYTES
        # Not inside a character: continuation bytes are 10xxxxxx.
        while end < len(raw) and raw[end] & 0xC0 == 0x80:
            end -= 1
        yield replace(line, msg=raw[:end].decode("utf-8"))
        raw = raw[end:]


def _count(data: dict[str, Any], key: str) -> int:
    value = data.get(key)
    return value if isinstance(value, int) else 0


def _infos(found: object) -> list[str]:
    # The server gives a map of error text to count, or a list.
    if isinstance(found, dict):
        return [f"{trimmed(text)} ({trimmed(str(count))} lines)" for text, count in list(found.items())[:MAX_ERRORS]]
    if isinstance(found, list):
        return [trimmed(str(item)) for item in found[:MAX_ERRORS]]
    return []

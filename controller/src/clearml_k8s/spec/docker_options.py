"""The words of `docker run` taken apart, as docker itself reads them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

ENV: Final = "--env"
NO_OPTION: Final = ""

_SHORT: Mapping[str, str] = {
    "a": "--attach",
    "c": "--cpu-shares",
    "e": ENV,
    "h": "--hostname",
    "l": "--label",
    "m": "--memory",
    "p": "--publish",
    "u": "--user",
    "v": "--volume",
    "w": "--workdir",
}
"""Options of one letter that take a value."""

_SHORT_SWITCHES: Mapping[str, str] = {
    "d": "--detach",
    "i": "--interactive",
    "P": "--publish-all",
    "q": "--quiet",
    "t": "--tty",
}
"""Those without one; they may stand together, and before one that takes a value: `-ite A=B`."""

SWITCHES: Final = frozenset(_SHORT_SWITCHES.values()) | {
    "--disable-content-trust",
    "--init",
    "--no-healthcheck",
    "--oom-kill-disable",
    "--privileged",
    "--read-only",
    "--rm",
    "--sig-proxy",
    "--use-api-socket",
}
_OF_DOCKER_RUN: Final = """
    add-host annotation blkio-weight blkio-weight-device cap-add cap-drop cgroup-parent cgroupns cidfile cpu-period
    cpu-quota cpu-rt-period cpu-rt-runtime cpus cpuset-cpus cpuset-mems detach-keys device device-cgroup-rule
    device-read-bps device-read-iops device-write-bps device-write-iops dns dns-opt dns-option dns-search domainname
    entrypoint env-file expose gpus group-add health-cmd health-interval health-retries health-start-interval
    health-start-period health-timeout ip ip6 ipc isolation kernel-memory label-file link link-local-ip log-driver
    log-opt mac-address memory-reservation memory-swap memory-swappiness mount name net net-alias network network-alias
    oom-score-adj pid pids-limit platform pull restart runtime security-opt shm-size stop-signal stop-timeout
    storage-opt sysctl tmpfs ulimit userns uts volume-driver volumes-from
"""
_VALUES: Final = frozenset(_SHORT.values()) | frozenset(f"--{name}" for name in _OF_DOCKER_RUN.split())
_SAME: Mapping[str, str] = {"--net": "--network", "--net-alias": "--network-alias", "--dns-opt": "--dns-option"}
_USUAL: Final = re.compile(r"--[a-z][a-z0-9-]{0,40}")
TRUE, FALSE = "true", "false"


@dataclass(frozen=True, kw_only=True, slots=True)
class Option:
    """One option: ``name`` in its long form, `NO_OPTION` for a word that belongs to none; ``written`` as it stands
    there, without what may be a value; ``value``: None where one is missing, of a switch `TRUE` or `FALSE`;
    ``place``: the number of its word."""

    name: str
    written: str
    value: str | None
    place: int


def options(words: Sequence[str]) -> Iterator[Option]:
    """In their order. A name that docker does not know takes the words after it, up to the next option."""
    index = 0
    while index < len(words):
        word, index = words[index], index + 1
        place = index
        if not word.startswith("-") or word in ("-", "--"):
            yield Option(name=NO_OPTION, written="", value=None, place=place)
            continue
        name, written, glued, before = _named(word)
        yield from (Option(name=switch, written=switch, value=TRUE, place=place) for switch in before)
        if name in SWITCHES:
            # As docker reads it: a switch takes no word after it.
            value = TRUE if glued is None or glued.lower() in (TRUE, "1", "t") else FALSE
            yield Option(name=name, written=written, value=value, place=place)
        elif name in _VALUES:
            if glued is None and index < len(words):
                glued, index = words[index], index + 1
            yield Option(name=name, written=written, value=glued, place=place)
        else:
            while glued is None and index < len(words) and not words[index].startswith("-"):
                index += 1
            yield Option(name=name, written=written, value=glued, place=place)


def _named(word: str) -> tuple[str, str, str | None, list[str]]:
    """The option's long name, how it is told, the value glued to it, and the switches before it in the same word."""
    if word.startswith("--"):
        name, equals, value = word.partition("=")
        usual = name if _USUAL.fullmatch(name) else ""
        return _SAME.get(usual, usual or word), usual or _STRANGE, value if equals else None, []
    before: list[str] = []
    for number, letter in enumerate(word[1:], start=1):
        rest = word[number + 1 :]
        if letter in _SHORT:
            return _SHORT[letter], f"-{letter}", rest.removeprefix("=") if rest else None, before
        if letter not in _SHORT_SWITCHES:
            written = f"-{letter}" if letter.isascii() and letter.isalpha() else _STRANGE
            return word, written, rest or None, before
        before.append(_SHORT_SWITCHES[letter])
        if not rest or rest.startswith("="):
            return before.pop(), f"-{letter}", rest[1:] if rest else None, before
    return word, _STRANGE, None, before


_STRANGE = "-(not an option)"
"""What is no usual option may be a value that lost its own: only its dash is told."""

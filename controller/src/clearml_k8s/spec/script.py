"""The pod's start script: constant text from this package, the same for every task.

Kubernetes gets `["/bin/sh", "-c", LAUNCH, <start.sh>, <start_check.py.txt>]`. LAUNCH only picks the shell: setup
scripts are often written for bash, which runs POSIX scripts too. Texts go in without their comment lines, as they are
stored in every Job.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

from clearml_k8s.spec.expansion import literal

AGENT_VERSION = "3.0.3"
"""The clearml-agent installed into images that have none; CLEARML_AGENT_UPDATE_VERSION in the pod overrides it."""

EXIT_NOT_OURS = 0
EXIT_CANNOT_TELL = 75
EXIT_UNPREPARED = 78
EXIT_STOPPED_EARLY = 143

LAUNCH = 'command -v bash >/dev/null 2>&1 && exec bash -c "$0" clearml-k8s "$1"; exec /bin/sh -c "$0" clearml-k8s "$1"'


@cache
def start_command() -> tuple[str, ...]:
    """The container's `command`, escaped for Kubernetes' own expansion."""
    return tuple(literal(word) for word in ("/bin/sh", "-c", LAUNCH, start_script(), start_check()))


@cache
def start_script() -> str:
    """start.sh without comment lines."""
    return _without_comments(_text("start.sh").replace("@AGENT_VERSION@", AGENT_VERSION))


@cache
def start_check() -> str:
    """start_check.py.txt without comment lines."""
    return _without_comments(_text("start_check.py.txt"))


def _text(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _without_comments(text: str) -> str:
    lines = (line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#"))
    return "\n".join(lines) + "\n"

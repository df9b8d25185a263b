"""The pod's start script: constant text from this package, the same for every task.

Kubernetes gets `["/bin/sh", "-c", LAUNCH, <start.sh>, <start_check.py.txt>]`, and behind these the administrator's
own scripts where there are any, and <gather.py.txt> for a task on several nodes. LAUNCH only picks the shell: such
scripts are often written for bash, which runs POSIX scripts too. Our texts go in without their comment lines, as they
are stored in every Job.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

from clearml_k8s.config import start_script as start_script_text
from clearml_k8s.spec.expansion import literal

ENV_SETUP_SCRIPT = "CLEARML_K8S_SETUP_SCRIPT"

ENV_EXTRA_SCRIPT = "CLEARML_K8S_EXTRA_SCRIPT"
"""Set in the pod by start.sh alone, and only for an own start script: `agent.extra_docker_shell_script`."""

AGENT_VERSION = "3.0.3"
"""The clearml-agent installed into images that have none; CLEARML_AGENT_UPDATE_VERSION in the pod overrides it."""

EXIT_NOT_OURS = 0
EXIT_CANNOT_TELL = 75
EXIT_UNPREPARED = 78
EXIT_STOPPED_EARLY = 143

AGENT_ARGUMENTS = "--full-monitoring --require-queue"

LAUNCH = 'command -v bash >/dev/null 2>&1 && exec bash -c "$0" clearml-k8s "$@"; exec /bin/sh -c "$0" clearml-k8s "$@"'


@cache
def _ours() -> tuple[str, ...]:
    return tuple(literal(word) for word in ("/bin/sh", "-c", LAUNCH, start_script(), start_check()))


def start_command(*, preparation: str = "", own: str = "", task_id: str = "", gathers: bool = False) -> tuple[str, ...]:
    """The container's `command`, escaped for Kubernetes' own expansion.

    ``preparation`` runs before all else that is not ours; ``own``, with the placeholders of `config.start_script`, in
    place of the last part of start.sh. ``gathers``: it waits for the other pods of its task.
    """
    values = {
        "agent_install_args": f"=={AGENT_VERSION}",
        "default_execution_agent_args": AGENT_ARGUMENTS,
        "extra_bash_init_cmd": preparation,
        # From the environment, as ever: the task's text is none of the Job's.
        "extra_docker_bash_script": f'eval "${{{ENV_EXTRA_SCRIPT}:-}}"; eval "${{{ENV_SETUP_SCRIPT}:-}}"',
        "task_id": task_id,
    }
    further = [preparation, start_script_text.filled(own, values) if own.strip() else ""]
    if gathers:
        further.append(gather())
    while further and not further[-1].strip():
        further.pop()
    return (*_ours(), *map(literal, further))


@cache
def start_script() -> str:
    """start.sh without comment lines."""
    return _without_comments(
        _text("start.sh").replace("@AGENT_VERSION@", AGENT_VERSION).replace("@AGENT_ARGUMENTS@", AGENT_ARGUMENTS)
    )


@cache
def start_check() -> str:
    """start_check.py.txt without comment lines."""
    return _without_comments(_text("start_check.py.txt"))


@cache
def gather() -> str:
    """gather.py.txt without comment lines."""
    return _without_comments(_text("gather.py.txt"))


def _text(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _without_comments(text: str) -> str:
    lines = (line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#"))
    return "\n".join(lines) + "\n"

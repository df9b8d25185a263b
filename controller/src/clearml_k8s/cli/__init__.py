"""The command `clearml-k8s`."""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import os
import re
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from clearml_k8s import errors
from clearml_k8s.config import Config
from clearml_k8s.config.file import ConfigProblems, load_config_file
from clearml_k8s.config.glue_environment import with_environment
from clearml_k8s.config.glue_flags import DEFAULT_NAME, DEFAULT_NAMESPACE, REFUSED, GlueFlags, Server, config_from_flags
from clearml_k8s.config.problems import nearest

EXIT_OK: Final = 0
EXIT_PROBLEM: Final = 1
EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130

_UNASKED = re.compile(r"ignored explicit argument .*", re.DOTALL)
"""argparse quotes the value, which may be a secret."""

_EXIT_CODES = "Exit codes: 0 done, 1 a problem was found, 2 wrong usage or configuration."
_FLAG_NAMES = {
    "queue": "--queue",
    "namespace": "--namespace",
    "template_yaml": "--template-yaml",
    "max_pods": "--max-pods",
    "create_queue": "--create-queue",
    "credentials_secret": "--credentials-secret",
    "credentials_keys": "--credentials-keys",
    "clearml_conf_secret": "--clearml-conf-secret",
    "name": "--name",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; errors are told in words on stderr, without a traceback."""
    try:
        return _run(arguments, environ=os.environ)
    except errors.ConfigError as error:
        _complain(str(error))
        return EXIT_USAGE
    except errors.ClearMLK8sError as error:
        _complain(str(error))
        return EXIT_PROBLEM
    except BrokenPipeError:
        # The reader of our output has gone (`render | head`): nothing to tell, and nobody to tell it to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Exception as error:
        # The text of a foreign error may hold what must not be shown; where it happened does not.
        frames = traceback.extract_tb(error.__traceback__)[-6:]
        where = [f"{Path(frame.filename).name} line {frame.lineno}, {frame.name}" for frame in frames]
        _complain("\n".join([f"internal error ({type(error).__name__}), please report it; it came from", *where]))
        return EXIT_PROBLEM


def _run(arguments: Sequence[str] | None, *, environ: Mapping[str, str]) -> int:
    parser = build_parser()
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        parser.error(_unknown_words(unknown))
    if options.command == "version":
        print(f"clearml-k8s {version()}")
        return EXIT_OK
    if options.command == "status":
        from clearml_k8s.cli import status  # the other commands start without it

        return status.run(
            address=options.address or status.default_address(environ),
            as_json=options.json,
            watch_seconds=options.watch,
            out=sys.stdout,
        )
    config = with_environment(load_config(options, environ=environ), environ)
    if options.command == "render":
        from clearml_k8s.cli.render import render  # the other commands start without it
        from clearml_k8s.flow.task_conf import find

        return render(
            config,
            queues=_selected_queues(options),
            task_file=options.task_json,
            with_layers=options.explain,
            conf_file=find(environ),
            out=sys.stdout,
            log=sys.stderr,
        )
    # The commands that talk to servers bring the event loop and the Kubernetes client with them.
    app: Any = importlib.import_module("clearml_k8s.app")
    connection = {"kubeconfig": options.kubeconfig, "context": options.context}
    if options.command == "check":
        code: int = app.check(config, skip_server=options.skip_server, **connection)
    else:
        code = app.run(config, **connection)
    return code


def version() -> str:
    """The installed version; "unknown" when run from a source tree that is not installed."""
    try:
        return importlib.metadata.version("clearml-k8s")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = _Parser(
        prog="clearml-k8s",
        description="Runs ClearML tasks as Kubernetes Jobs.",
        epilog=_EXIT_CODES,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = _command(commands, "run", "Serve the queues until stopped.")
    check = _command(
        commands, "check", "Check server, credentials, queues, permissions and pod templates; start nothing."
    )
    check.add_argument("--skip-server", action="store_true", help="do not ask the ClearML server")
    render = _command(commands, "render", "Print the Job that would be made of a task.")
    render.add_argument(
        "--task-json",
        metavar="FILE",
        help="a task as tasks.get_by_id answers it, '-' for standard input (default: a task that asks for nothing)",
    )
    render.add_argument(
        "--explain", action="store_true", help="print the fields of the Job, and which layer has set each of them"
    )
    for command in (run, check):
        command.add_argument(
            "--kubeconfig", metavar="FILE", help="default: $KUBECONFIG, ~/.kube/config, or the pod's own"
        )
        command.add_argument("--context", metavar="NAME", help="context of the kubeconfig (default: the current one)")
    for command in (run, check, render):
        _add_config_options(command, selects_queues=command is render)
    status = _command(commands, "status", "Print what a running controller does, and why tasks wait.")
    status.add_argument("--address", metavar="URL", help="of its port (default: the controller in the same pod)")
    status.add_argument("--json", action="store_true", help="print it as JSON")
    status.add_argument(
        "--watch", metavar="SECONDS", type=_seconds, nargs="?", const=2.0, help="print it again and again (every 2 s)"
    )
    _command(commands, "version", "Print the version.")
    return parser


def load_config(options: argparse.Namespace, *, environ: Mapping[str, str]) -> Config:
    """The configuration from --config or from the flags of ClearML's glue script. Raises `errors.ConfigError`."""
    if options.refused:
        refused = dict.fromkeys(options.refused)
        raise ConfigProblems([f"{flag} is not taken: {REFUSED[flag]}" for flag in refused])
    if options.config is not None:
        values = {flag: getattr(options, option) for option, flag in _FLAG_NAMES.items()}
        given = [flag for flag, value in values.items() if value is not None and value is not False]
        if options.command == "render":
            given = [flag for flag in given if flag != "--queue"]
        if given:
            raise ConfigProblems([f"{', '.join(given)}: not together with --config; the file says it"])
        return load_config_file(Path(options.config))
    if not options.queue:
        raise ConfigProblems(["give --config FILE, or the queues with --queue NAME"])
    return config_from_flags(
        GlueFlags(
            queues=tuple(options.queue),
            namespace=options.namespace,
            template_yaml=Path(options.template_yaml) if options.template_yaml else None,
            max_pods=options.max_pods,
            create_queue=options.create_queue,
            credentials_secret=options.credentials_secret,
            clearml_conf_secret=options.clearml_conf_secret,
            name=options.name or DEFAULT_NAME,
            worker_id=environ.get("CLEARML_WORKER_ID") or None,
            default_image=environ.get("CLEARML_DOCKER_IMAGE") or None,
            **({"credentials_keys": _two_keys(options.credentials_keys)} if options.credentials_keys else {}),
        ),
        server=_server(environ),
    )


def _selected_queues(options: argparse.Namespace) -> tuple[str, ...]:
    """The queues that `render` prints: those named, with a file; all, with flags."""
    return tuple(options.queue or ()) if options.config is not None else ()


def _server(environ: Mapping[str, str]) -> Server:
    from clearml_k8s.clearml import conf  # only the flags need it

    found = conf.load_hosts(environ=environ)
    return Server(
        api_server=found.api_server,
        web_server=found.web_server,
        file_server=found.file_server,
        # A CA bundle's path is this machine's; task pods verify with what their image and template give them.
        verify_certificate=found.verify_certificate is not False,
    )


def _two_keys(text: str) -> tuple[str, str]:
    keys = [key.strip() for key in text.split(",")]
    if len(keys) != 2 or not all(keys):
        # Not what was found: somebody may have written the credentials themselves here.
        found = f"{len(keys)} words" if all(keys) else "an empty word"
        raise ConfigProblems([f"--credentials-keys: found {found}; expected two keys, as in access_key,secret_key"])
    return keys[0], keys[1]


def _unknown_words(words: Sequence[str]) -> str:
    """What is said of them: never a value, which may be a secret behind another program's flag."""
    known = [flag for flag in (*_FLAG_NAMES.values(), *REFUSED, "--config", "--kubeconfig", "--context") if flag]
    said = []
    for word in words:
        flag = word.partition("=")[0][:40] if word.startswith("--") else word[:2]
        if flag.startswith("-") and flag.strip("-"):
            near = nearest(flag, known)
            said.append(f"unknown flag {flag}" + (f", did you mean {near}?" if near else ""))
    values = len(words) - len(said)
    if values and not said:
        said.append(f"{values} {'word that belongs' if values == 1 else 'words that belong'} to no flag")
    return "; ".join(dict.fromkeys(said))


def _seconds(text: str) -> float:
    """At least a tenth of one."""
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0.1 <= found <= 86400:
        raise argparse.ArgumentTypeError("expected seconds, from 0.1 to 86400")
    return found


class _Parser(argparse.ArgumentParser):
    """Tells wrong usage in the form of all other messages."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        message = _UNASKED.sub("takes no value", message)
        _complain(f"{message} (see {self.prog} --help)")
        raise SystemExit(EXIT_USAGE)


class _Refuse(argparse.Action):
    """Remembers a flag of the glue script that is not taken, so that all of them are told at once."""

    def __call__(self, _parser: Any, namespace: Any, _values: Any, option: str | None = None) -> None:
        namespace.refused = [*namespace.refused, option]


def _command(commands: Any, name: str, text: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name,
        help=text,
        description=text,
        epilog=_EXIT_CODES,
        allow_abbrev=False,
    )
    return command


def _add_config_options(command: argparse.ArgumentParser, *, selects_queues: bool) -> None:
    command.add_argument("--config", metavar="FILE", help="config file, as the Helm chart renders it")
    flags = command.add_argument_group(
        "without a config file",
        "The flags of ClearML's glue script; server and credentials from the environment or clearml.conf.",
    )
    queue_help = "queue name or id; repeat it, or separate names by commas"
    if selects_queues:
        queue_help += "; with --config: the queues to print (default: all)"
    flags.add_argument("--queue", action="append", metavar="NAME", help=queue_help)
    flags.add_argument("--namespace", metavar="NAME", help=f"namespace of the Jobs (default: {DEFAULT_NAMESPACE})")
    flags.add_argument("--template-yaml", metavar="FILE", help="Pod manifest that task pods are made from")
    flags.add_argument("--max-pods", type=int, metavar="N", help="most task pods at one time (default: no limit)")
    flags.add_argument("--create-queue", action="store_true", help="create queues that do not exist")
    flags.add_argument("--credentials-secret", metavar="NAME", help="Secret with the ClearML credentials of task pods")
    flags.add_argument(
        "--credentials-keys", metavar="A,B", help="keys in that Secret (default: agentk8sglue_key,agentk8sglue_secret)"
    )
    flags.add_argument(
        "--clearml-conf-secret", metavar="NAME", help="Secret whose key clearml.conf is mounted into task pods"
    )
    flags.add_argument(
        "--name",
        metavar="NAME",
        help=f"name of this controller; several in one namespace need one each (default: {DEFAULT_NAME})",
    )
    command.set_defaults(refused=[])
    for flag in REFUSED:
        command.add_argument(flag, action=_Refuse, nargs="?", dest="refused", help=argparse.SUPPRESS)


def _complain(text: str) -> None:
    lines = text.splitlines() or [""]
    print(f"clearml-k8s: {lines[0]}", *(f"  {line}" for line in lines[1:]), sep="\n", file=sys.stderr)

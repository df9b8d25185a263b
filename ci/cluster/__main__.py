"""Command line of the local cluster."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from pathlib import Path

from ci.tools.catalog import BuildError

from .choice import current_chosen
from .containers import load
from .current import CurrentCluster
from .errors import ClusterError
from .local import Health, LocalCluster


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python3 -m ci.cluster",
        description="A Kubernetes node on this machine. CLUSTER=current: use the current kube context instead. "
        "CLUSTER_NAME: another name than the one made from the checkout's path.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="start it, or mend what is not running")
    commands.add_parser("down", help="remove it with everything it made")
    commands.add_parser("status", help="health of each component; exit code 1 when one is not well")
    commands.add_parser("kubeconfig", help="print the path of the kubeconfig")
    commands.add_parser("env", help='print KEY=value lines; in a shell: set -a; eval "$(... env)"; set +a')
    image = commands.add_parser("load-image", help="load an image archive (OCI or Docker)")
    image.add_argument("archive", type=Path)
    kwok = commands.add_parser("kwok-up", help="simulated nodes (label type=kwok, tainted)")
    kwok.add_argument("--nodes", type=int, default=1)
    kwok.add_argument("--complete-after-ms", type=int, default=1000, help="how long a Job's pod runs")
    kwok.add_argument("--stages", type=Path, help="folder with further kwok stages")
    commands.add_parser("kwok-down", help="remove the simulated nodes")
    return parser


def _table(lines: list[Health]) -> str:
    rows = [(h.name, "ok" if h.problem is None else "NOT WELL", str(h.pid or "-"), h.problem or "") for h in lines]
    return "\n".join(f"{name:<26}{state:<10}{pid:<9}{problem}".rstrip() for name, state, pid, problem in rows)


def _environment(values: dict[str, str]) -> str:
    return "\n".join(f"{key}={shlex.quote(value)}" for key, value in values.items())


def _current(options: argparse.Namespace) -> int:
    cluster = CurrentCluster()
    match options.command:
        case "up" | "status":
            print(cluster.check())
        case "down":
            print("CLUSTER=current: nothing to take down")
        case "kubeconfig":
            print(cluster.environment()["KUBECONFIG"])
        case "env":
            print(_environment(cluster.environment()))
        case "load-image":
            cluster.load_image(options.archive)
        case other:
            raise ClusterError(f"{other} is for the local cluster only; unset CLUSTER=current")
    return 0


def _local(options: argparse.Namespace) -> int:
    cluster = LocalCluster()
    match options.command:
        case "up":
            cluster.up()
        case "down":
            cluster.down()
        case "status":
            lines = cluster.status()
            print(_table(lines))
            for key, value in cluster.environment().items():
                print(f"{key}={value}")
            return 0 if all(line.problem is None for line in lines) else 1
        case "kubeconfig":
            print(cluster.existing().kubeconfig)
        case "env":
            print(_environment(cluster.environment()))
        case "load-image":
            if not options.archive.is_file():
                raise ClusterError(f"there is no file {options.archive}")
            for name in load(cluster.existing(), options.archive):
                print(name)
        case "kwok-up":
            cluster.kwok_up(nodes=options.nodes, complete_after_ms=options.complete_after_ms, stages=options.stages)
        case "kwok-down":
            cluster.kwok_down()
    return 0


def main() -> int:
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `status | head` is no error
    options = _parser().parse_args()
    try:
        return (_current if current_chosen() else _local)(options)
    except (ClusterError, BuildError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command again goes on from here", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())

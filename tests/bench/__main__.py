"""How fast tasks become Jobs, beside a bare client that creates the same Jobs on the same API server in the same run.

    make bench            or, with its options: python3 -m ci.run --tools all --images controller,task,bare --cluster \\
                              python -m tests.bench [--jobs N] [--rounds N] [--only launch|start]

On the local cluster the controller manager is stopped meanwhile, so that the API server alone limits either side and
no pods are made; with `--running`, and on any other cluster, it works as always.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from clearml_server.process import DevServer

from ci.cluster.choice import current_chosen
from ci.cluster.local import LocalCluster
from tests.bench import chart, measure, start

TARGETS = """targets: ratio at least 0.50, at most 4 ClearML calls and 2 ms CPU a task;
  the chart at most 80 kB, 100 queues at most 2.00 times one
  to in progress at most 1.5 s with the agent in the image, 5 s with bootstrap"""


def controller_manager() -> int | None:
    """The pid of the local cluster's controller manager; None where the cluster is another."""
    if current_chosen():
        return None
    return next((line.pid for line in LocalCluster().status() if line.name == "kube-controller-manager"), None)


async def compare(options: argparse.Namespace, *, folder: Path) -> None:
    """Rounds in turn, then the figures, one line each."""
    bare: list[measure.Bare] = []
    ours: list[measure.Launched] = []
    async with await measure.connect(os.environ["KUBECONFIG"]) as client:
        for number in range(options.rounds):
            with DevServer(log=folder / "clearml-server.log") as server:
                server.create_queue(measure.QUEUE)
                async with measure.namespace(client) as name:
                    config = measure.config_file(folder, server=server, namespace=name)
                    bare.append(await measure.bare(client, config, jobs=options.jobs))
                async with measure.namespace(client) as name:
                    config = measure.config_file(folder, server=server, namespace=name)
                    profile = folder / f"profile-{number}" if options.profile else None
                    log = folder / "controller.log"
                    ours.append(
                        await measure.launched(
                            client, config, server=server, jobs=options.jobs, log=log, profile=profile
                        )
                    )
            print(f"  round {number + 1}: bare {bare[-1].rate:.0f}/s, controller {ours[-1].rate:.0f}/s", flush=True)
    bare_rate = statistics.median(one.rate for one in bare)
    our_rate = statistics.median(one.rate for one in ours)
    middle = ours[-1]
    print(f"  bare client        {bare_rate:8.0f} Jobs/s   ({measure.REQUESTS} requests under way)")
    print(f"  controller         {our_rate:8.0f} Jobs/s")
    print(f"  ratio              {our_rate / bare_rate:8.2f}")
    print(f"  ClearML calls      {statistics.median(r.calls_per_task for r in ours):8.2f} a task   {_calls(middle)}")
    print(f"  controller CPU     {statistics.median(r.cpu_ms_per_task for r in ours):8.2f} ms a task")
    print(f"  controller memory  {max(r.peak_kib for r in ours) / 1024:8.0f} MiB at most")


def _calls(found: measure.Launched) -> str:
    most = sorted(found.calls.items(), key=lambda item: -item[1])[:6]
    return ", ".join(f"{endpoint} {count}" for endpoint, count in most)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Launch rate against a bare client's.")
    parser.add_argument("--jobs", type=int, default=500, help="tasks a round (500)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each (3)")
    parser.add_argument("--profile", metavar="FOLDER", help="keep the controller's profiles (cProfile) and log there")
    parser.add_argument("--running", action="store_true", help="with the controller manager at work")
    parser.add_argument("--only", choices=("launch", "start"), help="leave the other out, and the chart")
    options = parser.parse_args()
    if not os.environ.get("KUBECONFIG"):
        print("KUBECONFIG is not set: use `make bench`", file=sys.stderr)
        return 2
    if options.only != "launch":
        starts()
    if options.only != "start":
        launches(options)
    print(TARGETS)
    return 0


def starts() -> None:
    """From the container's start to the task in progress."""
    print(f"tasks that start, {start.ROUNDS} rounds of each", flush=True)
    with tempfile.TemporaryDirectory(prefix="clearml-k8s-bench-") as name:
        found = start.measured(host=os.environ["CLUSTER_HOST_IP"], log=Path(name) / "clearml-server.log")
    print(start.report(found), flush=True)


def launches(options: argparse.Namespace) -> None:
    """The launch rate, and the chart."""
    pid = None if options.running else controller_manager()
    with tempfile.TemporaryDirectory(prefix="clearml-k8s-bench-") as name:
        how = "running" if pid is None else "stopped"
        print(f"{options.jobs} tasks a round, {options.rounds} rounds, controller manager {how}", flush=True)
        try:
            if options.only is None:
                print(chart.report(chart.measured()), flush=True)
            with measure.stopped(pid):
                asyncio.run(compare(options, folder=Path(name)))
        finally:
            if options.profile:
                shutil.copytree(name, options.profile, dirs_exist_ok=True)
            if pid is not None:
                # It ends when it finds that it could not renew its lease; this starts it again.
                LocalCluster().up()


if __name__ == "__main__":
    sys.exit(main())

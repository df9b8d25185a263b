"""How fast tasks become Jobs, beside a bare client that creates the same Jobs on the same API server in the same run.

    make bench            or: python3 -m ci.run --tools all --cluster python -m tests.bench [--jobs N] [--rounds N]

The controller manager runs as always; on the local cluster there is a second pair of figures with it stopped during
the rounds, so that nothing but the API server limits either side.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import statistics
import sys
import tempfile
import uuid
from pathlib import Path

from clearml_server.process import DevServer

from ci.cluster.local import LocalCluster
from tests.bench import measure

TARGETS = "targets: ratio at least 0.50, at most 4 ClearML calls and 2 ms CPU a task"


def controller_manager() -> int | None:
    """The pid of the local cluster's controller manager; None where the cluster is another."""
    if os.environ.get("CLUSTER") == "current":
        return None
    return next((line.pid for line in LocalCluster().status() if line.name == "kube-controller-manager"), None)


async def compare(options: argparse.Namespace, *, folder: Path, pause: int | None) -> None:
    """Rounds in turn, then the figures, one line each."""
    bare: list[measure.Bare] = []
    ours: list[measure.Launched] = []
    async with await measure.connect(os.environ["KUBECONFIG"]) as client:
        for number in range(options.rounds):
            with DevServer(log=folder / "clearml-server.log") as server:
                server.create_queue(measure.QUEUE)
                async with measure.namespace(client, f"bench-{uuid.uuid4().hex[:8]}") as name:
                    config = measure.config_file(folder, server=server, namespace=name)
                    with measure.stopped(pause):
                        bare.append(await measure.bare(client, config, jobs=options.jobs))
                async with measure.namespace(client, f"bench-{uuid.uuid4().hex[:8]}") as name:
                    config = measure.config_file(folder, server=server, namespace=name)
                    profile = folder / f"profile-{number}" if options.profile else None
                    with measure.stopped(pause):
                        ours.append(
                            await measure.launched(
                                client,
                                config,
                                server=server,
                                jobs=options.jobs,
                                log=folder / "controller.log",
                                profile=profile,
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
    parser.add_argument("--profile", metavar="FOLDER", help="keep the controller's profiles (cProfile) there")
    parser.add_argument("--only", choices=("running", "stopped"), help="the controller manager in one way alone")
    options = parser.parse_args()
    if not os.environ.get("KUBECONFIG"):
        print("KUBECONFIG is not set: use `make bench`", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="clearml-k8s-bench-") as name:
        folder = Path(name)
        if options.only != "stopped":
            print(f"{options.jobs} tasks, controller manager running", flush=True)
            asyncio.run(compare(options, folder=folder, pause=None))
        pid = controller_manager()
        if options.only != "running" and pid is not None:
            print(f"{options.jobs} tasks, controller manager stopped", flush=True)
            asyncio.run(compare(options, folder=folder, pause=pid))
        print(TARGETS)
        if options.profile:
            shutil.copytree(folder, options.profile, dirs_exist_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

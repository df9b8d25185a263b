"""`make demo`: from nothing to a finished ClearML task.

A development ClearML server and a package index on this machine, the chart installed in the local cluster as its README
says, a task made by the real `clearml` SDK, run in a pod by the real `clearml-agent`. The cluster and the release stay;
the two servers end with this program.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import e2e_index
import e2e_programs as programs
import e2e_tasks
from clearml_server.process import DevServer
from e2e_progress import DemoFailed, Progress, folded

from ci.cluster.choice import current_chosen
from ci.paths import ROOT, cache_dir

NAMESPACE = "clearml-demo"
RELEASE = "clearml-agent"
QUEUE = "exampleQueue"
SERVER_PORT = 8008
INDEX_PORT = 8009
TASK_SECONDS = 300.0

SCRIPT = """\
import platform, time
import humanize

print("hello from a pod named", platform.node())
print("humanize", humanize.__version__, "says that 10**9 is", humanize.intword(10**9))
for step in range(1, 4):
    print(f"step {step} of 3")
    time.sleep(1)
print("the task is done")
"""

ENDS = ("completed", "failed", "stopped", "closed", "published")


class Demo:
    """The steps, in order."""

    def __init__(self, progress: Progress, logs: Path) -> None:
        self._progress = progress
        self._logs = logs
        self._kubectl = programs.Kubectl(NAMESPACE)
        self._helm = programs.Helm(RELEASE, NAMESPACE)

    def run(self) -> None:
        host = os.environ.get("CLUSTER_HOST_IP", "")
        if not host:
            raise DemoFailed("CLUSTER_HOST_IP is not set: run `make demo`")
        with ExitStack() as stack:
            with self._progress.step(f"ClearML development server and package index on {host}"):
                _assert_free(host, SERVER_PORT, INDEX_PORT)
                wheels = e2e_index.fetch_wheels()
                index = stack.enter_context(e2e_index.PackageIndex(wheels, host=host, port=INDEX_PORT))
                server = DevServer(host=host, port=SERVER_PORT, log=self._logs / "clearml-server.log")
                stack.enter_context(server)
            with self._progress.step(f"images into the cluster: {programs.CONTROLLER_IMAGE}, {programs.TASK_IMAGE}"):
                programs.load_image("controller")
                programs.load_image("task")
            self._install(server, index)
            task = self._enqueue(server)
            status = self._follow(server, task)
            self._show_console(server, task)
            if status != "completed":
                self._collect()
                found = server.task(task)
                raise DemoFailed(
                    f"the task ended as {status!r}, not completed ({found.get('status_reason') or 'no reason given'}: "
                    f"{found.get('status_message') or ''}); its console is above"
                )
            with self._progress.step("the finished task's Job and pod are taken away"):
                self._kubectl.gone(task)
            self._summary(server, index, task)

    def _install(self, server: DevServer, index: e2e_index.PackageIndex) -> None:
        values = programs.values_for(
            url=server.url,
            access_key=server.access_key,
            secret_key=server.secret_key,
            queues={QUEUE: {"templateOverrides": {}, "queueSettings": {}}},
            base={"env": [*index.environment(), {"name": "CLEARML_AGENT_QUEUE_POLL_FREQ_SEC", "value": "1"}]},
            # The image of this checkout always has the same tag: another annotation makes a new pod.
            annotations={"demo/started": f"{time.time():.0f}"},
        )
        status = self._helm("status", RELEASE, "--output", "json", check=False)
        if '"status":"pending' in status.out.replace(" ", ""):
            with self._progress.step("helm uninstall: the last installation was interrupted"):
                self._helm.uninstall()
        with self._progress.step(f"helm upgrade -i {RELEASE} charts/clearml-agent -n {NAMESPACE} -f values.yaml"):
            try:
                done = self._helm.upgrade(values, self._logs)
            except programs.ProgramFailed:
                self._collect()
                raise
            (self._logs / "helm.log").write_text(done.text)

    def _enqueue(self, server: DevServer) -> str:
        with self._progress.step(f"a task, by the clearml SDK, into the queue {QUEUE}"):
            new = e2e_tasks.NewTask(
                name="demo", queue=QUEUE, script=SCRIPT, packages=[e2e_index.PACKAGE], docker=programs.TASK_IMAGE
            )
            (task,) = e2e_tasks.enqueue(server.environment(), new)
        self._progress.say(f"  task {task}")
        return task

    def _follow(self, server: DevServer, task: str) -> str:
        """Tell each change until the task has ended; its last status."""
        told: dict[str, str] = {}
        end = time.monotonic() + TASK_SECONDS
        beat = time.monotonic()
        with self._progress.step("waiting for the task"):
            while True:
                found = server.task(task)
                now = {"task": found["status"], **self._seen(task)}
                if now != told:
                    self._progress.say("  " + ", ".join(f"{what} {state}" for what, state in now.items()))
                    told, beat = now, time.monotonic()
                if found["status"] in ENDS:
                    return str(found["status"])
                if time.monotonic() > end:
                    self._show_console(server, task)
                    self._collect()
                    state = ", ".join(f"{what} {state}" for what, state in told.items())
                    raise DemoFailed(f"the task has not ended within {TASK_SECONDS:.0f} s ({state})")
                time.sleep(0.5 if time.monotonic() - beat < 30 else 1.0)

    def _seen(self, task: str) -> dict[str, str]:
        """The pod as Kubernetes shows it."""
        pods = self._kubectl.pods_of(task)
        if not pods:
            return {}
        pod = pods[-1]
        waiting = [
            reason
            for status in pod["status"].get("containerStatuses", [])
            if (reason := status["state"].get("waiting", {}).get("reason"))
        ]
        return {f"pod {pod['metadata']['name']}": " ".join([pod["status"].get("phase", "unknown"), *waiting])}

    def _show_console(self, server: DevServer, task: str) -> None:
        text = server.console(task)
        (self._logs / "console.log").write_text(text)
        print(f"\n----- console of the task (whole: {self._logs / 'console.log'})")
        print("\n".join(f"  | {line}" for line in folded(text)))
        print("-----\n", flush=True)

    def _collect(self) -> None:
        """Write down what helps to find out."""
        for name, words in (
            ("controller.log", ("logs", self._helm.deployment)),
            ("pods.txt", ("describe", "pods")),
            ("jobs.yaml", ("get", "jobs", "--output", "yaml")),
            ("events.txt", ("get", "events", "--sort-by=.lastTimestamp")),
        ):
            (self._logs / name).write_text(self._kubectl(*words, check=False))

    def _summary(self, server: DevServer, index: e2e_index.PackageIndex, task: str) -> None:
        wheels = {"-".join(path.rpartition("/")[2].split("-")[:2]) for path in index.requests if "/wheels/" in path}
        kubeconfig = os.environ.get("KUBECONFIG", "")
        away = f"kubectl delete namespace {NAMESPACE}" if current_chosen() else "make cluster-down"
        print(f"""
What happened: the controller took the task from the queue {QUEUE}, made the Job clearml-id-{task} of it, and
clearml-agent ran it in the Job's pod: it installed {", ".join(sorted(wheels))}
from the index at {index.url} and logged to the ClearML server at {server.url}.
All in {self._progress.seconds:.0f} s.

The cluster and the release {RELEASE} stay (the two servers end now; the controller waits for them). To look around:
  export KUBECONFIG={kubeconfig} PATH="{_tools()}:$PATH"
  kubectl -n {NAMESPACE} get all
  kubectl -n {NAMESPACE} logs {self._helm.deployment}
  helm -n {NAMESPACE} get values {RELEASE}
  helm -n {NAMESPACE} get manifest {RELEASE}
Again: make demo. Only the release away: helm -n {NAMESPACE} uninstall {RELEASE}. All away: {away}.""")


def _assert_free(host: str, *ports: int) -> None:
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                raise DemoFailed(
                    f"port {port} of {host} cannot be used ({error.strerror}); does another `make demo` run?"
                ) from None


def _tools() -> str:
    found = shutil.which("kubectl")
    return str(Path(found).parent) if found else ""


def _interrupted(_number: int, _frame: Any) -> None:
    raise KeyboardInterrupt


def main() -> int:
    signal.signal(signal.SIGTERM, _interrupted)
    progress = Progress()
    name = re.sub(r"[^A-Za-z0-9.-]+", "-", os.environ.get("CLUSTER_NAME", ROOT.name))  # a context may hold slashes
    logs = cache_dir() / "demo" / name
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir(parents=True, mode=0o700)
    try:
        Demo(progress, logs).run()
    except DemoFailed as error:
        print(f"\nFAILED after {progress.seconds:.0f} s: {error}\nlogs: {logs}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; `make demo` starts again, `make cluster-down` takes the cluster down", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""kubectl, helm and the images, as a user has them: run as programs, errors shown whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ci.paths import ROOT

CHART = ROOT / "charts/clearml-agent"
# As `ci.run --images` says it: loaded into the cluster, or in IMAGE_REGISTRY.
CONTROLLER_IMAGE = os.environ.get("IMAGE_CONTROLLER_NAME", "localhost/clearml-k8s/controller:dev")
TASK_IMAGE = os.environ.get("IMAGE_TASK_NAME", "localhost/clearml-k8s/task:dev")
BARE_IMAGE = os.environ.get("IMAGE_BARE_NAME", "localhost/clearml-k8s/bare:dev")
LIMIT_SECONDS = 180.0

T = TypeVar("T")


class ProgramFailed(Exception):
    """A program ended with an error, or not in time; the text shows the command and the end of its output."""


@dataclass(frozen=True, kw_only=True)
class Done:
    """How a program ended."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


def run(
    *words: str | Path,
    limit: float = LIMIT_SECONDS,
    check: bool = True,
    stdin: str = "",
    env: dict[str, str] | None = None,
) -> Done:
    """Run a program to its end. ProgramFailed when it fails (unless ``check`` is false) or outlives the limit."""
    command = [str(word) for word in words]
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=limit, env=env, check=False)
    except FileNotFoundError:
        raise ProgramFailed(f"{command[0]} is not on PATH; run this by `make`, which brings the tools") from None
    except subprocess.TimeoutExpired:
        raise ProgramFailed(f"no end after {limit:.0f} s: {' '.join(command)}") from None
    if check and done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-30:])
        raise ProgramFailed(f"exit code {done.returncode}: {' '.join(command)}\n{tail}")
    return Done(code=done.returncode, out=done.stdout, err=done.stderr)


def until(what: str, condition: Callable[[], T | None], *, limit: float = 120.0, poll: float = 0.3) -> T:
    """The condition's value, once there is one that is true; AssertionError names ``what`` after the limit."""
    end = time.monotonic() + limit
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {limit:.0f} s: {what}")
        time.sleep(poll)


def load_image(name: str) -> None:
    """Bring the image built by `ci.run --images` into the cluster; nothing when it is there, or in a registry."""
    archive = os.environ.get(f"IMAGE_{name.upper()}")
    if not archive:
        raise ProgramFailed(f"IMAGE_{name.upper()} is not set; run this by `make`, which builds the images")
    if os.environ.get("IMAGE_REGISTRY"):
        return  # `ci.run` has pushed it
    run(sys.executable, "-m", "ci.cluster", "load-image", archive, limit=400)


class Kubectl:
    """kubectl in one namespace."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace

    def __call__(self, *words: str | Path, check: bool = True, limit: float = LIMIT_SECONDS, stdin: str = "") -> str:
        done = run("kubectl", "--namespace", self.namespace, *words, check=check, limit=limit, stdin=stdin)
        return done.out if check else done.text

    def get(self, *words: str) -> dict[str, Any] | None:
        """One object; None when it does not exist."""
        text = self("get", *words, "--ignore-not-found", "--output", "json")
        found: dict[str, Any] | None = json.loads(text) if text.strip() else None
        return found

    def items(self, kind: str, selector: str = "") -> list[dict[str, Any]]:
        """All objects of a kind that match the label selector."""
        words = ["--selector", selector] if selector else []
        found: list[dict[str, Any]] = json.loads(self("get", kind, *words, "--output", "json"))["items"]
        return found

    def apply(self, *objects: dict[str, Any]) -> None:
        """Create or change the objects."""
        self("apply", "--filename", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))

    def job_of(self, task: str) -> dict[str, Any] | None:
        return self.get("job", f"clearml-id-{task}")

    def pods_of(self, task: str) -> list[dict[str, Any]]:
        return self.items("pods", f"clearml-task-id={task}")

    def running_pod(self, task: str, *, limit: float = 90.0) -> dict[str, Any]:
        """The task's pod, once its container runs."""

        def running() -> dict[str, Any] | None:
            return next((pod for pod in self.pods_of(task) if pod["status"].get("phase") == "Running"), None)

        return until(f"the pod of task {task} runs", running, limit=limit)

    def let_go(self, pod: dict[str, Any]) -> None:
        """Let the script `e2e_tasks.WAITS_FOR_FILE` in the pod come to its end."""
        self("exec", pod["metadata"]["name"], "--", "touch", "/tmp/go")

    def gone(self, task: str, *, limit: float = 90.0) -> None:
        """Wait until neither the task's Job nor a pod of it is left."""
        until(
            f"Job and pod of task {task} are gone",
            lambda: self.job_of(task) is None and not self.pods_of(task),
            limit=limit,
        )


@dataclass(frozen=True)
class Helm:
    """One release, by helm 4 or ``program="helm3"``."""

    name: str
    namespace: str
    program: str = "helm4"

    def __call__(self, *words: str | Path, check: bool = True, limit: float = LIMIT_SECONDS) -> Done:
        return run(self.program, "--namespace", self.namespace, *words, check=check, limit=limit)

    def upgrade(self, values: dict[str, Any], folder: Path, *words: str, chart: Path = CHART) -> Done:
        """`helm upgrade -i` with the values in a file (secrets do not belong on a command line), waiting."""
        file = folder / f"{self.name}-values.yaml"
        file.touch(mode=0o600)
        file.write_text(json.dumps(values, indent=1))  # JSON is YAML
        return self("upgrade", "--install", self.name, chart, "--create-namespace", "--values", file,
                    "--wait", "--timeout", "150s", *words)  # fmt: skip

    def uninstall(self) -> Done:
        return self("uninstall", self.name, "--wait", "--timeout", "90s")

    def rollback(self, revision: int) -> Done:
        return self("rollback", self.name, str(revision), "--wait", "--timeout", "150s")

    def owned(self) -> set[tuple[str, str]]:
        """(kind, name) of the objects in the namespace that Helm calls this release's."""
        kinds = "deployments,configmaps,secrets,serviceaccounts,roles,rolebindings,services,pods"
        return {
            (found["kind"], found["metadata"]["name"])
            for found in Kubectl(self.namespace).items(kinds)
            if found["metadata"].get("annotations", {}).get("meta.helm.sh/release-name") == self.name
        }

    @property
    def fullname(self) -> str:
        return self.name if "clearml-agent" in self.name else f"{self.name}-clearml-agent"

    @property
    def deployment(self) -> str:
        return f"deployment/{self.fullname}-controller"

    @property
    def task_selector(self) -> str:
        return f"app.kubernetes.io/instance={self.name},app.kubernetes.io/component=task"

    @property
    def controller_selector(self) -> str:
        return f"app.kubernetes.io/instance={self.name},app.kubernetes.io/component=controller"


def values_for(
    *,
    url: str,
    access_key: str,
    secret_key: str,
    queues: dict[str, Any],
    base: dict[str, Any] | None = None,
    **controller: Any,
) -> dict[str, Any]:
    """An override file in the documented form, with the images of this checkout."""
    repository, _, tag = CONTROLLER_IMAGE.rpartition(":")
    return {
        "clearml": {"agentk8sglueKey": access_key, "agentk8sglueSecret": secret_key},
        "agentk8sglue": {
            "image": {"repository": repository, "tag": tag},
            "apiServerUrlReference": url,
            "fileServerUrlReference": f"{url}/_files",
            "webServerUrlReference": url,
            "defaultContainerImage": TASK_IMAGE,
            "createQueues": True,
            "queuePollFrequencySeconds": 1,
            "queues": queues,
            "basePodTemplate": base or {},
            **controller,
        },
    }  # fmt: skip


def controller_pod(kubectl: Kubectl, helm: Helm) -> dict[str, Any]:
    """The controller's one pod that is not being ended; in an upgrade the new one, once the old one is told to end."""

    def one() -> dict[str, Any] | None:
        pods = controller_pods(kubectl, helm)
        return pods[0] if len(pods) == 1 else None

    return until("there is one pod of the controller", one, limit=60)


def controller_pods(kubectl: Kubectl, helm: Helm) -> list[dict[str, Any]]:
    """Those that are not being ended."""
    return [p for p in kubectl.items("pods", helm.controller_selector) if "deletionTimestamp" not in p["metadata"]]


def restarts(pod: dict[str, Any]) -> int:
    return sum(status["restartCount"] for status in pod["status"].get("containerStatuses", []))


def ready(pod: dict[str, Any]) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))


def all_ready(pods: list[dict[str, Any]], number: int) -> list[dict[str, Any]] | None:
    """The pods, when there are so many and each is Ready."""
    return pods if len(pods) == number and all(ready(pod) for pod in pods) else None


def controller_log(kubectl: Kubectl, helm: Helm) -> str:
    return kubectl("logs", controller_pod(kubectl, helm)["metadata"]["name"])

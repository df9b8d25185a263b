"""How long a task takes from the first instruction of its container to `in_progress`, with no package index to reach.

In turn, in real pods: an image that has the agent (the ordinary start), and `bootstrap` with an image that is a shell
alone, and with one that has a Python without the agent. The Jobs are those that the controller makes; who
creates them does not count here.
"""

from __future__ import annotations

import json
import statistics
import time
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from clearml_k8s.clearml.tasks import TaskView
from clearml_k8s.config import Config, ResolvedQueue
from clearml_k8s.config.file import config_from_document
from clearml_k8s.spec.job import build_job
from clearml_server.process import DevServer
from e2e_programs import BARE_IMAGE, CONTROLLER_IMAGE, TASK_IMAGE, Kubectl, load_image

QUEUE: Final = "bench-start"
ROUNDS: Final = 5
LIMIT_SECONDS: Final = 120.0
ORDINARY: Final = "agent in the image"
KINDS: Final[dict[str, dict[str, Any]]] = {
    ORDINARY: {"image": TASK_IMAGE},
    "bootstrap, a shell": {"image": BARE_IMAGE, "bootstrap": True},
    "bootstrap, a Python": {"image": TASK_IMAGE, "bootstrap": True, "env": {"PATH": "/usr/bin:/bin"}},
}
NO_INDEX: Final = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "0"}
BEGINS: Final = ["/bin/sh", "-c", 'echo begins; exec "$0" "$@"']
"""In front of the pod's command: the time of its line in the log is that of the container's first instruction."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """Seconds from the Job being there to the container's first instruction, and from there to `in_progress`."""

    to_container: float
    to_in_progress: float


def config(server: DevServer, *, namespace: str, kind: dict[str, Any]) -> Config:
    env = {**NO_INDEX, **kind.get("env", {})}
    return config_from_document(
        {
            "workerId": "bench",
            "releaseName": "bench",
            "fullname": "bench",
            "namespace": namespace,
            "clearml": {
                "apiServer": server.url,
                "taskCredentials": {"secretName": "bench", "accessKeyKey": "access", "secretKeyKey": "secret"},
            },
            "defaultContainerImage": kind["image"],
            "queues": {QUEUE: {}},
            "task": {"bootstrap": kind.get("bootstrap", False), "controllerImage": {"name": CONTROLLER_IMAGE}},
            "basePodTemplate": {"env": [{"name": name, "value": value} for name, value in env.items()]},
        },
        source="bench",
    )


def started(server: DevServer, kubectl: Kubectl, kind: dict[str, Any]) -> Start:
    """One task, until it is in progress; its pod is gone at the end. Raises TimeoutError, with what the pod said."""
    script = {"diff": "print('x')\n", "entry_point": "x.py", "working_dir": ".", "binary": "python3"}
    task = server.create_task("start", queue=QUEUE, script=script)
    queue_id = server.queue_id(QUEUE)
    loaded = config(server, namespace=kubectl.namespace, kind=kind)
    job = build_job(
        config=loaded,
        queue=ResolvedQueue(config=loaded.queues[QUEUE], id=queue_id, name=QUEUE),
        task=TaskView(id=task, name="start", status="queued"),
        attempt=server.task(task)["status_changed"],
        worker_id="bench",
        controller_id="bench",
    ).manifest
    container = job["spec"]["template"]["spec"]["containers"][0]
    container["command"] = [*BEGINS, *container["command"]]
    kubectl("create", "--filename", "-", stdin=json.dumps(job))
    created = time.time()
    name = f"job/{job['metadata']['name']}"
    log = ["logs", name, "--container", container["name"], "--timestamps"]
    try:
        found = server.wait_for_status(task, "in_progress", timeout=LIMIT_SECONDS)
        begun = _seconds(kubectl(*log).split()[0])
    except TimeoutError as error:
        raise TimeoutError(f"{error}\n{kubectl(*log, check=False)}") from None
    finally:
        kubectl("delete", name, "--cascade=foreground", "--wait=true")
    return Start(to_container=begun - created, to_in_progress=_seconds(found["status_changed"]) - begun)


def _seconds(text: str) -> float:
    """Of an ISO time, of whose fraction Python takes six digits."""
    whole, _, fraction = text.removesuffix("Z").removesuffix("+00:00").partition(".")
    return datetime.fromisoformat(f"{whole}.{fraction[:6]:0<6}+00:00").timestamp()


def measured(*, host: str, log: Any, rounds: int = ROUNDS) -> dict[str, Start]:
    """Medians by kind. One round first is not counted. ``host``: this machine's address as pods see it."""
    for image in ("controller", "task", "bare"):
        load_image(image)
    kubectl = Kubectl(f"bench-{uuid.uuid4().hex[:8]}")
    kubectl("create", "namespace", kubectl.namespace)
    found: dict[str, list[Start]] = {kind: [] for kind in KINDS}
    try:
        with DevServer(host=host, log=log) as server:
            secret = {"access": server.access_key, "secret": server.secret_key}
            kubectl.apply(
                {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "bench"}, "stringData": secret},
            )
            server.create_queue(QUEUE)
            for number in range(rounds + 1):
                for kind, settings in KINDS.items():
                    start = started(server, kubectl, settings)
                    if number:
                        found[kind].append(start)
    finally:
        kubectl("delete", "namespace", kubectl.namespace, "--wait=false")
    return {
        kind: Start(
            to_container=statistics.median(start.to_container for start in starts),
            to_in_progress=statistics.median(start.to_in_progress for start in starts),
        )
        for kind, starts in found.items()
    }


def report(found: dict[str, Start]) -> str:
    ordinary = found[ORDINARY].to_in_progress
    return "\n".join(
        f"  {kind:<20}{start.to_in_progress:7.2f} s from container to in progress, "
        f"ratio {start.to_in_progress / ordinary:.2f}; {start.to_container:.2f} s from Job to container"
        for kind, start in found.items()
    )

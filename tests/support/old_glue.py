"""Task pods as ClearML's own agent makes them: bare pods of the template that its chart renders."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import yaml
from clearml_server.process import DevServer
from e2e_programs import TASK_IMAGE, Kubectl

PENDING_QUEUE = "k8s_scheduler"


class OldGlue:
    """The old agent of a release: what it does with a task, by hand."""

    def __init__(self, *, kubectl: Kubectl, server: DevServer, fullname: str) -> None:
        self._kubectl = kubectl
        self._server = server
        self._fullname = fullname

    def launch(self, task: str, *, held_back: bool = False) -> str:
        """Take the task from the queue it is in and make its pod; the pod's name.

        ``held_back``: no node takes the pod before `let_in`.
        """
        queue = self._server.task(task)["execution"]["queue"]
        self._to_the_pending_queue(task, queue)
        pod = self._pod(task, queue)
        if held_back:
            pod["spec"]["schedulingGates"] = [{"name": "test/held-back"}]
        self._kubectl.apply(pod)
        name: str = pod["metadata"]["name"]
        return name

    def let_in(self, pod: str) -> None:
        """Let nodes take the pod."""
        gone = '[{"op": "remove", "path": "/spec/schedulingGates"}]'
        self._kubectl("patch", "pod", pod, "--type=json", "--patch", gone)

    def _to_the_pending_queue(self, task: str, queue: str) -> None:
        taken = self._server.call("queues.get_next_task", queue=queue)["entry"]["task"]
        assert taken == task, f"took {taken}: launch the tasks in the order of their queue"
        found = self._server.call("queues.get_all", name=f"^{PENDING_QUEUE}$", search_hidden=True)["queues"]
        pending = found[0]["id"] if found else self._server.create_queue(PENDING_QUEUE, system_tags=["k8s-glue"])
        self._server.call("tasks.stop", task=task, force=True, status_reason="moving to k8s pending queue")
        self._server.call("tasks.enqueue", task=task, queue=pending, status_reason="k8s pending scheduler")

    def _pod(self, task: str, queue: str) -> dict[str, Any]:
        template = self._kubectl.get("configmap", f"{self._fullname}-pt")
        assert template is not None
        pod: dict[str, Any] = yaml.safe_load(template["data"]["template.yaml"])
        name = f"clearml-id-{task}"
        conf = base64.b64encode(b"sdk {\n}\n").decode()
        script = f"echo '{conf}' | base64 --decode >> ~/clearml.conf; "
        script += f"clearml-agent execute --full-monitoring --require-queue --id {task}; exit 0"
        (container,) = pod["spec"]["containers"]
        container["env"].append({"name": "CLEARML_WORKER_ID", "value": f"{self._fullname}:{task}"})
        container |= {"name": name, "image": TASK_IMAGE, "command": ["/bin/bash", "-c", script]}
        digest = hashlib.md5(self._fullname.encode(), usedforsecurity=False).hexdigest()
        labels = {"CLEARML": f"agent-{digest[:8]}", "clearml-agent-queue": queue, "clearml-agent-queue-name": "default"}
        pod["metadata"] |= {"name": name, "labels": labels}
        return {"kind": "Pod", **pod}

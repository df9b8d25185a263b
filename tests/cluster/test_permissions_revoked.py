"""The Role is taken away from a controller at work, and given back: it says so, ends nothing, and goes on by itself."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from chaos_counts import check, shown, statuses, until
from chaos_kube import Kube
from chaos_scene import Scene
from clearml_k8s.kube.permissions import BY_DEFAULT, wanted

RELEASE = "rights"
FULLNAME = f"{RELEASE}-clearml-agent"
LIMITS = {"alpha": 10, "": 10}
RBAC = "/apis/rbac.authorization.k8s.io/v1"


def role(namespace: str) -> dict[str, Any]:
    """What the chart grants."""
    rules = []
    for row in wanted(BY_DEFAULT):
        name = row.name(fullname=FULLNAME, namespace=namespace)
        rule = {"apiGroups": [row.resource.group], "resources": [row.plural], "verbs": list(row.verbs)}
        rules.append({**rule, "resourceNames": [name]} if name else rule)
    return {"metadata": {"name": FULLNAME}, "rules": rules}


async def account(kube: Kube, namespace: str, *, kubeconfig: Path, folder: Path) -> Path:
    """The kubeconfig of a service account that has the Role."""
    await kube.request("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", body={"metadata": {"name": FULLNAME}})
    binding = {
        "metadata": {"name": FULLNAME},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": FULLNAME},
        "subjects": [{"kind": "ServiceAccount", "name": FULLNAME, "namespace": namespace}],
    }
    await kube.request("POST", f"{RBAC}/namespaces/{namespace}/rolebindings", body=binding)
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{FULLNAME}/token"
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    token = (await kube.request("POST", path, body=request))["status"]["token"]
    document = yaml.safe_load(kubeconfig.read_text())
    for cluster in document["clusters"]:
        if "certificate-authority" in cluster["cluster"]:
            authority = kubeconfig.parent / cluster["cluster"]["certificate-authority"]
            cluster["cluster"]["certificate-authority"] = str(authority)
    for user in document["users"]:
        user["user"] = {"token": token}
    file = folder / "account.kubeconfig"
    file.touch(mode=0o600)
    file.write_text(yaml.safe_dump(document))
    return file


async def test_a_role_that_is_taken_away_and_given_back(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    kube, server, namespace = scene.kube, scene.server, scene.namespaces[0]
    began, go_on = time.monotonic(), asyncio.Event()
    roles = f"{RBAC}/namespaces/{namespace}/roles"
    tasks = server.bulk_tasks(25, queue="alpha")
    await kube.request("POST", roles, body=role(namespace))
    file = await account(kube, namespace, kubeconfig=scene.kubeconfig, folder=scene.folder)
    controller = dataclasses.replace(scene, kubeconfig=file).controller(RELEASE, limits=LIMITS)

    async def work(task: str) -> None:
        del task
        await go_on.wait()

    def running() -> list[str]:
        return [task for task, status in statuses(server, tasks).items() if status == "in_progress"]

    async with scene.agents(work=work) as agents, controller:
        await until(lambda: len(running()) == 10, lambda: f"all places are taken: {len(running())}", limit=60)
        await kube.request("DELETE", f"{roles}/{FULLNAME}")
        log = controller.log
        await until(lambda: "nothing is sent until it is" in log.read_text(), "the Lease is out of date", limit=40)
        # Meanwhile tasks end, come, and are aborted.
        tasks += server.bulk_tasks(5, queue="alpha")
        aborted = running()[:2]
        for task in aborted:
            server.call("tasks.stopped", task=task)
        go_on.set()
        await until(lambda: not running(), lambda: f"those that run end by themselves: {running()}", limit=30)
        assert len(list(scene.jobs(agents))) == 10, "nothing is begun"
        said = log.read_text()
        await kube.request("POST", roles, body=role(namespace))
        await scene.settled(tasks, releases={RELEASE: namespace}, agents=agents, aborted=aborted)
        assert controller.running
    counts = scene.count(tasks, agents=agents, aborted=aborted)
    ended = [call["endpoint"] for call in server.calls(endpoint=r"^tasks\.") if call["client"] is None]
    with capsys.disabled():
        print(shown("PERMISSIONS REVOKED", {"time": f"{time.monotonic() - began:.0f} s"}, counts))
    assert "tasks.failed" not in Counter(ended)
    assert f'leases.coordination.k8s.io "{FULLNAME}-leader" is forbidden' in said
    assert "Traceback" not in log.read_text()
    check(counts, limits=LIMITS)
    assert counts.jobs == len(tasks)

"""The real API server's answer to who may do what: the controller exactly its table, task pods nothing at all."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from clearml_k8s.kube.permissions import BY_DEFAULT, Permission, wanted
from e2e_programs import Helm, Kubectl, run, until, values_for

from ci.paths import ROOT

VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
AT_ONE_TIME = 20

Asked = tuple[str, str, str]
"""Group, resource (with its subresource), verb."""


@pytest.fixture(scope="module")
def helm(kubectl: Kubectl, folder: Path) -> Iterator[Helm]:
    """The objects of a release; no server, and nobody waits for its pod."""
    release = Helm("rights", kubectl.namespace)
    values = values_for(url="http://nowhere.example.com", access_key="KEY", secret_key="SECRET", queues={"default": {}})
    file = folder / "rights.yaml"
    file.write_text(yaml.safe_dump(values))
    release("upgrade", "--install", release.name, ROOT / "charts/clearml-agent", "--values", file)
    yield release
    release("uninstall", release.name, "--wait", "--timeout", "90s")


@pytest.fixture(scope="module")
def proxy() -> Iterator[str]:
    """The API server without credentials of one's own: thousands of questions need no process each."""
    with subprocess.Popen(["kubectl", "proxy", "--port=0"], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            assert said.startswith("Starting to serve on "), said
            yield "http://" + said.split()[-1]
        finally:
            process.terminate()


def everything(kubectl: Kubectl) -> list[tuple[str, str]]:
    """(group, resource) of all that the API server knows, with subresources."""

    def fetch(path: str) -> Any:
        return json.loads(kubectl("get", "--raw", path))

    versions = ["/api/v1"]
    versions += [f"/apis/{v['groupVersion']}" for group in fetch("/apis")["groups"] for v in group["versions"]]
    found = set()
    for path in versions:
        listed = fetch(path)
        group = listed["groupVersion"].rpartition("/")[0]
        found |= {(group, item["name"]) for item in listed["resources"]}
    return sorted(found)


async def allowed(proxy: str, account: str, resources: list[tuple[str, str]], namespace: str) -> set[Asked]:
    """What the account may do with any object; ``namespace`` "": in all of them, and beside them."""
    free = asyncio.Semaphore(AT_ONE_TIME)
    found: set[Asked] = set()

    async def ask(http: aiohttp.ClientSession, group: str, resource: str, verb: str) -> None:
        plural, _, subresource = resource.partition("/")
        attributes = {"namespace": namespace, "verb": verb, "group": group, "resource": plural}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": account,
                "groups": groups,
                "resourceAttributes": attributes | {"subresource": subresource},
            },
        }
        async with free, http.post(f"{proxy}/apis/authorization.k8s.io/v1/subjectaccessreviews", json=review) as answer:
            assert answer.status == 201, await answer.text()
            if (await answer.json())["status"]["allowed"]:
                found.add((group, resource, verb))

    groups = ["system:serviceaccounts", f"system:serviceaccounts:{account.split(':')[2]}", "system:authenticated"]
    async with aiohttp.ClientSession() as http, asyncio.TaskGroup() as group_of_tasks:
        for group, resource in resources:
            for verb in VERBS:
                group_of_tasks.create_task(ask(http, group, resource, verb))
    return found


def account(kubectl: Kubectl, name: str) -> str:
    return f"system:serviceaccount:{kubectl.namespace}:{name}"


def rules(kubectl: Kubectl, name: str) -> list[str]:
    """What `kubectl auth can-i --list` prints."""
    words = ("auth", "can-i", "--list", "--no-headers", "--as", account(kubectl, name))
    return sorted(" ".join(line.split()) for line in kubectl(*words).splitlines())


def granted(row: Permission, *, named: bool) -> set[Asked]:
    wanted = (row.only is not None) is named
    return {(row.resource.group, row.plural, verb) for verb in row.verbs} if wanted else set()


async def test_full_matrix(kubectl: Kubectl, helm: Helm, proxy: str) -> None:
    """Every resource and verb that the API server knows, for both accounts, in the namespace and in all."""
    resources = everything(kubectl)
    assert ("", "secrets") in resources
    assert ("", "pods/exec") in resources
    controller, task = (account(kubectl, helm.fullname + suffix) for suffix in ("-controller", "-task"))
    anybody = account(kubectl, "default")
    for namespace in (kubectl.namespace, ""):
        base = await allowed(proxy, anybody, resources, namespace)
        assert {resource for _, resource, _ in base} <= {
            "selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews", "clustertrustbundles"
        }  # fmt: skip
        assert await allowed(proxy, task, resources, namespace) == base
        rows = wanted(BY_DEFAULT) if namespace else ()
        granted_here = set().union(*(granted(row, named=False) for row in rows))
        assert await allowed(proxy, controller, resources, namespace) - base == granted_here


def test_rules_are_these_and_no_others(kubectl: Kubectl, helm: Helm) -> None:
    """With the names of objects, which the matrix does not ask for."""
    base = rules(kubectl, "default")
    assert rules(kubectl, f"{helm.fullname}-task") == base
    expected = []
    for row in wanted(BY_DEFAULT):
        name = row.name(fullname=helm.fullname, namespace=kubectl.namespace)
        plural = f"{row.resource.plural}.{row.resource.group}" if row.resource.group else row.plural
        expected.append(f"{plural} [] [{name or ''}] [{' '.join(row.verbs)}]")
    assert sorted(set(rules(kubectl, f"{helm.fullname}-controller")) - set(base)) == sorted(expected)


@pytest.mark.parametrize("suffix", ["-controller", "-task"])
@pytest.mark.parametrize("verb", ["get", "list", "watch", "create", "delete"])
def test_no_secret_for_either(kubectl: Kubectl, helm: Helm, suffix: str, verb: str) -> None:
    """Asked by the way that a pod would go."""
    words = ["secrets"] if verb in ("list", "watch", "create") else ["secret", f"{helm.fullname}-ac"]
    if verb == "create":
        words = ["secret", "generic", "mine"]
    command = {"list": ["get"], "watch": ["get", "--watch"]}.get(verb, [verb])
    said = kubectl(*command, *words, "--as", account(kubectl, helm.fullname + suffix), check=False)
    assert "Forbidden" in said or "cannot" in said, said


def test_check_names_each_permission_that_is_missing(kubectl: Kubectl, helm: Helm, folder: Path) -> None:
    """No row of the table is idle: taken out of the Role, `clearml-k8s check` says so."""
    name = f"{helm.fullname}-controller"
    role, config = kubectl.get("role", name), kubectl.get("configmap", name)
    assert role is not None
    assert config is not None
    file, kubeconfig = folder / "config.yaml", folder / "controller.kubeconfig"
    file.write_text(config["data"]["config.yaml"])
    document = yaml.safe_load(run("kubectl", "config", "view", "--minify", "--flatten", "--output", "yaml").out)
    document["users"][0]["user"] = {"token": kubectl("create", "token", name).strip()}
    kubeconfig.touch(mode=0o600)
    kubeconfig.write_text(yaml.safe_dump(document))

    def missing() -> list[str]:
        command = [sys.executable, "-m", "clearml_k8s.cli", "check", "--skip-server", "--config", file]
        said = run(*command, "--kubeconfig", kubeconfig, check=False).text
        assert "permission" in said or "may not be read" in said, said
        return [line for line in said.splitlines() if "permission missing" in line or "may not be read" in line]

    assert missing() == []
    for index, rule in enumerate(role["rules"]):
        rest = [other for number, other in enumerate(role["rules"]) if number != index]
        kubectl("patch", "role", name, "--type=merge", "--patch", json.dumps({"rules": rest}))
        expected = 1 if rule["resources"] == ["namespaces"] else len(rule["verbs"])
        lines = until(
            f"{rule} is missed", lambda wanted=expected: len(found := missing()) == wanted and found, limit=20
        )
        assert all(rule["resources"][0] in line for line in lines), lines
    kubectl("patch", "role", name, "--type=merge", "--patch", json.dumps({"rules": role["rules"]}))

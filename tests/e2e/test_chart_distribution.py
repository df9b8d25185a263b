"""The chart as users get it: a signed package, a Helm repository over HTTP, an OCI registry with user and password.

The commands are those of ClearML's documentation page "Kubernetes"; `--plain-http` as the registry here has no TLS.
"""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import os
import re
import shutil
import tarfile
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from clearml_server.process import DevServer
from e2e_programs import CHART, Done, Kubectl, ready, run, until
from e2e_tasks import NewTask, enqueue
from registry_server import PASSWORD, USER, Registry, registry

from ci.cluster.choice import current_chosen

HELMS = ("helm4", "helm3")
VERSION = yaml.safe_load((CHART / "Chart.yaml").read_text())["version"]
NEXT = "99.0.0"
WRONG = "open-barley"
REFUSED = ("Kubernetes: Container task: ", "401", "imageCredentials for a private registry")
"""What the user of a task reads whose image the registry refuses: category image-pull, its words and its advice."""

QUICK = [
    {"name": "CLEARML_AGENT_SKIP_PYTHON_ENV_INSTALL", "value": "1"},
    {"name": "CLEARML_AGENT_QUEUE_POLL_FREQ_SEC", "value": "1"},
]

Helm = Callable[..., Done]


@pytest.fixture
def homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logins and repositories of whoever runs the tests are neither used nor changed."""
    for name in ("HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))


@pytest.fixture(params=HELMS)
def helm(request: pytest.FixtureRequest, homes: None) -> Helm:
    return functools.partial(run, request.param)


# ---- the package -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keyring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A throw-away key, without a passphrase: secret.gpg, and public.gpg with which others verify."""
    folder = tmp_path_factory.mktemp("gpg")
    home = Path("/tmp") / f"gpg-{uuid.uuid4().hex[:8]}"  # a socket's path must be short
    home.mkdir(mode=0o700)
    gpg = functools.partial(run, "gpg", "--homedir", home, "--batch", "--quiet")
    try:
        for who in ("Releases <releases@example.com>", "Somebody Else <else@example.com>"):
            gpg(
                "--passphrase",
                "",
                "--pinentry-mode",
                "loopback",
                "--quick-generate-key",
                who,
                "rsa2048",
                "sign",
                "never",
            )
        gpg("--output", folder / "secret.gpg", "--export-secret-keys", "releases@example.com")
        gpg("--output", folder / "public.gpg", "--export", "releases@example.com")
        gpg("--output", folder / "other.gpg", "--export", "else@example.com")
        yield folder
    finally:
        run("gpgconf", "--homedir", home, "--kill", "all", check=False)
        shutil.rmtree(home, ignore_errors=True)


def test_a_signed_package_is_verified(helm: Helm, keyring: Path, tmp_path: Path) -> None:
    helm(
        "package", CHART, "--destination", tmp_path, "--sign", "--key", "Releases", "--keyring", keyring / "secret.gpg"
    )
    package = tmp_path / f"clearml-agent-{VERSION}.tgz"
    assert "Releases <releases@example.com>" in helm("verify", package, "--keyring", keyring / "public.gpg").text
    stranger = helm("verify", package, "--keyring", keyring / "other.gpg", check=False)
    assert stranger.code != 0
    with package.open("ab") as file:
        file.write(b"changed")
    changed = helm("verify", package, "--keyring", keyring / "public.gpg", check=False)
    assert changed.code != 0
    assert "sha256" in changed.text


# ---- a Helm repository -------------------------------------------------------------------------------------------


@pytest.fixture
def repository(tmp_path: Path, helm: Helm) -> Iterator[str]:
    """Address of an index with this version and a later one."""
    folder = tmp_path / "repository"
    folder.mkdir()
    helm("package", CHART, "--destination", folder)
    helm("package", CHART, "--destination", folder, "--version", NEXT)
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        address = f"http://127.0.0.1:{server.server_port}"
        helm("repo", "index", folder, "--url", address)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield address
        server.shutdown()
        thread.join()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


def chart_label(kubectl: Kubectl) -> str:
    (deployment,) = kubectl.items("deployments")
    label: str = deployment["metadata"]["labels"]["helm.sh/chart"]
    return label


def test_the_commands_for_the_open_source_server(
    helm: Helm, repository: str, namespaces: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubectl = namespaces()
    monkeypatch.setenv("HELM_NAMESPACE", kubectl.namespace)
    monkeypatch.chdir(tmp_path)
    values = {"clearml": {"agentk8sglueKey": "a", "agentk8sglueSecret": "b"}, "agentk8sglue": {"replicaCount": 1}}
    Path("custom_values.yaml").write_text(yaml.safe_dump(values))
    helm("repo", "add", "clearml", repository)
    helm("repo", "update")
    helm("install", "clearml-agent", "clearml/clearml-agent", "--version", VERSION, "-f", "custom_values.yaml")
    assert chart_label(kubectl) == f"clearml-agent-{VERSION}"
    helm("upgrade", "clearml-agent", "clearml/clearml-agent")
    assert chart_label(kubectl) == f"clearml-agent-{NEXT}"
    values["agentk8sglue"]["maxPods"] = 7
    Path("custom_values.yaml").write_text(yaml.safe_dump(values))
    helm("upgrade", "clearml-agent", "clearml/clearml-agent", "--version", VERSION, "-f", "custom_values.yaml")
    assert chart_label(kubectl) == f"clearml-agent-{VERSION}"
    config = kubectl.get("configmap", "clearml-agent-controller")
    assert config is not None
    assert yaml.safe_load(config["data"]["config.yaml"])["maxPods"] == 7
    helm("uninstall", "clearml-agent")


# ---- an OCI registry with user and password ----------------------------------------------------------------------


@pytest.fixture
def closed_registry(host: str, tmp_path: Path) -> Iterator[Registry]:
    if current_chosen():
        pytest.skip("CLUSTER=current: its nodes would have to take a plain HTTP registry of this machine")
    with registry(host, tmp_path, closed=True) as serving:
        yield serving


def test_a_chart_in_a_registry(helm: Helm, closed_registry: Registry, tmp_path: Path) -> None:
    address, plain = closed_registry.address, "--plain-http"
    helm("package", CHART, "--destination", tmp_path)
    package = tmp_path / f"clearml-agent-{VERSION}.tgz"
    stranger = helm("push", package, f"oci://{address}/clearml", plain, check=False)
    assert stranger.code != 0
    assert re.search("401|basic credential", stranger.text), stranger.text
    login = ("registry", "login", address, "--username", USER, plain, "--password")
    assert helm(*login, WRONG, check=False).code != 0
    helm(*login, PASSWORD)
    helm("push", package, f"oci://{address}/clearml", plain)
    assert closed_registry.tags("clearml/clearml-agent", user=(USER, PASSWORD)) == [VERSION]
    chart = f"oci://{address}/clearml/clearml-agent"
    assert helm("show", "readme", chart, plain).out.strip() == (CHART / "README.md").read_text().strip()
    assert helm("show", "values", chart, plain).out.strip() == (CHART / "values.yaml").read_text().strip()


def push_image(name: str, folder: Path, *targets: str) -> None:
    """One of the images that `ci.run --images` has built, as an image of its own.

    The kubelet asks for credentials wherever it finds an image that was once pulled with some, under any name; other
    tests use these images without any.
    """
    layout = folder / name
    with tarfile.open(os.environ[f"IMAGE_{name.upper()}"]) as archive:
        archive.extractall(layout, filter="data")

    def changed(descriptor: dict[str, Any], change: Callable[[Any], None]) -> None:
        """Changes the JSON that the descriptor names, and the descriptor with it."""
        content = json.loads((layout / "blobs" / descriptor["digest"].replace(":", "/")).read_bytes())
        change(content)
        text = json.dumps(content).encode()
        digest = hashlib.sha256(text).hexdigest()
        (layout / "blobs/sha256" / digest).write_bytes(text)
        descriptor |= {"digest": f"sha256:{digest}", "size": len(text)}

    def mark(config: dict[str, Any]) -> None:
        config["config"].setdefault("Labels", {})["test"] = uuid.uuid4().hex

    index = json.loads((layout / "index.json").read_text())
    changed(index["manifests"][0], lambda manifest: changed(manifest["config"], mark))
    (layout / "index.json").write_text(json.dumps(index))
    options = ("--quiet", "--dest-tls-verify=false", "--dest-creds", f"{USER}:{PASSWORD}")
    for target in targets:
        run("skopeo", "--insecure-policy", "copy", *options, f"oci:{layout}", f"docker://{target}")


def waiting_for_image(pod: dict[str, Any]) -> bool:
    """Whether the kubelet has given up for now, as the registry refused."""
    states = [status["state"].get("waiting", {}) for status in pod["status"].get("containerStatuses", [])]
    return any(state.get("reason") == "ImagePullBackOff" and "401" in state.get("message", "") for state in states)


@pytest.mark.long
def test_the_commands_for_the_enterprise_server_with_private_images(
    closed_registry: Registry,
    server: DevServer,
    images: None,
    homes: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a wrong password neither the controller nor a task gets its image, and the task's user reads why; with the
    right one both do, and what waited goes on as it is."""
    address, namespace = closed_registry.address, f"e2e-{uuid.uuid4().hex[:8]}"
    path = f"{address}/private-{namespace}"  # a node that has an image does not ask for it again
    push_image("controller", tmp_path, f"{path}/controller:1")
    push_image("task", tmp_path, f"{path}/task:1", f"{path}/task:2")
    helm, kubectl = functools.partial(run, "helm4"), Kubectl(namespace)
    monkeypatch.chdir(tmp_path)
    helm("package", CHART)
    helm("registry", "login", address, "--username", USER, "--password", PASSWORD, "--plain-http")
    helm("push", f"clearml-agent-{VERSION}.tgz", f"oci://{address}/clearml", "--plain-http")

    def upgrade(password: str) -> None:
        values = {
            "imageCredentials": {"registry": address, "username": USER, "password": password},
            "clearml": {"agentk8sglueKey": server.access_key, "agentk8sglueSecret": server.secret_key},
            "agentk8sglue": {
                "image": {"repository": f"{path}/controller", "tag": "1"},
                "apiServerUrlReference": server.url,
                "fileServerUrlReference": f"{server.url}/_files",
                "webServerUrlReference": server.url,
                "createQueues": True,
                "queuePollFrequencySeconds": 1,
                "basePodTemplate": {"env": QUICK},
                "queues": {
                    "exampleQueue": {"templateOverrides": {}, "queueSettings": {"defaultImage": f"{path}/task:1"}},
                },
            },
        }
        Path("clearml-agent-values.override.yaml").write_text(yaml.safe_dump(values))
        helm("upgrade", "-i", "-n", namespace, "clearml-enterprise-agent", f"oci://{address}/clearml/clearml-agent",
             "--create-namespace", "-f", "clearml-agent-values.override.yaml", "--plain-http")  # fmt: skip

    def controller() -> dict[str, Any] | None:
        pods = kubectl.items("pods", "app.kubernetes.io/component=controller")
        return next((pod for pod in pods if "deletionTimestamp" not in pod["metadata"]), None)

    def pulled(pod: dict[str, Any]) -> bool:
        words = ["get", "events", f"--field-selector=reason=Pulled,involvedObject.uid={pod['metadata']['uid']}"]
        return "Successfully pulled image" in kubectl(*words, "--output=jsonpath={.items[*].message}")

    upgrade(WRONG)
    try:
        until("the controller's image is refused", lambda: (pod := controller()) and waiting_for_image(pod))
        upgrade(PASSWORD)
        kubectl("delete", "pods", "--selector=app.kubernetes.io/component=controller")  # rather than wait for a retry
        pod = until("the controller is ready", lambda: (pod := controller()) and ready(pod) and pod)
        assert pulled(pod)
        (task,) = enqueue(server.environment(), NewTask(name="pulls", queue="exampleQueue", script="print('here')\n"))
        pod = kubectl.running_pod(task)
        assert pod["spec"]["containers"][0]["image"] == f"{path}/task:1"
        assert pulled(pod)
        found = server.wait_for_status(task, "completed", "failed", "stopped", timeout=150)
        assert found["status"] == "completed", server.console(task)
        upgrade(WRONG)
        other = NewTask(name="waits", queue="exampleQueue", script="print('here')\n", docker=f"{path}/task:2")
        (task,) = enqueue(server.environment(), other)
        (pod,) = until("it has a pod", lambda: kubectl.pods_of(task))
        until("the task's image is refused", lambda: any(waiting_for_image(pod) for pod in kubectl.pods_of(task)))
        until("its user reads why", lambda: all(w in server.task(task)["status_message"] for w in REFUSED))
        assert server.task(task)["status"] == "queued"
        upgrade(PASSWORD)
        found = server.wait_for_status(task, "completed", "failed", "stopped", timeout=150)
        assert found["status"] == "completed", server.console(task)
        assert {one["metadata"]["uid"] for one in kubectl.pods_of(task)} <= {pod["metadata"]["uid"]}
        assert server.console(task).count("Kubernetes Job clearml-id-") == 1, "no other Job was made"
    finally:
        helm("uninstall", "-n", namespace, "clearml-enterprise-agent", "--ignore-not-found")
        kubectl("delete", "namespace", namespace, "--wait=false")

"""`CLUSTER=current` with IMAGE_REGISTRY: a cluster of which nothing is known but its kubeconfig, and a plain registry.

The cluster is one of ours under a name of its own. Its containerd takes the registry as plain HTTP; no image is loaded.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import registry_server
from cluster_parts import Kubectl
from registry_server import PASSWORD, USER, Registry

from ci.cluster import containers, files
from ci.cluster.choice import current_chosen
from ci.cluster.layout import Layout
from ci.cluster.local import LocalCluster
from ci.paths import ROOT, checkout_name

pytestmark = pytest.mark.skipif(current_chosen(), reason="CLUSTER=current: the cluster is a local one here")

DEMO_SECONDS = 500
OURS = ("CLUSTER", "IMAGE_", "KUBECONFIG")


@pytest.fixture(scope="module")
def theirs() -> Iterator[Layout]:
    cluster = LocalCluster(name=f"{checkout_name()[:25]}-theirs")
    cluster.down()
    try:
        yield cluster.up()
    finally:
        cluster.down()


@pytest.fixture
def registry(theirs: Layout, tmp_path: Path) -> Iterator[Registry]:
    with registry_server.registry(theirs.host_ip, tmp_path) as serving:
        yield serving


@pytest.fixture
def closed_registry(theirs: Layout, tmp_path: Path) -> Iterator[Registry]:
    """It wants USER and PASSWORD."""
    with registry_server.registry(theirs.host_ip, tmp_path, closed=True) as serving:
        yield serving


def run(theirs: Layout, *command: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """As a user would, whose current context is that cluster."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    given = {"CLUSTER": "current", "KUBECONFIG": str(theirs.kubeconfig), "CLUSTER_HOST_IP": theirs.host_ip}
    return subprocess.run(
        command,
        cwd=ROOT,
        env={**kept, **given, **settings},
        capture_output=True,
        text=True,
        timeout=DEMO_SECONDS,
        check=False,
    )


@pytest.mark.long
def test_the_demo_runs_with_images_of_a_registry(theirs: Layout, registry: Registry) -> None:
    path = f"{registry.address}/some/body"
    done = run(theirs, "make", "demo", IMAGE_REGISTRY=path, IMAGE_REGISTRY_TLS_VERIFY="false")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the task is done" in done.stdout
    (controller,), (task,) = registry.tags("some/body/controller"), registry.tags("some/body/task")
    kubectl = Kubectl(theirs.kubeconfig, namespace="clearml-demo")
    image = "jsonpath={.items[*].spec.template.spec.containers[*].image}"
    assert kubectl("get", "deployments", "-o", image) == f"{path}/controller:{controller}"
    pulled = kubectl("get", "events", "--field-selector=reason=Pulled", "-o", "jsonpath={.items[*].message}")
    assert f'Successfully pulled image "{path}/controller:{controller}"' in pulled
    assert f'Successfully pulled image "{path}/task:{task}"' in pulled
    named = {name for name in containers.images(theirs) if not name.startswith("sha256:")}
    loaded = {name for name in named if not name.startswith(registry.address)}
    assert loaded == {files.PAUSE_IMAGE}


def test_without_a_registry_the_way_out_is_named(theirs: Layout) -> None:
    done = run(theirs, "make", "demo")
    assert done.returncode != 0
    assert "set IMAGE_REGISTRY=registry.example.com/path" in done.stderr
    assert "ClearML development server" not in done.stdout  # no step of the demo was begun


def test_a_registry_without_tls_is_told_what_to_set(theirs: Layout, registry: Registry) -> None:
    command = ("python3", "-m", "ci.run", "--images", "task", "--cluster", "true")
    done = run(theirs, *command, IMAGE_REGISTRY=registry.address)
    assert done.returncode == 1
    assert f"the image {registry.address}/task:" in done.stderr
    assert "IMAGE_REGISTRY_TLS_VERIFY=false" in done.stderr


def test_a_registry_that_wants_credentials_gets_those_of_the_users_login(
    theirs: Layout, closed_registry: Registry, tmp_path: Path
) -> None:
    address, login = closed_registry.address, tmp_path / "auth.json"
    command = ("python3", "-m", "ci.run", "--images", "task", "--cluster", "true")
    settings = {
        "IMAGE_REGISTRY": address,
        "IMAGE_REGISTRY_TLS_VERIFY": "false",
        "REGISTRY_AUTH_FILE": str(login),  # in place of the home of who runs the tests
    }
    done = run(theirs, *command, **settings)
    assert done.returncode == 1
    assert f"skopeo login {address}" in done.stderr
    pair = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    login.write_text(json.dumps({"auths": {address: {"auth": pair}}}))
    done = run(theirs, *command, **settings)
    assert done.returncode == 0, done.stderr
    assert PASSWORD not in done.stdout + done.stderr

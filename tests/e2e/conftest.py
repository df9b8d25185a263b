"""A ClearML server, a package index and namespaces for tests in a real cluster."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import e2e_index
import e2e_programs as programs
import pytest
from clearml_server.process import DevServer


@pytest.fixture(scope="session")
def host() -> str:
    """This machine's address as pods see it."""
    address = os.environ.get("CLUSTER_HOST_IP", "")
    assert address, "CLUSTER_HOST_IP is not set: run `make test-e2e`, which brings tools, images and cluster"
    return address


@pytest.fixture(scope="session")
def images(host: str) -> None:
    programs.load_image("controller")
    programs.load_image("task")


@pytest.fixture(scope="session")
def index(host: str) -> Iterator[e2e_index.PackageIndex]:
    with e2e_index.PackageIndex(e2e_index.fetch_wheels(), host=host) as served:
        yield served


@pytest.fixture(scope="module")
def server(host: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevServer]:
    with DevServer(host=host, log=tmp_path_factory.mktemp("server") / "server.log") as started:
        yield started


Namespaces = Callable[[], programs.Kubectl]


@pytest.fixture(scope="module")
def namespaces(images: None) -> Iterator[Namespaces]:
    """Makes namespaces, which are taken away at the end with everything in them."""
    made: list[programs.Kubectl] = []

    def make() -> programs.Kubectl:
        kubectl = programs.Kubectl(f"e2e-{uuid.uuid4().hex[:8]}")
        kubectl("create", "namespace", kubectl.namespace)
        made.append(kubectl)
        return kubectl

    yield make
    for kubectl in made:
        kubectl("delete", "namespace", kubectl.namespace, "--wait=false")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("e2e")


@pytest.fixture(scope="module")
def kubectl(namespaces: Namespaces) -> programs.Kubectl:
    """In a namespace of the module's own; modules that prepare theirs have a fixture of this name."""
    return namespaces()

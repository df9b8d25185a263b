"""`IMAGE_REGISTRY`: the names that pods use, and how archives are pushed."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from ci.images import registry
from ci.images.build import ImageError

NAME = "registry.example.com/path/task:0123456789abcdef"
PATHS = ("registry.example.com", "registry.example.com/a/b-c", "localhost:5000", "10.0.0.1:5000/x", "registry:80/x")
NO_PATHS = (
    "https://registry.example.com/path",
    "registry.example.com/path/",
    "registry.example.com/Path",
    "me",
    "me/images",
    "a b.c",
    "registry.example.com/path:tag",
    "user:secret@registry.example.com/path",
)


def write_archive(path: Path, *members: str) -> Path:
    with tarfile.open(path, "w") as tar:
        for member in members:
            tar.addfile(tarfile.TarInfo(member), io.BytesIO())
    return path


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """As buildah writes it."""
    return write_archive(tmp_path / "task-0123456789abcdef.tar", "index.json", "oci-layout")


@pytest.fixture(autouse=True)
def on_this_machine(machine, monkeypatch):
    for name in ("IMAGE_REGISTRY", "IMAGE_REGISTRY_TLS_VERIFY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", machine.environment({})["PATH"])
    monkeypatch.setenv("CALLS", str(machine.calls_file))


def test_without_it_images_keep_their_local_names(archive):
    assert registry.chosen() is None
    assert registry.pod_name("task", archive) == "localhost/clearml-k8s/task:dev"


@pytest.mark.parametrize("path", PATHS)
def test_names_are_below_it_and_tagged_by_what_is_in_the_image(monkeypatch, archive, path):
    monkeypatch.setenv("IMAGE_REGISTRY", path)
    assert registry.pod_name("task", archive) == f"{path}/task:0123456789abcdef"


@pytest.mark.parametrize("path", NO_PATHS)
def test_what_is_no_registry_is_refused(monkeypatch, path):
    monkeypatch.setenv("IMAGE_REGISTRY", path)
    with pytest.raises(ImageError, match="IMAGE_REGISTRY.*write HOST") as refused:
        registry.chosen()
    assert "secret" not in str(refused.value)


def test_another_word_for_tls_is_refused(monkeypatch):
    monkeypatch.setenv("IMAGE_REGISTRY", "registry.example.com")
    monkeypatch.setenv("IMAGE_REGISTRY_TLS_VERIFY", "no")
    with pytest.raises(ImageError, match="IMAGE_REGISTRY_TLS_VERIFY='no': write true or false"):
        registry.chosen()


@pytest.mark.parametrize(("said", "used"), [(None, "true"), ("true", "true"), ("false", "false")])
def test_skopeo_copies_the_archive(monkeypatch, machine, archive, said, used):
    machine.program("skopeo")
    monkeypatch.setenv("IMAGE_REGISTRY", "registry.example.com/path")
    if said:
        monkeypatch.setenv("IMAGE_REGISTRY_TLS_VERIFY", said)
    chosen = registry.chosen()
    assert chosen is not None
    assert chosen.push("task", archive) == NAME
    assert machine.calls == [
        f"skopeo --insecure-policy copy --quiet --dest-tls-verify={used} oci-archive:{archive} docker://{NAME}"
    ]


def test_an_archive_of_docker_is_named_as_such(monkeypatch, machine, tmp_path):
    machine.program("skopeo")
    monkeypatch.setenv("IMAGE_REGISTRY", "registry.example.com/path")
    archive = write_archive(tmp_path / "task-0123456789abcdef.tar", "manifest.json", "index.json")
    registry.chosen().push("task", archive)
    assert f" docker-archive:{archive} " in machine.calls[0]


@pytest.mark.parametrize(
    ("says", "hint"),
    [
        ("unauthorized: authentication required", "skopeo login registry.example.com"),
        ("denied: requested access to the resource is denied", "skopeo login registry.example.com"),
        ("http: server gave HTTP response to HTTPS client", "IMAGE_REGISTRY_TLS_VERIFY=false"),
        ("x509: certificate signed by unknown authority", "IMAGE_REGISTRY_TLS_VERIFY=false"),
    ],
)
def test_a_push_that_fails_says_what_to_do(monkeypatch, machine, archive, says, hint):
    machine.program("skopeo", does=f"echo '{says}' >&2; exit 1")
    monkeypatch.setenv("IMAGE_REGISTRY", "registry.example.com/path")
    with pytest.raises(ImageError) as failed:
        registry.chosen().push("task", archive)
    assert says in str(failed.value)
    assert NAME in str(failed.value)
    assert hint in str(failed.value)


def test_the_missing_program_is_named(monkeypatch, archive):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("IMAGE_REGISTRY", "registry.example.com/path")
    with pytest.raises(ImageError, match="the program skopeo is missing"):
        registry.chosen().push("task", archive)
